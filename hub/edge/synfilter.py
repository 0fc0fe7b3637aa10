"""A listening socket that takes no new connection, and finishes those that are being made.

What is in the middle of TCP's handshake when a listening socket is closed is reset, or believes itself connected and
is answered by nobody: its client cannot know whether that was us. Who is not answered at all knocks again after a
second (RFC 6298 §2.1), finds nobody, and reads "connection refused"; or finds whoever listens there by then.
"""

import ctypes
import socket
import struct
import sys
from collections.abc import Sequence
from typing import Final

LAST_ACK_S: Final = 0.25
"""How long the last segment of a handshake that was begun before may be on its way: a round trip."""

_SO_ATTACH_FILTER: Final = 26
"""asm-generic/socket.h; not in Python's `socket`."""
_FLAGS: Final = 13
"""Where TCP's header has them (RFC 9293 §3.1); a filter of a TCP socket sees the segment from its header on."""
_SYN, _ACK = 0x02, 0x10
_DROP_SYNS: Final = (
    (0x30, 0, 0, _FLAGS),  # ldb [13]
    (0x54, 0, 0, _SYN | _ACK),  # and
    (0x15, 0, 1, _SYN),  # jeq: the first segment of a client?
    (0x06, 0, 0, 0),  # ret: drop it
    (0x06, 0, 0, 0xFFFF_FFFF),  # ret: all of it
)
"""linux/filter.h: `struct sock_filter` each. Needs no right."""


def ignore_syns(sock: socket.socket) -> bool:
    """Let the kernel drop the first segment of whoever knocks from now on. False where it cannot: the accepting goes on
    as before."""
    if sys.platform != "linux":
        return False
    try:
        attach(sock, _DROP_SYNS)
    except OSError:  # a sandbox's kernel
        return False
    return True


def attach(sock: socket.socket, instructions: Sequence[tuple[int, int, int, int]]) -> None:
    """Give a socket a filter: code, two jumps and an operand each. Raises OSError."""
    code = b"".join(struct.pack("@HBBI", *instruction) for instruction in instructions)
    program = ctypes.create_string_buffer(code, len(code))  # copied by the kernel before the call returns
    filter_ = struct.pack("@HP", len(instructions), ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
