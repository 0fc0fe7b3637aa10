"""Tables of nodes: one for each agent, the newest of a live one counts, only what differs is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.clusters import nodetable
from hub.clusters.nodetable import KIND, PART_KIND, NodeTable, NodeTables
from hub.clusters.records import Clusters
from hub.store.model import Key, Resource
from hub.store.sqlite import SqliteStore
from proto.commands import RegisterNodes
from proto.errors import Code, StreamReset
from proto.nodetable import NodeRow, Part, divide, to_args
from tests.hub.store.conformance import SettableClock


class World:
    """A hub's tables; agents whose credentials are in `revoked` do not count."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock = store, SettableClock()
        self.revoked: set[str] = set()
        self.read = 0
        """Parts that the last registration made the hub read."""
        self.tables = NodeTables(store, lambda uid, who: who not in self.revoked, self.clock)

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

    async def shown(self, uid: str = "u") -> NodeTable:
        table = await self.tables.of_cluster(uid)
        assert table is not None
        return table


@pytest.fixture
async def world(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = await SqliteStore.open(tmp_path / "hub.db")
    yield World(store)
    await store.close()


def many(count: int) -> list[NodeRow]:
    return [NodeRow(f"n{number:03}", kubelet="v1") for number in range(count)]


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


async def test_tables_go_with_their_agents_and_clusters(world: World) -> None:
    await world.tell("one", *many(50))
    await world.tell("two", *many(3))
    assert await nodetable.purge(world.store, lambda who: who == "two") == 1
    assert {item.key.name for item in (await world.store.list(PART_KIND)).items} == {"two.0"}
    await world.store.put(Resource(Key("cluster", "", "c"), {"labels": {}, "createdAt": 0, "createdBy": ""}))
    await Clusters(world.store, world.clock).sweep()  # `u` is no cluster's uid
    assert (await world.store.list(KIND)).items == (await world.store.list(PART_KIND)).items == ()
