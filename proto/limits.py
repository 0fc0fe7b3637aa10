"""Every bound of the protocol: bytes, counts and seconds, with the reason for each default.

The sources are docs/protocol.md "Limits" and the measurements quoted there. A test hits each of them.
"""

import dataclasses
from typing import Final

from proto import errors, messages

KIB: Final = 1024
MIB: Final = 1024 * KIB

MESSAGE_TARGET_BYTES: Final = 64 * KIB
"""A sender closes a WebSocket message once it holds this much: the cheapest size per byte in every library measured."""

MESSAGE_MAX_BYTES: Final = 256 * KIB
"""A receiver refuses a longer WebSocket message. One full batch plus one largest frame is far below it."""

DATA_MAX_BYTES: Final = 32 * KIB
"""Largest payload of a DATA frame: bounds how long a keystroke waits behind a bulk frame."""

CONTROL_MAX_BYTES: Final = 61_440
"""Largest msgpack payload of a control frame (60 KiB): bounds what a decoder may be made to allocate."""

HANDSHAKE_MAX_BYTES: Final = 64 * KIB
"""Largest WebSocket message before WELCOME, when nobody is authenticated yet."""

RESET_TEXT_MAX_BYTES: Final = 256
"""Longest text in a RESET; a sender cuts, a receiver refuses."""

LEAST_WINDOW_BYTES: Final = 18
"""A block of a compressed body is 9 bytes at least, and half of what a stream begins with at most (docs/protocol.md
§5.3)."""

OFFER_DATA_LEAST_BYTES: Final = KIB
"""A peer that offers less in the handshake is refused: an upload in frames of one byte costs 2.5 s of CPU per MB."""

OFFER_WINDOW_LEAST_BYTES: Final = 16 * KIB
"""The same for `window` and `session_window`: whoever returns little credit at a time makes small frames too."""

MSG_MAX_BYTES: Final = 16 * KIB
"""Longest body of a MSG."""

LAST_STREAM_ID: Final = 2**30
"""A session is retired before ids reach this, far from the 32-bit wrap."""

UNSAID_PINGS_PER_S: Final = 20.0
"""What a peer bears that does not say: `ping_per_s` of the first version."""

ID_MARGIN: Final = 1024
"""How many ids before LAST_STREAM_ID an opener asks for a replacement session, so that it comes before ids run out."""

ANY_ID: Final = 2**31 - 1
"""Last id of a GOAWAY that only announces a drain: nothing that was sent is refused yet."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one session. The first five are offered in the handshake; the smaller of both sides holds."""

    data_bytes: int = DATA_MAX_BYTES
    """Payload of one DATA frame, bytes."""
    streams: int = 4096
    """Open streams per session, opened by either side each. Bounds tables and file descriptors."""
    open_backlog: int = 256
    """Streams of one side that the other has not answered (ACCEPT, HEAD, RESET). An opener queues what exceeds it."""
    window_bytes: int = 256 * KIB
    """Credit of a fresh stream in each direction. 256 KiB fills 8 MB/s at 32 ms; it grows where more is used."""
    crowded_window_bytes: int = 32 * KIB
    """Credit of a fresh stream for the answer while much waits unread in the process (`Budget.is_crowded`)."""
    far_window_bytes: int = MIB
    """Most credit of a fresh list for the answer over a long way on which windows have grown: it waits less."""
    far_rtt_s: float = 0.02
    """Such a way. On a shorter one the first WINDOW is back before the credit is used up."""
    near_rtt_s: float = 0.001
    """Hub and agent are in one place: what is in flight beyond a few hundred KiB waits in queues there, and keystrokes
    behind it."""
    near_window_bytes: int = 128 * KIB
    """Credit there of a fresh stream for the answer, unless it is an upgrade or much waits in the process
    (`crowded_window_bytes`), and the most of one beside three or more that move much; beside one it is twice that."""
    near_alone_bytes: int = MIB
    """Most credit there of any stream; one that moves alone may have it all."""
    session_window_bytes: int = 16 * MIB
    """Bytes of DATA in flight per direction over all streams. Returned on receipt: a stalled stream blocks nobody."""

    window_max_bytes: int = 4 * MIB
    """A stream's window doubles up to this; one that began smaller than usual first quadruples until it is as usual."""
    growth_round_trips: float = 4.0
    """A window grows when half of it was used within this many round trips."""
    growth_share: float = 0.5
    """Windows grow while their sum above the start size is under this share of `session_window_bytes`."""
    window_idle_s: float = 10.0
    """A grown window returns to its start size after this long without data."""

    send_queue_bytes: int = 256 * KIB
    """Queued bytes of a stream at which `send` answers False: its source must pause."""
    send_queue_low_bytes: int = 128 * KIB
    """A paused source is told to go on under this."""
    control_queue_bytes: int = 1 * MIB
    """Control frames waiting to be written. More means a peer that does not read: the session ends."""
    open_queue_bytes: int = 1 * MIB
    """OPEN frames waiting to be written. More means TooManyStreams for the caller."""
    message_queue_bytes: int = 256 * KIB
    """MSG frames waiting to be written. Droppable ones make room, oldest first."""

    ping_active_s: float = 2.0
    """Ping interval while a stream is open or one other than a command was opened in the last `active_memory_s`."""
    ping_idle_s: float = 10.0
    """Ping interval of an idle tunnel: under the idle time-outs of load balancers, 0.7 MB a day in TLS. The hub pings;
    an agent does when it has heard nothing for a quarter longer."""
    active_memory_s: float = 60.0
    """How long after the last OPEN that is no command a session counts as active."""
    pong_timeout_s: float = 5.0
    """An unanswered ping ends the session after this; after up to three times as long while bulk keeps moving, behind
    which it or its answer may wait."""
    silent_s: float = 5.75
    """While a tunnel is in use, one that owes the answer to a ping and has brought no byte for this long has ended:
    three pings are missing (`ping_active_s`), and a quarter of a second is left of D4's six for a busy machine."""
    beat_s: float = 1.0
    """The driver calls `handle_timer` at least this often, whatever `next_timer` says."""
    dead_s: float = 6.0
    """A longer gap between two beats of our own loop ends the session unread: the peer has given up on us (P3)."""
    progress_s: float = 20.0
    """Bytes are waiting and the transport took none for this long: the session ends."""
    drain_s: float = 30.0
    """How long streams may go on after a drain was announced, where the caller does not say."""
    sync_s: float = 60.0
    """Interval of SYNC while streams are open."""
    swallow_s: float = 30.0
    """Late frames of a stream that we reset are swallowed for this long."""
    swallow_ids: int = 65_536
    """Ids remembered for it; the oldest are forgotten first."""
    half_closed_idle_s: float = 300.0
    """A half-closed stream of kind tcp without traffic for this long is reset (IDLE). Other kinds may wait for ever."""

    violations: int = 10
    """Stream-level violations per `violation_window_s` that are forgiven; one more ends the session."""
    violation_window_s: float = 60.0
    """Length of that window."""
    unknown_burst: int = 64
    """RESET UNKNOWN_STREAM answers in a burst; frames beyond are swallowed."""
    unknown_per_s: float = 16.0
    """… and in the long run."""
    reset_burst: int = 4096
    """Streams that the peer opens and resets itself, in a burst (HTTP/2 rapid reset). Beyond, its OPENs are
    refused; at the hub, as many refused ones end the session. An agent goes on refusing: what the hub resets are
    requests whose clients left, and no client may end the session of all others."""
    reset_per_s: float = 400.0
    """… and in the long run."""
    survey_burst: int = 8
    """SYNC and GOAWAY of the peer in a burst, each of which has every stream looked at; beyond, the session ends."""
    survey_per_s: float = 0.2
    """… and in the long run."""
    ping_burst: int = 400
    """Pings of the peer in a burst; beyond, the session ends."""
    ping_per_s: float = 200.0
    """… and in the long run. Told to the peer, which measures the link by them while bulk waits."""

    demote_bytes: int = 128 * KIB
    """A stream that moved this much without a pause is served as bulk."""
    demote_pause_s: float = 0.05
    """A pause this long with an empty queue brings it back to its own class."""

    def __post_init__(self) -> None:
        """Refuse bounds that contradict each other: a wrong setting must not surface as a stalled stream."""
        if not 1 <= self.data_bytes <= DATA_MAX_BYTES:
            raise ValueError(f"data frames are 1 to {DATA_MAX_BYTES} bytes")
        if not 1 <= self.window_bytes <= self.window_max_bytes <= self.session_window_bytes < 2**31:
            raise ValueError("need window_bytes <= window_max_bytes <= session_window_bytes < 2 GiB")
        if self.crowded_window_bytes < LEAST_WINDOW_BYTES:
            raise ValueError(f"crowded_window_bytes is at least {LEAST_WINDOW_BYTES}")
        if self.far_window_bytes < 1 or self.far_rtt_s < 0:
            raise ValueError("far_window_bytes is at least 1, far_rtt_s at least 0")
        if not LEAST_WINDOW_BYTES <= self.near_window_bytes <= self.near_alone_bytes:
            raise ValueError(f"need {LEAST_WINDOW_BYTES} <= near_window_bytes <= near_alone_bytes")
        if not 0 <= self.near_rtt_s <= max(self.far_rtt_s, 0.0):
            raise ValueError("need 0 <= near_rtt_s <= far_rtt_s: a way is not short and long at once")
        if self.ping_burst < 1 or self.ping_per_s < 1:
            raise ValueError("ping_burst and ping_per_s are at least 1")
        if self.streams < 1 or self.open_backlog < 1 or self.streams > 8192:
            raise ValueError("streams is 1 to 8192, open_backlog at least 1")

    def offer(self) -> messages.Bounds:
        """Return the part that goes into the handshake."""
        return messages.Bounds(
            data=self.data_bytes,
            streams=self.streams,
            backlog=self.open_backlog,
            window=self.window_bytes,
            session_window=self.session_window_bytes,
        )


def merge(ours: messages.Bounds, theirs: messages.Bounds) -> messages.Bounds:
    """Return the smaller of each bound: what both sides then keep to."""
    return messages.Bounds(
        data=min(ours.data, theirs.data),
        streams=min(ours.streams, theirs.streams),
        backlog=min(ours.backlog, theirs.backlog),
        window=min(ours.window, theirs.window),
        session_window=min(ours.session_window, theirs.session_window),
    )


def check_offer(offer: messages.Bounds) -> None:
    """Raise ProtocolError for an offer that would have us turn bytes into millions of frames, on the loop of all.

    Whoever shakes hands calls it, before any credential is said or looked at.
    """
    if offer.data < OFFER_DATA_LEAST_BYTES or min(offer.window, offer.session_window) < OFFER_WINDOW_LEAST_BYTES:
        least = f"data {OFFER_DATA_LEAST_BYTES}, windows {OFFER_WINDOW_LEAST_BYTES} bytes"
        raise errors.ProtocolError(f"limits below the least: {least}")
