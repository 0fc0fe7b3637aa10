"""A long way between two networks: `python -m tests.faults.tunlink PID OUR_LINK THEIR_LINK WEATHER`.

Makes a TUN device here and one in the network of process PID, and carries packets between them as WEATHER (JSON) says,
the same in both directions: `latency_s`, `jitter_s`, `loss` (share of packets that never arrive), `rate` (bytes a
second), `queue_bytes` (before the narrowest place; what finds no room is lost), `seed`. Below TCP, so that the kernel's
own repair, congestion control and time-outs are what is tested.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from typing import Any, Final

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_CLONE_NEWNET: Final = 0x40000000
_MTU: Final = 65536


def tun(name: str) -> int:
    """A TUN device in the current network; its descriptor carries one packet a read."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def enter(pid: int) -> None:
    """Move this thread into the network of a process; what was opened before stays where it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if libc.setns(network, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(network)


class Shuttle:
    """Packets under way, by the time of their arrival."""

    def __init__(self, ends: tuple[int, int], weather: dict[str, Any]) -> None:
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self._weather = weather
        self._dice = {end: random.Random(f"{weather.get('seed', 0)}/{number}") for number, end in enumerate(ends)}
        self._narrow_free_at = dict.fromkeys(ends, 0.0)
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._number = 0

    def take(self, end: int, now: float) -> None:
        """Every packet that waits at this end."""
        weather, dice = self._weather, self._dice[end]
        while True:
            try:
                packet = os.read(end, _MTU)
            except BlockingIOError:
                return
            if dice.random() < weather.get("loss", 0.0):
                continue
            out_at = now
            if rate := weather.get("rate"):
                waiting = max(self._narrow_free_at[end] - now, 0.0) * rate
                if waiting + len(packet) > weather.get("queue_bytes", 64 * 1024):
                    continue
                out_at = self._narrow_free_at[end] = max(now, self._narrow_free_at[end]) + len(packet) / rate
            arrival = out_at + weather.get("latency_s", 0.0) + weather.get("jitter_s", 0.0) * dice.random()
            self._number += 1
            heapq.heappush(self._under_way, (arrival, self._number, self._other[end], packet))

    def deliver(self, now: float) -> float | None:
        """What has arrived; returns the seconds until the next arrival."""
        while self._under_way and self._under_way[0][0] <= now:
            _, _, end, packet = heapq.heappop(self._under_way)
            try:
                os.write(end, packet)
            except (BlockingIOError, OSError):  # the device is not up, or full: the packet is lost
                continue
        return self._under_way[0][0] - now if self._under_way else None


def main() -> None:
    pid, ours, theirs, weather = int(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    here = tun(ours)
    enter(pid)
    there = tun(theirs)
    print("ready", flush=True)
    shuttle = Shuttle((here, there), weather)
    poll = select.epoll()
    for end in (here, there):
        poll.register(end, select.EPOLLIN)
    wait: float | None = None
    while True:
        for end, _ in poll.poll(wait):
            shuttle.take(end, time.monotonic())
        wait = shuttle.deliver(time.monotonic())


if __name__ == "__main__":
    main()
