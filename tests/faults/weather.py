"""What a network does to one direction of a connection, decided by a seed: delays, losses, silence, damage.

A value without a socket: bytes in with the time, bytes out with the time at which they arrive. The shell is `proxy.py`.
"""

import collections
import random
from dataclasses import dataclass
from typing import Final

SEGMENT_BYTES: Final = 1448
"""What a TCP segment carries on Ethernet: losses and damage hit one of these."""


@dataclass(slots=True)
class Weather:
    """Faults of one direction; may be changed while bytes are under way. Times in seconds."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """Added to the latency, uniformly from 0. Order is kept, as TCP keeps it."""
    rate: float | None = None
    """Bytes a second through the narrowest place; what waits before it is bounded by `queue_bytes`."""
    queue_bytes: int = 64 * 1024
    loss: float = 0.0
    """Share of segments that have to be sent again: they, and all behind them, come `repair_s` later."""
    repair_s: float = 0.0
    corrupt: float = 0.0
    """Share of segments with one bit turned over."""
    is_silent: bool = False
    """Nothing arrives, no end either; what was sent arrives once it is over, as TCP sends it again."""
    progress_bytes: int | None = None
    """After so many bytes more the direction falls silent."""


class Line:
    """The bytes of one direction of one connection under way."""

    def __init__(self, weather: Weather, seed: str) -> None:
        self.weather = weather
        self._random = random.Random(seed)
        self._narrow_free_at = 0.0
        self._last_at = 0.0
        self._under_way: collections.deque[tuple[float, float, bytes]] = collections.deque()
        """Out of the narrowest place, arrival, bytes."""
        self.segments = self.lost = self.damaged = 0

    def send(self, data: bytes, now: float) -> None:
        """Bytes of the sender."""
        for start in range(0, len(data), SEGMENT_BYTES):
            self._segment(data[start : start + SEGMENT_BYTES], now)

    def _segment(self, data: bytes, now: float) -> None:
        weather, dice = self.weather, self._random
        self.segments += 1
        out_at = now
        if weather.rate:
            out_at = self._narrow_free_at = max(now, self._narrow_free_at) + len(data) / weather.rate
        arrival = out_at + weather.latency_s + weather.jitter_s * dice.random()
        if weather.loss and dice.random() < weather.loss:
            self.lost += 1
            arrival += weather.repair_s
        if weather.corrupt and dice.random() < weather.corrupt:
            self.damaged += 1
            at = dice.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]
        self._last_at = max(self._last_at, arrival)
        self._under_way.append((out_at, self._last_at, data))

    def due(self, now: float) -> bytes:
        """What has arrived by now."""
        weather, pieces = self.weather, []
        while self._under_way and self._under_way[0][1] <= now and not weather.is_silent:
            out_at, arrival, data = self._under_way.popleft()
            if weather.progress_bytes is not None:
                if len(data) > weather.progress_bytes:
                    self._under_way.appendleft((out_at, arrival, data[weather.progress_bytes :]))
                    data, weather.is_silent = data[: weather.progress_bytes], True
                weather.progress_bytes -= len(data)
            pieces.append(data)
        return b"".join(pieces)

    def next_at(self) -> float | None:
        """When to ask `due` again; None while nothing will come by itself."""
        if self.weather.is_silent or not self._under_way:
            return None
        return self._under_way[0][1]

    @property
    def is_empty(self) -> bool:
        """Everything has arrived."""
        return not self._under_way

    def room_at(self, now: float) -> float:
        """When the sender may send on: the queue before the narrowest place has room. `inf` while it is silent."""
        weather = self.weather
        if weather.is_silent:
            waiting = sum(len(data) for _, _, data in self._under_way)
            return now if waiting < weather.queue_bytes else float("inf")
        if not weather.rate:
            return now
        return max(now, self._narrow_free_at - weather.queue_bytes / weather.rate)
