"""Who cleans up after a deleted cluster: the process with the session that the record names, over that session alone,
within its time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.clusters import cleanups as cleanups_of
from hub.clusters.cleanups import LIMIT_S, CleanUp, CleanUpIndex, CleanUps, State
from hub.clusters.manifest import OWNER_LABEL
from hub.clusters.records import Cluster
from hub.clusters.removal import AT_ONCE
from hub.store.sqlite import SqliteStore
from hub.tunnel import cleanups
from hub.tunnel.cleanups import Cleaner
from hub.tunnel.registry import Tunnel
from proto.aio.owner import StreamOwner
from proto.aio.tasks import TaskGroup
from proto.errors import Code, SessionLost
from proto.messages import HttpHead, HttpRequest
from tests.hub.clusters.test_removal import Kube
from tests.hub.proxy.fakes import FakeStream
from tests.hub.store.conformance import SettableClock
from tests.hub.tunnel.test_registry import FakeLink, Rig

UID = "uid-berlin"
CLUSTER = Cluster("berlin", UID, {}, 0.0, "ann")


class KubeStream(FakeStream):
    """Asks the API server in memory once the request is whole."""

    def __init__(self, kube: Kube, message: HttpRequest, owner: StreamOwner) -> None:
        super().__init__()
        self._answer = (kube, message, owner)

    def send(self, data: bytes, *, end: bool = False) -> bool:
        super().send(data, end=end)
        self.ask()
        return True

    def ask(self) -> None:
        kube, message, owner = self._answer
        body = json.loads(self.sent) if self.sent else None
        asked = kube.ask(message.method, message.path.decode(), "", body)
        self._task = asyncio.get_running_loop().create_task(self._tell(owner, asked), name="kube")

    def reset(self, code: Code, text: str = "") -> None:
        super().reset(code, text)
        self._task.cancel()

    async def _tell(self, owner: StreamOwner, asked: Any) -> None:
        status, document = await asked
        if self.code is None:
            owner.head(HttpHead(status=status, headers=()))
            owner.data(memoryview(b"" if document is None else json.dumps(document).encode()))
            owner.end()


class KubeLink(FakeLink):
    """A link of an agent whose API server is `kube`; None: it never answers."""

    compresses = False
    name = "link"

    def __init__(self, kube: Kube | None) -> None:
        super().__init__()
        self.kube = kube
        self.messages: list[HttpRequest] = []

    def open(self, message: HttpRequest, owner: StreamOwner, *, end: bool = False, **_: object) -> FakeStream:
        if not self.is_open:
            raise SessionLost("closed")
        self.messages.append(message)
        if self.kube is None:
            return FakeStream()
        stream = KubeStream(self.kube, message, owner)
        if end:
            stream.ask()
        return stream


class World:
    def __init__(self, store: SqliteStore, tasks: TaskGroup) -> None:
        self.store, self.index, self.rig, self.sweeps = store, CleanUpIndex(), Rig(), 0
        self.clock = SettableClock()
        self.clean_ups = CleanUps(store, self.clock)
        self.cleaner = Cleaner(self.index, self.clean_ups, self.rig.registry, tasks, self._sweep)
        self.tasks = tasks

    async def _sweep(self) -> None:
        self.sweeps += 1

    def connect(self, kube: Kube | None, instance: int = 1) -> tuple[Tunnel, KubeLink]:
        link = KubeLink(kube)
        tunnel, _ = self.rig.tunnel(instance, cluster="berlin", credential=f"k{instance}", link=link)
        return tunnel, link

    async def delete(self, tunnel: Tunnel, took: float = 0.0) -> None:
        """As hub.app does when the cluster's record is gone, `took` seconds after the call."""
        await self.clean_ups.begin(
            uid=UID, cluster="berlin", user="ann", groups=("ops",), instance=tunnel.instance.hex()
        )
        self.clock.now += took
        await self.look()
        self.cleaner.cluster_gone(CLUSTER)
        self.rig.registry.cut(cluster_uid=UID, code=Code.REVOKED)
        self.rig.registry.cut(credential_id=tunnel.identity.credential_id, code=Code.REVOKED)

    async def look(self) -> CleanUp | None:
        self.index.reset((await self.store.list("clean-up")).items)
        return self.index.get(UID)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await SqliteStore.open(tmp_path / "hub.db")
    async with TaskGroup("world") as tasks:
        yield World(store, tasks)
    await store.close()


@pytest.fixture
def kube() -> Kube:
    made = Kube()
    made.add("Namespace", "riata-system", owner=UID)
    made.add("ClusterRole", "riata-agent-impersonate", owner=UID)
    made.add("ClusterRoleBinding", "riata-agent-impersonate", owner=UID)
    made.add("Deployment", "riata-agent", owner=UID)
    made.add("ClusterRole", "stranger", owner=None)
    return made


async def test_one_session_is_spared_until_everything_is_removed(world: World, kube: Kube) -> None:
    tunnel, link = world.connect(kube)
    _, other = world.connect(kube, instance=2)
    await world.delete(tunnel)
    assert (link.is_open, other.closed_with) == (True, Code.REVOKED)
    await world.tasks.wait()
    assert link.closed_with is Code.REVOKED
    assert kube.names() == {"stranger"}
    assert await world.look() is None
    assert world.sweeps == 1


async def test_it_is_done_in_the_name_of_who_deleted_it(world: World, kube: Kube) -> None:
    tunnel, link = world.connect(kube)
    await world.delete(tunnel)
    await world.tasks.wait()
    for message in link.messages:
        said = [pair for pair in message.headers if pair[0].startswith(b"impersonate-")]
        assert said == [
            (b"impersonate-user", b"riata:ann"),
            (b"impersonate-group", b"riata:ops"),
            (b"impersonate-group", b"riata:hub:cluster-admins"),
            (b"impersonate-extra-riata.io%2frequest-id", b"clean-up-uid-berl"),
        ]


async def test_what_the_cluster_refuses_is_pending_with_its_reason(world: World, kube: Kube) -> None:
    tunnel, link = world.connect(kube)
    kube.status["PATCH", "deployments"] = 403
    await world.delete(tunnel)
    await world.tasks.wait()
    found = await world.look()
    assert found is not None
    assert (found.state, "does not let" in found.reason) == (State.PENDING, True)
    assert link.closed_with is Code.REVOKED


@pytest.mark.parametrize("answers", [0, 1, 20, 25])
async def test_whenever_it_hangs_its_session_ends_within_the_second_of_the_call(
    world: World, kube: Kube, monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    """The agent answers nothing, or so many and then no more."""
    monkeypatch.setattr(cleanups_of, "LIMIT_S", 0.05)
    left = answers

    async def hanging(*arguments: Any) -> tuple[int, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            await asyncio.Event().wait()
        return await Kube.ask(kube, *arguments)

    monkeypatch.setattr(kube, "ask", hanging)
    tunnel, link = world.connect(kube)
    before = kube.names()
    await world.delete(tunnel)
    await world.tasks.wait()
    found = await world.look()
    assert found is not None
    assert (found.state, "within" in found.reason) == (State.PENDING, True)
    assert found.reason.endswith("nothing of it was removed")
    assert link.closed_with is Code.REVOKED
    assert kube.names() == before


async def test_what_the_call_took_already_is_no_time_of_the_clean_up(world: World, kube: Kube) -> None:
    assert LIMIT_S < 1
    tunnel, link = world.connect(kube)
    await world.delete(tunnel, took=2 * LIMIT_S)
    await world.tasks.wait()
    found = await world.look()
    assert found is not None
    assert "within" in found.reason
    assert link.closed_with is Code.REVOKED


async def test_what_it_may_have_begun_is_told(world: World, kube: Kube) -> None:
    kube.status["DELETE", ""] = 500
    tunnel, _ = world.connect(kube)
    await world.delete(tunnel)
    await world.tasks.wait()
    found = await world.look()
    assert found is not None
    assert found.reason.endswith("part of it was removed")


async def test_another_processs_session_is_not_ours_to_spare(world: World, kube: Kube) -> None:
    tunnel, link = world.connect(kube)
    await world.clean_ups.begin(uid=UID, cluster="berlin", user="ann", groups=(), instance="ff" * 16)
    await world.look()
    world.cleaner.cluster_gone(CLUSTER)
    world.rig.registry.cut(cluster_uid=UID, code=Code.REVOKED)
    assert link.closed_with is Code.REVOKED
    assert kube.writes() == []
    assert len(world.tasks) == 0
    assert tunnel.identity.cluster_uid == UID


async def deleted_by(world: World, kube: Kube, monkeypatch: pytest.MonkeyPatch, items: list[Any]) -> CleanUp:
    """What is known of a deletion whose agent answers every question with these."""

    async def made_up(*arguments: Any) -> tuple[int, Any]:
        return 200, {"metadata": {}, "items": items}

    monkeypatch.setattr(kube, "ask", made_up)
    tunnel, _ = world.connect(kube)
    await world.delete(tunnel)
    await world.tasks.wait()
    found = await world.look()
    assert found is not None
    return found


@pytest.mark.parametrize("items", [[{"metadata": ["x"]}], [{"metadata": {"labels": {OWNER_LABEL: UID}}}]])
async def test_an_agent_in_a_strangers_hand_cannot_leave_it_without_an_end(
    world: World, kube: Kube, monkeypatch: pytest.MonkeyPatch, items: list[Any]
) -> None:
    found = await deleted_by(world, kube, monkeypatch, items)
    assert (found.state, "malformed" in found.reason) == (State.PENDING, True)


async def test_a_name_that_is_no_text_gives_it_its_end_too(
    world: World, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a surrogate pair: neither a path nor a record can hold it."""
    name = "\ud800-impersonate"
    item = {"metadata": {"labels": {OWNER_LABEL: UID}, "name": name, "uid": "x", "resourceVersion": "1"}}
    found = await deleted_by(world, kube, monkeypatch, [item, item])
    assert (found.state, "nothing of it was removed" in found.reason) == (State.PENDING, True)


async def test_an_agent_in_a_strangers_hand_cannot_fill_the_hubs_memory(
    world: World, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is small enough, each says that more has to be asked."""
    monkeypatch.setattr(cleanups, "ANSWERS_BYTES_MAX", 64 * 1024)
    resources = [
        {"resource": f"r{n}", "scope": "Namespaced", "verbs": ["list", "create", "delete"]} for n in range(500)
    ]
    discovered = {
        "kind": "APIGroupDiscoveryList",
        "items": [{"metadata": {}, "versions": [{"version": "v1", "resources": resources}]}],
    }
    sent = 0

    async def endless(method: str, target: str, *rest: Any) -> tuple[int, Any]:
        nonlocal sent
        if target in ("/api", "/apis"):
            return 200, discovered if target == "/api" else {**discovered, "items": []}
        if "/namespaces/" in target:
            sent += 1
            return 200, {"metadata": {}, "items": [{"metadata": {"ownerReferences": [{"uid": "x" * 8000}]}}]}
        return await Kube.ask(kube, method, target, *rest)

    monkeypatch.setattr(kube, "ask", endless)
    tunnel, _ = world.connect(kube)
    await world.delete(tunnel)
    await world.tasks.wait()
    found = await world.look()
    assert found is not None
    assert "bytes together" in found.reason
    assert sent < 40 + AT_ONCE


async def test_the_reason_is_short_whatever_the_api_server_calls_things(world: World, kube: Kube) -> None:
    for number in range(2):
        kube.add("ClusterRoleBinding", f"{number}" + "x" * 10_000 + "-impersonate", owner=UID)
    tunnel, _ = world.connect(kube)
    await world.delete(tunnel)
    await world.tasks.wait()
    found = await world.look()
    assert found is not None
    assert len(found.reason) < 600


async def test_nobody_waits_for_late_records_while_the_disk_stands_still(
    world: World, kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks for them ends what rests on expired tokens next (hub.app)."""
    tunnel, _ = world.connect(kube)
    await world.clean_ups.begin(uid=UID, cluster="berlin", user="ann", groups=(), instance=tunnel.instance.hex())
    await world.look()
    world.clock.now += cleanups_of.LATE_S
    goes_on, pending = asyncio.Event(), world.clean_ups.pending

    async def pending_late(clean_up: CleanUp, reason: str) -> None:
        await goes_on.wait()
        await pending(clean_up, reason)

    monkeypatch.setattr(world.clean_ups, "pending", pending_late)
    for _ in range(3):
        world.cleaner.expire([])
        await asyncio.sleep(0)
    assert len(world.tasks) == 1
    goes_on.set()
    await world.tasks.wait()
    found = await world.look()
    assert found is not None
    assert found.state is State.PENDING
