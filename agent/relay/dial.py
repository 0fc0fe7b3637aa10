"""Dialling several addresses of one server: the first gets a head start, the one that answers first is taken."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from proto.aio.tasks import TaskGroup

HEAD_START_S: Final = 0.5
"""Seconds until the next address is tried beside those that have not answered; an API server takes some 10 ms."""


class ClosedAtOnceError(OSError):
    """The server took the connection and closed it before anybody had used it."""


class Abortable(Protocol):
    @property
    def is_open(self) -> bool: ...

    def abort(self) -> None: ...


_Connection = TypeVar("_Connection", bound=Abortable)
_Address = TypeVar("_Address")


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
                running[owner.spawn(attempt(address), name="kube address")] = address
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
