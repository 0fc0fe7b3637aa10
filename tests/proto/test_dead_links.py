"""Whichever direction goes dead, both sides notice by themselves, and an idle tunnel costs little (D4, P7)."""

import hypothesis
import pytest
from hypothesis import strategies as st

from proto import events, frames
from proto.frames import FrameType
from proto.limits import Limits
from tests.proto.pair import Pair, Side
from tests.proto.wire import NEVER, Direction, Wire

BYTES_AROUND = {"hub": 2 + 22, "agent": 6 + 22}
"""What WebSocket (masked by the agent) and TLS add to a message."""
IDLE_S = 10 + 5
"""The hub pings every 10 s and waits 5 s."""
LISTENING_S = 12.5 + 5
"""An agent that hears nothing for 12.5 s pings and waits 5 s."""
SILENT_S = Limits().silent_s
ACTIVE_S = 2 + 5


def wire(down: Direction, up: Direction, *, is_active: bool = False) -> Wire:
    made = Wire(Pair(), hub_to_agent=down, agent_to_hub=up)
    if is_active:
        made.pair.hub.get()
    return made


def pings(side: Side) -> int:
    return sum(kind == FrameType.PING and not flags for each in side.sent for kind, flags, *_ in frames.split(each))


def test_on_an_idle_tunnel_the_hub_pings_and_the_agent_listens() -> None:
    made = wire(Direction(delay=0.05), Direction(delay=0.05))
    made.run(1000.0)
    assert pings(made.pair.hub) == 101
    assert pings(made.pair.agent) == 1  # the first, that measures the round trip
    assert len(made.pair.hub.all(events.PongReceived)) == 100  # the last one's is on its way
    wired = sum(len(each) + 24 for each in made.pair.hub.sent) + sum(len(each) + 28 for each in made.pair.agent.sent)
    assert wired * 86.4 <= 740_000  # bytes a day


def test_in_use_both_ping_every_two_seconds() -> None:
    made = wire(Direction(), Direction(), is_active=True)
    made.run(100.0)
    assert pings(made.pair.hub) == pytest.approx(50, abs=2)
    assert pings(made.pair.agent) == pytest.approx(50, abs=2)


@pytest.mark.parametrize(
    ("dead", "is_active", "hub_s", "agent_s"),
    [
        # Both directions, as when a NAT forgets the connection: each side finds out alone.
        ("both", False, IDLE_S, LISTENING_S),
        ("both", True, SILENT_S, SILENT_S),
        # The hub is not heard: its pings stay unanswered, and the agent hears nothing.
        ("down", False, IDLE_S, LISTENING_S),
        ("down", True, ACTIVE_S, SILENT_S),
        # The agent is not heard: the hub ends the session, and its end reaches the agent.
        ("up", False, IDLE_S, IDLE_S),
        ("up", True, SILENT_S, SILENT_S),
    ],
)
@pytest.mark.parametrize("at", [60.0, 63.3, 69.99])
def test_both_sides_notice(dead: str, is_active: bool, hub_s: float, agent_s: float, at: float) -> None:
    down = Direction(delay=0.05, dead_from=at if dead != "up" else NEVER)
    up = Direction(delay=0.05, dead_from=at if dead != "down" else NEVER)
    made = wire(down, up, is_active=is_active)
    made.run(200.0)
    assert made.ended_at[made.pair.hub] - at <= hub_s + 0.2
    assert made.ended_at[made.pair.agent] - at <= agent_s + 0.2
    assert events.EndKind.TIMEOUT in {made.reason(side).kind for side in made.ended_at}


def test_an_agent_notices_that_it_is_not_heard_even_when_the_end_of_the_transport_is_lost() -> None:
    """A box in between swallows the agent's bytes, and later the hub's reset too."""
    made = wire(Direction(dead_from=65.0), Direction(dead_from=60.0))
    made.run(200.0)
    assert made.ended_at[made.pair.hub] <= 60.0 + IDLE_S
    assert made.ended_at[made.pair.agent] <= 65.0 + LISTENING_S
    assert made.reason(made.pair.agent).kind is events.EndKind.TIMEOUT


@hypothesis.given(
    at=st.floats(1.0, 150.0),
    gap=st.sampled_from([0.0, 0.5, 30.0]),
    delay=st.floats(0.0, 0.6),
    first=st.sampled_from(["up", "down"]),
    opened=st.one_of(st.none(), st.floats(0.0, 150.0)),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_neither_side_outlives_a_dead_link(
    at: float, gap: float, delay: float, first: str, opened: float | None
) -> None:
    """One direction dies, the other the same moment, a little later, or long after; in idleness or in use."""
    deaths = {first: at, "up" if first == "down" else "down": at + gap}
    made = wire(Direction(delay=delay, dead_from=deaths["down"]), Direction(delay=delay, dead_from=deaths["up"]))
    if opened is not None and opened < at:
        made.run(opened)
        made.pair.hub.get()
    made.run(at - made.elapsed)
    assert not made.ended_at  # and nobody gives up while it lives
    made.run(gap + 60.0)
    assert made.ended_at[made.pair.hub] <= at + IDLE_S + 2 * delay + 1.0
    assert made.ended_at[made.pair.agent] <= at + gap + LISTENING_S + 2 * delay + 1.0


@pytest.mark.parametrize("at", [60.0, 60.7, 61.9])
def test_a_link_that_stands_still_for_three_and_a_half_seconds_lives_on(at: float) -> None:
    """With pings every 2 s, and a death to be known within 6 s, no more than 4 s are left in the worst phase."""
    still = Direction(dead_from=at, dead_until=at + 3.5)
    made = wire(still, Direction(dead_from=at, dead_until=at + 3.5), is_active=True)
    made.run(200.0)
    assert made.pair.hub.session.is_open
    assert made.pair.agent.session.is_open


@pytest.mark.parametrize(
    ("answers", "size", "rate", "kernel"),
    [(1, 200_000, 14e3, 2**18), (1, 200_000, 25e3, 2**18), (10, 100_000, 35e3, 2**18), (40, 100_000, 100e3, 2**20)],
)
def test_a_slow_link_is_no_dead_one(answers: int, size: int, rate: float, kernel: int) -> None:
    """The first 128 KiB of an answer are no bulk, and wait for no acknowledgement: all of them are in the kernel when
    the next ping comes, or below it."""
    made = wire(Direction(rate=rate, delay=0.05), Direction(rate=rate, delay=0.05, kernel=kernel))
    made.run(5.0)
    asked = [made.pair.hub.get() for _ in range(answers)]
    made.run(1.0)
    for opened in made.pair.agent.all(events.StreamOpened):
        made.pair.agent.head(opened.stream)
        made.pair.agent.send(opened.stream, bytes(size), end=True)
    made.run(answers * size / rate + 20)
    assert [len(made.pair.hub.body(each)) for each in asked] == [size] * answers
    assert made.pair.hub.session.is_open


def test_a_saturated_link_is_no_dead_one() -> None:
    """An agent that does not pace itself fills a queue of eight seconds; the answers to the hub's pings wait in it."""
    made = wire(Direction(delay=0.05), Direction(rate=100_000, delay=0.05, kernel=800_000), is_active=True)
    made.run(1.0)
    agent = made.pair.agent
    agent.head(agent.taken())
    made.every = lambda: made.pair.consume(made.pair.hub)
    agent.session.send(agent.taken(), bytes(2_000_000), now=made.pair.now)
    agent.session.liveness._limits = Limits(pong_timeout_s=100.0, silent_s=100.0)
    made.run(12.0)
    assert made.pair.hub.session.is_open
