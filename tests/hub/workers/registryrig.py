"""Two workers' registries, and a main process that passes on what they say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from hub.tunnel.registry import Tunnel
from hub.workers import messages
from hub.workers.channel import ChannelLost
from hub.workers.messages import Done, Lives, News, Opened, Question, Reply
from hub.workers.registry import SharedRegistry
from proto.limits import Limits
from proto.window import Budget
from tests.hub.workers.fakes import WALL, FakeLink, tunnel


class Main:
    """Passes news on, at once or when told to. Implements what a registry needs of a channel."""

    def __init__(self, number: int, crew: dict[int, SharedRegistry], mail: list[tuple[int, News]]) -> None:
        self._number = number
        self._crew = crew
        self._mail = mail
        self.is_lost = False
        self.when_looked: Callable[[], None] = lambda: None
        """Called when a look has its answer, before who asked has it."""
        self.looks = 0

    def tell(self, news: News, *sockets: socket.socket) -> None:
        if isinstance(news, messages.Hop):
            self._crew[news.worker].visited(news.session_id, *sockets)
        else:
            self._mail.append((self._number, news))

    async def ask(self, question: Question) -> Reply:
        if self.is_lost:
            raise ChannelLost("gone")
        if isinstance(question, messages.RotateKey):
            return messages.Outcome(f"asked for {question.agent_id}")
        assert isinstance(question, messages.Look)
        self.looks += 1
        await asyncio.sleep(0)
        others = [each.live(question.cluster_uid) for number, each in self._crew.items() if number != self._number]
        self.when_looked()
        return Lives(tuple(live for lives in others for live in lives.tunnels)) if others else Done()


class Rig:
    def __init__(self) -> None:
        self.time = 100.0
        self.wall = WALL
        self.hops = 0
        self.mail: list[tuple[int, News]] = []
        self.crew: dict[int, SharedRegistry] = {}
        self.mains = {number: Main(number, self.crew, self.mail) for number in (1, 2)}
        for number, main in self.mains.items():
            self.crew[number] = SharedRegistry(
                number,
                main,  # type: ignore[arg-type]
                limits=Limits(),
                budget=Budget(1 << 30),
                on_hop=self._hopped,
                now=lambda: self.time,
                wall=lambda: self.wall,
            )
            self.crew[number].start()

    def _hopped(self) -> None:
        self.hops += 1

    def connect(self, worker: int, *, instance: int = 1, epoch: int = 1, session: str = "") -> tuple[Tunnel, FakeLink]:
        link = FakeLink(lambda: self.time)
        made = tunnel(link, instance=instance, epoch=epoch, session_id=session or f"s{worker}-{instance}-{epoch}")
        self.crew[worker].add(made)
        return made, link

    def deliver(self) -> None:
        mail, self.mail[:] = list(self.mail), []
        for sender, news in mail:
            for number, registry in self.crew.items():
                if number == sender:
                    continue
                if isinstance(news, Opened):
                    registry.opened(news)
                elif isinstance(news, messages.Draining):
                    registry.drains(news.session_id)
                elif isinstance(news, messages.Closed):
                    registry.closed(news.session_id)
