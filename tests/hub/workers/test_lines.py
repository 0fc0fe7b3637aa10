"""hub/workers/lines.py: whole lines from several processes."""

from __future__ import annotations

import os

import pytest

from hub.workers.lines import WholeLines


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    pieces: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        pieces.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    return pieces


def test_many_lines_leave_in_pieces_that_are_not_mixed(written: list[bytes]) -> None:
    lines = [f"{number:0100}\n" for number in range(100)]
    WholeLines(2).write("".join(lines))
    assert b"".join(written) == "".join(lines).encode()
    assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in written)
    assert len(written) == 3


def test_a_line_is_kept_until_it_is_whole(written: list[bytes]) -> None:
    stream = WholeLines(2)
    assert stream.write("half") == 4
    stream.flush()
    assert written == []
    stream.write(" a line\nand")
    assert written == [b"half a line\n"]


def test_a_long_line_leaves_alone(written: list[bytes]) -> None:
    WholeLines(2).write("a\n" + "b" * 9000 + "\nc\n")
    assert written == [b"a\n", b"b" * 9000 + b"\n", b"c\n"]


def test_what_the_descriptor_does_not_take_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        taken.append(data[:3])
        return len(data[:3])

    monkeypatch.setattr(os, "write", write)
    WholeLines(2).write("abcdefg\n")
    assert b"".join(taken) == b"abcdefg\n"
