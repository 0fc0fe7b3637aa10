"""Where a watch may be cut without cutting an event (P11)."""

from __future__ import annotations

import struct
from typing import Final, Protocol

from proto.messages import HttpHead

_FRAME_HEADER: Final = struct.Struct("!I")


class Boundary(Protocol):
    """Follows a stream of events."""

    def feed(self, chunk: bytes | memoryview) -> None: ...

    @property
    def is_between_events(self) -> bool: ...


class JsonBoundary:
    """One JSON document a line (apimachinery serializer/json framer): between events behind a line feed."""

    __slots__ = ("is_between_events",)

    def __init__(self) -> None:
        self.is_between_events = True

    def feed(self, chunk: bytes | memoryview) -> None:
        if chunk:
            self.is_between_events = chunk[-1] == 10


class ProtobufBoundary:
    """Length-prefixed frames: four bytes big-endian, then that many (apimachinery util/framer)."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    @property
    def is_between_events(self) -> bool:
        return not self._header and not self._left

    def feed(self, chunk: bytes | memoryview) -> None:
        position, end = 0, len(chunk)
        while position < end:
            if self._left:
                step = min(self._left, end - position)
                self._left -= step
                position += step
                continue
            step = min(4 - len(self._header), end - position)
            self._header += chunk[position : position + step]
            position += step
            if len(self._header) == 4:
                (self._left,) = _FRAME_HEADER.unpack(self._header)
                self._header = b""


def boundary_of(message: HttpHead) -> Boundary | None:
    """The follower for a watch response; None where events cannot be told apart (compressed, CBOR, unknown)."""
    content_type = b""
    for name, value in message.headers:
        if name == b"content-encoding" and value.lower() != b"identity":
            return None
        if name == b"content-type":
            content_type = value.partition(b";")[0].strip().lower()
    if message.status != 200:
        return None
    if content_type == b"application/json":
        return JsonBoundary()
    if content_type == b"application/vnd.kubernetes.protobuf":
        return ProtobufBoundary()
    return None
