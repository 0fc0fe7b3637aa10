"""What the kernel says of bytes on their way to an API server."""

import socket
import struct
from typing import Any, Final, NamedTuple

_INFO: Final = struct.Struct("=3xB20xI28xI60xQ16xI")
"""linux/tcp.h: `struct tcp_info`, as far as tcpi_notsent_bytes; it only grows at its end."""
_LOST_PROBES: Final = 3
"""Without an answer one after the other: nobody is there."""


class OnTheWay(NamedTuple):
    """Of one connection."""

    probes: int
    """How often in a row the other end was asked, in vain, whether it has room again (or is there)."""
    segments: int
    """Sent and not acknowledged."""
    silent_ms: int
    """Since the last segment that acknowledged anything, also anew."""
    acknowledged: int
    """Bytes since it began, modulo 2**64."""
    unsent: int
    """Bytes that the kernel has and the other end has no room for."""

    @property
    def is_nothing(self) -> bool:
        return not self.segments and not self.unsent

    @property
    def waits_for_room(self) -> bool:
        """The other end has closed its window, and says so when it is asked: that may take its time."""
        return not self.segments and self.probes < _LOST_PROBES


def on_the_way(sock: Any) -> OnTheWay | None:
    """None where nobody can tell: another system, a kernel before 4.6, a socket that is closed or none of TCP's."""
    option = getattr(socket, "TCP_INFO", None)
    if sock is None or option is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, option, _INFO.size)
    except (OSError, ValueError):  # uvloop raises the second for one that is closed
        return None
    return OnTheWay(*_INFO.unpack(info)) if len(info) == _INFO.size else None
