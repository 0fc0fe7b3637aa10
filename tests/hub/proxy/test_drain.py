"""hub/proxy/relay.py: how watches end when their agent or the hub goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

from hub.endings import TURN_S
from hub.proxy.exchange import Exchange
from hub.route import Route
from proto.messages import HttpHead
from tests.hub.proxy.fakes import FakeFront, FakeLink, request
from tests.hub.proxy.test_relay import World, finish

WATCH = "GET /k8s/clusters/c1/api/v1/pods?watch=1 HTTP/1.1"
JSON = HttpHead(status=200, headers=((b"content-type", b"application/json"),))


class CostlyFront(FakeFront):
    """To end its answer takes half of a turn."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def finish(self, *, is_reusable: bool) -> None:
        self._world.now += TURN_S / 2
        super().finish(is_reusable=is_reusable)


class Crowd:
    """Watches over `link`, all between two events."""

    def __init__(self, world: World, size: int) -> None:
        self.fronts = [CostlyFront(world) for _ in range(size)]
        self.watches = [cast(Exchange, world.relay.begin(front, request(WATCH))) for front in self.fronts]
        for watch in self.watches:
            watch.head(JSON)

    @property
    def ended(self) -> list[int]:
        return [number for number, front in enumerate(self.fronts) if front.finished is not None]


async def test_a_draining_agents_watches_end_between_two_events_and_nothing_else_does() -> None:
    link, other = FakeLink(), FakeLink()
    world = World(link)
    watches = [world.begin(request(WATCH)) for _ in range(2)]
    plain_front, plain = world.begin()
    assert plain is not None
    for _front, exchange in watches:
        assert exchange is not None
        exchange.head(JSON)
    half = watches[1][1]
    assert half is not None
    half.data(memoryview(b'{"type":'))
    world.relay.drain(cast(Route, other))
    assert watches[0][0].finished is None
    world.relay.drain(cast(Route, link))
    assert watches[0][0].finished is True
    assert watches[1][0].finished is None
    half.data(memoryview(b'"ADD'))  # an event of several frames
    assert not watches[1][0].is_aborted
    half.data(memoryview(b'ED"}\n'))
    assert watches[1][0].finished is True
    assert plain_front.finished is None
    finish(plain)


async def test_a_crowd_of_watches_ends_bit_by_bit_in_its_order() -> None:
    """Ten thousand in one turn of the loop kept everybody else waiting for more than a second."""
    world = World(FakeLink())
    crowd = Crowd(world, 7)
    world.relay.drain()
    seen = [crowd.ended]
    while len(crowd.ended) < 7:
        await asyncio.sleep(0)
        seen.append(crowd.ended)
    assert seen == [list(range(count)) for count in (2, 4, 6, 7)]
    assert {bool(front.is_aborted) for front in crowd.fronts} == {False}


async def test_a_drain_that_is_done_again_ends_nothing_twice_and_what_came_meanwhile() -> None:
    world = World(FakeLink())
    first = Crowd(world, 4)
    world.relay.drain()
    second = Crowd(world, 1)
    world.relay.drain()
    assert (first.ended, second.ended) == ([0, 1], [])
    for _ in range(3):
        await asyncio.sleep(0)
    assert (first.ended, second.ended) == ([0, 1, 2, 3], [0])
    assert [front.written.count(b"0\r\n\r\n") for front in first.fronts] == [1] * 4


async def test_a_watch_that_waits_for_its_end_goes_on_and_ends_behind_the_event_that_comes() -> None:
    world = World(FakeLink())
    crowd = Crowd(world, 4)
    world.relay.drain()
    crowd.watches[3].data(memoryview(b'{"type":'))
    for _ in range(3):
        await asyncio.sleep(0)
    assert crowd.ended == [0, 1, 2]
    crowd.watches[3].data(memoryview(b'"ADDED"}\n'))
    assert crowd.ended == [0, 1, 2, 3]
    assert crowd.fronts[3].written.endswith(b"0\r\n\r\n")


async def test_the_end_of_the_hub_waits_for_no_turn() -> None:
    """A grace that is over: what is between two events ends cleanly all the same."""
    world = World(FakeLink())
    crowd = Crowd(world, 9)
    world.relay.drain()
    await world.relay.aclose()
    assert crowd.ended == list(range(9))
    assert not any(front.is_aborted for front in crowd.fronts)


class Walked(dict[Exchange, None]):
    """Counts how often all are gone through."""

    walks = 0

    def __iter__(self) -> Iterator[Exchange]:
        self.walks += 1
        return super().__iter__()


async def test_an_agent_that_goes_away_concerns_its_own_streams_alone() -> None:
    """Five thousand agents may go at once, and each with ten thousand requests under way."""
    world = World(FakeLink())
    crowd = Crowd(world, 3)
    world.routes.links = [leaving := FakeLink()]
    own = Crowd(world, 1)
    everybody = world.relay._live = Walked(world.relay._live)
    world.relay.drain(cast(Route, leaving))
    assert everybody.walks == 0
    assert (crowd.ended, own.ended) == ([], [0])
