"""One Kubernetes request and its answer: the hub's stream on one side, a connection to the API server on the other.

Callbacks only; the order of events is: `_start` (a connection is asked for) → `on_connection` (the request is written)
→ `on_head` → `on_body`… → `on_complete`. Request DATA may come at any time; what cannot be written yet is held, and
since its credit is not returned, the stream's window bounds it.
"""

import re
import time
from typing import Final
from urllib.parse import unquote_to_bytes

from agent.errors import TokenUnavailable
from agent.relay import compress
from agent.relay import request as requests
from agent.relay.connection import KubeConnection
from agent.relay.context import RelayContext
from agent.relay.pool import ANY_IDLE, MUTATION_IDLE_MAX
from agent.relay.renewal import Renewal
from agent.relay.tokencheck import TokenCheck
from proto.aio import link
from proto.compression import OFFER
from proto.compressor import Compressor
from proto.errors import Code
from proto.messages import Accepted, Headers, HttpHead, HttpRequest

_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that may be sent twice (P3), except as an upgrade."""
_ANSWERED_BY_HEAD: Final = frozenset(("GET", "HEAD"))
"""Methods whose HEAD frame says that the stream was taken (P4); a body makes them like any other."""
OWN_REFUSAL_MAX: Final = 4096
"""The API server's own 401 is a Status of some 130 bytes; a longer one comes from something behind it."""
_PROXIED: Final = re.compile(rb"/api/v1/(?:namespaces/[^/]+/(?:pods|services)|nodes)/[^/]+/proxy(?:/|$)")
"""Requests that the API server passes on to a program, whose 401 is that program's own business."""


class Exchange:
    """StreamOwner towards the hub, ConnectionUser and Waiter towards the API server."""

    __slots__ = (
        "_attempts",
        "_authorization",
        "_check",
        "_compressor",
        "_connection",
        "_context",
        "_held",
        "_is_answered",
        "_is_chunked",
        "_is_over",
        "_is_request_ended",
        "_is_started",
        "_left",
        "_owed",
        "_passed",
        "_refusal",
        "_request",
        "_sent_body",
        "_stream",
    )

    def __init__(self, context: RelayContext, stream: link.LinkStream, request: HttpRequest, passed: Headers) -> None:
        """`passed`: the headers that the policy lets through."""
        self._context = context
        self._stream = stream
        self._request = request
        self._passed = passed
        self._connection: KubeConnection | None = None
        self._left = requests.content_length(passed)
        self._is_chunked = False
        self._is_started = False
        self._is_request_ended = False
        self._is_answered = False
        self._is_over = False
        self._sent_body = False
        self._held: list[bytes] = []
        self._owed = 0
        self._attempts = 0
        self._authorization = b""
        self._refusal: _Refusal | None = None
        self._check: TokenCheck | Renewal | None = None
        self._compressor: Compressor | None = None

    def begin(self) -> None:
        """Take the stream. A request without a known length starts at its first byte or its end, whichever comes."""
        if self._request.method not in _ANSWERED_BY_HEAD or self._left:
            self._stream.accept()
        if self._left is not None:
            self._start()

    # StreamOwner

    def accepted(self, message: Accepted) -> None:
        """Never for a stream that the hub opened: the core refuses it before us."""

    def head(self, message: HttpHead) -> None:
        """As `accepted`."""

    def data(self, chunk: memoryview) -> None:
        size = len(chunk)
        if self._is_over:
            self._stream.consumed(size)  # answered before its body was read: swallow the rest
            return
        if self._left is not None:
            if size > self._left:
                self._give_up(Code.PROTOCOL, "the request body is longer than announced")
                return
            self._left -= size
        elif not self._is_started:
            self._is_chunked = True
            if self._request.method in _ANSWERED_BY_HEAD:
                self._stream.accept()
            self._start()
        if size:
            self._send_body(bytes(chunk))

    def trailers(self, headers: Headers) -> None:
        """Request trailers are not passed on (facts/security.md §2.A row A10); `end` follows."""

    def end(self) -> None:
        self._is_request_ended = True
        if self._is_over:
            return
        if self._left:
            self._give_up(Code.PROTOCOL, "the request body is shorter than announced")
        elif not self._is_started:
            self._start()
        elif self._is_chunked and self._connection is not None:
            self._connection.write(requests.LAST_CHUNK)

    def reset(self, code: Code, text: str) -> None:
        """The hub's client has gone, or the session: so does the connection, at once."""
        self._drop()

    def writable(self) -> None:
        if self._connection is not None:
            self._connection.resume_reading()

    # Waiter

    def on_connection(self, connection: KubeConnection) -> None:
        self._connection = connection
        try:
            authorization = self._authorization = self._context.credential.authorization(time.monotonic())
        except TokenUnavailable as exc:
            self._give_up(Code.KUBE_UNAUTHORIZED, str(exc))
            return
        request = self._request
        written = requests.head_bytes(
            request,
            self._passed,
            self._context.endpoint,
            authorization=authorization,
            is_chunked=self._is_chunked,
            has_length=self._left is not None,
        )
        owed = 0
        if (self._held or self._is_chunked) and self._writes_body_early:
            parts = [written]
            owed = self._take_held(parts)
            written = b"".join(parts)
        connection.begin(self, written, head_only=request.method == "HEAD", upgrade=request.upgrade)
        self._return_credit(owed)

    def on_no_connection(self, code: Code, text: str) -> None:
        self._give_up(code, text)

    # ConnectionUser

    @property
    def is_request_complete(self) -> bool:
        return self._left == 0 or self._is_request_ended

    def on_head(self, status: int, headers: Headers, *, end: bool) -> None:
        if status == 401:
            self._refusal = _Refusal(headers)
            return
        self._answer(status, headers, end=end)

    def on_body(self, chunk: bytes, *, end: bool) -> None:
        if self._refusal is not None:
            self._take_refusal(self._refusal, chunk, end=end)
            return
        self._context.counts.response_bytes += len(chunk)
        if self._compressor is None:
            has_room = self._stream.send(chunk, end=end)
        else:
            has_room = self._send_compressed(self._compressor, chunk, end=end)
        if not has_room and self._connection is not None:
            self._connection.pause_reading()

    def on_trailers(self, headers: Headers) -> None:
        if self._refusal is None:
            self._stream.trailers(headers)

    def on_complete(self) -> None:
        self._connection = None
        if self._refusal is not None:
            self._settle(self._refusal)
        else:
            self._finish()

    def on_failure(self, code: Code, text: str, *, got_bytes: bool, is_way_gone: bool) -> None:
        self._connection = None
        if self._refusal is None and not got_bytes and is_way_gone and self._may_repeat:
            self._context.counts.repeats_stale += 1
            self._attempts += 1
            self._context.pool.acquire(self, max_idle=0.0)
        else:
            self._give_up(code, text)

    def on_writable(self) -> None:
        owed, self._owed = self._owed, 0
        if owed:
            self._stream.consumed(owed)

    # The request

    @property
    def _writes_body_early(self) -> bool:
        """Whether held bytes may follow the request head at once."""
        return True

    @property
    def _may_repeat(self) -> bool:
        return self._is_safe and not self._sent_body and self._attempts == 0

    @property
    def _is_safe(self) -> bool:
        """Whether it may be executed twice. An upgrade is a GET over WebSocket, and runs a command."""
        return self._request.method in _SAFE and not self._request.upgrade

    def _start(self) -> None:
        self._is_started = True
        max_idle = ANY_IDLE if self._is_safe else MUTATION_IDLE_MAX
        self._context.pool.acquire(self, max_idle=max_idle)

    def _send_body(self, piece: bytes) -> None:
        connection = self._connection
        self._context.counts.request_bytes += len(piece)
        if connection is None:
            self._held.append(piece)
            return
        self._sent_body = True
        connection.write(requests.chunk(piece) if self._is_chunked else piece)
        self._return_credit(len(piece))

    def _take_held(self, parts: list[bytes]) -> int:
        """Move held body bytes behind what is about to be written; returns the credit to give back for them."""
        held, self._held = self._held, []
        size = sum(map(len, held))
        if held:
            self._sent_body = True
        parts += [requests.chunk(piece) for piece in held] if self._is_chunked else held
        if self._is_chunked and self._is_request_ended:
            parts.append(requests.LAST_CHUNK)
        return size

    def _return_credit(self, size: int) -> None:
        """Credit follows the bytes: at once while the transport takes them, else when it has room again."""
        connection = self._connection
        if connection is not None and not connection.is_writable:
            self._owed += size
        elif size:
            self._stream.consumed(size)

    # The answer

    def _answer(self, status: int, headers: Headers, *, end: bool) -> None:
        stream = self._stream
        self._is_answered = True
        self._context.counts.answered(status)
        if not end and self._may_compress(status, headers):
            self._compressor = Compressor(stream.window, is_near=stream.is_near)
            self._context.histories.bodies += 1
            stream.head(HttpHead(status=status, headers=headers, ext=OFFER))
        else:
            stream.head(HttpHead(status=status, headers=headers), end=end)

    def _may_compress(self, status: int, headers: Headers) -> bool:
        stream = self._stream
        if not stream.compresses or not compress.is_worth(self._request, status, headers, is_near=stream.is_near):
            return False
        return self._context.histories.has_room and not self._is_proxied

    def _send_compressed(self, compressor: Compressor, chunk: bytes, *, end: bool) -> bool:
        """Whatever the API server has sent leaves now: no event waits for the next one."""
        counts, send, has_room = self._context.counts, self._stream.send, True
        counts.compressed_plain_bytes += len(chunk)
        for block in compressor.encode(chunk):
            counts.compressed_wire_bytes += len(block)
            has_room = send(block)
        return send(b"", end=True) if end else has_room

    def _take_refusal(self, refusal: "_Refusal", chunk: bytes, *, end: bool) -> None:
        refusal.body += chunk
        if len(refusal.body) <= OWN_REFUSAL_MAX:
            return
        if self._is_proxied:
            self._refusal = None
            self._answer(401, refusal.headers, end=False)
            self.on_body(bytes(refusal.body), end=end)
        else:
            self._refuse_own_token()

    @property
    def _is_proxied(self) -> bool:
        # The API server decodes before it routes: however it is spelt, what a pod has answered is not asked again.
        path, _, _ = self._request.path.partition(b"?")
        return _PROXIED.match(unquote_to_bytes(path)) is not None

    def _settle(self, refusal: "_Refusal") -> None:
        """A complete 401. The API server's own one concerns our token and never reaches the user (P10). One that the
        repetition got too, or that is no Status, may be of an aggregated API server, of a kubelet, or of something in
        front of them all: the API server is asked."""
        may_be_own, is_proxied = refusal.may_be_own, self._is_proxied
        if may_be_own and not is_proxied and self._may_renew:
            self._refuse()
        elif may_be_own or not is_proxied or self._request.method == "HEAD":  # to which nobody says why
            self._check = TokenCheck(self._context, self._authorization, self._checked)
        else:
            self._pass_on(refusal)

    def _checked(self, is_good: bool | None) -> None:
        """What the API server says of the token whose request a proxied program, or itself, answered with 401."""
        self._check = None
        refusal = self._refusal
        if refusal is None:
            return
        if is_good:
            self._pass_on(refusal)
        elif is_good is None:
            self._give_up(Code.UPSTREAM, "a 401, and the API server does not say whether it takes the agent's token")
        elif self._is_safe or (refusal.may_be_own and not self._is_proxied):
            self._refuse()
        else:
            # The program may have executed it, and the token have ended since: nobody asks it again.
            self._context.counts.unauthorized += 1
            self._context.credential.refresh()
            self._give_up(Code.UPSTREAM, "a 401 behind which the API server does not take the agent's token")

    def _pass_on(self, refusal: "_Refusal") -> None:
        """The program's own answer."""
        self._answer(401, refusal.headers, end=not refusal.body)
        if refusal.body:
            self._stream.send(bytes(refusal.body), end=True)
        self._finish()

    def _refuse(self) -> None:
        self._refusal = None
        self._context.counts.unauthorized += 1
        if self._may_renew:
            self._attempts += 1
            self._check = renewal = Renewal(self._repeat)
            renewal.begin(self._context.credential)
        else:
            self._refuse_own_token()

    @property
    def _may_renew(self) -> bool:
        """Whether it may be asked again with a token that was read anew."""
        return self._attempts == 0 and not self._sent_body

    def _repeat(self) -> None:
        """With the token that is there now."""
        self._check = None
        self._context.pool.acquire(self, max_idle=MUTATION_IDLE_MAX)

    def _refuse_own_token(self) -> None:
        self._context.credential.refresh()
        self._give_up(Code.KUBE_UNAUTHORIZED, "the API server does not accept the agent's own token")

    # Ends

    def _give_up(self, code: Code, text: str) -> None:
        """End with a RESET: the connection goes, whatever state it is in."""
        self._context.counts.failed(code)
        self._drop()
        self._stream.reset(code, text)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        elif self._is_started and not self._is_over:
            self._context.pool.cancel(self)
        self._finish()

    def _finish(self) -> None:
        self._refusal = None
        check, self._check = self._check, None
        if check is not None:
            check.cancel()
        if self._compressor is not None:
            self._compressor = None
            self._context.histories.bodies -= 1
        if not self._is_over:
            self._is_over = True
            self._context.counts.active -= 1
        if self._held or self._owed:
            held, self._held = sum(map(len, self._held)) + self._owed, []
            self._owed = 0
            self._stream.consumed(held)


class _Refusal:
    """A 401 that is held back until it is known whose it is."""

    __slots__ = ("body", "headers")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.body = bytearray()

    @property
    def may_be_own(self) -> bool:
        """Whether the API server itself may have written it: a Status with the reason Unauthorized, as JSON, YAML, CBOR
        or protobuf, whichever was asked for. All of them hold the words as they are."""
        return b"Status" in self.body and b"Unauthorized" in self.body
