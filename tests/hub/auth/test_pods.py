"""The pod map: kept in parts, replaced as a whole, of one cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.auth.pods import KIND, PodIndex, Pods
from hub.store.index import Follower
from hub.store.model import Event, Key, Resource, StoreUnavailable
from hub.store.sqlite import SqliteStore
from proto.commands import RegisterPods
from proto.errors import Code, StreamReset


def node_of(index: PodIndex, cluster_uid: str, pod: str) -> str:
    return index.node_of(cluster_uid, pod, lambda uid, who: True)


async def test_parts_come_change_and_go(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    index, pods = PodIndex(), Pods(store)
    follower = Follower(store, [index])
    for number in range(3):
        await pods.register("u", "one", RegisterPods(part=number, parts=3, pods=(f"pod-{number} node-{number}",)))
    await pods.register("v", "one", RegisterPods(part=0, parts=1, pods=("pod-0 elsewhere",)))
    await follower.load()
    assert [node_of(index, "u", f"pod-{number}") for number in range(4)] == ["node-0", "node-1", "node-2", ""]
    assert node_of(index, "v", "pod-0") == "elsewhere"
    revision = (await store.list(KIND)).revision
    await pods.register("u", "one", RegisterPods(part=0, parts=3, pods=("pod-0 node-0",)))
    assert (await store.list(KIND)).revision == revision  # the same again is not written
    await pods.register("u", "two", RegisterPods(part=0, parts=1, pods=("pod-8 node-8",)))  # a map of its own
    await pods.register("u", "one", RegisterPods(part=0, parts=1, pods=("pod-9 node-9",)))
    await follower.load()
    assert [node_of(index, "u", pod) for pod in ("pod-0", "pod-2", "pod-9")] == ["", "", "node-9"]
    assert node_of(index, "u", "pod-8") == "node-8"
    assert index.node_of("u", "pod-8", lambda uid, who: who == "one") == ""
    assert index.registrants() == {("u", "one"), ("u", "two"), ("v", "one")}
    assert node_of(index, "v", "pod-0") == "elsewhere"
    await store.close()


async def test_the_same_map_again_is_not_read_and_one_that_was_half_forgotten_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that says its last part again and again would have the hub read megabytes each time."""
    store = await SqliteStore.open(tmp_path / "hub.db")
    pods, listed = Pods(store), []
    for number in range(6):
        await pods.register("u", "one", RegisterPods(part=number, parts=6, pods=(f"pod-{number} node",)))
    listing, delete = store.list, store.delete
    monkeypatch.setattr(store, "list", lambda *args, **more: (listed.append(args), listing(*args, **more))[1])
    await pods.register("u", "one", RegisterPods(part=5, parts=6, pods=("pod-5 node",)))
    assert listed == []

    async def fails_at_the_third(key: Key, *, revision: int | None = None) -> int | None:
        if len((await listing(KIND)).items) == 4:
            raise StoreUnavailable("the disk is full")
        return await delete(key, revision=revision)

    with monkeypatch.context() as patched:
        patched.setattr(store, "delete", fails_at_the_third)
        with pytest.raises(StoreUnavailable):
            await pods.register("u", "one", RegisterPods(part=1, parts=2, pods=("pod-1 node",)))
    await pods.register("u", "one", RegisterPods(part=1, parts=2, pods=("pod-1 node",)))
    assert [item.key.name for item in (await listing(KIND)).items] == ["one.0", "one.1"]
    await store.close()


@pytest.mark.parametrize("pods", [("x",), ("x ",), (" y",), ("x y z",)])
async def test_malformed_lines_keep_nothing(tmp_path: Path, pods: tuple[str, ...]) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    for request in (RegisterPods(part=0, parts=1, pods=pods), RegisterPods(part=1, parts=1)):
        with pytest.raises(StreamReset) as caught:
            await Pods(store).register("u", "one", request)
        assert caught.value.code is Code.PROTOCOL
    assert (await store.list(KIND)).items == ()
    await store.close()


def test_the_index_follows(caplog: pytest.LogCaptureFixture) -> None:
    index, at = PodIndex(), Key(KIND, "u", "one.0")
    index.apply(Event(Resource(at, {"pods": {"p": "n"}}), False))
    assert node_of(index, "u", "p") == "n"
    index.apply(Event(Resource(at, {"pods": 7}), False))
    assert node_of(index, "u", "p") == ""
    assert "unreadable" in caplog.text
    index.reset([Resource(at, {"pods": {"p": "n"}})])
    index.apply(Event(Resource(at, {}), True))
    assert node_of(index, "u", "p") == ""
