"""Enrolment with real processes: a hub, agents with keys of their own, SIGKILL in between."""

import asyncio
import contextlib
import json
import os
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests import harness
from tests.e2e import measures
from tests.e2e.line import Line
from tests.e2e.waiting import until
from tests.harness import kubeconfigs, tools
from tests.harness.agents import Agent
from tests.harness.children import RUN_VARIABLE, Child
from tests.harness.pki import write_private
from tests.harness.records import written
from tests.harness.runs import Run
from tests.room import room

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


async def status_of(line: Line, cluster: str) -> int:
    """The status of one small request."""
    entry = line.entry(cluster)
    async with entry.session() as session, session.get(entry.at("/api/v1/namespaces/default")) as answer:
        await answer.read()
        return answer.status


def readiness(agent: Agent) -> str:
    """Why the agent is not ready."""
    try:
        with urllib.request.urlopen(f"{agent.health_url}/readyz", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.read().decode())


def events(log: Path, name: str) -> list[dict[str, object]]:
    """The audit events of that name in a hub's log."""
    return [line for line in written(log) if line.get("audit") and line["event"] == name]


async def test_an_agent_joins_and_comes_back_by_its_key(hub_line: Line) -> None:
    async with harness.agent(hub_line.hub, hub_line.light, name="enrolled", enrol=True) as agent:
        assert await status_of(hub_line, "enrolled") == 200
        key_file = agent.directory / "agent.key"
        assert key_file.stat().st_mode & 0o777 == 0o600
        assert json.loads(key_file.read_text())["cluster_uid"]
        (agent.directory / "join.token").unlink()
        agent.kill()
        await agent.restart()
        assert await status_of(hub_line, "enrolled") == 200
        (listed,) = (await hub_line.api.must("GET", "/v1/clusters/enrolled/join-tokens"))["items"]
        assert listed["usedAt"] is not None


async def test_outside_kubernetes_a_kubeconfig_is_all_it_needs(hub_line: Line, tmp_path: Path) -> None:
    """The command of docs/operate/join.md, section 2, on a machine that has nothing of a pod: a pin, no CA file."""
    hub, light = hub_line.hub, hub_line.light
    for manifest in light.manifests():
        (await light.kubectl("apply", "-f", str(manifest))).check()
    create = ("create", "token", "riata-agent", "--namespace", "riata-system")
    token = (await light.kubectl(*create)).check().stdout.strip()
    kubeconfig = kubeconfigs.with_token(tmp_path / "kubeconfig", url=light.url, ca=light.ca_file, token=token)
    await hub.api.create_cluster("outside")
    write_private(tmp_path / "join.token", (await hub.api.join_token("outside")).encode())
    command = [
        *tools.console_script("riata-agent", "agent"),
        "cluster",
        "--hub-url",
        hub.url,
        "--hub-ca-pin",
        hub.ca_pin,
    ]
    command += ["--key-file", str(tmp_path / "agent.key"), "--join-token-file", str(tmp_path / "join.token")]
    command += ["--kubeconfig", str(kubeconfig), "--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    environment = {"LANG": "C.UTF-8", "PATH": os.environ["PATH"], RUN_VARIABLE: Run.current().name}

    async def there() -> bool:
        return await hub.api.connected("outside")

    for _ in range(2):  # the second time by its key alone
        agent = Child.start("riata-agent", command, log=tmp_path / "agent.log", env=environment, cwd=tmp_path)
        try:
            await until(there, what="the agent to be connected", within=30)
            assert await status_of(hub_line, "outside") == 200
        finally:
            await agent.stop(10)
        assert (tmp_path / "agent.key").stat().st_mode & 0o777 == 0o600
        (tmp_path / "join.token").unlink(missing_ok=True)


async def test_a_key_is_kept_before_the_hub_hears_of_it_and_a_crash_is_the_same_join(hub_line: Line) -> None:
    """Killed as soon as the key is on the disk, then once more after the hub has committed."""
    agents = harness.agent(hub_line.hub, hub_line.light, name="crashing", enrol=True, wait=False)
    async with agents as agent:
        key_file = agent.directory / "agent.key"

        async def kept() -> bool:
            return key_file.exists()

        await until(kept, what="the key file", every=0.002)
        agent.kill()
        first = json.loads(key_file.read_text())["current"]
        await agent.restart()
        agent.kill()
        # As if WELCOME had never been read: the key is there, the cluster's uid is not.
        write_private(key_file, json.dumps({"current": first}).encode())
        await agent.restart()
        assert json.loads(key_file.read_text())["current"] == first
        assert len([e for e in events(hub_line.hub.log, "agent-joined") if e["agent"] == _token_id(agent)]) == 1


async def test_a_copied_token_is_refused_and_told(hub_line: Line) -> None:
    async with harness.agent(hub_line.hub, hub_line.light, name="honest", enrol=True) as agent:
        token = (agent.directory / "join.token").read_bytes()
        agents = harness.agent(hub_line.hub, hub_line.light, name="thief", enrol=True, wait=False)
        async with agents as thief:
            write_private(thief.directory / "join.token", token)
            (thief.directory / "agent.key").unlink(missing_ok=True)
            thief.kill()
            (thief.directory / "agent.key").unlink(missing_ok=True)
            await thief._start()

            async def told() -> bool:
                return "was used at" in await asyncio.to_thread(readiness, thief)

            await until(told, what="the thief to be told")
            assert events(hub_line.hub.log, "join-token-reused")[-1]["agent"] == _token_id(agent)
            assert token.decode() not in thief.log.read_text() + hub_line.hub.log.read_text()
            # A token of its own, and it is in within seconds.
            write_private(thief.directory / "join.token", (await hub_line.hub.api.join_token("thief")).encode())
            await thief.connected()


async def test_replicas_share_a_key(hub_line: Line) -> None:
    """Two processes with one key file: one join, two instances."""
    async with harness.agent(hub_line.hub, hub_line.light, name="twins", enrol=True) as one:
        options = ["--key-file", str(one.directory / "agent.key")]
        async with harness.agent(hub_line.hub, hub_line.light, name="twins", enrol=True, options=options):

            async def both() -> bool:
                return len((await hub_line.api.must("GET", "/v1/clusters/twins"))["tunnels"]) == 2

            await until(both, what="two tunnels")


def _token_id(agent: Agent) -> str:
    return (agent.directory / "join.token").read_text().split("_")[1]


SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: riata-agent-key, namespace: riata-system, labels: {app.kubernetes.io/part-of: riata}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: riata-agent-key, namespace: riata-system}
rules:
  - {apiGroups: [""], resources: [secrets], resourceNames: [riata-agent-key], verbs: [get, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: riata-agent-key, namespace: riata-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: riata-agent-key}
subjects: [{kind: ServiceAccount, name: riata-agent, namespace: riata-system}]
"""


async def test_replicas_keep_their_key_in_one_secret(hub_line: Line) -> None:
    """With exactly these rights: both start at once on an empty Secret, one key comes out, one join, two tunnels."""
    await hub_line.light.kubectl("delete", "secret", "riata-agent-key", "-n", "riata-system", "--ignore-not-found")
    options = ["--key-secret", "riata-system/riata-agent-key"]
    agents = [
        harness.agent(hub_line.hub, hub_line.light, name="in-secret", enrol=True, options=options, wait=False)
        for _ in range(2)
    ]
    async with agents[0] as one, agents[1] as other:
        token = (one.directory / "join.token").read_bytes()
        other.kill()
        one.kill()
        await hub_line.light.apply(SECRET)
        write_private(other.directory / "join.token", token)
        await asyncio.gather(one.restart(), other.restart())

        async def both() -> bool:
            return len((await hub_line.api.must("GET", "/v1/clusters/in-secret"))["tunnels"]) == 2

        await until(both, what="two tunnels")
        assert await status_of(hub_line, "in-secret") == 200
        assert len([e for e in events(hub_line.hub.log, "agent-joined") if e["agent"] == _token_id(one)]) <= 1
        idle = [measures.resident_mib(agent.pid) for agent in (one, other)]
        print(f"\nagents with their key in a Secret: {idle} MiB")
        assert max(idle) <= 90.0


async def one_agent(line: Line, cluster: str) -> dict[str, Any]:
    (found,) = [item for item in (await line.api.must("GET", "/v1/agents"))["items"] if item["cluster"] == cluster]
    return dict(found)


async def test_rotation_under_load_loses_no_request(hub_line: Line) -> None:
    """Short requests and one watch run on while the key is replaced twice; the old key is refused at a connect."""
    async with harness.agent(hub_line.hub, hub_line.light, name="rotating", enrol=True) as agent:
        key_file = agent.directory / "agent.key"
        first = key_file.read_text()
        listed = await one_agent(hub_line, "rotating")
        statuses: list[int] = []
        running = True
        entry = hub_line.entry("rotating")

        async def ask() -> None:
            async with entry.session() as session:
                while running:
                    async with session.get(entry.at("/api/v1/namespaces/default")) as answer:
                        await answer.read()
                        statuses.append(answer.status)

        async with entry.session() as session, session.get(entry.at("/api/v1/namespaces?watch=1")) as watch:
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(ask())
                await hub_line.api.must("POST", f"/v1/agents/{listed['id']}/rotate-key")
                await asyncio.sleep(1)
                running = False
            assert not watch.content.at_eof()
        print(f"\n{len(statuses)} requests during a rotation")
        assert set(statuses) == {200}
        assert len(statuses) > 20
        after = json.loads(key_file.read_text())
        assert after["current"] != json.loads(first)["current"]
        assert "next" not in after
        again = await one_agent(hub_line, "rotating")
        assert (again["id"], again["connectedSince"]) == (listed["id"], listed["connectedSince"])
        agent.kill()
        await agent.restart()  # by the new key: the token was used
        assert await status_of(hub_line, "rotating") == 200


async def test_revocation_cuts_within_a_second_and_the_agent_keeps_still(hub_line: Line) -> None:
    """Its used join token stays where it is, as in a pod."""
    async with harness.agent(hub_line.hub, hub_line.light, name="revoked", enrol=True) as agent:
        old = json.loads((agent.directory / "agent.key").read_text())["current"]
        listed = await one_agent(hub_line, "revoked")
        entry = hub_line.entry("revoked")
        async with entry.session() as session, session.get(entry.at("/api/v1/namespaces?watch=1")) as watch:
            revoked_at = time.monotonic()
            await hub_line.api.must("DELETE", f"/v1/agents/{listed['id']}")
            with contextlib.suppress(aiohttp.ClientError):
                async with asyncio.timeout(30):
                    while await watch.content.read(65536):
                        pass
            took = time.monotonic() - revoked_at
        print(f"\na watch over a revoked agent ended {took:.2f} s after the request to revoke it")
        assert took <= 1.0 * room()
        assert await status_of(hub_line, "revoked") == 503

        async def told() -> bool:
            return "the agent that joined with this token was revoked at" in await asyncio.to_thread(readiness, agent)

        await until(told, what="the agent to say what became of its token")
        names = ("revoked-key-used", "revoked-token-used", "join-token-reused")
        before = [len(events(hub_line.hub.log, name)) for name in names]
        await asyncio.sleep(3)
        # The key once, a new one with the used token once, then 30 to 60 s of nothing; and nobody has stolen anything.
        assert [len(events(hub_line.hub.log, name)) for name in names] == before
        assert not any(event["agent"] == listed["id"] for event in events(hub_line.hub.log, "join-token-reused"))
        write_private(agent.directory / "join.token", (await hub_line.hub.api.join_token("revoked")).encode())
        await agent.connected()
        assert json.loads((agent.directory / "agent.key").read_text())["current"] != old
        items = [i for i in (await hub_line.api.must("GET", "/v1/agents"))["items"] if i["cluster"] == "revoked"]
        assert [item["revokedAt"] is None for item in items].count(True) == 1


async def test_deleting_a_cluster_cuts_within_a_second_and_a_new_one_of_the_name_takes_a_new_token(
    hub_line: Line,
) -> None:
    async with harness.agent(hub_line.hub, hub_line.light, name="reborn", enrol=True) as agent:
        (agent.directory / "join.token").unlink()
        entry = hub_line.entry("reborn")
        async with entry.session() as session, session.get(entry.at("/api/v1/namespaces?watch=1")) as watch:
            deleted_at = time.monotonic()
            await hub_line.api.must("DELETE", "/v1/clusters/reborn")
            with contextlib.suppress(aiohttp.ClientError):
                async with asyncio.timeout(30):
                    while await watch.content.read(65536):
                        pass
            took = time.monotonic() - deleted_at
        print(f"\na watch over a deleted cluster ended {took:.2f} s after the request to delete it")
        assert took <= 1.0 * room()
        old = json.loads((agent.directory / "agent.key").read_text())
        await hub_line.hub.api.create_cluster("reborn")
        await asyncio.sleep(1)
        assert not await hub_line.hub.api.connected("reborn")  # the old key means nothing to the new cluster
        write_private(agent.directory / "join.token", (await hub_line.hub.api.join_token("reborn")).encode())
        await agent.connected()
        new = json.loads((agent.directory / "agent.key").read_text())
        assert new["cluster_uid"] != old["cluster_uid"]
        assert await status_of(hub_line, "reborn") == 200


async def test_the_hubs_manifest_is_all_that_an_agent_needs(hub_line: Line) -> None:
    """Applied as it is to the API server; the agent has the rights, the empty Secret and the token that it gives."""
    await hub_line.light.kubectl("delete", "secret", "riata-agent-key", "-n", "riata-system", "--ignore-not-found")
    await hub_line.light.kubectl("delete", "role,rolebinding", "riata-agent-key", "-n", "riata-system")
    options = ["--key-secret", "riata-system/riata-agent-key"]
    agents = harness.agent(hub_line.hub, hub_line.light, name="manifested", enrol=True, options=options, wait=False)
    async with agents as agent:
        made = await hub_line.api.must("POST", "/v1/clusters/manifested/manifest", {})
        await hub_line.light.apply(made["manifest"])
        (token,) = set(re.findall(r"riatajoin_\w+", made["manifest"]))
        hub_line.api.made.append(token)
        write_private(agent.directory / "join.token", token.encode())
        await agent.restart()
        assert await status_of(hub_line, "manifested") == 200
        assert (await one_agent(hub_line, "manifested"))["id"] == made["joinToken"]
        await hub_line.light.kubectl("delete", "deployment", "riata-agent", "-n", "riata-system")
