"""hub/edge/chunked.py: the strict decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import errors
from hub.edge.chunked import ChunkedDecoder


def decode(*pieces: bytes) -> tuple[bytes, bytes, bool]:
    decoder = ChunkedDecoder()
    body = rest = b""
    for piece in pieces:
        got, rest = decoder.feed(piece)
        body += got
    return body, rest, decoder.is_done


def test_a_body_with_extension_trailer_and_a_next_request() -> None:
    raw = b"4;a=b\r\nwiki\r\n5\r\npedia\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n"
    assert decode(raw) == (b"wikipedia", b"GET / HTTP/1.1\r\n", True)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_any_segmentation(chunks: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\nrest"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw) - 4), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decode(*pieces) == (b"".join(chunks), b"rest", True)


def test_tiny_chunks_cost_no_more_than_their_bytes() -> None:
    """Counted, not timed: what is copied per read is about what was read, whatever the chunks."""

    class Counted(bytes):
        copied = 0

        def __getitem__(self, key: object) -> bytes:  # type: ignore[override]
            piece = bytes.__getitem__(self, key)  # type: ignore[call-overload]
            if isinstance(key, slice):
                Counted.copied += len(piece)
            return piece  # type: ignore[no-any-return]

    raw = Counted(b"1\r\nx\r\n" * 40_000)
    body, _ = ChunkedDecoder().feed(raw)
    assert body == b"x" * 40_000
    assert Counted.copied < len(raw)


MALFORMED = [
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"+3\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"-1\r\n",
    b"\r\n",
    b"3\nabc\n0\n\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc0\r\n\r\n",
    b"10000000000000000\r\n",
    b"3;a=\x00\r\nabc\r\n",
    b"3;" + b"a" * 2000 + b"\r\nabc\r\n",
    b"3;" + b"a" * 2000,
    b"1;" + b"a" * 600 + b"\r\nx\r\n1;" + b"a" * 600 + b"\r\nx\r\n",
    b"0\r\nbad trailer\r\n\r\n",
    b"0\r\n" + b"A: " + b"b" * 900 + b"\r\n" * 1 + (b"A: " + b"b" * 900 + b"\r\n") * 5 + b"\r\n",
]


@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed(raw: bytes) -> None:
    with pytest.raises(errors.BadRequest):
        decode(raw)
    with pytest.raises(errors.BadRequest):
        decode(*(raw[i : i + 1] for i in range(len(raw))))
