"""A cluster is deleted at the hub: what riata made in it goes, nothing else, and what cannot go is told. A real API
server with its garbage collector, the manifest that the hub gives out, an agent with exactly its rights."""

import asyncio
import json
import shlex
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from hub.clusters.manifest import OWNER_LABEL
from hub.clusters.owned import BY_HAND
from hub.clusters.removal import NODE_LABEL
from tests import harness
from tests.e2e.test_enrolment import events
from tests.e2e.waiting import until
from tests.faults.proxy import fault_proxy
from tests.harness import Cluster, Hub
from tests.harness.agents import Agent
from tests.room import room

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

PART = {"app.kubernetes.io/part-of": "riata"}
RBAC = "rbac.authorization.k8s.io"
CUT_S = 1.0
"""From the call that deletes a cluster to the end of its last session."""
_GONE_S = 60.0
_TRIES = 8


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
    arguments = ("get", f"{BY_HAND},namespaces", "--all-namespaces", "-l", f"{OWNER_LABEL}={uid}", "-o", "name")
    return (await cluster.kubectl(*arguments)).check().stdout.split()


def named(kind: str, name: str, **more: Any) -> str:
    versions = {"ClusterRole": f"{RBAC}/v1"}
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


async def deleted_and_cut(hub: Hub, name: str, agent: Agent) -> tuple[dict[str, Any], str]:
    """`deleted`, with a look at when the last session ended."""
    (answer, ended), took = await asyncio.gather(deleted(hub, name), cut(agent, time.monotonic()))
    print(f"\nthe last session of {name} ended {took:.2f} s after the call, its clean-up as {ended}")
    assert took < CUT_S * room()
    return answer, ended


async def done(hub: Hub, cluster: Cluster, name: str, strange: Callable[[str], Sequence[str]] | None = None) -> str:
    """A cluster with agents, deleted and cleaned up: its uid. `strange`: what others have there, for a uid. A machine
    that is too busy for it in that second is given another try, behind the command that a person would type."""
    for _ in range(_TRIES):
        async with harness.applied_agent(hub, cluster, name=name, form={"nodeAgents": True}) as agent:
            uid = str((await hub.api.call("GET", f"/v1/clusters/{name}"))["uid"])
            for manifest in strange(uid) if strange else ():
                await cluster.apply(manifest)
            assert len(await ours(cluster, uid)) > 10
            answer, ended = await deleted_and_cut(hub, name, agent)
        if ended == "done":
            return uid
        assert "within" in (await hub.api.call("GET", f"/v1/clean-ups/{uid}"))["reason"]
        await finished_by_hand(hub, cluster, answer)
    raise AssertionError(f"no clean-up in {_TRIES} was quick enough")


async def finished_by_hand(hub: Hub, cluster: Cluster, answer: Mapping[str, Any]) -> None:
    """The namespace is another step: the command must never take along what others have in it."""
    await typed(cluster, answer["command"])
    assert {each.partition("/")[0] for each in await ours(cluster, answer["id"])} == {"namespace"}
    (await cluster.kubectl("delete", "namespace", "-l", f"{OWNER_LABEL}={answer['id']}", timeout=60)).check()
    await gone(cluster, answer["id"])
    await hub.api.call("DELETE", f"/v1/clean-ups/{answer['id']}")
    assert await state(hub, answer["id"]) == "done"


async def test_what_riata_made_goes_and_nothing_else(cluster: Cluster, hub: Hub) -> None:
    strangers = [
        named("ClusterRole", "stranger", labels=PART),
        named("ClusterRole", "other-cluster", labels={**PART, OWNER_LABEL: "another-uid"}),
        named("ConfigMap", "stranger", namespace="default", labels=PART),
    ]
    for stranger in strangers:
        await cluster.apply(stranger)
    await cluster.apply(named("Node", "chosen", labels={"a": "b", NODE_LABEL: "true"}))
    uid = await done(hub, cluster, "first")
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
    (told,) = events(hub.log, "clean-up-done")
    assert told["user"] == "admin"
    assert told["kept"] == []


async def test_who_may_label_an_object_cannot_have_it_deleted(cluster: Cluster, hub: Hub) -> None:
    """The label is copied to objects that others own, one of them in riata's namespace."""

    def precious(uid: str) -> list[str]:
        labels = {OWNER_LABEL: uid}
        return [
            named("ClusterRole", "precious", labels=labels),
            named("Namespace", "precious", labels=labels),
            named("Secret", "precious", namespace="riata-system", labels=labels),
        ]

    uid = await done(hub, cluster, "copied", precious)
    stay = {f"clusterrole.{RBAC}/precious", "namespace/precious", "namespace/riata-system", "secret/precious"}

    async def only_those() -> bool:
        return set(await ours(cluster, uid)) == stay

    await until(only_those, what="the garbage collector", within=40, every=0.3)
    kept = events(hub.log, "clean-up-done")[-1]["kept"]
    assert sum("precious" in each for each in kept) == len(stay)
    (await cluster.kubectl("delete", "clusterrole,namespace", "precious")).check()
    await _remove_namespace(cluster)


async def test_an_api_server_that_is_too_slow_keeps_no_session_alive(cluster: Cluster, hub: Hub) -> None:
    """It answers each request, 0.4 s late: more than the time of a deleted cluster's last session allows."""
    url = urlsplit(cluster.url)
    async with fault_proxy((str(url.hostname), url.port or 443), seed=1) as slow:
        options = ["--kube-url", f"https://127.0.0.1:{slow.port}"]
        async with harness.applied_agent(hub, cluster, name="slow", options=options) as agent:
            uid = (await hub.api.call("GET", "/v1/clusters/slow"))["uid"]
            before = await ours(cluster, uid)
            for weather in slow.weather.values():
                weather.latency_s = 0.2
            answer, ended = await deleted_and_cut(hub, "slow", agent)
            assert ended == "pending"
            reason = (await hub.api.call("GET", f"/v1/clean-ups/{uid}"))["reason"]
            assert "within" in reason
            assert "nothing of it was removed" in reason
            assert await ours(cluster, uid) == before
            for weather in slow.weather.values():
                weather.latency_s = 0.0
    await finished_by_hand(hub, cluster, answer)


async def test_a_namespace_with_something_of_others_stays_with_it(cluster: Cluster, hub: Hub) -> None:
    uid = await done(hub, cluster, "shared", lambda _: [named("Secret", "precious", namespace="riata-system")])

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
        await finished_by_hand(hub, cluster, answer)


async def test_without_rights_there_nothing_is_touched(cluster: Cluster, hub: Hub) -> None:
    form = {"clusterAdmins": False}
    async with harness.applied_agent(hub, cluster, name="closed", form=form) as agent:
        uid = (await hub.api.call("GET", "/v1/clusters/closed"))["uid"]
        before = await ours(cluster, uid)
        answer, ended = await deleted_and_cut(hub, "closed", agent)
        assert ended == "pending"
        found = await hub.api.call("GET", f"/v1/clean-ups/{uid}")
        assert "does not let" in found["reason"]
        assert await ours(cluster, uid) == before
        await finished_by_hand(hub, cluster, answer)


async def test_with_several_workers_whoever_has_the_session_does_it(cluster: Cluster) -> None:
    """Calls and sessions meet any process; two clusters make it likely that they differ."""
    async with harness.hub(name="hub-cleaned-workers", options=["--workers", "2"]) as hub:
        for number in range(2):
            await gone(cluster, await done(hub, cluster, f"many-{number}"))


async def _remove_namespace(cluster: Cluster) -> None:
    (await cluster.kubectl("delete", "namespace", "riata-system", "--wait", timeout=60)).check()
