"""A request of the hub's own: what is sent, and how it ends."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from hub.route import Route
from hub.tunnel.ask import ANSWER_BYTES_MAX, Answer, ask
from proto.compression import KEY
from proto.errors import Code, StreamReset
from proto.messages import HttpHead
from tests.hub.proxy.fakes import FakeLink


class Asking:
    """One request under way over a fake link."""

    def __init__(self, method: str = "GET", body: bytes = b"", *, compresses: bool = False) -> None:
        self.link = FakeLink()
        self.link.compresses = compresses
        self.task = asyncio.get_running_loop().create_task(
            ask(cast(Route, self.link), method, "/api", ((b"impersonate-user", b"riata:ann"),), body)
        )

    async def __aenter__(self) -> Asking:
        await asyncio.sleep(0)
        self.message, self.owner, self.stream, _, self.is_ended = self.link.opened[0]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_the_answer_comes_whole_and_its_credit_goes_back() -> None:
    async with Asking() as asking:
        assert (asking.message.method, asking.message.path, asking.is_ended) == ("GET", b"/api", True)
        asking.owner.head(HttpHead(status=200, headers=()))
        asking.owner.data(memoryview(b"one "))
        asking.owner.data(memoryview(b"two"))
        assert asking.stream.credit == 7
        asking.owner.end()
        assert await asking.task == Answer(200, b"one two")


async def test_a_body_is_sent_with_its_length() -> None:
    async with Asking("PATCH", b"{}") as asking:
        assert (asking.stream.sent, asking.stream.is_ended, asking.is_ended) == (b"{}", True, False)
        assert (b"content-length", b"2") in asking.message.headers


async def test_no_answer_is_compressed() -> None:
    async with Asking(compresses=True) as asking:
        assert asking.message.ext == {KEY: 0}


async def test_the_agents_refusal_is_raised() -> None:
    async with Asking() as asking:
        asking.owner.reset(Code.FORBIDDEN, "no")
        with pytest.raises(StreamReset, match="no"):
            await asking.task


async def test_cancelled_or_too_big_it_is_taken_back() -> None:
    async with Asking() as asking:
        asking.task.cancel()
        await asyncio.wait([asking.task])
        assert asking.stream.code is Code.CANCELLED
    async with Asking() as asking:
        asking.owner.data(memoryview(bytes(ANSWER_BYTES_MAX + 1)))
        with pytest.raises(StreamReset):
            await asking.task
        assert asking.stream.code is Code.CANCELLED
