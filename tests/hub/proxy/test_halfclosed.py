"""hub/proxy/halfclosed.py: what becomes of an exec whose client has closed its connection, in virtual time."""

from __future__ import annotations

import asyncio

from hub.proxy.halfclosed import HALF_CLOSED_S
from hub.proxy.limits import ProxyLimits
from proto.errors import Code
from proto.messages import HttpHead
from tests.faults.sim.loop import VirtualLoop
from tests.hub.proxy.fakes import FakeLink, FakeStream, request
from tests.hub.proxy.test_relay import World, finish

EXEC = "GET /k8s/clusters/c1/api/v1/namespaces/d/pods/p/exec HTTP/1.1"
UPGRADE = ("Connection: Upgrade", "Upgrade: SPDY/3.1")


def test_an_exec_that_its_client_closed_is_not_one_that_was_left() -> None:
    """Unless the agent could not end it: then it is broken off, which the agent has to bear (`reset_burst`)."""
    world = World(FakeLink(), limits=ProxyLimits(cancelled_burst=1, cancelled_per_s=1.0))

    def opened_and_closed() -> FakeStream:
        _, exchange = world.begin(request(EXEC, *UPGRADE))
        assert exchange is not None
        exchange.head(HttpHead(status=101, headers=()))
        stream = world.routes.links[0].opened[-1][2]
        exchange.client_eof()
        exchange.gone()
        return stream

    async def conversation() -> None:
        for _ in range(2):
            opened_and_closed().reset(Code.NONE)  # as good as ended by both sides
        await asyncio.sleep(HALF_CLOSED_S + 0.1)
        opened_and_closed()
        finish(world.begin()[1])
        await asyncio.sleep(HALF_CLOSED_S + 0.1)
        assert world.begin()[0].status == 429

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(conversation())
