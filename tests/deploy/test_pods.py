"""The images and the manifests in a real cluster: real pods, their ServiceAccounts, kubectl through the hub."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from deploy.helm import plain, render
from hub.clusters.manifest import dump
from proto.pins import pins_of_pem
from tests import harness
from tests.deploy.conftest import Archives
from tests.harness import Cluster, Hub, Result, execute, kubectl, tools
from tests.harness.node import BRIDGE

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="session")]

NAMESPACE = "riata-system"
NAME = "pods"
LOOK = (
    "import os, pathlib\n"
    "print(os.getuid(), os.getgid())\n"
    "try: pathlib.Path('/x').write_text('')\n"
    "except OSError as error: print(error.strerror)\n"
    "print(pathlib.Path('/bin/sh').exists(), pathlib.Path('/usr/bin/dpkg').exists())"
)


@dataclass
class Installed:
    """A hub on this machine, and the agents in the pods of `cluster`."""

    hub: Hub
    cluster: Cluster
    kubeconfig: Path

    async def kubectl(self, *arguments: str) -> Result:
        """Through the hub."""
        return await kubectl(self.kubeconfig, *arguments, timeout=60)

    async def pods(self) -> list[dict[str, Any]]:
        arguments = ("get", "pods", "--namespace", NAMESPACE, "-l", "app.kubernetes.io/name=riata-agent", "-o", "json")
        found = json.loads((await self.cluster.kubectl(*arguments)).check().stdout)["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]


async def rolled_out(cluster: Cluster, what: str, timeout_s: int = 120) -> None:
    """Wait for it; a failure shows what its pods say."""
    arguments = ("rollout", "status", what, "--namespace", NAMESPACE, f"--timeout={timeout_s}s")
    result = await cluster.kubectl(*arguments, timeout=timeout_s + 10)
    if result.rc != 0:
        described = await cluster.kubectl("describe", "pods", "--namespace", NAMESPACE)
        logs = await cluster.kubectl("logs", what, "--namespace", NAMESPACE, "--all-containers", "--tail=20")
        pytest.fail(f"{result.stderr}\n{described.stdout[-5000:]}\n{logs.stdout}{logs.stderr}")


def agent_manifest(url: str, pin: str, ca: str, token: str) -> str:
    """The chart's objects as plain manifests, as they are."""
    values = {
        "namespace": {"create": True},
        "hub": {"url": url, "caPins": [pin], "ca": ca},
        "token": {"value": token},
    }
    return dump(plain(render("riata-agent", values)))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installed(full_cluster: Cluster, archives: Archives) -> AsyncIterator[Installed]:
    for name in ("riata-agent", "riata-agent:next"):
        await full_cluster.import_image(archives[name])
    async with harness.hub(name="hub-of-pods") as hub:
        url = hub.url_on(full_cluster.hub_host)
        await full_cluster.allow_hub(int(url.rpartition(":")[2]))
        await hub.api.create_cluster(NAME)
        token = await hub.api.agent_token(NAME)
        manifest = agent_manifest(url, hub.ca_pin, hub.ca_file.read_text(), token)
        applied = (await full_cluster.kubectl("apply", "-f", "-", stdin=manifest)).check()
        assert "Warning" not in applied.stderr, "Pod Security would refuse or warn here"
        try:
            await rolled_out(full_cluster, "deployment/riata-agent")
            yield Installed(hub, full_cluster, await harness.kubeconfig(hub, NAME))
        finally:
            # The namespace and the rights stay: agents of other tests use them.
            for kind in ("deployment", "poddisruptionbudget", "networkpolicy"):
                await full_cluster.kubectl("delete", kind, "riata-agent", "--namespace", NAMESPACE, "--wait")
            arguments = ("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=riata-agent", "--timeout=60s")
            await full_cluster.kubectl(*arguments, "--namespace", NAMESPACE, timeout=70)


async def test_two_agents_run_as_restricted_pods(installed: Installed) -> None:
    pods = await installed.pods()
    assert [pod["status"]["phase"] for pod in pods] == ["Running", "Running"]
    for pod in pods:
        (status,) = pod["status"]["containerStatuses"]
        assert (status["ready"], status["restartCount"]) == (True, 0)
        assert pod["spec"]["serviceAccountName"] == "riata-agent"
    namespace = await installed.cluster.kubectl("get", "namespace", NAMESPACE, "-o", "jsonpath={.metadata.labels}")
    assert json.loads(namespace.check().stdout)["pod-security.kubernetes.io/enforce"] == "restricted"


async def test_kubectl_through_the_hub_reaches_the_cluster(installed: Installed) -> None:
    who = (await installed.kubectl("auth", "whoami", "-o", "json")).check()
    assert json.loads(who.stdout)["status"]["userInfo"]["groups"][-2:] == [
        "riata:hub:cluster-admins",
        "system:authenticated",
    ]
    nodes = (await installed.kubectl("get", "nodes", "-o", "name")).check()
    assert nodes.stdout.split() == ["node/node-1"]


async def test_the_image_is_what_it_should_be(installed: Installed) -> None:
    """Looked at from inside the agent's own pod, with an exec that it carries itself."""
    name = (await installed.pods())[0]["metadata"]["name"]
    command = ("exec", "--namespace", NAMESPACE, name, "--", "python3", "-I", "-c", LOOK)
    said = (await installed.kubectl(*command)).check().stdout
    assert said.splitlines() == ["65532 65532", "Read-only file system", "False False"]
    version = (
        await installed.kubectl("exec", "--namespace", NAMESPACE, name, "--", "riata-agent", "--version")
    ).check()
    assert version.stdout.startswith("riata-agent ")


@asynccontextmanager
async def reading(installed: Installed) -> AsyncIterator[list[str]]:
    """Reads through the hub, one after the other, until the block ends; the failures."""
    failures: list[str] = []
    done = asyncio.Event()
    count = 0

    async def read() -> None:
        nonlocal count
        while not done.is_set():
            result = await installed.kubectl("get", "--raw", "/api/v1/namespaces/default")
            count += 1
            if result.rc != 0:
                failures.append(result.stderr)

    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(read(), name=f"reader {number}")
        try:
            yield failures
        finally:
            done.set()
    assert count > 10


async def test_a_pod_that_is_deleted_comes_back_and_nobody_notices(installed: Installed) -> None:
    before = {pod["metadata"]["uid"] for pod in await installed.pods()}
    name = (await installed.pods())[0]["metadata"]["name"]
    async with reading(installed) as failures:
        (await installed.cluster.kubectl("delete", "pod", name, "--namespace", NAMESPACE, "--wait")).check()
        await rolled_out(installed.cluster, "deployment/riata-agent")
    assert failures == []
    assert len({pod["metadata"]["uid"] for pod in await installed.pods()} - before) == 1


async def test_another_version_rolls_out_under_load(installed: Installed) -> None:
    async with reading(installed) as failures:
        arguments = ("set", "image", "deployment/riata-agent", "agent=riata-agent:next", "--namespace", NAMESPACE)
        (await installed.cluster.kubectl(*arguments)).check()
        await rolled_out(installed.cluster, "deployment/riata-agent")
        await asyncio.sleep(1)
    assert failures == []
    assert {pod["spec"]["containers"][0]["image"] for pod in await installed.pods()} == {"riata-agent:next"}


# --- the hub as a pod ----------------------------------------------------------------------------------------------

ADDRESS = "10.0.0.50"
TOKEN = "import pathlib; f = pathlib.Path('/var/lib/riata/admin.token'); print(f.read_text(), end=''); f.unlink()"
VOLUME = {
    "apiVersion": "v1",
    "kind": "PersistentVolume",
    "metadata": {"name": "hub"},
    "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"]},
}


@dataclass
class Inside:
    """A cluster that runs the hub; everything is done from within its network, for nothing else reaches it."""

    cluster: Cluster
    directory: Path

    async def route(self) -> None:
        """What kube-proxy would do: the Service's address leads to the hub's pod."""
        arguments = ("get", "pod", "riata-hub-0", "--namespace", NAMESPACE, "-o", "jsonpath={.status.podIP}")
        pod = (await self.cluster.kubectl(*arguments)).check().stdout
        rules = "".join(
            f"add chain ip hub {name} {{ type nat hook {name} priority {priority}; }}\n{rule}\n"
            for name, priority, rule in (
                ("prerouting", -101, f"add rule ip hub prerouting ip daddr {ADDRESS} tcp dport 443 dnat to {pod}:8443"),
                ("output", -101, f"add rule ip hub output ip daddr {ADDRESS} tcp dport 443 dnat to {pod}:8443"),
                ("postrouting", 99, f"add rule ip hub postrouting ip daddr {pod} ct status dnat masquerade"),
            )
        )
        # Without it a program of the node itself would leave by the uplink, as the firewall sees it, and be dropped.
        way = ["ip", "route", "replace", f"{ADDRESS}/32", "dev", BRIDGE]
        (await execute([*self.cluster.command_prefix, *way], timeout=15)).check()
        command = [*self.cluster.command_prefix, "nft", "-f", "-"]
        text = f"add table ip hub\ndelete table ip hub\nadd table ip hub\n{rules}"
        (await execute(command, stdin=text, timeout=15)).check()

    async def in_hub(self, *command: str) -> str:
        arguments = ("exec", "--namespace", NAMESPACE, "riata-hub-0", "--container", "hub", "--", *command)
        return (await self.cluster.kubectl(*arguments)).check().stdout

    async def riata(self, *arguments: str) -> str:
        environment = {
            "RIATA_HUB": f"https://{ADDRESS}",
            "RIATA_CA_FILE": str(self.directory / "ca.crt"),
            "RIATA_TOKEN_FILE": str(self.directory / "admin.token"),
            "RIATA_CONFIG": str(self.directory / "config.yaml"),
        }
        command = [*self.cluster.command_prefix, *tools.console_script("riata", "ctl"), *arguments]
        return (await execute(command, env=environment, timeout=90)).check().stdout

    async def through_hub(self, *arguments: str) -> Result:
        path = self.directory / "hub.kubeconfig"
        return await kubectl(path, *arguments, prefix=self.cluster.command_prefix)


@pytest.mark.timeout(400)
async def test_the_hub_runs_as_a_pod_and_keeps_what_it_knows(archives: Archives, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(harness.full("with-hub"))
        inside = Inside(cluster, tmp_path)
        for name in ("riata-hub", "riata-agent"):
            await cluster.import_image(archives[name])
        volume = cluster.directory / "hub-volume"
        volume.mkdir()
        shutil.chown(volume, 65532, 65532)
        VOLUME["spec"]["hostPath"] = {"path": str(volume)}  # type: ignore[index]
        await cluster.apply(json.dumps(VOLUME))
        values = {
            "namespace": {"create": True},
            "publicUrl": f"https://{ADDRESS}",
            "service": {"clusterIP": ADDRESS},
            "tls": {"names": [ADDRESS]},
            "drainDelaySeconds": 1,
        }
        await cluster.apply(dump(plain(render("riata-hub", values))))
        await rolled_out(cluster, "statefulset/riata-hub")
        await inside.route()

        (tmp_path / "admin.token").touch(mode=0o600)
        (tmp_path / "admin.token").write_text(await inside.in_hub("python3", "-I", "-c", TOKEN))
        look = "import pathlib; print(pathlib.Path('/var/lib/riata/hub/tls/ca.crt').read_text(), end='')"
        (tmp_path / "ca.crt").write_text(await inside.in_hub("python3", "-I", "-c", look))
        await inside.riata("clusters", "create", "self")
        await inside.riata("agent-tokens", "create", "self", "--write-token", str(tmp_path / "agent.token"))
        ca = (tmp_path / "ca.crt").read_text()
        token = (tmp_path / "agent.token").read_text().strip()
        await cluster.apply(agent_manifest(f"https://{ADDRESS}", pins_of_pem(ca.encode())[0], ca, token))
        await rolled_out(cluster, "deployment/riata-agent")
        await inside.riata("clusters", "wait", "self", "--timeout", "60s")
        (tmp_path / "hub.kubeconfig").touch(mode=0o600)
        (tmp_path / "hub.kubeconfig").write_text(await inside.riata("kubeconfig", "self"))
        assert "riata-hub-0" in (await inside.through_hub("get", "pods", "--namespace", NAMESPACE)).check().stdout

        (await cluster.kubectl("delete", "pod", "riata-hub-0", "--namespace", NAMESPACE, "--wait")).check()
        await rolled_out(cluster, "statefulset/riata-hub")
        await inside.route()
        await inside.riata("clusters", "wait", "self", "--timeout", "60s")
        assert "riata-hub-0" in (await inside.through_hub("get", "pods", "--namespace", NAMESPACE)).check().stdout
