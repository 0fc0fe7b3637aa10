"""A crew whose workers are played by the test."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from hub.metrics import Metrics
from hub.workers import crew as crews
from hub.workers import messages
from hub.workers.channel import Channel
from hub.workers.crew import Crew
from hub.workers.messages import Done, News, Question, Reply
from hub.workers.metrics import measure, packed
from proto.limits import Limits
from proto.versions import PRODUCT_VERSION
from tests.hub.workers.fakes import until


class Played:
    """A worker's process and its end of the channel."""

    def __init__(self, descriptor: int, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.news: list[News] = []
        self.questions: list[Question] = []
        self.hold: asyncio.Event | None = None
        """Answers to Reached and RotateKey wait for it."""
        self.is_starting = False
        """It hears Stop only when it serves."""
        self.why: str | None = ""
        """Why it replaces no agent's key."""
        self.metrics = Metrics()
        self.measuring: asyncio.Event | None = None
        """Its metrics wait for it."""
        self.lingers = False
        """It has crashed, and the main process is not told so yet."""
        self._ended = asyncio.Event()
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        self.channel = Channel(sock, "main", on_question=self._answer, on_news=self._news, on_lost=lambda: None)

    async def _answer(self, question: Question) -> Reply:
        self.questions.append(question)
        if self.hold is not None and isinstance(question, messages.Reached | messages.RotateKey):
            await self.hold.wait()
        if isinstance(question, messages.Measure):
            return await self._measured()
        return messages.Outcome(self.why) if isinstance(question, messages.RotateKey) else Done()

    async def _measured(self) -> Reply:
        if self.measuring is not None:
            await self.measuring.wait()
        return packed(measure(self.metrics.registry))

    def _news(self, news: News, sockets: list[socket.socket]) -> None:
        self.news.append(news)
        for sock in sockets:
            sock.close()
        if isinstance(news, messages.Stop) and not self.is_starting:
            self.end(0)

    def heard(self, kind: type) -> list[News]:
        return [news for news in self.news if isinstance(news, kind)]

    def hello(self, build: str = PRODUCT_VERSION) -> None:
        self.channel.tell(messages.Hello(build))

    def end(self, status: int) -> None:
        self.returncode = status
        self._ended.set()

    def kill(self) -> None:
        if not self.lingers:
            self.end(-9)

    async def wait(self) -> int:
        await self._ended.wait()
        await self.channel.aclose()
        assert self.returncode is not None
        return self.returncode


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[Played] = []
        self.listens = 0
        self.metrics = Metrics()
        monkeypatch.setattr(crews, "spawn", self._spawn)
        monkeypatch.setattr(crews, "BACKOFF_S", (0.0,))
        self.crew = Crew(NoStore(), "hub-1", "{}", self._listen, [[], []], self.metrics, Limits())  # type: ignore[arg-type]

    async def _spawn(self, descriptor: int) -> Played:
        self.started.append(Played(os.dup(descriptor), 1000 + len(self.started)))
        return self.started[-1]

    def _listen(self) -> list[socket.socket]:
        self.listens += 1
        return [socket.socket()]

    async def serving(self) -> tuple[Played, Played]:
        """Both workers serve."""
        starting = asyncio.ensure_future(self.crew.start())  # noqa: TID251
        await until(lambda: len(self.started) == 2)
        for worker in self.started:
            worker.hello()
            worker.channel.tell(messages.Loaded())
        await starting
        one, two = self.started
        return one, two

    async def held_at(self, worker: Played, question: Question) -> Played:
        """The one that takes the place of `worker`, loaded, and keeping this question without an answer."""
        count = len(self.started)
        worker.kill()
        await until(lambda: len(self.started) > count)
        new = self.started[count]
        new.hold = asyncio.Event()
        new.hello()
        new.channel.tell(messages.Loaded())
        await until(lambda: question in new.questions)
        return new


class NoStore:
    """Asked by nobody here."""
