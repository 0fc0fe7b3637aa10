"""The hub as a pod of a real cluster, with its own agents beside it."""

import json
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.helm import plain, render
from hub.clusters.manifest import dump
from proto.versions import PRODUCT_VERSION
from tests import harness
from tests.deploy.conftest import Archives
from tests.deploy.test_pods import NAMESPACE, rolled_out
from tests.harness import Cluster, Result, execute, kubectl, tools
from tests.harness.node import BRIDGE

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="session")]

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
        image = f"riata-agent:{PRODUCT_VERSION}"
        await cluster.apply(await inside.riata("clusters", "manifest", "self", "--image", image))
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
