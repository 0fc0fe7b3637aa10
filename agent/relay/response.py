"""Reading HTTP/1.1 responses of the kube-apiserver: bytes in, calls on a sink out; no I/O.

Each line of a head has to match a strict expression before anything is taken from it: what two readers could understand
differently (folded lines, bare line feeds, two lengths, a length beside chunks) is refused (facts/security.md §2.E rows
E12, E13).
Chunked bodies are decoded by httptools (llhttp, strict); a body of known length is passed on without a copy.
A body that ends early is an error and never an end (row E14).
"""

import enum
import re
from typing import Final, Protocol

import httptools

from proto.headers import HOP_BY_HOP, USUAL
from proto.messages import Headers

HEAD_BYTES_MAX: Final = 56 * 1024
"""Size of a response head, design P6: it must fit into one HEAD frame with room to spare."""
FIELDS_MAX: Final = 256
"""Header fields of one response, design P6."""
FIELD_BYTES_MAX: Final = 16 * 1024
"""One header field, design P6."""
TRAILER_BYTES_MAX: Final = 16 * 1024
"""All trailer fields of one response together; there may be FIELDS_MAX of them too."""
INFORMATIONAL_MAX: Final = 8
"""1xx heads before the final one. The API server sends none unless asked; more than a few is an attack or a bug."""

_OK: Final = b"HTTP/1.1 200 OK"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
"""Both match whole lines without their end, so that no carriage return or line feed of its own is in any of them."""
_known: Final[dict[bytes, tuple[bytes, bytes]]] = {}
"""What came of field lines that an API server sends again and again, since equal bytes have equal meaning."""
KNOWN_MAX: Final = 256
_KNOWN_BYTES_MAX: Final = 128
_LENGTH_DIGITS_MAX: Final = 18
_CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_PLAIN_CONNECTION: Final = frozenset((b"keep-alive", b"close", b"upgrade", b""))


_MALFORMED: Final = "the API server sent a malformed response head"


class BadResponse(Exception):
    """The API server (or what answers in its place) broke HTTP. The text is for the hub's client and the log."""


class CutShort(BadResponse):
    """The connection ended before the response did."""


class ResponseSink(Protocol):
    """Who gets the parsed response. Called from `feed` and `feed_eof`; must not raise."""

    def on_head(self, status: int, headers: Headers, *, end: bool) -> None:
        """The final head: lower-case names, no hop-by-hop fields. `end`: no body follows."""

    def on_body(self, chunk: bytes, *, end: bool) -> None:
        """Body bytes, never empty unless `end`; after a 101 the opaque bytes."""

    def on_trailers(self, headers: Headers) -> None:
        """Trailer fields; they end the response."""


class State(enum.Enum):
    """Where the reader stands; EXPECT_NOTHING is the state between two exchanges."""

    EXPECT_NOTHING = enum.auto()
    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    OPAQUE = enum.auto()
    BROKEN = enum.auto()


class ResponseReader:
    """Reader of one connection; `start` arms it for one response, after which it is back in EXPECT_NOTHING."""

    __deletable__ = ("_sink",)  # for mypyc (docs/adr/0025-compiled.md)

    __slots__ = (
        "_buffer",
        "_chunks",
        "_head_only",
        "_informational",
        "_pieces",
        "_remaining",
        "_sink",
        "_trailer_bytes",
        "_trailers",
        "_upgrade",
        "got_bytes",
        "keep_alive",
        "state",
    )

    def __init__(self) -> None:
        self.state = State.EXPECT_NOTHING
        self.keep_alive = True
        self.got_bytes = False
        self._sink: ResponseSink
        self._buffer = bytearray()
        self._chunks: httptools.HttpResponseParser | None = None
        self._pieces: list[bytes] = []
        self._trailers: list[tuple[bytes, bytes]] = []
        self._trailer_bytes = 0
        self._remaining = 0
        self._head_only = False
        self._upgrade = b""
        self._informational = 0

    def start(self, sink: ResponseSink, *, head_only: bool, upgrade: str) -> None:
        """Expect one response: `head_only` for HEAD requests, `upgrade` the token that was asked for or ""."""
        self._sink = sink
        self._head_only = head_only
        self._upgrade = upgrade.lower().encode()
        self._informational = 0
        self.got_bytes = False
        self.state = State.HEAD

    def feed(self, data: bytes) -> None:
        """Take bytes off the connection. Raises BadResponse; the connection is then of no use any more."""
        self.got_bytes = True
        try:
            while data:
                data = self._step(data)
        except BadResponse:
            self.state = State.BROKEN
            raise

    def feed_eof(self) -> None:
        """The connection ended. Raises CutShort when a response was due or incomplete."""
        state, self.state = self.state, State.BROKEN
        if state in {State.OPAQUE, State.UNTIL_CLOSE}:
            self._sink.on_body(b"", end=True)
        elif state not in {State.EXPECT_NOTHING, State.BROKEN}:
            raise CutShort("the API server closed the connection before the response was complete")

    def release(self) -> None:
        """The connection is gone: hold nobody any more. Reader, exchange and connection hold each other, and with them
        what TLS keeps for a connection (40 KiB); unlinked they go at once, not when the garbage collector comes by."""
        self.state = State.BROKEN
        self._chunks = None
        if hasattr(self, "_sink"):
            del self._sink

    def _step(self, data: bytes) -> bytes:
        """Consume a part of `data`, return the rest."""
        state = self.state
        if state is State.HEAD:
            return self._read_head(data)
        if state is State.LENGTH:
            return self._read_length(data)
        if state is State.CHUNKED:
            self._read_chunks(data)
            return b""
        if state in {State.OPAQUE, State.UNTIL_CLOSE}:
            self._sink.on_body(data, end=False)
            return b""
        raise BadResponse("the API server sent bytes that no request asked for")

    def _read_head(self, data: bytes) -> bytes:
        buffer = self._buffer
        if buffer:
            seen = max(0, len(buffer) - 3)
            buffer += data
            data = bytes(buffer)
        else:
            seen = 0
        end = data.find(b"\r\n\r\n", seen) + 4
        if end < 4:
            if len(data) > HEAD_BYTES_MAX:
                raise BadResponse("the API server sent a response head that is too big")
            if not buffer:
                buffer += data
            return b""
        buffer.clear()
        self._take_head(data[:end])
        return data[end:]

    def _take_head(self, head: bytes) -> None:
        if len(head) > HEAD_BYTES_MAX:
            raise BadResponse("the API server sent a response head that is too big")
        lines = head.split(b"\r\n")  # the last two are empty
        first = lines[0]
        if first != _OK and not _STATUS.fullmatch(first):
            raise BadResponse(_MALFORMED)
        status = 200 if first == _OK else int(first[9:12])
        headers, connection, framing = _split_fields(lines, len(head))
        if status < 200 and status != 101:
            self._informational += 1
            if self._informational > INFORMATIONAL_MAX:
                raise BadResponse("the API server sent too many informational responses")
            return
        self.keep_alive = head.startswith(b"HTTP/1.1") and b"close" not in connection
        if status == 101:
            self._switch(headers, connection, framing)
        else:
            self._frame(status, headers, framing)

    def _switch(self, headers: Headers, connection: frozenset[bytes], framing: "_Framing") -> None:
        self.keep_alive = False
        if not self._upgrade:
            raise BadResponse("the API server switched protocols without being asked")
        if framing.upgrade != self._upgrade or b"upgrade" not in connection:
            raise BadResponse("the API server switched to another protocol than the one asked for")
        if framing.length is not None or framing.chunked:
            raise BadResponse("the API server announced a body behind a protocol switch")
        self.state = State.OPAQUE
        self._sink.on_head(101, headers, end=False)

    def _frame(self, status: int, headers: Headers, framing: "_Framing") -> None:
        """RFC 9112 §6.3 without its lenient branches."""
        if self._upgrade:
            self.keep_alive = (
                False  # a refused upgrade: never hand this connection to another request (CVE-2018-1002105)
            )
        if self._head_only or status in {204, 304} or framing.length == 0:
            self.state = State.EXPECT_NOTHING
            self._sink.on_head(status, headers, end=True)
            return
        if framing.chunked:
            self._begin_chunks()
            self.state = State.CHUNKED
        elif framing.length is not None:
            self._remaining = framing.length
            self.state = State.LENGTH
        elif self._upgrade:
            # Only behind a refused upgrade: the API server relays a backend's raw answer there, which may be HTTP/1.0.
            self.state = State.UNTIL_CLOSE
        else:
            raise BadResponse("the API server sent a body without a length: its end could not be told from a cut")
        self._sink.on_head(status, headers, end=False)

    def _read_length(self, data: bytes) -> bytes:
        remaining = self._remaining
        if len(data) < remaining:
            self._remaining = remaining - len(data)
            self._sink.on_body(data, end=False)
            return b""
        self.state = State.EXPECT_NOTHING
        body, rest = (data, b"") if len(data) == remaining else (data[:remaining], data[remaining:])
        if rest:
            self.keep_alive = False
        self._sink.on_body(body, end=True)
        return rest

    def _begin_chunks(self) -> None:
        self._trailers = []
        self._trailer_bytes = 0
        if self._chunks is None:
            self._chunks = httptools.HttpResponseParser(_ChunkSink(self))
        # The decoder gets a head of ours instead of the real one: from here on it only counts chunks.
        self._chunks.feed_data(_CHUNKED_HEAD)

    def _read_chunks(self, data: bytes) -> None:
        chunks = self._chunks
        assert chunks is not None
        try:
            chunks.feed_data(data)
        except httptools.HttpParserError as exc:
            self._chunks = None
            if self.state is State.CHUNKED:
                self._pieces.clear()
                raise BadResponse("the API server sent a malformed chunk") from exc
            self.keep_alive = False  # complete, but followed by bytes that no request asked for
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        done = self.state is State.EXPECT_NOTHING
        if done and self._trailer_bytes:
            self._chunks = None  # to it a field behind the chunks counts as one of the head: `Connection: close`
        if done and self._trailers:
            if body:
                self._sink.on_body(body, end=False)
            self._sink.on_trailers(tuple(self._trailers))
        elif body or done:
            self._sink.on_body(body, end=done)

    def take_trailer(self, name: bytes, value: bytes) -> None:
        """A field behind the last chunk (called by the chunk decoder)."""
        self._trailer_bytes += len(name) + len(value)
        if self._trailer_bytes > TRAILER_BYTES_MAX or len(self._trailers) >= FIELDS_MAX:
            raise BadResponse("the API server sent trailers that are too big")
        lower = name.lower()
        if lower not in HOP_BY_HOP and lower != b"content-length":
            self._trailers.append((lower, value))

    def chunks_complete(self) -> None:
        """The last chunk and the trailers are through (called by the chunk decoder)."""
        self.state = State.EXPECT_NOTHING

    def chunks_again(self) -> None:
        """Bytes behind the last chunk: stop the decoder before it takes them for another response."""
        raise BadResponse("the API server sent bytes that no request asked for")

    def take_piece(self, piece: bytes) -> None:
        """Chunk data (called by the chunk decoder)."""
        self._pieces.append(piece)


class _ChunkSink:
    """httptools callbacks of the chunk decoder; its first message begins with `_CHUNKED_HEAD`."""

    __slots__ = ("_in_body", "_reader", "on_body")

    def __init__(self, reader: ResponseReader) -> None:
        self._reader = reader
        self._in_body = False
        self.on_body = reader.take_piece

    def on_message_begin(self) -> None:
        if self._reader.state is State.EXPECT_NOTHING:
            self._reader.chunks_again()

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            self._reader.take_trailer(name, value)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._reader.chunks_complete()


class _Framing:
    """What the framing fields of a head say."""

    __slots__ = ("chunked", "length", "upgrade")

    def __init__(self) -> None:
        self.length: int | None = None
        self.chunked = False
        self.upgrade = b""


def _read_field(line: bytes) -> tuple[bytes, bytes]:
    """Raises BadResponse."""
    match = _FIELD.fullmatch(line)
    if match is None:
        raise BadResponse(_MALFORMED)
    pair = match[1].lower(), match[2].rstrip(b" \t")
    if len(line) <= _KNOWN_BYTES_MAX and pair[0] in USUAL and pair[0] != b"audit-id":  # that is another each time
        if len(_known) >= KNOWN_MAX:
            _known.clear()
        _known[line] = pair
    return pair


def _split_fields(lines: list[bytes], size: int) -> tuple[Headers, frozenset[bytes], _Framing]:
    """Header fields without hop-by-hop ones, the tokens of Connection, and the framing, from a head of `size` bytes."""
    framing = _Framing()
    if len(lines) > FIELDS_MAX + 3:
        raise BadResponse("the API server sent too many header fields")
    fields = [_known.get(line) or _read_field(line) for line in lines[1:-2]]
    if size > FIELD_BYTES_MAX and any(len(name) + len(value) >= FIELD_BYTES_MAX for name, value in fields):
        raise BadResponse("the API server sent a header field that is too big")
    connection: list[bytes] = []
    for name, value in fields:
        if name == b"content-length":
            _take_length(framing, value)
        elif name in HOP_BY_HOP:
            if name == b"connection":
                connection += [token.strip(b" \t") for token in value.lower().split(b",")]
            elif name == b"upgrade":
                framing.upgrade = value.lower()
            elif name == b"transfer-encoding":
                _take_coding(framing, value)
    if framing.chunked and framing.length is not None:
        raise BadResponse("the API server sent a length beside a chunked body")
    tokens = frozenset(connection)
    dropped = HOP_BY_HOP | tokens - _PLAIN_CONNECTION if tokens else HOP_BY_HOP
    return tuple([field for field in fields if field[0] not in dropped]), tokens, framing


def _take_coding(framing: _Framing, value: bytes) -> None:
    if framing.chunked or value.lower() != b"chunked":
        raise BadResponse("the API server used a transfer coding other than chunked")
    framing.chunked = True


def _take_length(framing: _Framing, value: bytes) -> None:
    if framing.length is not None or not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
        raise BadResponse("the API server sent an ambiguous content length")
    framing.length = int(value)
