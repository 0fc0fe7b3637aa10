"""The store of the main process, as a worker uses it; and the other end of it.

A worker is to the store what another replica is to etcd: it follows from a revision, and its own writes come back to
it by the watch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from hub.store.interface import Store
from hub.store.model import Event, Key, Listing, Resource, StoreUnavailable
from hub.store.statements import encode
from hub.workers import messages
from hub.workers.channel import Channel
from hub.workers.messages import Done, Number, Place, Question, Record, Records, Reply


class StoreView:
    """Implements hub.store.interface.Store over a channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get(self, key: Key) -> Resource | None:
        found = _records(await self._channel.ask(messages.Get(Place.of(key)))).records
        return found[0].resource() if found else None

    async def list(self, kind: str, *, cluster: str | None = None) -> Listing:
        return messages.listing_of(_records(await self._channel.ask(messages.List(kind, cluster))))

    async def clusters_of(self, kind: str) -> frozenset[str]:
        reply = await self._channel.ask(messages.ClustersOf(kind))
        assert isinstance(reply, messages.ClusterUids)
        return frozenset(reply.uids)

    async def put(self, resource: Resource, *, lease: int = 0) -> Resource:
        record = Record(
            Place.of(resource.key), encode(resource.spec), encode(resource.status), resource.uid, resource.revision
        )
        return _records(await self._channel.ask(messages.Put(record, lease))).records[0].resource()

    async def delete(self, key: Key, *, revision: int | None = None) -> int | None:
        return _number(await self._channel.ask(messages.Delete(Place.of(key), revision)))

    async def watch(self, since: int, *, kinds: frozenset[str] | None = None) -> AsyncIterator[tuple[Event, ...]]:
        position = since
        while True:
            batch = messages.events_of(_records(await self._channel.ask(messages.Changes(position))))
            position = batch[-1].revision
            wanted = batch if kinds is None else tuple(event for event in batch if event.resource.key.kind in kinds)
            if wanted:
                yield wanted

    async def grant_lease(self, ttl_s: float) -> int:
        if ttl_s <= 0:
            raise ValueError("a lease lasts longer than 0 seconds")
        return _number(await self._channel.ask(messages.GrantLease(ttl_s))) or 0

    async def keep_lease(self, lease: int) -> None:
        await self._channel.ask(messages.KeepLease(lease))

    async def revoke_lease(self, lease: int) -> None:
        await self._channel.ask(messages.RevokeLease(lease))

    async def close(self) -> None:
        """Nothing: the store is the main process's."""


async def answer(store: Store, question: Question) -> Reply | None:
    """The main process's answer to a question about the store; None for any other. Raises what the store raises."""
    if isinstance(question, messages.Get):
        found = await store.get(question.place.key())
        return Records(() if found is None else (Record.of(found),))
    if isinstance(question, messages.List):
        listing = await store.list(question.kind, cluster=question.cluster)
        return Records(tuple(Record.of(item) for item in listing.items), listing.revision)
    if isinstance(question, messages.ClustersOf):
        return messages.ClusterUids(tuple(await store.clusters_of(question.kind)))
    if isinstance(question, messages.Put):
        return Records((Record.of(await store.put(question.record.resource(), lease=question.lease)),))
    if isinstance(question, messages.Delete):
        return Number(await store.delete(question.place.key(), revision=question.revision))
    if isinstance(question, messages.Changes):
        return await _changes(store, question.since)
    return await _lease(store, question)


async def _changes(store: Store, since: int) -> Records:
    async for batch in store.watch(since):
        return Records(tuple(Record.of(event.resource, is_deleted=event.is_deleted) for event in batch))
    raise StoreUnavailable("the store is closed")


async def _lease(store: Store, question: Question) -> Reply | None:
    if isinstance(question, messages.GrantLease):
        return Number(await store.grant_lease(question.ttl_s))
    if isinstance(question, messages.KeepLease):
        await store.keep_lease(question.lease)
    elif isinstance(question, messages.RevokeLease):
        await store.revoke_lease(question.lease)
    else:
        return None
    return Done()


def _records(reply: Reply) -> Records:
    assert isinstance(reply, Records)
    return reply


def _number(reply: Reply) -> int | None:
    assert isinstance(reply, Number)
    return reply.number
