"""The response reader: every way in which a response may be cut into reads, and every malformed one."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.relay import response as responses
from agent.relay.response import HEAD_BYTES_MAX, KNOWN_MAX, BadResponse, CutShort, ResponseReader, State


class Sink:
    def __init__(self):
        self.heads = []
        self.body = b""
        self.trailers = None
        self.ends = 0

    def on_head(self, status, headers, *, end):
        self.heads.append((status, headers))
        self.ends += end

    def on_body(self, chunk, *, end):
        assert chunk or end
        self.body += chunk
        self.ends += end

    def on_trailers(self, headers):
        self.trailers = headers
        self.ends += 1


def read(*pieces, head_only=False, upgrade="", eof=False):
    reader, sink = ResponseReader(), Sink()
    reader.start(sink, head_only=head_only, upgrade=upgrade)
    for piece in pieces:
        reader.feed(piece)
    if eof:
        reader.feed_eof()
    return reader, sink


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nAudit-Id: x\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("response", [LENGTH, CHUNKED])
def test_reads_a_body_whole(response):
    reader, sink = read(response)
    assert sink.body == b"hello world"
    assert sink.ends == 1
    assert reader.state is State.EXPECT_NOTHING
    assert reader.keep_alive


@given(response=st.sampled_from([LENGTH, CHUNKED]), cuts=st.lists(st.integers(0, 140), max_size=12))
def test_cuts_of_the_transport_do_not_matter(response, cuts):
    edges = sorted({0, len(response), *(cut for cut in cuts if cut < len(response))})
    pieces = [response[a:b] for a, b in itertools.pairwise(edges)]
    reader, sink = read(*pieces)
    assert sink.body == b"hello world"
    assert sink.ends == 1
    assert reader.keep_alive


def test_head_fields_are_folded_and_hop_by_hop_ones_gone():
    _, sink = read(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\n"
        b"WARNING:  299 - hi \r\nSet-Cookie: a\r\nContent-Length: 0\r\n\r\n"
    )
    assert sink.heads == [
        (200, ((b"warning", b"299 - hi"), (b"set-cookie", b"a"), (b"content-length", b"0"))),
    ]
    assert sink.ends == 1


def test_several_chunks_of_one_read_become_one_piece():
    pieces = []

    class Pieces(Sink):
        def on_body(self, chunk, *, end):
            pieces.append((chunk, end))

    reader = ResponseReader()
    reader.start(Pieces(), head_only=False, upgrade="")
    reader.feed(CHUNKED)
    assert pieces == [(b"hello world", True)]


@pytest.mark.parametrize(
    ("response", "head_only"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", False),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", False),
    ],
)
def test_responses_without_a_body(response, head_only):
    reader, sink = read(response, head_only=head_only)
    assert sink.ends == 1
    assert sink.body == b""
    assert reader.state is State.EXPECT_NOTHING
    assert reader.keep_alive


def test_one_connection_reads_one_response_after_the_other():
    reader, first = read(CHUNKED)
    for response in (LENGTH, CHUNKED, CHUNKED):
        sink = Sink()
        reader.start(sink, head_only=False, upgrade="")
        reader.feed(response)
        assert sink.body == first.body
        assert sink.ends == 1


LINES = [
    b"Content-Type: application/json", b"Content-Type: text/plain \t", b"content-type:x", b"CONTENT-TYPE:  x",
    b"Audit-Id: 1", b"Audit-Id: 2", b"X-Other: 1", b"Cache-Control: no-cache, private", b"Date: " + b"x" * 200,
    b"Vary:", b"Warning: \xe4",
]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(LINES), max_size=5), max_size=6))
def test_lines_that_come_again_say_the_same(heads):
    for lines in heads:
        head = b"".join(line + b"\r\n" for line in lines)
        _, sink = read(b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 0\r\n\r\n")
        names = [line.partition(b":") for line in [*lines, b"Content-Length: 0"]]
        assert sink.heads == [(200, tuple((name.lower(), value.strip(b" \t")) for name, _, value in names))]
        for line in lines:
            with pytest.raises(BadResponse, match="malformed"):
                read(b"HTTP/1.1 200 OK\r\n" + line + b"\x00\r\nContent-Length: 0\r\n\r\n")


def test_only_usual_lines_are_remembered_and_not_many(monkeypatch):
    monkeypatch.setattr(responses, "_known", {})
    for number in range(3 * KNOWN_MAX):
        fields = b"ETag: %d\r\nAudit-Id: %d\r\nSet-Cookie: s=%d\r\n" % (number, number, number)
        read(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\nDate: " + b"x" * 200 + b"\r\n\r\n")
        assert len(responses._known) <= KNOWN_MAX
    assert {name for name, _ in responses._known.values()} <= {b"etag", b"content-length"}
    assert responses._known[b"ETag: %d" % (3 * KNOWN_MAX - 1)] == (b"etag", b"%d" % (3 * KNOWN_MAX - 1))


def test_informational_responses_are_skipped():
    reader, sink = read(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH)
    assert [status for status, _ in sink.heads] == [200]
    assert reader.keep_alive


def test_too_many_informational_responses():
    with pytest.raises(BadResponse, match="too many informational"):
        read(b"HTTP/1.1 100 Continue\r\n\r\n" * 9)


def test_trailers_end_the_response():
    _, sink = read(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\nConnection: x\r\n\r\n"
    )
    assert sink.body == b"ab"
    assert sink.trailers == ((b"x-sum", b"1"),)
    assert sink.ends == 1


@pytest.mark.parametrize("field", [b"Connection: close", b"Transfer-Encoding: gzip", b"X-Sum: 1"])
def test_no_trailer_speaks_of_the_response_behind_its_own(field):
    """A program behind `…/proxy` may send any, by way of the API server, and the connection is everybody's."""
    reader, first = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n" + field + b"\r\n\r\n")
    assert (first.body, first.ends) == (b"ab", 1)
    assert reader.keep_alive
    sink = Sink()
    reader.start(sink, head_only=False, upgrade="")
    reader.feed(CHUNKED)
    assert (sink.body, sink.ends) == (b"hello world", 1)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nc\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA b: c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 257 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 17000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_malformed_heads_are_refused(head):
    reader, sink = ResponseReader(), Sink()
    reader.start(sink, head_only=False, upgrade="")
    with pytest.raises(BadResponse):
        reader.feed(head)
    assert sink.heads == []
    assert reader.state is State.BROKEN


def test_an_endless_head_is_refused():
    reader, sink = ResponseReader(), Sink()
    reader.start(sink, head_only=False, upgrade="")
    piece = b"A: " + b"b" * 1000 + b"\r\n"
    reader.feed(b"HTTP/1.1 200 OK\r\n")
    for _ in range((HEAD_BYTES_MAX - 17) // len(piece)):
        reader.feed(piece)
    with pytest.raises(BadResponse, match="too big"):
        reader.feed(piece)


@pytest.mark.parametrize(
    "chunks",
    [
        b"0x3\r\nabc\r\n",
        b"-1\r\n",
        b"+3\r\nabc\r\n",
        b"g\r\n",
        b"3\nabc\n",
        b"3\r\nabcd\r\n",
        b"\r\n0\r\n\r\n",
        b"f" * 40,
    ],
)
def test_malformed_chunks_are_refused(chunks):
    with pytest.raises(BadResponse):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n")


@pytest.mark.parametrize(("field", "count"), [(b"X-T: " + b"y" * 1000 + b"\r\n", 20), (b"a:\r\n", 257)])
def test_endless_trailers_are_refused(field, count):
    """Their number too: a hub refuses the session over more than it decodes."""
    reader, _ = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    with pytest.raises(BadResponse):
        reader.feed(field * count + b"\r\n")


@pytest.mark.parametrize(
    "part",
    [b"", b"HTTP/1.1 200 OK\r\n", LENGTH[:-1], CHUNKED[:-1], CHUNKED[:-5], CHUNKED[:-9]],
)
def test_a_response_that_is_cut_short_never_ends(part):
    with pytest.raises(CutShort):
        read(part, eof=True)


@pytest.mark.parametrize("response", [LENGTH, CHUNKED])
@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", LENGTH])
def test_bytes_behind_a_response_never_become_another_one(response, surplus):
    reader, sink = ResponseReader(), Sink()
    reader.start(sink, head_only=False, upgrade="")
    try:
        reader.feed(response + surplus)
    except BadResponse:
        assert reader.state is State.BROKEN
    else:
        assert not reader.keep_alive
    assert sink.body == b"hello world"
    assert len(sink.heads) == 1


def test_bytes_that_no_request_asked_for_are_refused():
    with pytest.raises(BadResponse):
        ResponseReader().feed(b"x")


@pytest.mark.parametrize("version", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"])
def test_connections_that_close_are_not_kept(version):
    reader, sink = read(version + b"Content-Length: 1\r\n\r\nx")
    assert sink.ends == 1
    assert not reader.keep_alive


SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4\r\n\r\n"
)


def test_a_switch_keeps_the_bytes_that_came_behind_it():
    reader, sink = read(SWITCH + b"early", b"later", upgrade="SPDY/3.1", eof=True)
    assert sink.heads == [(101, ((b"x-stream-protocol-version", b"v4"),))]
    assert sink.body == b"earlylater"
    assert sink.ends == 1
    assert not reader.keep_alive


@pytest.mark.parametrize(
    "head",
    [
        SWITCH.replace(b"SPDY/3.1", b"websocket"),
        SWITCH.replace(b"Connection: Upgrade", b"Connection: keep-alive"),
        SWITCH.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"),
        SWITCH.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_a_switch_to_something_else_is_refused(head):
    with pytest.raises(BadResponse):
        read(head, upgrade="SPDY/3.1")


def test_a_refused_upgrade_is_an_ordinary_response_on_a_connection_that_is_not_kept():
    reader, sink = read(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", upgrade="websocket")
    assert sink.heads[0][0] == 403
    assert sink.body == b"no"
    assert not reader.keep_alive


def test_only_a_refused_upgrade_may_end_with_its_connection():
    _, sink = read(b"HTTP/1.0 502 Bad Gateway\r\n\r\nraw words of a backend", upgrade="websocket", eof=True)
    assert sink.body == b"raw words of a backend"
    assert sink.ends == 1
