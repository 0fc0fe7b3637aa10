"""proto/directlog.py: the short way gives the record of the long way."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from proto import logs
from proto.directlog import DirectLog

FIELDS: dict[str, object] = {"user": "admin", "status": 200, "seconds": 0.25, "first_byte_s": None, "path": '/a"b'}


@pytest.fixture(autouse=True)
def _no_direct_log() -> Iterator[None]:
    yield
    logs.configure(component="hub", log_format="console", level="info")


def test_both_ways_give_the_same_record() -> None:
    stream = io.StringIO()
    logs.configure(component="hub", log_format="json", level="info", stream=stream)
    logging.getLogger("riata.access").info("request", extra=FIELDS)
    direct = logs.direct()
    assert direct is not None
    assert direct.record("riata.access", "request", FIELDS)
    direct.flush()
    long, short = (json.loads(line) for line in stream.getvalue().splitlines())
    assert long.pop("time")[:13] == short.pop("time")[:13]
    assert list(long) == list(short)
    assert long == short


def test_records_wait_for_the_flush_and_leave_in_one_write() -> None:
    stream = io.StringIO()
    log = DirectLog(stream, "hub")
    assert not log.has_records
    assert log.record("a", "b", {})
    assert log.record("a", "c", {})
    assert log.has_records
    assert stream.getvalue() == ""
    log.flush()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["b", "c"]


def test_many_records_do_not_pile_up() -> None:
    stream = io.StringIO()
    log = DirectLog(stream, "hub")
    for _ in range(300):
        log.record("a", "b", {})
    assert stream.getvalue().count("\n") == 256


@pytest.mark.parametrize("text", ["ü", "\x7f", "\u202e"])
def test_what_is_not_plain_ascii_goes_the_long_way(text: str) -> None:
    log = DirectLog(io.StringIO(), "hub")
    assert not log.record("a", "b", {"x": text})


def test_a_control_character_cannot_make_a_second_line() -> None:
    stream = io.StringIO()
    log = DirectLog(stream, "hub")
    log.record("a", "b", {"x": "1\n2\r3"})
    log.flush()
    assert stream.getvalue().count("\n") == 1


def test_a_stream_that_is_gone_is_not_our_end() -> None:
    stream = io.StringIO()
    log = DirectLog(stream, "hub")
    log.record("a", "b", {})
    stream.close()
    log.flush()


@pytest.mark.parametrize(("log_format", "level"), [("console", "info"), ("json", "warning")])
def test_there_is_no_short_way_for_people_or_above_info(log_format: logs.LogFormat, level: str) -> None:
    logs.configure(component="hub", log_format=log_format, level=level, stream=io.StringIO())
    assert logs.direct() is None


def test_the_time_is_whole_and_new_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    log = DirectLog(stream, "hub")
    moments = iter((1_780_000_000_000_005_999, 1_780_000_000_999_999_999, 1_780_000_001_000_000_000, 17_000))
    monkeypatch.setattr("proto.directlog.time.time_ns", lambda: next(moments))
    for _ in range(4):
        log.record("a", "b", {})
        log.record("a", "b", {})  # in the same turn
        log.flush()
    times = [json.loads(line)["time"] for line in stream.getvalue().splitlines()]
    assert times[::2] == times[1::2] == [
        "2026-05-28T20:26:40.000005Z", "2026-05-28T20:26:40.999999Z", "2026-05-28T20:26:41.000000Z",
        "1970-01-01T00:00:00.000017Z",
    ]  # fmt: skip
