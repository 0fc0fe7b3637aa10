"""hub/endings.py: a crowd ends bit by bit."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from typing import cast

import pytest

from hub import endings
from hub.endings import TURN_S, Endings
from proto.aio.websocket import WebSocketTransport
from tests.hub.tunnel.test_accept import agent, greet, running


class Told:
    """Each call takes `cost_s` of the clock."""

    def __init__(self, cost_s: float) -> None:
        self.now = 0.0
        self.cost_s = cost_s
        self.endings = Endings(lambda: self.now)
        self.calls: list[int] = []

    def tell(self, number: int) -> None:
        self.now += self.cost_s
        self.calls.append(number)
        if number < 0:
            raise ValueError(number)

    def lose(self, *numbers: int) -> None:
        for number in numbers:
            self.endings.soon(functools.partial(self.tell, number))


async def test_one_that_is_lost_alone_is_told_at_once_however_dear_the_last_one_was() -> None:
    told = Told(cost_s=1.0)
    told.lose(1)
    assert told.calls == [1]
    await asyncio.sleep(0)
    told.lose(2)
    assert told.calls == [1, 2]


async def test_a_crowd_is_told_in_its_order_over_some_turns_of_the_loop() -> None:
    told = Told(cost_s=TURN_S / 2)
    told.lose(*range(7))
    seen = [list(told.calls)]
    while len(told.calls) < 7:
        await asyncio.sleep(0)
        seen.append(list(told.calls))
    assert seen == [list(range(count)) for count in (2, 4, 6, 7)]


async def test_who_comes_while_others_wait_is_behind_them() -> None:
    told = Told(cost_s=TURN_S)
    told.lose(1, 2)
    await asyncio.sleep(0)
    told.lose(3)
    for _ in range(3):
        await asyncio.sleep(0)
    assert told.calls == [1, 2, 3]


async def test_what_one_of_them_raises_holds_nobody_else() -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    told = Told(cost_s=TURN_S)
    told.lose(1, -2, 3)
    for _ in range(4):
        await asyncio.sleep(0)
    assert told.calls == [1, -2, 3]
    assert len(raised) == 1
    with pytest.raises(ValueError, match="-4"):
        told.lose(-4)


async def test_a_crowd_of_lost_tunnels_is_noticed_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "TURN_S", 1e-9)  # one is too many for a turn
    async with running() as hub, contextlib.AsyncExitStack() as agents:
        for number in range(3):
            socket = await agents.enter_async_context(hub.connect())
            await greet(socket, agent(instance=bytes([number]) * 16))
        links = [tunnel.link for tunnel in hub.registry]
        for _ in range(10):  # they are welcomed before they are served
            await asyncio.sleep(0)
        assert all(link._ended for link in links)
        for link in links:
            cast(WebSocketTransport, link._transport)._transport.abort()
        left = [len(list(hub.registry))]
        while left[-1]:
            await asyncio.sleep(0)
            left.append(len(list(hub.registry)))
    assert max(before - after for before, after in itertools.pairwise(left)) == 1
