"""Where the frames of an upgraded connection end, so that its last word can be one of ours.

Of what the cluster sends to the client only the heads of frames are read, for their lengths; payloads stay unread. A
connection whose frames make no sense, or are too many, is followed no further: it breaks off without a word.
"""

from __future__ import annotations

import abc
import json
from typing import Final

from hub.edge.framing import Request
from proto import websocket
from proto.messages import HttpHead

FRAMES_MAX: Final = 512
"""In one piece of DATA: a hostile cluster may send frames of two bytes, and each costs as much as a large one."""

_LOST: Final = 1 << 80
"""Bytes left where nobody knows how many: more than any frame has."""
_PARTIAL: Final = -1
_ERROR_STREAM: Final = b"\x00\x00\x00\x01"
"""The client's first stream; client-go opens the error stream first (tools/remotecommand/v2.go, createStreams)."""


class Frames(abc.ABC):
    """Follows what goes to the client. Bytes in; no I/O. `unfinished`: what has come of a frame whose rest has not, in
    bytes; 0 between two frames. `left`: how many its rest has, as far as is known."""

    __slots__ = ("_head", "left", "unfinished")

    def __init__(self) -> None:
        self._head = b""
        self.left = self.unfinished = 0

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take what was sent, in pieces of any size."""
        size = len(chunk)
        if size <= self.left:
            self.left -= size
            if self.left:
                self.unfinished += size
            elif size:
                self.unfinished = 0
            return
        if self._head:
            chunk = self._head + bytes(chunk)
            size = len(chunk)
        start = at = self.left
        for _ in range(FRAMES_MAX):
            behind = self._behind(chunk, at, size)
            if behind == _PARTIAL:
                start = at
                break
            start, at = at, behind
            if at >= size:
                break
        else:
            at = _LOST
        self.left, self._head = max(at - size, 0), bytes(chunk[at:])
        self.unfinished = 0 if at == size else size - start

    @abc.abstractmethod
    def last_words(self, code: int, text: str) -> bytes:
        """What tells a client that has whole frames why it ends here; empty when the cluster has told it already.

        `code`: a close code of RFC 6455 §7.4.1; clients take 1001 and 1011 for failures."""

    @abc.abstractmethod
    def _behind(self, chunk: bytes | memoryview, at: int, end: int) -> int:
        """Where the frame at `at` ends; `_PARTIAL` when its head is not whole."""


class WebSocketFrames(Frames):
    """RFC 6455 §5.2, of a server and without extensions, which no 101 of ours agrees to. Also the Boundary of a watch:
    each of its events is a message."""

    __slots__ = ("_is_closed", "_is_in_message")

    def __init__(self) -> None:
        super().__init__()
        self._is_closed = self._is_in_message = False

    @property
    def is_between_events(self) -> bool:
        return not self.unfinished and not self._is_in_message

    def last_words(self, code: int, text: str) -> bytes:
        if self._is_closed:
            return b""
        return websocket.frame(websocket.CLOSE, websocket.close_payload(code, text))

    def _behind(self, chunk: bytes | memoryview, at: int, end: int) -> int:
        if at + 2 > end:
            return _PARTIAL
        first, size = chunk[at], chunk[at + 1]
        if first & 0x70 or size > 127:  # an extension's bits; a mask, which no server's frame has
            return _LOST
        body = at + 2
        if size > 125:
            body = at + (4 if size == 126 else 10)
            if body > end:
                return _PARTIAL
            size = int.from_bytes(chunk[at + 2 : body], "big")
        opcode = first & 0x0F
        if opcode < websocket.CLOSE:  # control frames may come between the parts of a message
            self._is_in_message = first < 0x80
        elif opcode == websocket.CLOSE:
            self._is_closed = True
        return body + size


class SpdyFrames(Frames):
    """SPDY/3.1 §2.2 under an exec or attach of remotecommand version 4, where a Status on the error stream tells how it
    ended: without one client-go takes any end for the program's own, with exit code 0."""

    __slots__ = ("_is_told",)

    def __init__(self) -> None:
        super().__init__()
        self._is_told = False

    def last_words(self, code: int, text: str) -> bytes:
        if self._is_told:
            return b""
        status = {"metadata": {}, "status": "Failure", "message": text, "reason": "InternalError", "code": 500}
        data = json.dumps({"kind": "Status", "apiVersion": "v1", **status}).encode()
        return b"".join((_ERROR_STREAM, b"\x01", len(data).to_bytes(3, "big"), data))

    def _behind(self, chunk: bytes | memoryview, at: int, end: int) -> int:
        if at + 8 > end:
            return _PARTIAL
        if chunk[at] & 0x80:
            if bytes(chunk[at : at + 2]) != b"\x80\x03":
                return _LOST
        elif chunk[at : at + 4] == _ERROR_STREAM:
            self._is_told = True
        return at + 8 + int.from_bytes(chunk[at + 5 : at + 8], "big")


def frames_of(request: Request, message: HttpHead) -> Frames | None:
    """The follower for an upgraded connection; None for a protocol in which we have nothing to say."""
    if request.upgrade == "websocket":
        return WebSocketFrames()
    if request.upgrade == "SPDY/3.1" and (b"x-stream-protocol-version", b"v4.channel.k8s.io") in message.headers:
        return SpdyFrames()
    return None
