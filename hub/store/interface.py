"""What every backend offers, and nothing more (design D7). `tests/hub/store/conformance.py` holds them to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from hub.store.model import Event, Key, Listing, Resource


class Store(Protocol):
    """Durable, ordered, compare-and-swap.

    An acknowledged write survives power loss. Revisions grow by at least one with every change of anything. Every
    method raises StoreUnavailable when the backend fails. Cancelling a write leaves open whether it happened.
    """

    async def get(self, key: Key) -> Resource | None:
        """The current record. Sees every write acknowledged before the call."""
        ...

    async def list(self, kind: str, *, cluster: str | None = None) -> Listing:
        """Every record of a kind (of one cluster when given), ordered by key, with the revision of the snapshot."""
        ...

    async def clusters_of(self, kind: str) -> frozenset[str]:
        """The clusters that have a record of a kind. No record is read for it."""
        ...

    async def put(self, resource: Resource, *, lease: int = 0) -> Resource:
        """Write spec and status if the stored revision is still `resource.revision` (0: only if there is none).

        Returns the record with its new revision and its uid. A lease (0: none) removes the record when it expires.
        Raises RevisionConflict, UnknownLease, ValueError for a document that is no JSON object or too big.
        """
        ...

    async def delete(self, key: Key, *, revision: int | None = None) -> int | None:
        """Remove the record, if it is still at `revision` when that is given. Returns the revision of the deletion,
        None if there was no such record. Raises RevisionConflict."""
        ...

    def watch(self, since: int, *, kinds: frozenset[str] | None = None) -> AsyncIterator[tuple[Event, ...]]:
        """Batches of changes after revision `since`, in order, without gaps or repeats, for ever.

        Raises Compacted when `since` is older than the change log. Ends with StoreUnavailable when the store closes.
        A slow watcher holds no memory: it reads the log at its own pace.
        """
        ...

    async def grant_lease(self, ttl_s: float) -> int:
        """A lease id. Records bound to it are deleted, with events, when it was not kept alive for `ttl_s` seconds."""
        ...

    async def keep_lease(self, lease: int) -> None:
        """Start the lease's time anew. Raises UnknownLease."""
        ...

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now, with its records. Unknown ones are fine."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then release everything. Idempotent."""
        ...
