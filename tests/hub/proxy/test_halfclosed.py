"""hub/proxy/halfclosed.py: what becomes of an exec whose client has closed its connection, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import cast

from hub.proxy.exchange import Exchange
from hub.proxy.halfclosed import HALF_CLOSED_S, break_off_soon
from hub.proxy.limits import ProxyLimits
from proto.aio.linkstream import LinkStream
from proto.errors import Code
from proto.messages import HttpHead
from tests.faults.sim.loop import VirtualLoop
from tests.hub.proxy.fakes import FakeLink, FakeStream, request
from tests.hub.proxy.test_relay import World, finish

EXEC = "GET /k8s/clusters/c1/api/v1/namespaces/d/pods/p/exec HTTP/1.1"
UPGRADE = ("Connection: Upgrade", "Upgrade: SPDY/3.1")


class Talk:
    """Execs of alice, who may leave two requests and one more in a very long while."""

    def __init__(self) -> None:
        self.world = World(FakeLink(), limits=ProxyLimits(cancelled_burst=2, cancelled_per_s=1e-9))

    def exec(self) -> tuple[Exchange, FakeStream]:
        _, exchange = self.world.begin(request(EXEC, *UPGRADE))
        assert exchange is not None
        exchange.head(HttpHead(status=101, headers=()))
        return exchange, self.world.routes.links[0].opened[-1][2]

    def opened_and_closed(self) -> FakeStream:
        exchange, stream = self.exec()
        exchange.client_eof()
        exchange.gone()
        return stream

    @property
    def may_ask(self) -> bool:
        _, exchange = self.world.begin()
        if exchange is not None:
            finish(exchange)
        return exchange is not None


def run(conversation: Callable[[], Coroutine[None, None, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(conversation())


def test_an_exec_that_its_client_closed_is_not_one_that_was_left() -> None:
    async def conversation() -> None:
        talk = Talk()
        for _ in range(5):
            stream = talk.opened_and_closed()
            stream.is_over = True  # the agent has ended its half
            await asyncio.sleep(HALF_CLOSED_S + 0.1)
            assert stream.code is None
        assert talk.may_ask

    run(conversation)


def test_until_it_has_ended_it_is() -> None:
    """Else a second's worth of them would cost nothing."""

    async def conversation() -> None:
        talk = Talk()
        streams = [talk.opened_and_closed() for _ in range(2)]
        assert not talk.may_ask
        streams[0].is_over = True
        await asyncio.sleep(HALF_CLOSED_S + 0.1)
        assert [stream.code for stream in streams] == [None, Code.CANCELLED]
        assert talk.may_ask
        talk.opened_and_closed()
        assert not talk.may_ask  # what was reset stays counted

    run(conversation)


def test_what_did_not_count_is_not_given_back() -> None:
    async def conversation() -> None:
        talk = Talk()
        open_ones = [talk.exec() for _ in range(4)]
        for exchange, _ in open_ones:
            exchange.gone()  # without a word: two count, two are owed, and that is the most
        exchange, stream = open_ones[-1]
        late = [talk.world.relay.left(exchange)]
        assert late == [False]
        break_off_soon(exchange, cast(LinkStream, stream))
        await asyncio.sleep(HALF_CLOSED_S + 0.1)
        assert not talk.may_ask

    run(conversation)


def test_a_connection_that_stays_is_cut_and_counts_unless_the_agent_has_ended_it() -> None:
    async def conversation() -> None:
        talk = Talk()
        for _ in range(2):
            exchange, stream = talk.exec()
            exchange.client_eof()
            await asyncio.sleep(HALF_CLOSED_S + 0.1)
            assert exchange.has_ended
            assert stream.code is Code.CANCELLED
        assert not talk.may_ask

    run(conversation)
