from agent.counts import RTT_BUCKETS, Counts
from proto.errors import Code
from proto.messages import StreamClass


def test_answers_are_counted_by_the_class_of_their_status() -> None:
    counts = Counts()
    for status in (200, 204, 101, 404, 503):
        counts.answered(status)
    assert counts.by_status == [0, 1, 2, 0, 1, 1]


def test_a_round_trip_falls_into_the_first_bucket_that_holds_it() -> None:
    counts = Counts()
    for seconds in (RTT_BUCKETS[0], RTT_BUCKETS[0] + 1e-9, 60.0):
        counts.rtt(seconds)
    assert (counts.rtt_counts[0], counts.rtt_counts[1], counts.rtt_counts[-1]) == (1, 1, 1)


def test_what_crosses_the_tunnel_is_counted_by_direction_and_class() -> None:
    counts = Counts()
    counts.bytes("in", StreamClass.BULK, 3)
    counts.bytes("in", StreamClass.BULK, 4)
    assert counts.tunnel_bytes == {("in", "bulk"): 7}


def test_ends_and_refusals_have_their_reasons() -> None:
    counts = Counts()
    counts.failed(Code.UPSTREAM)
    counts.refused("target")
    assert counts.by_code == {Code.UPSTREAM: 1}
    assert counts.by_refusal == {"target": 1}
