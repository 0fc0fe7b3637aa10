"""The tables themselves: complete, symmetric where they must be, and the flat copy equal."""

import itertools

import pytest

from proto import errors, transitions
from proto.transitions import HalfInput, HalfState, SessionInput, SessionState


@pytest.mark.parametrize(("state", "what"), list(itertools.product(SessionState, SessionInput)))
def test_every_session_step_is_in_the_table_or_an_error(state: SessionState, what: SessionInput) -> None:
    expected = transitions.SESSION.get((state, what))
    if expected is not None:
        assert transitions.advance_session(state, what, ours=True) is expected
        return
    with pytest.raises(errors.UsageError):
        transitions.advance_session(state, what, ours=True)
    with pytest.raises(errors.ProtocolError):
        transitions.advance_session(state, what, ours=False)


@pytest.mark.parametrize(("state", "what"), list(itertools.product(HalfState, HalfInput)))
def test_every_half_step_is_in_the_table_or_an_error(state: HalfState, what: HalfInput) -> None:
    expected = transitions.STREAM.get((state, what))
    if expected is not None:
        assert transitions.advance_half(state, what, ours=True) == expected
        return
    with pytest.raises(errors.UsageError):
        transitions.advance_half(state, what, ours=True)
    with pytest.raises(errors.ProtocolError):
        transitions.advance_half(state, what, ours=False)


def test_nothing_leaves_the_closed_state() -> None:
    assert not [state for state, _ in transitions.SESSION if state is SessionState.CLOSED]
    assert not [state for state, _ in transitions.STREAM if state is HalfState.RESET]


def test_every_session_can_be_lost_and_every_live_half_reset() -> None:
    assert {state for state, what in transitions.SESSION if what is SessionInput.LOST} == set(SessionState) - {
        SessionState.CLOSED
    }
    assert {state for state, what in transitions.STREAM if what is HalfInput.RESET} == set(HalfState) - {
        HalfState.IDLE,
        HalfState.RESET,
    }


def test_streams_may_be_opened_in_every_state_that_reads_frames() -> None:
    """`Session.receive` reads in OPEN and DRAINING and relies on it without a lookup."""
    for what in (SessionInput.OPEN, SessionInput.TRAFFIC):
        assert {state for state, each in transitions.SESSION if each is what} == {
            SessionState.OPEN,
            SessionState.DRAINING,
        }


def test_the_numbers_fit_the_flat_table() -> None:
    assert len(HalfInput) <= 1 << transitions.INPUT_BITS
    assert HalfInput.DATA_END == HalfInput.DATA + 1  # the hot path adds the FIN flag
    assert HalfState.ENDED < HalfState.RESET  # `>= ENDED` means: nothing more comes
