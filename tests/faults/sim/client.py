"""A user's connection in virtual time: it reads at its own pace and judges what it got as a parser does."""

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import httptools

from hub.edge.framing import read_request
from hub.edge.head import parse_head
from hub.proxy.exchange import Exchange

if TYPE_CHECKING:
    from tests.faults.sim.world import World

READ_BYTES = 64 * 1024


class Client:
    """Implements hub.edge.application.Front for one request. `fate`: '' while it waits, then `whole`, `cut` (broken
    visibly), `left` (this client has gone), or the number of an error's status."""

    def __init__(self, world: "World", dice: random.Random, name: str, method: str, size: int, think: float) -> None:
        self._world = world
        self._dice = dice
        self.name, self.method, self.size = name, method, size
        self.timeout_s = dice.choice([1, 3]) if dice.random() < 0.15 else None
        timeout = "" if self.timeout_s is None else f"?timeout={self.timeout_s}s"
        self.path = f"/api/{name}/{size}/{think:.3f}{timeout}"
        self.is_slow = dice.random() < 0.15
        self.leaves_after = dice.random() * 3 if dice.random() < 0.06 else None
        self.fate = ""
        self.began_at = self.ended_at = 0.0
        self.status = 0
        self.body = bytearray()
        self.is_message_complete = False
        self._unread = 0
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._when_drained: Callable[[], None] | None = None

    def begin(self) -> None:
        """Send the head, then the body of a change in two pieces."""
        length = f"Content-Length: {self.size // 2 * 2}\r\n" if self.method != "GET" else ""
        line = f"{self.method} /k8s/clusters/c1{self.path} HTTP/1.1\r\n"
        raw = f"{line}Host: h\r\nAuthorization: Bearer good\r\n{length}\r\n"
        now = self.began_at = self._world.now()
        if self.leaves_after is not None:
            asyncio.get_running_loop().call_later(self.leaves_after, self.leave)
        self._exchange = self._world.relay.begin(self, read_request(parse_head(raw.encode()), now, "1.2.3.4:5"))
        if self._exchange is None or self.method == "GET":
            return
        half = self.size // 2
        body = self._world.body(f"{self.name} up", half * 2)
        self._exchange.body(body[:half])
        asyncio.get_running_loop().call_later(self._dice.random() * 0.2, self._rest, body[half:])

    def _rest(self, half: bytes) -> None:
        if self._exchange is not None and not self.fate:
            self._exchange.body(half)
            if not self.fate:
                self._exchange.body_complete()

    def leave(self) -> None:
        if self._exchange is not None and not self.fate:
            self._end("left")
            self._exchange.gone()

    # hub.edge.application.Front

    @property
    def is_writable(self) -> bool:
        return self._unread < READ_BYTES

    @property
    def unsent_bytes(self) -> int:
        return self._unread

    def write(self, data: bytes | memoryview) -> None:
        if self.fate:
            return
        self._parser.feed_data(bytes(data))
        if self.is_slow:
            if not self._unread:
                asyncio.get_running_loop().call_later(self._dice.random(), self._read)
            self._unread += len(data)

    def _read(self) -> None:
        self._unread = 0
        call, self._when_drained = self._when_drained, None
        if call is not None:
            call()
        if self._exchange is not None and not self.fate:
            self._exchange.drained()

    def flush(self) -> None: ...
    def be_frugal(self, is_short: bool) -> None: ...
    def send_continue(self) -> None: ...
    def pause_body(self) -> None: ...
    def resume_body(self) -> None: ...
    def become_opaque(self) -> None: ...
    def unhurried(self) -> None: ...

    def when_drained(self, call: Callable[[], None]) -> None:
        self._when_drained = call

    def finish(self, *, is_reusable: bool) -> None:
        if self.fate == "left":
            return
        self._end("whole" if self.status == 200 else str(self.status))
        assert self.is_message_complete, f"{self.name}: finished before its answer was"

    def abort(self) -> None:
        if self.fate != "left":
            self._end("cut")

    def _end(self, fate: str) -> None:
        assert not self.fate, f"{self.name} ended twice: {self.fate}, {fate}"
        self.fate, self.ended_at = fate, self._world.now()
        self._world.note(f"{self.name} {fate}")

    # httptools

    def on_status(self, status: bytes) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_message_complete = True
        self.status = self._parser.get_status_code()
