"""kubectl exec in virtual time: bytes both ways behind a 101, and an end that is not mistaken for another."""

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import httptools

from hub.edge.framing import read_request
from hub.edge.head import parse_head
from tests.faults.sim.client import Client
from tests.faults.sim.programs import QUIT

if TYPE_CHECKING:
    from tests.faults.sim.world import World

PIECES = 6
APART_S = 1.5


class Session(Client):
    """One upgraded connection. `fate` is `whole` when the program ended it, `cut` when something else did."""

    def __init__(self, world: "World", dice: random.Random, name: str) -> None:
        super().__init__(world, dice, name, "EXEC", 0, 0.0)
        self._said = [self._world.body(f"{name}/{n}", dice.choice([1, 80, 40_000])) for n in range(PIECES)] + [QUIT]
        self.is_opaque = False

    def begin(self) -> None:
        path = f"/k8s/clusters/c1/api/v1/namespaces/n/pods/{self.name}/exec"
        raw = f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer good\r\n"
        raw += "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
        now = self.began_at = self._world.now()
        if self.leaves_after is not None:
            asyncio.get_running_loop().call_later(self.leaves_after, self.leave)
        self._exchange = self._world.relay.begin(self, read_request(parse_head(raw.encode()), now, "1.2.3.4:5"))

    @property
    def expected(self) -> bytes:
        return b"".join(self._said)

    def write(self, data: bytes | memoryview) -> None:
        if self.is_opaque:
            self.body += data
        elif not self.fate:
            with contextlib.suppress(httptools.HttpParserUpgrade):
                self._parser.feed_data(bytes(data))

    def become_opaque(self) -> None:
        self.is_opaque = True
        self._say(0)

    def _say(self, number: int) -> None:
        if self.fate or self._exchange is None or number == len(self._said):
            return
        self._exchange.body(self._said[number])
        asyncio.get_running_loop().call_later(self._dice.random() * APART_S, self._say, number + 1)

    def finish(self, *, is_reusable: bool) -> None:
        if self.fate != "left":
            self._end("whole" if self.is_opaque else str(self.status))
