"""In-memory indexes fed by the store's watch: the hot path never waits for the store.

The follower lists once, then applies every change in order. A writer that needs its own write to be visible waits with
`reached(revision)`; this works alike for a local file and for a store that other hubs write to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from hub.store.interface import Store
from hub.store.model import Compacted, Event, Resource, StoreUnavailable

logger = logging.getLogger(__name__)


class Index(Protocol):
    """A view of one kind. Both methods are synchronous and must not raise: a record that cannot be read is logged and
    left out, so that one bad record never blinds the hub to the others."""

    kind: str

    def reset(self, resources: Iterable[Resource]) -> None:
        """Forget everything, hold exactly these."""
        ...

    def apply(self, event: Event) -> None:
        """One change, after all earlier ones."""
        ...


class Follower:
    """Keeps indexes equal to the store. Start with `load()`, then keep `run()` going as a task."""

    def __init__(self, store: Store, indexes: Sequence[Index]) -> None:
        self._store = store
        self._indexes = {index.kind: index for index in indexes}
        self._floors = dict.fromkeys(self._indexes, 0)
        self._applied = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._failure: BaseException | None = None

    @property
    def applied(self) -> int:
        """The store revision that every index reflects."""
        return self._applied

    @property
    def is_running(self) -> bool:
        """False once the watch failed: the hub is then no longer ready, its view ages."""
        return self._failure is None

    async def load(self) -> None:
        """Fill every index from the store.

        Each kind remembers the revision of its own listing: an older change that the watch repeats must not bring back
        what the listing already knew to be gone.
        """
        for kind, index in self._indexes.items():
            listing = await self._store.list(kind)
            index.reset(listing.items)
            self._floors[kind] = listing.revision
        self._advance(min(self._floors.values(), default=0))

    async def run(self) -> None:
        """Apply changes until cancelled. Raises StoreUnavailable when the store goes away."""
        try:
            while True:
                try:
                    await self._follow()
                except Compacted:
                    logger.warning("change log compacted, listing anew", extra={"revision": self._applied})
                    await self.load()
        except BaseException as exc:
            self._failure = exc
            self._fail_waiters()
            raise

    async def reached(self, revision: int) -> None:
        """Return when every index reflects `revision`. Cancellation-safe. StoreUnavailable: it never will."""
        if self._applied >= revision:
            return
        if self._failure is not None:
            raise StoreUnavailable("the indexes no longer follow the store")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, waiter))
        await waiter

    async def _follow(self) -> None:
        async for batch in self._store.watch(self._applied):
            for event in batch:
                kind = event.resource.key.kind
                if event.revision > self._floors.get(kind, event.revision):
                    self._indexes[kind].apply(event)
            self._advance(batch[-1].revision)

    def _fail_waiters(self) -> None:
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(StoreUnavailable("the indexes no longer follow the store"))
        self._waiters.clear()

    def _advance(self, revision: int) -> None:
        self._applied = max(self._applied, revision)
        waiting = []
        for wanted, waiter in self._waiters:
            if wanted > self._applied:
                waiting.append((wanted, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiters = waiting
