"""WebSocket framing of the tunnel (RFC 6455 §5): bytes in, whole binary messages and control frames out. No I/O.

Only what the tunnel needs: binary messages without extensions. Whatever a peer must not send ends the connection with
the close code that §7.4.1 has for it.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

try:
    from websockets.speedups import apply_mask  # in C: 160 us less for 64 KiB
except ImportError:  # a platform without the library's wheel
    from websockets.utils import apply_mask

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011

CONTROL_MAX_BYTES: Final = 125
PARTS_MAX: Final = 64
"""Of one message. Nobody sends more than one, a box on the way some; each costs more than a byte that it may carry."""
MASK_BYTES: Final = 4

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_MEDIUM: Final = struct.Struct("!BBH")
_LARGE: Final = struct.Struct("!BBQ")
_KNOWN: Final = 1 << CONTINUATION | 1 << TEXT | 1 << BINARY | 1 << CLOSE | 1 << PING | 1 << PONG
_UNMASKED: Final = bytes(MASK_BYTES)


class WebSocketError(Exception):
    """The peer broke the framing. `code` is the close code to end with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Control(NamedTuple):
    """A CLOSE, PING or PONG frame."""

    opcode: int
    payload: bytes


def frame(opcode: int, payload: bytes, mask: bytes | None = None) -> bytes:
    """One whole final frame; a client masks it (§5.3) with four unpredictable bytes."""
    size = len(payload)
    bit = 0 if mask is None else _MASKED
    if size < 126:
        head = bytes((_FIN | opcode, bit | size))
    elif size < 65_536:
        head = _MEDIUM.pack(_FIN | opcode, bit | 126, size)
    else:
        head = _LARGE.pack(_FIN | opcode, bit | 127, size)
    return head + payload if mask is None else b"".join((head, mask, apply_mask(payload, mask)))


OnMessage = Callable[[bytes], None]
OnControl = Callable[[Control], None]


class FrameReader:
    """Takes the bytes of one connection. `is_server`: the peer masks its frames, otherwise it must not.

    `message_max`: bytes of a message, its parts together; a longer one is refused by its header alone. May be raised.
    """

    __slots__ = ("_is_server", "_need", "_parts", "_parts_size", "_rest", "message_max")

    def __init__(self, *, is_server: bool, message_max: int) -> None:
        self.message_max = message_max
        self._is_server = is_server
        self._rest = bytearray()
        self._need = 0
        self._parts: list[bytes] | None = None
        self._parts_size = 0

    @property
    def under_way(self) -> int:
        """Bytes of the frame of which a part has come, as far as they are known; 0 between two frames."""
        return self._need if self._rest else 0

    def feed(self, data: memoryview, on_message: OnMessage, on_control: OnControl) -> None:
        """Call back for what is complete, in order. `data` is not kept. Raises WebSocketError; feed no more then."""
        at, end = 0, len(data)
        if self._rest:
            at = self._fill(data)
            if at < 0:
                return
            rest, self._rest = self._rest, bytearray()
            self._take(memoryview(rest), 0, len(rest), on_message, on_control)
        while at < end:
            size = self._size(data, at, end)
            if size > end - at:
                self._rest += data[at:]
                self._need = size
                return
            self._take(data, at, size, on_message, on_control)
            at += size

    def _fill(self, data: memoryview) -> int:
        """Complete the frame that is under way; how many bytes of `data` it took, -1 when it needs more."""
        rest, at = self._rest, 0
        while True:
            piece = data[at : at + self._need - len(rest)]
            rest += piece
            at += len(piece)
            if len(rest) < self._need:
                return -1
            need = self._size(memoryview(rest), 0, len(rest))
            if need <= len(rest):
                return at
            self._need = need

    def _size(self, data: memoryview, at: int, end: int) -> int:
        """Bytes of the frame that begins at `at`, or of as much of its header as is needed to tell."""
        there = end - at
        if there < 2:
            return 2
        first, second = data[at], data[at + 1]
        opcode = first & 0x0F
        if first & _RESERVED or not _KNOWN >> opcode & 1:
            raise WebSocketError(PROTOCOL_ERROR, "reserved bits or opcode in a WebSocket frame")
        if bool(second & _MASKED) is not self._is_server:
            raise WebSocketError(PROTOCOL_ERROR, "a WebSocket frame is masked the wrong way")
        size = second & 0x7F
        head = 2 + MASK_BYTES if self._is_server else 2
        if opcode >= CLOSE:
            if size > CONTROL_MAX_BYTES or not first & _FIN:
                raise WebSocketError(PROTOCOL_ERROR, "a control frame that is long or in parts")
            return head + size
        if size >= 126:
            wide = 2 if size == 126 else 8
            if there < 2 + wide:
                return 2 + wide
            size = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
            if size < (126 if wide == 2 else 65_536):
                raise WebSocketError(PROTOCOL_ERROR, "a frame length that is not in its shortest form")
            head += wide
        if size + self._parts_size > self.message_max:
            raise WebSocketError(TOO_BIG, f"a message of more than {self.message_max} bytes")
        return head + size

    def _take(
        self,
        data: memoryview,
        at: int,
        size: int,
        on_message: OnMessage,
        on_control: OnControl,
    ) -> None:
        """The whole frame at `at`."""
        first = data[at]
        length = data[at + 1] & 0x7F
        head = 2 if length < 126 else 4 if length == 126 else 10
        if self._is_server:
            mask = bytes(data[at + head : at + head + MASK_BYTES])
            body = data[at + head + MASK_BYTES : at + size]
            payload = bytes(body) if mask == _UNMASKED else apply_mask(body, mask)
        else:
            payload = bytes(data[at + head : at + size])
        opcode = first & 0x0F
        if opcode == BINARY and first & _FIN and self._parts is None:
            on_message(payload)
        elif opcode >= CLOSE:
            on_control(Control(opcode, payload))
        else:
            self._take_part(opcode, bool(first & _FIN), payload, on_message)

    def _take_part(self, opcode: int, is_final: bool, payload: bytes, on_message: OnMessage) -> None:
        if opcode == TEXT:
            raise WebSocketError(UNSUPPORTED, "binary messages only")
        if (opcode == CONTINUATION) is (self._parts is None):
            raise WebSocketError(PROTOCOL_ERROR, "the parts of a message are out of order")
        if self._parts is None:
            self._parts = []
        if len(self._parts) >= PARTS_MAX:
            raise WebSocketError(PROTOCOL_ERROR, f"a message of more than {PARTS_MAX} parts")
        self._parts.append(payload)
        self._parts_size += len(payload)
        if is_final:
            message, self._parts, self._parts_size = b"".join(self._parts), None, 0
            on_message(message)


def close_payload(code: int, reason: str) -> bytes:
    """Payload of a CLOSE frame (§5.5.1); the reason is cut to what fits."""
    return code.to_bytes(2, "big") + reason.encode()[: CONTROL_MAX_BYTES - 2]


def read_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a CLOSE frame; 1005 when it has none. Raises WebSocketError for a malformed one."""
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise WebSocketError(PROTOCOL_ERROR, "a CLOSE frame with a code that nobody may send")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise WebSocketError(PROTOCOL_ERROR, "a CLOSE frame whose reason is not text") from None
