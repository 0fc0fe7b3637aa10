"""Tables of nodes: one for each agent, the newest of a live one counts, only what differs is asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.clusters import nodetable
from hub.clusters.nodetable import KIND, PART_KIND, READS_MAX, NodeTable, NodeTables
from hub.clusters.records import Clusters
from hub.store.model import Key, Listing, Resource, StoreUnavailable
from hub.store.sqlite import SqliteStore
from proto.aio.tasks import TaskGroup
from proto.commands import ROWS_MAX, RegisterNodes
from proto.errors import Code, StreamReset
from proto.nodetable import NodeRow, Part, divide, to_args
from tests.hub.store.conformance import SettableClock


class Gated(SqliteStore):
    """Answers who lists heads once `is_open`, and says of which clusters they were, and which parts were read."""

    async def list(self, kind: str, *, cluster: str | None = None) -> Listing:
        if kind == KIND and cluster is not None:
            self.listed.append(cluster)
            await self.is_open.wait()
            if self.is_broken:
                raise StoreUnavailable("no disk")
        return await super().list(kind, cluster=cluster)

    async def get(self, key: Key) -> Resource | None:
        self.got.append(key.name)
        return await super().get(key)

    def watched(self) -> None:
        """Forget what was asked so far, and answer at once."""
        self.listed: list[str] = []
        self.got: list[str] = []
        self.is_open, self.is_broken = asyncio.Event(), False
        self.is_open.set()


class World:
    """A hub's tables; agents whose credentials are in `revoked` do not count."""

    def __init__(self, store: Gated, tasks: TaskGroup) -> None:
        self.store, self.tasks, self.clock = store, tasks, SettableClock()
        self.revoked: set[str] = set()
        self.read = 0
        """Parts that the last registration made the hub read."""
        self.tables = NodeTables(store, lambda uid, who: who not in self.revoked, self.clock, tasks)

    async def tell(self, by: str, *rows: NodeRow, uid: str = "u", only: int | None = None) -> list[int]:
        """As an agent does, `only` the first parts of what is missing; which parts the hub asked for."""
        self.clock.now += 1
        parts = divide(rows)
        args = RegisterNodes(total=len(rows), tags=tuple(part.tag for part in parts))
        answer, self.read = await self.tables.register(uid, by, args)
        missing = answer.parts
        for number in missing[:only]:
            await self.tables.tell(uid, by, to_args(number, parts[number]))
        return list(missing)

    async def lie(self, by: str, count: int) -> None:
        """As no agent does: parts that are as full as they may be."""
        parts = [Part(f"{number:016x}", tuple(many(ROWS_MAX, number * ROWS_MAX))) for number in range(count)]
        await self.tables.register("u", by, RegisterNodes(total=5, tags=tuple(part.tag for part in parts)))
        for number, part in enumerate(parts):
            await self.tables.tell("u", by, to_args(number, part))

    async def shown(self, uid: str = "u") -> NodeTable:
        table = await self.tables.of_cluster(uid)
        assert table is not None
        return table


@pytest.fixture
async def world(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = await Gated.open(tmp_path / "hub.db")
    assert isinstance(store, Gated)
    store.watched()
    async with TaskGroup("world") as tasks:
        yield World(store, tasks)
    await store.close()


def many(count: int, first: int = 0) -> list[NodeRow]:
    return [NodeRow(f"n{number:03}", kubelet="v1") for number in range(first, first + count)]


async def turns(count: int = 20) -> None:
    """Let whoever can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_only_what_differs_is_asked_for(world: World) -> None:
    rows = many(30)
    assert await world.tell("one", *rows) == [0, 1]
    revision = (await world.store.list(KIND)).revision
    assert await world.tell("one", *rows) == []  # another session, or the other replica
    assert (await world.store.list(KIND)).revision == revision
    assert world.read == 2  # which is charged: it was read for nothing
    assert len(await world.tell("one", *rows[:-1], NodeRow("n029", kubelet="v2"))) == 1
    table = await world.shown()
    assert (table.total, table.is_whole, list(table.rows)) == (30, True, [row.name for row in rows])
    assert (table.rows["n029"].kubelet, table.rows["n028"].kubelet) == ("v2", "v1")


async def test_a_table_that_shrinks_leaves_nothing(world: World) -> None:
    await world.tell("one", *many(100))
    await world.tell("one", *many(3))
    assert list((await world.shown()).rows) == ["n000", "n001", "n002"]
    assert len((await world.store.list(PART_KIND)).items) == 1


async def test_what_was_left_half_told_is_seen_and_told(world: World) -> None:
    rows = many(60)
    missing = await world.tell("one", *rows, only=2)
    table = await world.shown()
    assert (table.is_whole, table.total, len(table.rows) < 60) == (False, 60, True)
    assert await world.tell("one", *rows) == missing[2:]
    assert (await world.shown()).is_whole


async def test_a_part_of_another_table_is_refused(world: World) -> None:
    await world.tell("one", *many(3))
    (stale,) = divide(many(4))
    for number, part in ((0, stale), (9, stale)):
        with pytest.raises(StreamReset) as caught:
            await world.tables.tell("u", "one", to_args(number, part))
        assert caught.value.code is Code.REFUSED
    with pytest.raises(StreamReset):
        await world.tables.tell("u", "stranger", to_args(0, Part("0" * 16, ())))
    assert len((await world.shown()).rows) == 3


async def test_the_newest_table_of_a_live_agent_counts(world: World) -> None:
    await world.tell("one", NodeRow("a"))
    await world.tell("two", NodeRow("b"))
    assert ((await world.shown()).registered_by, list((await world.shown()).rows)) == ("two", ["b"])
    world.revoked = {"two"}  # what another agent had said is true again without a word of it
    assert list((await world.shown()).rows) == ["a"]
    world.revoked = set()
    await world.tell("one", NodeRow("a"))  # the same again is the newest again
    assert (await world.shown()).registered_by == "one"
    world.revoked = {"one", "two"}
    assert await world.tables.of_cluster("u") is None


async def test_the_newest_table_is_shown_though_the_clock_was_ahead_before(world: World) -> None:
    world.clock.now += 86_400
    await world.tell("one", NodeRow("a"))
    world.clock.now -= 86_400
    await world.tell("two", NodeRow("b"))
    assert list((await world.shown()).rows) == ["b"]


async def test_one_cluster_says_nothing_of_another(world: World) -> None:
    await world.tell("one", NodeRow("a"))
    await world.tell("one", NodeRow("b"), uid="v")
    assert list((await world.shown()).rows) == ["a"]
    assert list((await world.shown("v")).rows) == ["b"]
    assert await world.tables.of_cluster("w") is None


async def test_who_asks_while_a_table_is_read_gets_what_is_read(world: World) -> None:
    """A hundred requests for one cluster cost what one costs."""
    await world.tell("one", *many(3))
    world.store.watched()
    world.store.is_open.clear()
    impatient, *patient = [world.tasks.spawn(world.shown(), name="asks") for _ in range(5)]
    await turns()
    impatient.cancel()  # its client has left, on which the others' answers do not hang
    await turns()
    world.store.is_open.set()
    tables = await asyncio.gather(*patient)
    assert world.store.listed == ["u"]
    assert [len(table.rows) for table in tables] == [3] * 4
    assert impatient.cancelled()
    await world.tell("one", *many(4))
    assert len((await world.shown()).rows) == 4  # who comes later reads anew


async def test_few_tables_are_read_at_once(world: World) -> None:
    uids = [f"u{number}" for number in range(READS_MAX + 2)]
    for uid in uids:
        await world.tell("one", NodeRow("a"), uid=uid)
    world.store.watched()
    world.store.is_open.clear()
    asked = [world.tasks.spawn(world.shown(uid), name="asks") for uid in uids]
    await turns()
    assert world.store.listed == uids[:READS_MAX]
    world.store.is_open.set()
    assert [list(table.rows) for table in await asyncio.gather(*asked)] == [["a"]] * len(uids)


async def test_everybody_who_waits_hears_that_the_store_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.tell("one", NodeRow("a"))
    world.store.is_broken = True
    failed = await asyncio.gather(*(world.shown() for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in failed] == ["no disk"] * 3
    assert not caplog.records  # who asked says it
    world.store.is_broken = False
    assert list((await world.shown()).rows) == ["a"]


async def test_an_agent_that_tells_more_than_a_table_may_have_costs_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodetable, "NODES_MAX", 2 * ROWS_MAX)
    await world.lie("one", 2)
    table = await world.shown()
    assert (len(table.rows), table.is_whole) == (2 * ROWS_MAX, True)
    await world.lie("one", 9)
    world.store.watched()
    table = await world.shown()
    assert (len(table.rows), table.total, table.is_whole) == (2 * ROWS_MAX, 5, False)
    assert world.store.got == ["one.0", "one.1", "one.2"]


async def test_what_other_agents_told_is_not_read(world: World) -> None:
    """Each may have told 14 MB, and an administrator of the cluster enrols as many as there are names."""
    await world.lie("other", 3)
    await world.tell("one", *many(30))
    world.store.watched()
    assert len((await world.shown()).rows) == 30
    assert world.store.got == ["one.0", "one.1"]


async def test_tables_go_with_their_agents_and_clusters(world: World) -> None:
    await world.tell("one", *many(50))
    await world.tell("two", *many(3))
    assert await nodetable.purge(world.store, lambda who: who == "two") == 1
    assert {item.key.name for item in (await world.store.list(PART_KIND)).items} == {"two.0"}
    await world.store.put(Resource(Key("cluster", "", "c"), {"labels": {}, "createdAt": 0, "createdBy": ""}))
    await Clusters(world.store, world.clock).sweep()  # `u` is no cluster's uid
    assert (await world.store.list(KIND)).items == (await world.store.list(PART_KIND)).items == ()
