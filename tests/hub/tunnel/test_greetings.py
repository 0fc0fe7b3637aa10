"""hub/tunnel/greetings.py: who keeps a place among those that have not said who they are."""

from __future__ import annotations

import asyncio
from typing import cast

from hub.metrics import Metrics
from hub.tunnel.accept import AgentAuthenticator, TunnelEndpoint
from hub.tunnel.greetings import PATIENCE_S, Greeting, Greetings
from hub.tunnel.registry import Registry
from tests.hub.edge.fakes import FakeTransport


class Door:
    def __init__(self, most: int) -> None:
        self.now = 0.0
        self.greetings = Greetings(most, lambda: self.now)
        self.evicted: list[str] = []

    def knock(self, name: str, address: str) -> Greeting | None:
        return self.greetings.enter(address, lambda: self.evicted.append(name))


def test_a_place_is_free_again_when_its_peer_was_greeted() -> None:
    door = Door(1)
    first = door.knock("a", "1.1.1.1")
    assert first is not None
    assert door.knock("b", "2.2.2.2") is None
    door.greetings.leave(first)
    assert len(door.greetings) == 0
    assert door.knock("b", "2.2.2.2") is not None


def test_an_address_with_many_places_yields_its_oldest_to_others() -> None:
    door = Door(4)
    places = [door.knock(f"flood-{number}", "6.6.6.6") for number in range(4)]
    assert door.knock("honest", "1.1.1.1") is not None
    assert door.evicted == ["flood-0"]
    assert len(door.greetings) == 4
    assert places[0] is not None
    door.greetings.leave(places[0])  # its handler ends later; the place is gone already
    assert len(door.greetings) == 4
    assert door.knock("flood-4", "6.6.6.6") is None  # not from the honest one


def test_agents_behind_one_address_do_not_push_each_other_out() -> None:
    """A storm of reconnects through one NAT: the first ones get through, the others come back later."""
    door = Door(3)
    assert all(door.knock(str(number), "1.1.1.1") for number in range(3))
    door.now += PATIENCE_S / 2
    assert door.knock("late", "1.1.1.1") is None
    assert door.evicted == []


def test_silence_yields_even_to_the_same_address() -> None:
    door = Door(2)
    assert door.knock("silent", "1.1.1.1")
    door.now += PATIENCE_S
    assert door.knock("quick", "1.1.1.1")
    assert door.knock("next", "1.1.1.1")
    assert door.evicted == ["silent"]


def test_strangers_in_one_ipv6_network_are_one_and_no_fleet_behind_a_nat_yields_to_them() -> None:
    endpoint = TunnelEndpoint(
        hub_id="hub-1",
        authenticator=cast(AgentAuthenticator, None),
        registry=Registry(),
        metrics=Metrics(),
        unauthenticated_max=5,
    )
    strangers, fleet = [FakeTransport() for _ in range(3)], [FakeTransport() for _ in range(2)]
    for number, transport in enumerate(fleet):
        endpoint._enter(f"192.0.2.1:{number}", cast(asyncio.Transport, transport))
    for number, transport in enumerate(strangers):
        endpoint._enter(f"[2001:db8:1:2:{number + 1}::]:9", cast(asyncio.Transport, transport))
    endpoint._enter("198.51.100.7:1", cast(asyncio.Transport, FakeTransport()))
    assert [transport.is_aborted for transport in fleet] == [False, False]
    assert [transport.is_aborted for transport in strangers] == [True, False, False]
