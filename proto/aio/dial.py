"""Dialling several addresses of one server: the first gets a head start, the one that answers first is taken."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from proto.aio.tasks import TaskGroup

HEAD_START_S: Final = 0.5
"""Seconds until the next address is tried beside those that have not answered; an API server takes some 10 ms, another
continent 300."""


class ClosedAtOnceError(OSError):
    """The server took the connection and closed it before anybody had used it."""


class Abortable(Protocol):
    @property
    def is_open(self) -> bool: ...

    def abort(self) -> None: ...


_Connection = TypeVar("_Connection", bound=Abortable)
_Address = TypeVar("_Address")
_Resolved = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""As getaddrinfo gives them."""


async def first(
    addresses: Sequence[_Address],
    connect: Callable[[_Address], Awaitable[_Connection]],
    owner: TaskGroup,
    *,
    head_start_s: float = HEAD_START_S,
) -> tuple[_Address, _Connection]:
    """The address that answered, and the connection to it; the others are dropped, also when this is cancelled.

    A failure starts the next one at once, and a connection that is closed again when it is looked at is one. Raises the
    first address's error when all have failed.
    """

    async def attempt(address: _Address) -> _Connection | OSError | UnicodeError:
        try:
            return await connect(address)
        except (OSError, UnicodeError) as exc:  # of one address of several: no failed task
            return exc

    left = list(addresses)
    running: dict[asyncio.Task[_Connection | OSError | UnicodeError], _Address] = {}
    failures: dict[_Address, OSError | UnicodeError] = {}
    try:
        while left or running:
            if left:
                address = left.pop(0)
                running[owner.spawn(attempt(address), name="address")] = address
            await asyncio.wait(running, timeout=head_start_s if left else None, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task.done()]:
                address, outcome = running.pop(task), task.result()
                if isinstance(outcome, OSError | UnicodeError):
                    failures[address] = outcome
                elif outcome.is_open:
                    return address, outcome
                else:
                    failures[address] = ClosedAtOnceError()
        raise failures[addresses[0]]
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_drop)


def _drop(task: asyncio.Task[Abortable | OSError | UnicodeError]) -> None:
    """One that was connected all the same."""
    if not task.cancelled() and not isinstance(outcome := task.result(), OSError | UnicodeError):
        outcome.abort()


async def connected(host: str, port: int) -> socket.socket:
    """A TCP connection, for `sock=`: by itself uvloop tries a name's addresses one after another and gives each all the
    time there is, so that a first one that drops packets is the only one tried. Raises OSError, UnicodeError. Safe to
    cancel."""
    return (await _race(await _resolved(host, port)))[1]


async def answering(host: str, port: int) -> str:
    """Which of several addresses takes a connection, for libraries that make their own; `host` itself if it has but
    one, which is not tried. Raises as `connected`."""
    found = await _resolved(host, port)
    if len(found) == 1:
        return host
    resolved, sock = await _race(found)
    sock.close()
    return str(resolved[4][0])


async def _resolved(host: str, port: int) -> Sequence[_Resolved]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _race(found: Sequence[_Resolved]) -> tuple[_Resolved, socket.socket]:
    if len(found) == 1:
        return found[0], (await _Wire.to(found[0])).sock
    made: _Wire | None = None
    try:
        async with TaskGroup("dial") as group:
            resolved, made = await first(found, _Wire.to, group)
    except BaseException:  # cancelled while the losers end
        if made is not None:
            made.abort()
        raise
    return resolved, made.sock


class _Wire:
    """A connected socket, as `first` takes it."""

    __slots__ = ("sock",)

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @property
    def is_open(self) -> bool:
        return True

    def abort(self) -> None:
        self.sock.close()

    @classmethod
    async def to(cls, resolved: _Resolved) -> "_Wire":
        family, kind, protocol, _, address = resolved
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)
