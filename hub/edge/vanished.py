"""Clients that went away while nothing was read from them.

Reading is paused as long as a cluster does not take a body; the loop then does not watch the socket, and neither FIN
nor RST is seen: the stream, the agent's connection and the program in the pod would outlive their client for ever.
"""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

_ENDED: Final = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0x2000)
"""Also the end of the client's sending half: whoever speaks TLS or ends an upload so has closed (see eof_received)."""


class Paused(Protocol):
    def fileno(self) -> int:
        """-1: nothing to look at."""


C = TypeVar("C", bound=Paused)


def gone(connections: Iterable[C]) -> list[C]:
    """Those whose client has closed or reset its connection. One system call for all, none for none."""
    by_descriptor = {descriptor: each for each in connections if (descriptor := each.fileno()) >= 0}
    if not by_descriptor:
        return []
    poll = select.poll()
    for descriptor in by_descriptor:
        poll.register(descriptor, _ENDED)
    return [by_descriptor[descriptor] for descriptor, events in poll.poll(0) if events & _ENDED]
