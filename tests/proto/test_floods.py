"""What a peer may do often, and what happens when it does it too often (facts/security.md E9)."""

import pytest

from proto import events
from proto.errors import Code
from proto.frames import FrameType
from proto.limits import Limits
from tests.proto.pair import Pair
from tests.proto.test_inbound import dies, frame, goaway, opening, quiet, resets


@pytest.mark.parametrize(
    "survey", [frame(FrameType.SYNC, 0, bytes(4)), goaway(2**31 - 1, drain_ms=30_000)], ids=["SYNC", "GOAWAY"]
)
def test_a_flood_of_surveys_ends_the_session(survey: bytes) -> None:
    """Each has every stream looked at: 20,000 of them in one message would stand the hub's loop still for seconds."""
    pair = quiet()
    for _ in range(8):
        pair.hub.receive(survey)
    assert pair.hub.session.is_open
    pair.advance(5.1)
    pair.hub.receive(survey)
    assert pair.hub.session.is_open
    pair.hub.receive(survey)
    dies(pair.hub, Code.OVERLOADED)


def test_an_agent_refuses_a_flood_of_resets_and_lives() -> None:
    """The hub passes on the impatience of its users: none of them may end everybody's session."""
    pair = Pair(agent_limits=Limits(reset_burst=5, reset_per_s=1.0))
    pair.pump()
    for stream in range(2, 100, 2):
        pair.agent.receive(opening(stream), frame(FrameType.RESET, stream, b"\0\6"))
    assert pair.agent.session.is_open
    assert pair.agent.session.refusals == {"resets": 44}
    pair.agent.flush()  # the hub of this test never opened them
    pair.advance(2.0)  # refused ones are owed nothing: it serves again as soon as the cutting stops
    pair.agent.receive(opening(100))
    assert pair.agent.last(events.StreamOpened).stream.id == 100


def test_streams_opened_and_reset_in_a_flood_are_refused_then_fatal_at_the_hub() -> None:
    pair = Pair(hub_limits=Limits(reset_burst=5, reset_per_s=1.0))
    pair.pump()
    for stream in range(1, 11, 2):
        pair.hub.receive(opening(stream), frame(FrameType.RESET, stream, b"\0\6"))
    pair.hub.flush()
    pair.hub.receive(opening(13))
    resets(pair.hub, 13, Code.REFUSED)
    assert pair.hub.session.refusals == {"resets": 1}
    pair.advance(10.0)
    pair.hub.receive(opening(15))
    assert pair.hub.last(events.StreamOpened).stream.id == 15
    for stream in range(17, 59, 2):
        pair.hub.receive(opening(stream), frame(FrameType.RESET, stream, b"\0\6"))
    dies(pair.hub, Code.OVERLOADED)


def test_a_flood_of_pings_ends_the_session() -> None:
    pair = quiet()
    ping = frame(FrameType.PING, 0, bytes(8))
    pair.hub.receive(*[ping] * 390)
    assert len(pair.hub.said(FrameType.PING)) == 390
    pair.hub.receive(*[ping] * 20)
    dies(pair.hub, Code.OVERLOADED)
