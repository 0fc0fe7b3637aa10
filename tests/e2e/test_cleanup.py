"""A cluster is deleted at the hub: what riata made in it goes, nothing else, and what cannot go is told. A real API
server with its garbage collector, the manifest that the hub gives out, an agent with exactly its rights."""

import asyncio
import json
import shlex
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hub.clusters.manifest import OWNER_LABEL
from hub.clusters.removal import KINDS, NODE_LABEL
from tests import harness
from tests.e2e.test_enrolment import events
from tests.e2e.waiting import until
from tests.harness import Cluster, Hub
from tests.harness.agents import Agent
from tests.room import room

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

PART = {"app.kubernetes.io/part-of": "riata"}
_GONE_S = 60.0
RESOURCES = ",".join(path.rpartition("/")[2] for path, _ in KINDS.values())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    async with harness.light("cleaned", controller_manager=True) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hub(cluster: Cluster) -> AsyncIterator[Hub]:
    async with harness.hub(name="hub-cleaned") as made:
        yield made


async def ours(cluster: Cluster, uid: str) -> list[str]:
    """Everything with the owner label."""
    arguments = ("get", RESOURCES, "--all-namespaces", "-l", f"{OWNER_LABEL}={uid}", "-o", "name")
    return (await cluster.kubectl(*arguments)).check().stdout.split()


def named(kind: str, name: str, **more: Any) -> str:
    versions = {"ClusterRole": "rbac.authorization.k8s.io/v1"}
    metadata = {"name": name, **more}
    return json.dumps({"apiVersion": versions.get(kind, "v1"), "kind": kind, "metadata": metadata})


async def exists(cluster: Cluster, kind: str, name: str, *where: str) -> bool:
    return (await cluster.kubectl("get", kind, name, *where)).rc == 0


async def state(hub: Hub, uid: str) -> str:
    """Of the clean-up; `done` when there is none."""
    items = (await hub.api.call("GET", "/v1/clean-ups"))["items"]
    return next((str(each["state"]) for each in items if each["id"] == uid), "done")


async def deleted(hub: Hub, name: str) -> tuple[dict[str, Any], str]:
    """Delete a cluster: the answer, and how its clean-up ended."""
    answer = await hub.api.call("DELETE", f"/v1/clusters/{name}")

    async def settled() -> str:
        found = await state(hub, answer["id"])
        return "" if found == "running" else found

    return answer, await until(settled, what="the clean-up to end", within=40)


async def typed(cluster: Cluster, line: str) -> None:
    """Run the commands of the advice."""
    for command in line.split(";"):
        program, *arguments = shlex.split(command)
        assert program == "kubectl"
        (await cluster.kubectl(*arguments)).check()


async def gone(cluster: Cluster, uid: str) -> None:
    """Wait for the garbage collector and the namespace's end."""
    began = time.monotonic()
    while left := await ours(cluster, uid):
        if time.monotonic() - began > _GONE_S:
            space = await cluster.kubectl("get", "namespace", "riata-system", "-o", "jsonpath={.status}")
            raise AssertionError(f"left after {_GONE_S:g} s: {left}; {space.stdout}")
        await asyncio.sleep(0.3)


async def cut(agent: Agent, since: float) -> float:
    """How long after `since` the agent's log tells that it was sent away."""
    while "REVOKED" not in (text := agent.log.read_text().upper()):
        assert time.monotonic() - since < 30, text
        await asyncio.sleep(0.02)
    return time.monotonic() - since


async def test_what_riata_made_goes_and_nothing_else(cluster: Cluster, hub: Hub) -> None:
    strangers = [
        named("ClusterRole", "stranger", labels=PART),
        named("ClusterRole", "other-cluster", labels={**PART, OWNER_LABEL: "another-uid"}),
        named("ConfigMap", "stranger", namespace="default", labels=PART),
    ]
    for stranger in strangers:
        await cluster.apply(stranger)
    await cluster.apply(named("Node", "chosen", labels={"a": "b", NODE_LABEL: "true"}))
    async with harness.applied_agent(hub, cluster, name="first", form={"nodeAgents": True}) as agent:
        uid = (await hub.api.call("GET", "/v1/clusters/first"))["uid"]
        labelled = await ours(cluster, uid)
        assert len(labelled) > 20
        began = time.monotonic()
        _, ended = await deleted(hub, "first")
        assert ended == "done"
        took = await cut(agent, began)
        print(f"\nthe session that carried a clean-up of {len(labelled)} objects ended {took:.2f} s after the request")
        assert took < 5 * room()
        # The name is free at once, and the new cluster is another one.
        assert (await hub.api.create_cluster("first"))["uid"] != uid
        await hub.api.call("DELETE", "/v1/clusters/first")
    await gone(cluster, uid)
    assert not await exists(cluster, "namespace", "riata-system")
    labels = ("get", "node", "chosen", "-o", "jsonpath={.metadata.labels}")
    assert json.loads((await cluster.kubectl(*labels)).check().stdout) == {"a": "b"}
    assert await exists(cluster, "clusterrole", "stranger")
    assert await exists(cluster, "clusterrole", "other-cluster")
    assert await exists(cluster, "configmap", "stranger", "--namespace=default")
    (done,) = events(hub.log, "clean-up-done")
    assert done["user"] == "admin"
    assert done["kept"] == []


async def test_a_namespace_with_something_of_others_stays_with_it(cluster: Cluster, hub: Hub) -> None:
    async with harness.applied_agent(hub, cluster, name="shared"):
        uid = (await hub.api.call("GET", "/v1/clusters/shared"))["uid"]
        await cluster.apply(named("Secret", "precious", namespace="riata-system"))
        assert (await deleted(hub, "shared"))[1] == "done"

    async def only_the_namespace() -> bool:
        return await ours(cluster, uid) == ["namespace/riata-system"]

    await until(only_the_namespace, what="the garbage collector", within=40, every=0.3)
    assert await exists(cluster, "secret", "precious", "--namespace=riata-system")
    assert "precious" in str(events(hub.log, "clean-up-done")[-1]["kept"])
    await _remove_namespace(cluster)


async def test_offline_it_is_pending_until_somebody_runs_the_command(cluster: Cluster) -> None:
    async with harness.hub(name="hub-cleaned-away") as hub, harness.applied_agent(hub, cluster, name="away") as agent:
        await agent.stop()

        async def is_lost() -> bool:
            return not await hub.api.connected("away")

        await until(is_lost, what="the agent to be gone")
        answer, ended = await deleted(hub, "away")
        assert ended == "pending"
        assert "no agent" in answer["reason"]
        assert len(await ours(cluster, answer["id"])) > 10
        await hub.stop()  # it outlives the hub
        await hub.restart()
        assert await state(hub, answer["id"]) == "pending"
        await typed(cluster, answer["command"])
        await gone(cluster, answer["id"])
        await hub.api.call("DELETE", f"/v1/clean-ups/{answer['id']}")
        assert await state(hub, answer["id"]) == "done"


async def test_without_rights_there_nothing_is_touched(cluster: Cluster, hub: Hub) -> None:
    form = {"clusterAdmins": False}
    async with harness.applied_agent(hub, cluster, name="closed", form=form) as agent:
        uid = (await hub.api.call("GET", "/v1/clusters/closed"))["uid"]
        before = await ours(cluster, uid)
        began = time.monotonic()
        answer, ended = await deleted(hub, "closed")
        assert ended == "pending"
        assert await cut(agent, began) < 5 * room()
        found = await hub.api.call("GET", f"/v1/clean-ups/{uid}")
        assert "does not let" in found["reason"]
        assert await ours(cluster, uid) == before
        await typed(cluster, answer["command"])
        await gone(cluster, uid)
        await hub.api.call("DELETE", f"/v1/clean-ups/{uid}")


async def test_with_several_workers_whoever_has_the_session_does_it(cluster: Cluster) -> None:
    """Calls and sessions meet any process; four clusters make it likely that they differ."""
    async with harness.hub(name="hub-cleaned-workers", options=["--workers", "2"]) as hub:
        for number in range(3):
            async with harness.applied_agent(hub, cluster, name=f"many-{number}"):
                answer, ended = await deleted(hub, f"many-{number}")
                assert ended == "done"
            await gone(cluster, answer["id"])


async def _remove_namespace(cluster: Cluster) -> None:
    (await cluster.kubectl("delete", "namespace", "riata-system", "--wait", timeout=60)).check()
