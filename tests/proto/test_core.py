"""How a session accounts for streams and ends, where test_session does not look."""

import pytest

from proto import events, frames
from proto.errors import Code
from proto.limits import ANY_ID
from proto.session import Role, Session
from proto.transitions import SessionState
from proto.window import Budget
from tests.proto.pair import Pair, shake


def test_a_fresh_session_is_open_and_not_drained() -> None:
    session = Session(Role.AGENT, shake()[1])
    assert session.state is SessionState.OPEN
    assert session.is_open
    assert not session.is_draining
    assert not session.is_drained
    assert session.end_reason is None


def test_an_announced_drain_is_not_yet_settled() -> None:
    pair = Pair()
    pair.pump()
    pair.hub.session.drain(5.0, Code.DRAINING, "", now=pair.now)
    pair.move(pair.hub, pair.agent)
    assert pair.agent.session._peer_final_id == ANY_ID
    assert not pair.agent.session.is_drained
    pair.pump()
    assert pair.agent.session._peer_final_id == 0
    assert pair.agent.session.is_drained
    assert pair.hub.session.is_drained


def test_the_budget_is_given_back_however_a_stream_ends() -> None:
    budget = Budget(10_000_000)
    pair = Pair(budget=budget)
    streams = [pair.hub.get() for _ in range(4)]
    pair.pump()
    for index, event in enumerate(pair.agent.all(events.StreamOpened)):
        pair.agent.head(event.stream)
        pair.agent.send(event.stream, b"x" * 1000, end=index == 0)
    pair.pump()
    assert budget.used == 3000  # the first stream is complete: its bytes are its owner's now
    pair.hub.session.consumed(streams[0], 1000)
    pair.hub.session.reset_stream(streams[1], Code.CANCELLED, now=pair.now)
    pair.agent.session.reset_stream(pair.agent.session.table.streams[streams[2].id], Code.UPSTREAM, now=pair.now)
    pair.pump()
    assert budget.used == 1000
    pair.hub.session.receive_eof()
    assert budget.used == 0


def test_streams_that_die_before_there_is_credit_for_them_are_forgotten() -> None:
    """Else an agent that returns none has its hub keep every upload that a client gives up."""
    pair = Pair()
    pair.pump()
    session = pair.hub.session
    session.credit.send_left = 0
    waits = pair.hub.request("POST")
    pair.hub.send(waits, b"body")
    for _ in range(100):
        stream = pair.hub.request("POST")
        pair.hub.send(stream, b"body", end=True)
        pair.hub.flush()
        session.reset_stream(stream, Code.CANCELLED, now=pair.now)
    assert sum(map(len, session.out.scheduler._rings)) <= 2
    session.credit.send_left = 1000
    assert [found[1:] for found in pair.hub.said(frames.FrameType.DATA)] == [(0, waits.id, b"body")]


@pytest.mark.parametrize("text", ["x" * 5000, "é" * 3000])
def test_a_long_reason_is_cut_not_refused(text: str) -> None:
    pair = Pair()
    pair.pump()
    pair.hub.session.close(Code.CLOSED, text)
    pair.pump()
    assert pair.agent.last(events.SessionEnded).reason.text == text[:1024]
