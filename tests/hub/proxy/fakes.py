"""Both neighbours of an exchange, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from hub.edge.framing import Request, read_request
from hub.edge.head import parse_head
from hub.route import Asked, Candidate, Decision, Reason, Route
from proto.aio.owner import StreamOwner
from proto.errors import Code
from proto.messages import HttpRequest, StreamClass, StreamKind


class FakeFront:
    """A client's connection that records what it is told."""

    def __init__(self) -> None:
        self.written = b""
        self.is_writable = True
        self.is_paused = False
        self.is_opaque = False
        self.finished: bool | None = None
        self.is_aborted = False
        self.continued = 0
        self.is_unhurried = self.is_frugal = False
        self.drained: list[Callable[[], None]] = []
        self.unwritable_after: int | None = None
        """Writes after which the client takes no more."""

    def write(self, data: bytes | memoryview) -> None:
        self.written += data
        if self.unwritable_after is not None:
            self.unwritable_after -= 1
            self.is_writable = self.unwritable_after > 0

    def flush(self) -> None: ...

    def be_frugal(self, is_short: bool) -> None:
        self.is_frugal = is_short

    def send_continue(self) -> None:
        self.continued += 1

    def pause_body(self) -> None:
        self.is_paused = True

    def resume_body(self) -> None:
        self.is_paused = False

    def become_opaque(self) -> None:
        self.is_opaque = True

    def finish(self, *, is_reusable: bool) -> None:
        self.finished = is_reusable

    @property
    def unsent_bytes(self) -> int:
        return 0 if self.is_writable else len(self.written)

    def unhurried(self) -> None:
        self.is_unhurried = True

    def when_drained(self, call: Callable[[], None]) -> None:
        self.drained.append(call)

    def abort(self) -> None:
        self.is_aborted = True

    @property
    def status(self) -> int:
        return int(self.written[9:12]) if self.written else 0


class FakeStream:
    """A stream that records what is sent and what credit comes back."""

    def __init__(self, has_room: bool = True, on_send: Callable[[bytes], None] | None = None) -> None:
        self.sent = b""
        self._on_send = on_send
        self.is_ended = False
        self.code: Code | None = None
        self.credit = 0
        self.has_room = has_room
        self.queued_bytes = 0
        """Of what was sent, what waits for credit."""
        self.was_sent = True
        self.peer_ended = True
        """What is still to come of the answer is here already."""
        self.window = 256 * 1024
        self.owner: StreamOwner | None = None
        self.is_over = False
        """Both halves have ended."""

    @property
    def is_closed(self) -> bool:
        return self.is_over or self.code is not None

    def send(self, data: bytes, *, end: bool = False) -> bool:
        self.sent += data
        if self._on_send is not None:
            self._on_send(data)
        self.is_ended = self.is_ended or end
        return self.has_room

    def end(self) -> None:
        self.is_ended = True

    def reset(self, code: Code, text: str = "") -> None:
        self.code = code

    def consumed(self, n: int) -> None:
        self.credit += n


class FakeLink:
    """A link that opens fake streams."""

    def __init__(self, name: str = "link") -> None:
        self.name = name
        self.is_open = True
        self.is_draining = False
        self.compresses = False
        self.last_received_at = 1000.0
        self.unanswered_ping_at: float | None = None
        self.rtt_s: float | None = 0.01
        self.opened: list[tuple[HttpRequest, StreamOwner, FakeStream, StreamClass, bool]] = []
        self.probes = 0
        self.waiting: list[Callable[[bool], None]] = []
        self.error: Exception | None = None
        self.has_room = True
        self.on_send: Callable[[bytes], None] | None = None

    def open(
        self,
        message: HttpRequest,
        owner: StreamOwner,
        *,
        kind: StreamKind,
        cls: StreamClass,
        end: bool = False,
        is_long: bool = False,
    ) -> FakeStream:
        if self.error is not None:
            raise self.error
        stream = FakeStream(self.has_room, self.on_send)
        stream.owner = owner
        self.opened.append((message, owner, stream, cls, end))
        return stream

    def owners(self) -> list[StreamOwner]:
        return [owner for _, owner, stream, _, _ in self.opened if not stream.is_closed]

    def probe(self, settled: Callable[[bool], None] | None = None) -> None:
        self.probes += 1
        if settled is not None:
            self.waiting.append(settled)

    def answer_probes(self, *, is_alive: bool = True) -> None:
        waiting, self.waiting = self.waiting, []
        for settled in waiting:
            settled(is_alive)


class FakeRoutes:
    """Links of the only cluster, in order of preference; those in `nodes` are of node agents."""

    def __init__(self, *links: FakeLink) -> None:
        self.links = list(links)
        self.nodes: set[FakeLink] = set()
        self.lost: float | None = None
        self.late: set[FakeLink] = set()
        """Those that owe the answer to a ping for too long."""
        self.asked: list[Asked] = []

    def pick(self, cluster_uid: str, asked: Asked, *, without: tuple[object, ...] = ()) -> Decision:
        self.asked.append(asked)
        there = [link for link in self.links if link not in without and link.is_open]
        link = next((link for link in there if link not in self.late), None)
        if link is None and there:
            return Decision(None, Reason.NONE_ANSWERING, may_come=True)
        if link is None:
            return Decision(None, Reason.NONE_LEFT if without else Reason.NONE_CONNECTED)
        is_node = link in self.nodes
        candidate = Candidate(
            cast(Route, link), "node" if is_node else "cluster", b"i" * 16, link.name if is_node else "", True
        )
        if is_node:
            return candidate.chosen(Reason.FALLBACK_RETRY if without else Reason.FALLBACK_ABSENT)
        return candidate.chosen(Reason.RETRY if without else Reason.ONLY)

    def lost_at(self, cluster_uid: str) -> float | None:
        return self.lost


def request(raw: str = "GET /k8s/clusters/c1/api/v1/pods HTTP/1.1", *lines: str, auth: str = "good") -> Request:
    """A request whose credential is `auth`."""
    head = "\r\n".join([raw, "Host: h", f"Authorization: Bearer {auth}", *lines, "", ""])
    return read_request(parse_head(head.encode()), 0.0, "1.2.3.4:5")
