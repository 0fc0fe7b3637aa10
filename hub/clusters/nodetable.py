"""The nodes of each cluster, as its agents tell them (`register-nodes`). For people: nothing that the hub decides looks
here, and who may serve follows from the tokens of node agents alone (design D5).

Each agent has a table of its own, named as its credential; the newest of an agent that is not revoked is shown. A table
is kept in parts. Its head says by which tags the parts are known, so what a crash or a lost session left half told is
seen when the agent says the tags again, and only what differs travels. Read from the store when somebody asks: the
tables of a fleet have no place in the memory of every worker.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from hub.clock import Clock
from hub.singleflight import SingleFlight
from hub.store.interface import Store
from hub.store.model import Document, Key, Resource, RevisionConflict
from proto.aio.tasks import TaskGroup
from proto.commands import NODES_MAX, NodesMissing, RegisterNodes, TellNodes
from proto.errors import Code, StreamReset
from proto.nodetable import NodeRow, from_args

logger = logging.getLogger(__name__)

KIND: Final = "node-table"
PART_KIND: Final = "node-table-part"
READS_MAX: Final = 4
"""Tables that are read at once, of different clusters: one has up to 5 MB."""


@dataclasses.dataclass(frozen=True, slots=True)
class NodeTable:
    """What one agent said of its cluster's nodes."""

    registered_by: str
    """Id of the agent's credential."""
    registered_at: float
    total: int
    """How many nodes the cluster has; the table may have less."""
    rows: dict[str, NodeRow]
    """By name, in order."""
    is_whole: bool
    """Every part is the one that was registered; otherwise some are older, or not there yet, or they have more rows
    than a table may have."""


class NodeTables:
    """Reads and writes the store. `is_live` (cluster uid, credential id): whether what this agent said still counts.
    `tasks`: of reading."""

    def __init__(self, store: Store, is_live: Callable[[str, str], bool], clock: Clock, tasks: TaskGroup) -> None:
        self._store = store
        self._is_live = is_live
        self._clock = clock
        self._reads = SingleFlight[NodeTable | None](tasks)
        self._room = asyncio.Semaphore(READS_MAX)

    async def register(self, cluster_uid: str, by: str, args: RegisterNodes) -> tuple[NodesMissing, int]:
        """The agent with credential `by` has this table from now on; what it has to tell, and how many parts were read
        to see that. Raises StoreError."""
        await self._put_head(cluster_uid, by, args)
        read = (await self._store.list(PART_KIND, cluster=cluster_uid)).items
        parts = _by_number(read, by)
        for number in [number for number in parts if number >= len(args.tags)]:
            await self._store.delete(parts[number].key)
        tags = {number: part.spec.get("tag") for number, part in parts.items()}
        missing = NodesMissing(parts=tuple(number for number, tag in enumerate(args.tags) if tags.get(number) != tag))
        return missing, len(read)

    async def _put_head(self, cluster_uid: str, by: str, args: RegisterNodes) -> None:
        """Write nothing where it is the newest already: sessions begin more often than nodes change."""
        wanted = {"tags": list(args.tags), "total": args.total}
        at = Key(KIND, cluster_uid, by)
        while True:
            heads = (await self._store.list(KIND, cluster=cluster_uid)).items
            newest = max(heads, key=_written, default=None)
            if newest is not None and newest.key == at and _is_kept(newest, wanted):
                return
            found = next((head for head in heads if head.key == at), None)
            if await self._put(found, at, {**wanted, "registeredAt": self._clock()}):
                return

    async def tell(self, cluster_uid: str, by: str, args: TellNodes) -> None:
        """Keep one part of it. Raises StreamReset, StoreError."""
        rows = from_args(args)
        head = await self._store.get(Key(KIND, cluster_uid, by))
        tags = [] if head is None else head.spec["tags"]
        if args.part >= len(tags) or tags[args.part] != args.tag:
            raise StreamReset("another table was registered meanwhile", Code.REFUSED)
        spec = {"tag": args.tag, "rows": msgspec.to_builtins(rows)}
        at = Key(PART_KIND, cluster_uid, f"{by}.{args.part}")
        while not await self._put(await self._store.get(at), at, spec):
            pass

    async def _put(self, found: Resource | None, at: Key, spec: Document) -> bool:
        """False: somebody else was faster. Raises StoreError."""
        try:
            await self._store.put(Resource(at, spec) if found is None else dataclasses.replace(found, spec=spec))
        except RevisionConflict:
            return False
        return True

    async def of_cluster(self, cluster_uid: str) -> NodeTable | None:
        """The one in force; None while no agent has told any. Who comes while it is read gets the same, which may be
        without what was told since that began: somebody may ask for it in a hundred requests at once. Raises
        StoreError."""
        return await self._reads.do(cluster_uid, lambda: self._read(cluster_uid))

    async def _read(self, cluster_uid: str) -> NodeTable | None:
        """Raises StoreError."""
        async with self._room:
            return await self._in_force(cluster_uid)

    async def _in_force(self, cluster_uid: str) -> NodeTable | None:
        """Raises StoreError."""
        heads = (await self._store.list(KIND, cluster=cluster_uid)).items
        live = [head for head in heads if self._is_live(cluster_uid, head.key.name)]
        if not live:
            return None
        head = max(live, key=_written)
        rows, told = await self._rows(head)
        return NodeTable(
            registered_by=head.key.name,
            registered_at=float(head.spec["registeredAt"]),
            total=head.spec["total"],
            rows=dict(sorted(rows.items())[:NODES_MAX]),
            is_whole=told == head.spec["tags"],
        )

    async def _rows(self, head: Resource) -> tuple[dict[str, NodeRow], list[str]]:
        """Of its parts, and their tags. One by one, which gives others the loop in between, and leaves out what other
        agents of the cluster told: all of it at once is more than a worker may be sent. No agent but one that lies has
        a table of more rows than NODES_MAX: reading ends there. Raises StoreError."""
        by, rows, told = head.key, dict[str, NodeRow](), list[str]()
        for number in range(len(head.spec["tags"])):
            part = await self._store.get(Key(PART_KIND, by.cluster, f"{by.name}.{number}"))
            if part is None:
                continue
            rows |= {row.name: row for row in msgspec.convert(part.spec["rows"], list[NodeRow])}
            if len(rows) > NODES_MAX:
                break
            told.append(part.spec["tag"])
        return rows, told


async def purge(store: Store, is_known: Callable[[str], bool]) -> int:
    """Remove the tables of agents (credential ids) that are revoked or gone; how many. Raises StoreError."""
    heads = [head for head in (await store.list(KIND)).items if not is_known(head.key.name)]
    for head in heads:
        for part in (await _parts(store, head.key.cluster, head.key.name)).values():
            await store.delete(part.key)
        await store.delete(head.key)
    return len(heads)


async def _parts(store: Store, cluster_uid: str, by: str) -> dict[int, Resource]:
    """Of one agent's table, by number."""
    return _by_number((await store.list(PART_KIND, cluster=cluster_uid)).items, by)


def _by_number(parts: Iterable[Resource], by: str) -> dict[int, Resource]:
    named = ((part.key.name.rpartition("."), part) for part in parts)
    return {int(number): part for (registrant, _, number), part in named if registrant == by}


def _written(head: Resource) -> int:
    """What orders them: a clock may have been set back."""
    return head.revision


def _is_kept(head: Resource, wanted: Document) -> bool:
    return {name: head.spec.get(name) for name in wanted} == wanted
