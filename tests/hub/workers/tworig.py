"""Two workers in one process: a hop of one, the host of the other, a real pair of sockets between them."""

from __future__ import annotations

import socket

from hub.tunnel.registry import Tunnel
from hub.workers.directory import Remote
from hub.workers.hop import Hop
from hub.workers.host import Host
from hub.workers.messages import Opened
from proto.aio.tasks import TaskGroup
from proto.errors import Code
from proto.limits import Limits
from proto.messages import HttpRequest, StreamClass, StreamKind
from proto.window import Budget
from tests.hub.workers.fakes import GET, FakeLink, FakeOwner, FakeStream, tunnel, until


class Rig:
    """Worker 1 with a request, worker 2 with the tunnel."""

    def __init__(self) -> None:
        self.time = 100.0
        self.link = FakeLink(lambda: self.time)
        self.tunnel: Tunnel | None = tunnel(self.link)
        self.remote = Remote(Opened(2, "s1", "uid-alpha", "alpha", "cluster", b"i" * 16, 1, "a:1", "v", "k", 1.0, True))
        self.budget = Budget(1 << 30)
        """Of worker 1."""
        self.drained: list[Hop] = []
        self.pairs = 0
        self.tasks = TaskGroup("rig")
        self.host = Host(Limits(), Budget(1 << 30), lambda: self.time)
        self.hop = Hop(
            self.remote,
            connect=self._connect,
            tasks=self.tasks,
            limits=Limits(),
            budget=self.budget,
            on_drain=self.drained.append,
            clock=lambda: self.time,
        )

    def _connect(self, sock: socket.socket) -> None:
        self.pairs += 1
        self.host.take(self.tunnel, sock, "s1")

    def end_tunnel(self) -> None:
        """As a link tells it: its streams end, then so does the session, in one turn of the loop."""
        assert self.tunnel is not None
        self.link.is_open = False
        for stream in self.link.made:
            assert stream.owner is not None
            stream.owner.reset(Code.SESSION_LOST, "gone")
        self.host.ended(self.tunnel)

    def ask(self, message: HttpRequest = GET) -> FakeOwner:
        owner = FakeOwner()
        owner.stream = self.hop.open(
            message, owner, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=message.method == "GET"
        )
        return owner

    async def asked(self, message: HttpRequest = GET) -> tuple[FakeOwner, FakeStream]:
        before = len(self.link.made)
        owner = self.ask(message)
        await until(lambda: len(self.link.made) > before)
        return owner, self.link.made[-1]
