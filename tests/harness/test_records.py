"""tests/harness/records.py."""

from pathlib import Path

from tests.harness.records import written


def test_a_half_written_line_is_no_record(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b'{"event":"one"}\nTraceback\n{"event":"two"}\n{"event":"thr\xc3')
    assert [line["event"] for line in written(log)] == ["one", "two"]
    log.write_bytes(b"")
    assert written(log) == []
