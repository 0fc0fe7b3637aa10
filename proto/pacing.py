"""How many bytes may be on their way before bulk has to wait, so that a keystroke finds no queue below us.

What the kernel, a load balancer or a slow link has taken off our hands cannot be overtaken, and no socket option tells
how much that is once a middle box ends our TCP connection. So the session measures it from end to end: while bulk
moves it appends a PING to a message every few milliseconds, a *mark*. PINGs travel in the byte stream, hence the
answer to a mark acknowledges every byte before it, and says how long the way was.

    rate     most bytes a second that were acknowledged over a round trip, of the last four rounds
    min RTT  shortest round trip of the last ten seconds
    cap      rate x (min RTT + slack): the link full, and a queue of a few milliseconds that shows when it gets faster

A round is the time from a mark's leaving to its answer. At first the cap doubles each round. The queue hides the true
round trip from us, so every ten seconds, or when the round trip has stayed long, bulk drains for a moment and looks
again; a burst behind a pause finds the way empty, and looks by its first message. Nothing here sends: `proto.outbox`
asks `is_blocked` before it takes bulk, and tells what it took. Other classes never wait. Blocked means that a mark is
unanswered: its answer sets free, its loss ends the session as any ping's does.
"""

from typing import Final, NamedTuple

from proto import limits as bounds
from proto.window import Bucket

_SHARE: Final = 0.6
"""Of the pings that the peer bears: the rest is for liveness, probes and drains."""
_MARKS_MAX: Final = 48
"""Unanswered marks at most: a stand-still delivers them all at once, to a peer that bears 100 in a burst."""
_SPACING_S: Final = 0.008
"""Time between marks while bulk waits."""
_SPACING_FREE_S: Final = 0.040
"""The same while the cap is out of reach: nothing has to be set free."""
_SPACING_BYTES: Final = 4 * bounds.KIB
"""Bytes between marks at least, so that marks and their answers take a fiftieth of a slow link at most."""
_START_BYTES: Final = 128 * bounds.KIB
"""Cap before anything is known: two messages, and half of a ping's patience at 50 KB/s."""
_SLACK_S: Final = 0.004
_SLACK_SHARE: Final = 1 / 16
"""Queue that we keep to see whether the link has become faster: this much of the round trip, or 4 ms."""
_MESSAGE_S: Final = 0.003
_MESSAGE_MIN_BYTES: Final = 4 * bounds.KIB
"""A message holds 3 ms of the link, at least 4 KiB: so long a keystroke waits for one that it missed."""
_PAUSE_S: Final = 0.1
"""Behind so long a pause a burst begins. On a short way a message of steady bulk may take some round trips itself."""
_BULK_SHARE: Final = 1 / 2
"""Of the cap: what bulk may have on its way however much the other classes have."""
_ROUNDS: Final = 4
_MIN_RTT_S: Final = 10.0
_FLAT_ROUNDS: Final = 3
_LONG_ROUNDS: Final = 2
_PROBE_PAUSE_S: Final = 1.0
_PROBE_SHARE: Final = 0.5
_PROBE_AGAIN: Final = 0.9
_RESTART: Final = 1.5
_GROWTH: Final = 1.25
_UNKNOWN: Final = float("inf")


class _Mark(NamedTuple):
    nonce: bytes
    sent: int
    bulk: int
    sent_at: float
    acked: int
    """Bytes that were acknowledged when it left,"""
    acked_at: float
    """when the answer for them came,"""
    acked_sent_at: float
    """and when their mark had left."""
    is_backlogged: bool
    """Bulk had been waiting ever since: the rate that its answer shows is the link's, not the source's."""
    is_clear: bool
    """It left when little enough was on its way for the queue to be empty."""


class Pacing:
    """What is on its way, and whether more bulk may follow. Bytes, seconds; the caller's clock."""

    __slots__ = (
        "_acked",
        "_acked_at",
        "_acked_bulk",
        "_acked_sent_at",
        "_allowance",
        "_bulk",
        "_flat_rounds",
        "_gap",
        "_is_first_round",
        "_is_probing",
        "_is_starting",
        "_is_telling",
        "_latest_rate",
        "_long_rounds",
        "_marked",
        "_marks",
        "_min_rtt",
        "_min_rtt_at",
        "_pinged",
        "_plain",
        "_probe_rtt",
        "_probed_at",
        "_rates",
        "_round_count",
        "_round_end",
        "_round_rtt",
        "_round_sum",
        "_sent",
        "_sent_at",
        "_spacing",
        "_was_backlogged",
        "_window",
        "cap",
        "is_blocked",
        "is_looking",
        "message_bytes",
        "rate",
    )

    def __init__(self, pings_per_s: float) -> None:
        """`pings_per_s`: what the peer bears in the long run."""
        per_s = min(pings_per_s * _SHARE, 1.0 / _SPACING_S)
        self._spacing = 1.0 / per_s
        self._allowance = Bucket(_MARKS_MAX, per_s)
        self._sent = self._bulk = self._acked = self._acked_bulk = self._marked = self._pinged = 0
        self._sent_at = self._acked_at = self._acked_sent_at = 0.0
        self._marks: list[_Mark] = []
        self._rates = [0.0]
        self._latest_rate = 0.0
        self._min_rtt, self._min_rtt_at = _UNKNOWN, 0.0
        self._round_end = 0
        self._round_rtt, self._round_sum, self._round_count = _UNKNOWN, 0.0, 0
        self._long_rounds = self._flat_rounds = 0
        self._is_probing = self._is_telling = False
        self._is_starting = True
        self._plain = b""
        """Nonce of the last plain PING, until it is answered: so long nobody knows that the way is empty."""
        self._is_first_round = self._was_backlogged = False
        """Of a burst on a way that was empty: no answer yet. And whether bulk waited behind the last message."""
        self._gap = 0
        self._probed_at = self._probe_rtt = 0.0
        self.rate = 0.0
        """Bytes a second that the way takes; 0 before it was measured."""
        self.cap = float(_START_BYTES)
        """Bytes that may be on their way,"""
        self._window = self.cap
        self.message_bytes = bounds.MESSAGE_TARGET_BYTES
        """Size of the next message."""
        self.is_blocked = False
        """Bulk has to wait for an answer."""
        self.is_looking = False
        """The message that was just sent may begin a burst, and the round trip has not been looked at for long: a mark
        behind it finds no queue, so nothing has to drain for that."""

    @property
    def min_rtt_s(self) -> float | None:
        """Shortest round trip lately; None before the first."""
        return None if self._min_rtt == _UNKNOWN else self._min_rtt

    @property
    def on_way(self) -> int:
        """Bytes that were written and not acknowledged."""
        return self._sent - self._acked

    # What leaves

    def sent(self, size: int, bulk: int, now: float, *, is_backlogged: bool) -> None:
        """A message of `size` bytes left, `bulk` of them bulk; `is_backlogged`: more bulk is waiting."""
        is_first = False
        if not self._marks and now - self._sent_at > 2 * self._min_rtt:
            self._acked, self._acked_bulk = self._sent, self._bulk  # what had no mark behind it has long arrived
            self._acked_at = self._acked_sent_at = now
            is_first = self._is_first_round = not self._was_backlogged and now - self._sent_at > _PAUSE_S
        is_due = now - self._min_rtt_at >= _MIN_RTT_S
        self.is_looking = is_first and is_due and not self._is_starting and not self._plain
        self._was_backlogged = is_backlogged
        self._sent += size
        self._bulk += bulk
        self._sent_at = now
        if not is_backlogged or self._is_probing or is_first:
            self._gap = self._sent  # the source set the rate, or we did, or the way was empty before
        self._block()

    def is_mark_due(self, now: float) -> bool:
        """Whether a mark should follow the message with bulk that was just `sent`, also when no more of it is waiting:
        it may soon, and a burst that first fills the kernel would find no answer on its way. At the start only bulk
        that waits is measured."""
        if self._is_starting and not self._was_backlogged:
            return False
        if self.is_looking:
            return not self._allowance.is_empty(now)
        if self._sent - self._marked < self._spacing_bytes() or len(self._marks) >= _MARKS_MAX:
            return False
        return not self._allowance.is_empty(now)

    def is_ping_due(self, now: float) -> bool:
        """Whether a plain PING should follow a message without bulk: behind each 64 KiB that have no mark. It steers
        nothing. Its answer says that the way is slow and not dead, where the next ping waits behind the rest."""
        unmarked = self._sent - max(self._marked, self._pinged)
        return unmarked >= bounds.MESSAGE_TARGET_BYTES and self._allowance.spend(now)

    def pinged(self, nonce: bytes) -> None:
        """It follows at once what was taken."""
        self._pinged, self._plain = self._sent, nonce

    def _spacing_bytes(self) -> float:
        if not self.rate:
            return self.cap / 8
        if self._is_probing:
            return self.message_bytes
        is_near = self.on_way >= self._window / 2 or self._is_first_round  # its answers are to set free in time
        return max(self.rate * (self._spacing if is_near else _SPACING_FREE_S), _SPACING_BYTES)

    def mark(self, nonce: bytes, size: int, now: float) -> None:
        """A PING of `size` bytes with `nonce` follows at once what was taken."""
        is_clear = self.is_looking or (self._is_probing and self.on_way <= self._probe_cap() + self.message_bytes)
        if self.is_looking:
            self.is_looking, self._probe_rtt = False, self._min_rtt
        self._allowance.spend(now)
        self._sent += size
        self._marks.append(
            _Mark(
                nonce, self._sent, self._bulk, now, self._acked, self._acked_at, self._acked_sent_at,
                self._acked >= self._gap, is_clear,
            )
        )  # fmt: skip
        self._marked = self._sent
        self._block()

    # What comes back

    def answered(self, nonce: bytes, rtt: float, now: float) -> None:
        """A ping was answered after `rtt` seconds, marks among them."""
        if rtt <= self._min_rtt:
            self._min_rtt, self._min_rtt_at = rtt, now
        self._round_rtt = min(self._round_rtt, rtt)
        self._round_sum += rtt
        self._round_count += 1
        if nonce == self._plain:
            self._plain = b""
        if not self._marks or self._marks[0].nonce != nonce:
            return
        mark = self._marks.pop(0)
        is_look = mark.is_clear and (self._is_probing or self._is_first_round)
        self._is_first_round = False
        self._learn_rate(mark, now)
        arrived = mark.sent - self._acked
        self._acked, self._acked_bulk = mark.sent, mark.bulk
        self._acked_at, self._acked_sent_at = now, mark.sent_at
        if is_look:
            self._end_probe(rtt, now)
        if mark.sent >= self._round_end:
            self._end_round(now)
        self._size(arrived)
        self._block()

    def _learn_rate(self, mark: _Mark, now: float) -> None:
        """Bytes acknowledged since the mark left, over the time they took to leave or to arrive, the longer one."""
        elapsed = max(now - mark.acked_at, mark.sent_at - mark.acked_sent_at)
        if elapsed <= 0.0 or mark.acked_at == 0.0:
            return
        rate = (mark.sent - mark.acked) / elapsed
        self._is_telling = self._is_telling or mark.is_backlogged
        if mark.is_backlogged or rate > self.rate:
            self._latest_rate = rate
            self._rates[-1] = max(self._rates[-1], rate)

    def _end_round(self, now: float) -> None:
        before = self.rate
        if self._rates[-1]:
            self.rate = max(self._rates)
            self._rates.append(0.0)
            del self._rates[:-_ROUNDS]
        self._round_end = self._sent
        long = self._min_rtt + 2 * self._slack()
        self._long_rounds = self._long_rounds + 1 if self._round_rtt > long else 0
        is_queued = self._round_sum > long * self._round_count
        self._round_rtt, self._round_sum, self._round_count = _UNKNOWN, 0.0, 0
        if self._is_starting and (self._is_telling or is_queued):
            self._flat_rounds = 0 if self.rate > before * _GROWTH else self._flat_rounds + 1
            self._is_starting = self._flat_rounds < (1 if is_queued else _FLAT_ROUNDS)
        self._is_telling = False
        if self._is_starting:
            return
        if self._long_rounds >= _LONG_ROUNDS:
            # The link has become slower or longer. Drained it will tell which; what it could do before is no guide.
            self.rate = self._latest_rate
            self._rates.clear()
            self._rates.append(0.0)
            self._probe(now)
        elif now - self._min_rtt_at >= _MIN_RTT_S:
            self._probe(now)

    def _probe(self, now: float) -> None:
        if not self._is_probing and now - self._probed_at >= _PROBE_PAUSE_S:
            self._is_probing, self._probe_rtt = True, self._min_rtt

    def _end_probe(self, rtt: float, now: float) -> None:
        """A mark came back that found no queue, as far as we knew. If it was far faster, there was one: look again."""
        self._min_rtt, self._min_rtt_at = rtt, now
        if (
            rtt > self._probe_rtt * _RESTART
        ):  # a longer route: what we had on the way was far too little to tell its rate
            self._is_starting, self._flat_rounds = True, 0
        self._is_probing = rtt < self._probe_rtt * _PROBE_AGAIN
        self._probe_rtt = rtt
        self._probed_at, self._long_rounds = now, 0

    # The verdict

    def _slack(self) -> float:
        """Queue to keep, and what an answer may be late for want of marks: without both a low estimate stays low."""
        return max(_SLACK_S, self._min_rtt * _SLACK_SHARE) + max(
            self._spacing, _SPACING_BYTES / max(self.rate, self._rates[-1], 1.0)
        )

    def _probe_cap(self) -> float:
        return max(self._latest_rate * self._min_rtt * _PROBE_SHARE, 2 * self.message_bytes)

    def _size(self, arrived: int) -> None:
        """Follow the rate. The window shrinks at once and grows by what arrives, twofold in a round: what it lacks
        would leave in one burst else, and be a queue."""
        rate = max(self.rate, self._rates[-1])
        if not rate:
            return
        self.message_bytes = min(max(int(rate * _MESSAGE_S), _MESSAGE_MIN_BYTES), bounds.MESSAGE_TARGET_BYTES)
        if self._is_starting:
            floor = _START_BYTES if not self._flat_rounds else 3 * self.message_bytes
            self.cap = max(rate * (2 * self._min_rtt + self._slack()), floor)
        else:
            self.cap = max(rate * (self._min_rtt + self._slack()), 3 * self.message_bytes)
        self._window = min(self._window + arrived, self._probe_cap() if self._is_probing else self.cap)

    def _block(self) -> None:
        self.is_blocked = (
            len(self._marks) > 0
            and self.on_way >= self._window
            and self._bulk - self._acked_bulk >= self._window * _BULK_SHARE
        )
