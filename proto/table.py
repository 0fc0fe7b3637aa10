"""The streams of a session by id, the ids that were used, and the bounds on both."""

import collections
from typing import Final

from proto import errors
from proto import limits as bounds
from proto.stream import Stream

_FIRST_EVEN: Final = 2
_FIRST_ODD: Final = 1


class StreamTable:
    """Open streams of one session. The hub opens even ids, the agent odd ones, each in growing order."""

    __slots__ = (
        "_capacity",
        "_expiry",
        "_last_id",
        "_limits",
        "_next_id",
        "_parity",
        "_peer_capacity",
        "_swallowed",
        "last_peer_id",
        "ours",
        "streams",
        "theirs",
        "unanswered",
    )

    def __init__(self, limits: bounds.Limits, capacity: int, *, is_even: bool, last_id: int) -> None:
        self._limits = limits
        self._capacity = capacity
        self._peer_capacity = capacity
        self._parity = 0 if is_even else 1
        self._next_id = _FIRST_EVEN if is_even else _FIRST_ODD
        self._last_id = last_id
        self.streams: dict[int, Stream] = {}
        self.ours = 0
        """Open streams that we opened."""
        self.theirs = 0
        """Open streams that the peer opened."""
        self.unanswered = 0
        """Of those, the ones we have not answered."""
        self.last_peer_id = 0
        """Highest id that the peer opened."""
        self._swallowed: dict[int, None] = {}
        self._expiry: collections.deque[tuple[float, int]] | None = None
        """Made when it is needed: an empty one takes 760 bytes."""

    @property
    def is_near_end(self) -> bool:
        """Our ids are about to run out."""
        return self._next_id > self._last_id - bounds.ID_MARGIN

    def reserve(self) -> int:
        """Return the id for a stream that we open; raise TooManyStreams or SessionDraining."""
        if self.ours >= self._capacity:
            raise errors.TooManyStreams(f"{self.ours} streams are open")
        if self._next_id > self._last_id:
            raise errors.SessionDraining("the session has used up its stream ids")
        return self._next_id

    def add_ours(self, stream: Stream) -> None:
        """Enter a stream with the id of `reserve`."""
        self._next_id = stream.id + 2
        self.ours += 1
        self.streams[stream.id] = stream

    def check_peer_id(self, stream_id: int) -> None:
        """Raise ProtocolError unless the peer may open `stream_id` now: its parity, growing, below the end."""
        if stream_id & 1 == self._parity or stream_id == 0:
            raise errors.ProtocolError(f"OPEN of stream {stream_id}, which is not the peer's to open")
        if stream_id <= self.last_peer_id:
            raise errors.ProtocolError(f"OPEN of stream {stream_id} after {self.last_peer_id}")
        if stream_id > self._last_id:
            raise errors.ProtocolError(f"OPEN of stream {stream_id}, above the last id of a session")
        self.last_peer_id = stream_id

    def has_room_for_peer(self, backlog: int) -> bool:
        """Tell whether the peer keeps to the agreed numbers of streams and of unanswered OPENs."""
        return self.theirs < self._peer_capacity and self.unanswered < backlog

    def add_theirs(self, stream: Stream) -> None:
        """Enter a stream that the peer opened."""
        self.theirs += 1
        self.unanswered += 1
        self.streams[stream.id] = stream

    def answered(self, stream: Stream) -> None:
        """The acceptor answered the stream: it leaves the backlog."""
        if not stream.is_answered:
            stream.is_answered = True
            if not stream.is_ours:
                self.unanswered -= 1

    def remove(self, stream: Stream) -> bool:
        """Forget a stream that ended; tell whether it was there."""
        if self.streams.pop(stream.id, None) is None:
            return False
        if stream.is_ours:
            self.ours -= 1
        else:
            self.theirs -= 1
            if not stream.is_answered:
                self.unanswered -= 1
        return True

    def told(self, stream_id: int) -> Stream | None:
        """The stream, if the peer can know of it: its OPEN has come, or ours has left."""
        stream = self.streams.get(stream_id)
        return None if stream is None or stream.is_held else stream

    def was_opened(self, stream_id: int) -> bool:
        """Tell whether either side has opened the id in this session, so that a frame for it may be a late one. Not
        while our OPEN is held: the peer cannot know of it."""
        if stream_id & 1 == self._parity:
            stream = self.streams.get(stream_id)
            return 0 < stream_id < self._next_id and (stream is None or not stream.is_held)
        return stream_id <= self.last_peer_id

    def swallow(self, stream_id: int, now: float) -> None:
        """Ignore late frames of a stream that we reset, for a while and for a bounded number of streams."""
        self._swallowed[stream_id] = None
        if self._expiry is None:
            self._expiry = collections.deque()
        self._expiry.append((now + self._limits.swallow_s, stream_id))
        if len(self._swallowed) > self._limits.swallow_ids:
            self._swallowed.pop(self._expiry.popleft()[1], None)

    def is_swallowed(self, stream_id: int) -> bool:
        return stream_id in self._swallowed

    def expire(self, now: float) -> None:
        """Forget the ids whose time is over."""
        while self._expiry and self._expiry[0][0] <= now:
            self._swallowed.pop(self._expiry.popleft()[1], None)
