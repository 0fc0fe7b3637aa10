"""Response heads and refusals as bytes."""

from __future__ import annotations

from typing import Final

from hub import errors, status

CHUNKED_END: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES: Final = {
    code: b"HTTP/1.1 %d %s\r\n" % (code, phrase.encode()) for code, phrase in status.REASON_PHRASES.items()
}
_CHUNK_HEADS: Final = [b"%x\r\n" % size for size in range(2048)]
"""Of the chunks that events of a watch make."""


def chunk_head(size: int) -> bytes:
    """What stands before a chunk of so many bytes."""
    return _CHUNK_HEADS[size] if size < 2048 else b"%x\r\n" % size


def status_line(code: int) -> bytes:
    """The status line with the registered reason phrase, or an empty one."""
    return _STATUS_LINES.get(code) or b"HTTP/1.1 %d \r\n" % code


def error_response(error: errors.HubError, *, request_id: str, is_head: bool, close: bool, more: bytes = b"") -> bytes:
    """A whole response with a Status body; a HEAD gets only the head. `more`: further field lines."""
    code, body, headers = status.answer(error, request_id=request_id)
    lines = [status_line(code), b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)]
    lines += [f"{name}: {value}\r\n".encode("ascii") for name, value in headers]
    lines.append(b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n")
    if request_id:
        lines.append(b"riata-request-id: %s\r\n" % request_id.encode("ascii"))
    if more:
        lines.append(more)
    if close:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n" if is_head else b"\r\n" + body)
    return b"".join(lines)
