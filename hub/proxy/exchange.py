"""One request under way: client connection on one side, stream on the other.

Called from the client's connection (hub.edge.application.Exchange) and from the link's reader
(proto.aio.link.StreamOwner). Nothing here waits; backpressure is credit not returned and bodies not read.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from hub import errors
from hub.auth.grants import Access
from hub.auth.principal import Principal
from hub.edge.application import Front
from hub.edge.framing import Request
from hub.edge.response import CHUNKED_END, chunk_head, error_response
from hub.proxy import halfclosed, replay
from hub.proxy.answer import REDIRECTS, BadAnswer, Body, RedirectedUpgrade, answer_head, last_chunk, switching_head
from hub.proxy.classify import Kind
from hub.proxy.compressed import CompressedBody
from hub.proxy.events import Boundary, boundary_of
from hub.proxy.replay import KeptBody
from hub.route import Decision, Route
from proto.aio.linkstream import LinkStream
from proto.compression import FORMAT, KEY
from proto.decompressor import Piece
from proto.errors import Code, ProtocolError
from proto.messages import Accepted, Headers, HttpHead, HttpRequest, StreamClass

if TYPE_CHECKING:
    from hub.proxy.relay import Relay

UNKNOWN = Kind("other", True, False, StreamClass.NORMAL)


class Exchange:
    """State of one request. `relay` decides where it goes and keeps the books."""

    __slots__ = (
        "_body",
        "_boundary",
        "_compressed",
        "_cut_due",
        "_has_ended_input",
        "_has_head",
        "_last_chunk",
        "_left",
        "_owed",
        "access",
        "as_user",
        "bytes_in",
        "bytes_out",
        "claims",
        "cluster",
        "cluster_uid",
        "code",
        "deadline",
        "decision",
        "first_byte_at",
        "front",
        "has_ended",
        "is_admitted",
        "is_opaque",
        "is_request_complete",
        "kept",
        "kind",
        "limit",
        "link",
        "offered",
        "opening",
        "outcome",
        "principal",
        "relay",
        "request",
        "request_id",
        "stream",
        "token_id",
        "tried",
        "user",
    )

    def __init__(self, relay: Relay, front: Front, request: Request, request_id: str) -> None:
        self.relay = relay
        self.front = front
        self.kept: KeptBody | None = None
        """Its body until the answer begins; while the OPEN waits the client is paused behind the first piece."""
        self.request = request
        self.request_id = request_id
        self.kind = UNKNOWN
        self.deadline = math.inf  # when its caller stops waiting for the answer to begin
        self.principal: Principal | None = None
        self.access: Access | None = None
        self.claims: list[tuple[bytes, bytes]] = []
        self.user = self.as_user = self.token_id = self.cluster = self.cluster_uid = ""
        self.is_admitted = False
        self.offered: tuple[bytes, ...] = ()
        self.opening: HttpRequest | None = None
        self.decision: Decision | None = None
        """The last route chosen, or why there is none."""
        self.link: Route | None = None
        self.stream: LinkStream | None = None
        self.tried: tuple[Route, ...] = ()
        self.is_request_complete = request.length == 0 and not request.upgrade
        self.limit: int | None = None
        self.is_opaque = False
        self.bytes_in = self.bytes_out = 0
        self.code = 0
        self.outcome = ""
        self.first_byte_at: float | None = None
        self.has_ended = False
        self._has_head = self._has_ended_input = self._cut_due = False
        self._body = Body.NONE
        self._last_chunk = CHUNKED_END
        self._left = self._owed = 0
        self._boundary: Boundary | None = None
        self._compressed: CompressedBody | None = None

    # -- from the client's connection

    def body(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self.limit is not None and self.bytes_in > self.limit:
            self.body_failed(errors.TooLarge())
            return
        stream = self.stream
        if not self._has_head:
            if self.kept is None:
                self.kept = KeptBody(self.relay.kept)
            self.kept.add(data, was_sent=stream is not None)
        if stream is None or not stream.send(data):
            self.front.pause_body()

    def body_complete(self) -> None:
        self.is_request_complete = True
        if self.stream is not None:
            self.stream.end()
        self.relay.asked_whole(self)

    def body_failed(self, error: errors.HubError) -> None:
        self.relay.left(self)  # its client's doing, and a RESET for the agent as if that had gone
        self.fail(error)

    def drained(self) -> None:
        owed, self._owed = self._owed, 0
        if owed and self.stream is not None:
            self.stream.consumed(owed)
        if self._compressed is not None:
            self._compressed.advance()
            self._charge()

    def client_eof(self) -> None:
        self.is_request_complete = self._has_ended_input = True
        if self.stream is not None:
            self.stream.end()
        halfclosed.cut_soon(self)

    def gone(self) -> None:
        stream = self.stream
        if not (self.is_opaque and self._has_ended_input):
            self.relay.left(self)
        elif stream is not None and not stream.is_closed:
            # Its last bytes and its end are still queued, and a RESET would overtake them: they get a moment.
            self.stream = None
            halfclosed.break_off_soon(self, stream)
        self._release(Code.CANCELLED, "client gone")
        self._end("client-gone")

    # -- from the link

    def accepted(self, message: Accepted) -> None:
        self.front.send_continue()

    def head(self, message: HttpHead) -> None:
        if self.has_ended:
            return
        stream = self.stream
        if stream is None or stream.peer_ended or not self.relay.holding.hold(self, stream, message):
            self.answer(message)

    def answer(self, message: HttpHead) -> None:
        """The response begins: from now on nothing is asked again."""
        self.relay.answering(self)
        self._has_head = True
        if self.kept is not None:
            self.kept.drop()
        request_id = self.request_id.encode("ascii")
        try:
            if message.status == 101 and self.request.upgrade:
                data = switching_head(message, self.request, self.offered, request_id, self._route_line())
                self.is_opaque = True
            elif self.request.upgrade and message.status in REDIRECTS:
                raise RedirectedUpgrade("a redirect as answer to an upgrade")
            else:
                if KEY in message.ext:
                    self._expect_compressed(message)
                data = self._plain_head(message, request_id)
        except BadAnswer as bad:
            self._bad_answer(bad)
            return
        self.code = message.status
        self.front.write(data)
        if self.is_opaque:
            self.front.become_opaque()

    def data(self, chunk: memoryview) -> None:
        if self.has_ended:
            self._return_credit(len(chunk))
        elif self._compressed is not None:
            self._compressed.feed(chunk)
        else:
            self._pass_on(chunk, len(chunk))

    def trailers(self, headers: Headers) -> None:
        """Behind the last chunk of a chunked body; other bodies have no place for them. `end` follows."""
        self._last_chunk = last_chunk(headers)

    def end(self) -> None:
        if self.has_ended:
            return
        if not self._has_head:
            self._bad_answer(BadAnswer("an end without a head"))
        elif self._compressed is not None and self._compressed.pending_bytes:
            self._end_compressed(self._compressed)
        elif self.is_opaque:
            if self.stream is not None:
                self.stream.end()
            self._finish("ok", is_reusable=False)
        elif self._body is Body.LENGTH and self._left:
            self._break(Code.PROTOCOL, "truncated", "less body than announced")
        else:
            self._complete("ok")

    def reset(self, code: Code, text: str) -> None:
        stream, self.stream = self.stream, None
        if self.has_ended:
            return
        if self._has_head:
            if self._may_go_on():
                self._end_later(functools.partial(self.reset, code, text))
            elif self._boundary is not None and self._boundary.is_between_events:
                self._complete("lost")  # as apiserver ends a watch: the client resumes from its last event (P11)
            else:
                self._break(None, "lost", code.name)
            return
        was_sent = stream is None or stream.was_sent
        if self._may_repeat(code, was_sent) and self.relay.reroute(self, replay.why(code, was_sent=was_sent)):
            return
        error = self.relay.lost(self, code, is_delivered=was_sent and code not in replay.UNREACHED)
        self.fail(error, outcome=code.name.lower().replace("_", "-"), is_ours=False)

    def writable(self) -> None:
        self.front.resume_body()

    # -- from the relay

    def opened(self, stream: LinkStream) -> None:
        """The OPEN is on its way: so is what is there of the body."""
        self.stream = stream
        if not self.has_body:
            return
        assert self.kept is not None
        has_room = all([stream.send(piece) for piece in self.kept.pieces])
        self.kept.sent()
        if has_room:
            self.front.resume_body()
        if self.is_request_complete:
            stream.end()

    @property
    def has_body(self) -> bool:
        """Something of the body is here and has to follow the next OPEN."""
        return self.kept is not None and bool(self.kept.pieces)

    @property
    def attempts(self) -> int:
        """Routes on which the request was asked or held."""
        link, tried = self.link, self.tried
        return len(tried) + (link is not None and link not in tried)

    @property
    def may_move(self) -> bool:
        """Whether asking again on another route cannot matter to anybody."""
        return not self._has_head and self._may_repeat(Code.SESSION_LOST, True)

    def move(self) -> None:
        """The session is silent: ask on the next route."""
        self._release(Code.CANCELLED, "asked on another route")
        if not self.relay.reroute(self, "silent"):
            self.fail(self.relay.lost(self, Code.SESSION_LOST, is_delivered=True), outcome="session-lost")

    def give_up(self, code: Code) -> None:
        """End as if the stream had been reset with `code`."""
        self.fail(self.relay.lost(self, code, is_delivered=True), outcome=code.name.lower())

    def fail(self, error: errors.HubError, *, outcome: str = "refused", is_ours: bool = True) -> None:
        """Answer with a Status if the response has not begun, else break it. `is_ours`: no agent has said so."""
        if self.has_ended:
            return
        self._release(Code.CANCELLED, "request given up")
        if self._has_head:
            self._break(None, "cut", outcome)
            return
        self.code = error.http_status
        is_reusable = error.http_status >= 500 or isinstance(error, errors.TooManyRequests)
        close = not (is_reusable and self.is_request_complete and self.request.is_keep_alive)
        is_head, route = self.request.method == b"HEAD", self._route_line()
        self.front.write(error_response(error, request_id=self.request_id, is_head=is_head, close=close, more=route))
        self.relay.failed(self, error, is_ours=is_ours)
        self._finish(outcome, is_reusable=not close)

    def cut(self, why: errors.HubError | None = None) -> None:
        """End it by the hub's will (`why`: which right has ended): a watch between two events ends cleanly (P11)."""
        if self.has_ended:
            return
        if not self._has_head:
            self.fail(self.relay.cut_off(self, why), outcome="cut")
        elif self._boundary is not None and self._boundary.is_between_events:
            self._release(Code.CANCELLED, "cut by the hub")
            self._complete("cut")
        else:
            self._release(Code.CANCELLED, "cut by the hub")
            self._break(None, "cut", "cut")

    def cut_soon(self) -> None:
        """The same for a drain, in its turn of the loop: a watch in the middle of an event may finish it."""
        if self._boundary is not None and not self._cut_due:
            self._cut_due = True
            self.relay.endings.soon(self._cut_between_events)

    # -- from the compressed body (hub.proxy.compressed.Sink)

    @property
    def may_take(self) -> bool:
        return self.front.is_writable and not self.has_ended

    def take(self, piece: Piece) -> None:
        self.relay.compressed_wire.inc(piece.wire_bytes)
        self.relay.compressed_plain.inc(len(piece.data))
        self._pass_on(piece.data, piece.wire_bytes)

    def flush(self) -> None:
        self.front.flush()

    def garbled(self, error: ProtocolError) -> None:
        self.relay.distrust(self, error.text)
        self._break(Code.PROTOCOL, "protocol", error.text)

    # -- from hub.proxy.unread, once the stream is gone and its bytes still wait here

    def abort(self) -> None:
        self._end("unread")
        self.front.abort()

    # -- internals

    def _pass_on(self, data: bytes | memoryview, wire_bytes: int) -> None:
        """Write a part of the body, which came in so many bytes of DATA."""
        size = len(data)
        self.bytes_out += size
        if self.is_opaque or self._body is Body.UNTIL_CLOSE:
            self.front.write(data)
        elif self._body is Body.CHUNKED:
            if size:
                self.front.write(b"".join((chunk_head(size), data, b"\r\n")))
            if self._boundary is not None:
                self._boundary.feed(data)
        elif self._body is Body.LENGTH and size <= self._left:
            self._left -= size
            self.front.write(data)
        elif size:
            self._break(Code.PROTOCOL, "protocol", "more body than announced")
            return
        self._return_credit(wire_bytes)
        if self._cut_due:
            self._cut_between_events()

    def _cut_between_events(self) -> None:
        if self._boundary is not None and self._boundary.is_between_events:
            self.cut()

    def _expect_compressed(self, message: HttpHead) -> None:
        """Raises BadAnswer where nothing may be compressed: what we did not agree to we do not decode."""
        link, opening = self.link, self.opening
        is_agreed = link is not None and link.compresses and opening is not None and opening.ext.get(KEY) != 0
        is_coded = any(name == b"content-encoding" for name, _ in message.headers)
        if message.ext[KEY] != FORMAT or not is_agreed or is_coded or self.request.upgrade:
            raise BadAnswer("a compressed body where none may be")
        self._compressed = CompressedBody(self, self.relay.turns)
        self.relay.histories.bodies += 1

    def _end_compressed(self, body: CompressedBody) -> None:
        """The stream is complete and the client has not read all of it, or the last block is not whole."""
        if body.is_behind:
            self._end_later(self.end)
        else:
            self.garbled(ProtocolError("an end within a compressed block"))

    def _end_later(self, ending: Callable[[], None]) -> None:
        assert self._compressed is not None
        self._compressed.end_with(ending)
        self._charge()

    def _may_go_on(self) -> bool:
        """A lost watch whose last whole event is still compressed here: it ends behind that one."""
        body, boundary = self._compressed, self._boundary
        return body is not None and body.is_behind and boundary is not None and not boundary.is_between_events

    def _charge(self) -> None:
        """No session counts the bytes of a stream that is over, and they may wait for a client that does not read."""
        body = self._compressed
        if body is not None and body.is_ending and not self.has_ended:
            self.relay.charge(self, body.pending_bytes + self.front.unsent_bytes)

    def _plain_head(self, message: HttpHead, request_id: bytes) -> bytes:
        request = self.request
        # Settled with the head, which says so: the rest of the body may be here before the end of the answer is.
        request.is_keep_alive = request.is_keep_alive and self.is_request_complete
        head = answer_head(message, request, request_id, close=not request.is_keep_alive, route=self._route_line())
        self._body, self._left = head.body, head.length
        if self.kind.verb == "watch" and head.body is Body.CHUNKED:
            self._boundary = boundary_of(message)
        return head.data

    def _route_line(self) -> bytes:
        """Which route it took and why, for those who administer the cluster."""
        if self.access is None or not self.access.is_admin or self.decision is None:
            return b""
        return self.decision.field_line(self.attempts)

    def _return_credit(self, size: int) -> None:
        if self.stream is not None and self.front.is_writable:
            self.stream.consumed(size)
        elif self.stream is not None:
            self._owed += size

    def _may_repeat(self, code: Code, was_sent: bool) -> bool:
        """Whether another route may be asked (hub.proxy.replay), and everything that it needs is still here."""
        if self.bytes_in and not (self.kept is not None and self.kept.is_whole):
            return False
        return replay.may_repeat(code, was_sent=was_sent, is_mutation=self.kind.is_mutation, attempts=self.attempts)

    def _bad_answer(self, bad: BadAnswer) -> None:
        """Nothing of the response was written yet: the client gets a Status instead."""
        self.relay.distrust(self, str(bad))
        self._has_head = False
        self._release(Code.PROTOCOL, str(bad))
        if isinstance(bad, RedirectedUpgrade):
            error: errors.HubError = errors.ClusterUnavailable("the cluster answered an upgrade with a redirect")
        else:
            error = self.relay.lost(self, Code.PROTOCOL, is_delivered=True)
        self.fail(error, outcome="bad-answer")

    def _complete(self, outcome: str) -> None:
        """The response is whole: say so in the way that was announced."""
        if self._body is Body.CHUNKED:
            self.front.write(self._last_chunk)
        if self.stream is not None and self.request.upgrade:
            self.stream.end()  # refused, and nothing was said: there is nothing to break off
        elif self.stream is not None and not self.is_request_complete:
            self.relay.left(self)
            self._release(Code.CANCELLED, "answered before the request was read")
        self._finish(outcome, is_reusable=self.is_request_complete and self.request.is_keep_alive)

    def _finish(self, outcome: str, *, is_reusable: bool) -> None:
        self.front.flush()
        self._end(outcome)
        self.front.finish(is_reusable=is_reusable)

    def _break(self, code: Code | None, reason: str, text: str) -> None:
        """The response cannot be completed: the client must see that."""
        if code is not None:
            self._release(code, text)
        self.relay.metrics.broken(reason)
        self._end(reason)
        self.front.abort()

    def _release(self, code: Code, text: str) -> None:
        stream, self.stream = self.stream, None
        if stream is not None and not stream.is_closed:
            stream.reset(code, text)

    def _end(self, outcome: str) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.outcome = outcome
            if self.kept is not None:
                self.kept.drop()
            if self._compressed is not None:
                self._compressed = None
                self.relay.histories.bodies -= 1
                self.relay.charge(self, 0)
            self.relay.ended(self)
            self.stream = None
