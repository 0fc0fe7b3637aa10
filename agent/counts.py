"""What the agent counts: plain attributes, since a locked counter costs more than all other bookkeeping of a request.

`agent.metrics` reads them when somebody scrapes (from the health thread: reading an int is atomic).
"""

import collections
from typing import Final

from proto.errors import Code
from proto.messages import StreamClass, StreamKind

RTT_BUCKETS: Final[tuple[float, ...]] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Counts:
    """What happened since the process began; written by the event loop only."""

    def __init__(self) -> None:
        self.active = 0
        self.upgrades = 0
        self.requests = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.compressed_plain_bytes = 0
        self.compressed_wire_bytes = 0
        self.dials = 0
        self.dials_failed = 0
        self.is_around_service = False
        self.repeats_stale = 0
        self.unauthorized = 0
        self.sessions = 0
        self.is_connected = False
        self.by_status = [0] * 6
        self.by_code: collections.Counter[Code] = collections.Counter()
        self.by_refusal: collections.Counter[str] = collections.Counter()
        self.by_failed_step: collections.Counter[str] = collections.Counter()
        self.tunnel_bytes: collections.Counter[tuple[str, str]] = collections.Counter()
        self.rtt_counts = [0] * (len(RTT_BUCKETS) + 1)
        self.rtt_sum = 0.0
        self.stalled_seconds = 0.0
        self.busy_poll_seconds = 0.0
        self.leads_fallback = False
        self.fallback_nodes = 0
        self.fallback_changes: collections.Counter[str] = collections.Counter()

    def answered(self, status: int) -> None:
        """A response head went to the hub."""
        self.by_status[status // 100] += 1

    def failed(self, code: Code) -> None:
        """A stream was reset by the agent."""
        self.by_code[code] += 1

    def refused(self, reason: str) -> None:
        """The policy refused a request, or the session a frame; `reason` is from a closed set."""
        self.by_refusal[reason] += 1

    def stayed_awake(self, seconds: float) -> None:
        """The loop waited for an answer without sleeping."""
        self.busy_poll_seconds += seconds

    # LinkObserver

    def bytes(self, direction: str, cls: StreamClass, n: int) -> None:
        """DATA on the tunnel."""
        self.tunnel_bytes[direction, cls.name.lower()] += n

    def opened(self, kind: StreamKind, cls: StreamClass) -> None:
        """Counted by the exchanges."""

    def closed(self, kind: StreamKind, cls: StreamClass) -> None:
        """Counted by the exchanges."""

    def rtt(self, seconds: float) -> None:
        """A ping came back."""
        self.rtt_sum += seconds
        for index, bound in enumerate(RTT_BUCKETS):
            if seconds <= bound:
                self.rtt_counts[index] += 1
                return
        self.rtt_counts[-1] += 1

    def open_latency(self, kind: StreamKind, seconds: float) -> None:
        """The agent opens no streams."""

    def stalled(self, seconds: float, *, begins: bool) -> None:
        """A stream waited for credit."""
        self.stalled_seconds += seconds

    def late(self, code: Code, n: int) -> None:
        """What the hub sent into the end of a session; the hub counts what matters."""
