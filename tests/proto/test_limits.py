import msgspec
import pytest

from proto import errors, limits, messages
from proto.limits import Limits


@pytest.mark.parametrize(
    "change",
    [
        {"data_bytes": 0},
        {"data_bytes": 32_769},
        {"ping_per_s": 0},
        {"ping_burst": 0},
        {"window_bytes": 0},
        {"window_bytes": 5_000_000},
        {"window_max_bytes": 2**25},
        {"session_window_bytes": 2**31},
        {"streams": 0},
        {"streams": 9000},
        {"open_backlog": 0},
        {"crowded_window_bytes": 17},
        {"far_window_bytes": 0},
        {"far_rtt_s": -1},
        {"near_window_bytes": 17},
        {"near_alone_bytes": 100_000},
        {"near_rtt_s": -1},
        {"near_rtt_s": 0.03},
        {"far_rtt_s": 0},
    ],
)
def test_bounds_that_contradict_each_other_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"bytes|need|streams|ping|far|near"):
        Limits(**change)  # type: ignore[arg-type] # parametrised over integer fields


def test_the_offer_and_its_merge() -> None:
    ours, theirs = Limits(streams=10).offer(), Limits(window_bytes=1000).offer()
    merged = limits.merge(ours, theirs)
    assert (merged.streams, merged.window, merged.data) == (10, 1000, 32_768)
    assert limits.merge(theirs, ours) == merged


@pytest.mark.parametrize("little", [{"data": 1023}, {"window": 16_383}, {"session_window": 16_383}])
def test_an_offer_that_makes_tiny_frames_is_refused(little: dict[str, int]) -> None:
    least = messages.Bounds(data=1024, streams=1, backlog=1, window=16_384, session_window=16_384)
    limits.check_offer(least)
    limits.check_offer(Limits().offer())
    with pytest.raises(errors.ProtocolError, match="limits below the least: data 1024, windows 16384 bytes") as caught:
        limits.check_offer(msgspec.structs.replace(least, **little))
    assert caught.value.code is errors.Code.PROTOCOL


def test_a_full_message_is_far_below_what_a_receiver_refuses() -> None:
    largest = limits.MESSAGE_TARGET_BYTES + limits.CONTROL_MAX_BYTES + 14 + limits.DATA_MAX_BYTES + 8
    assert largest < limits.MESSAGE_MAX_BYTES
    assert limits.CONTROL_MAX_BYTES + 14 < 2**16
