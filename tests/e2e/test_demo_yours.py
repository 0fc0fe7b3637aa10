"""`riata demo --kubeconfig`: clusters that the user has, by what the kubeconfigs of users hold."""

import json
import os
import pathlib
import re
import signal
from typing import Any

import pytest
import yaml

from tests import harness
from tests.e2e.demos import started
from tests.harness import Cluster, tools
from tests.room import room

READY_S = 20.0
"""«In seconds», on a machine with two cores that other tests use too."""

_PLUGIN = """\
#!/bin/sh
case $KUBERNETES_EXEC_INFO in *ExecCredential*) ;; *) exit 9 ;; esac
printf '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}' \\
  "$(cat "$1")"
"""


async def _bindings(cluster: Cluster) -> list[str]:
    selector = "--selector=app.kubernetes.io/managed-by=riata-demo"
    return (await cluster.kubectl("get", "clusterrolebindings", selector, "-o", "name")).check().stdout.split()


@pytest.mark.light
async def test_the_users_own_cluster_by_its_kubeconfig(light_cluster: Cluster, tmp_path: pathlib.Path) -> None:
    kubeconfig = str(light_cluster.admin_kubeconfig)
    async with started(tmp_path, "--kubeconfig", kubeconfig, temporary=tmp_path) as demo:
        print(f"the demo was ready after {demo.took_s:.1f} s")
        assert demo.took_s <= READY_S * room()
        (cluster,) = demo.made["clusters"]
        assert cluster["size"] == "yours"
        namespaces = (await demo.kubectl(cluster["context"], "get", "namespaces", "-o", "name")).check()
        assert "namespace/kube-system" in namespaces.stdout
        who = (await demo.kubectl(cluster["context"], "auth", "whoami")).check()
        assert "riata:admin" in who.stdout
        assert len(await _bindings(light_cluster)) == 1
        assert await demo.end(signal.SIGINT) == 0
        demo.assert_gone()
    assert await _bindings(light_cluster) == []
    assert "ClusterRoleBinding riata-demo-" in demo.errors.read_text()


async def _two_contexts(cluster: Cluster, directory: pathlib.Path) -> pathlib.Path:
    """The cluster twice: by a plugin beside the file and another name in the certificate, and by a certificate."""
    await cluster.kubectl("create", "serviceaccount", "plugin-user")
    bound = ("create", "clusterrolebinding", "plugin-user", "--clusterrole=cluster-admin")
    await cluster.kubectl(*bound, "--serviceaccount=default:plugin-user")
    token = (await cluster.kubectl("create", "token", "plugin-user")).check().stdout
    (directory / "token").touch(mode=0o600)
    (directory / "token").write_text(token)
    (directory / "get-token").write_text(_PLUGIN)
    (directory / "get-token").chmod(0o700)
    loaded: dict[str, Any] = yaml.safe_load(cluster.admin_kubeconfig.read_text())
    own = loaded["clusters"][0]["cluster"]
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./get-token", "interactiveMode": "Never"}
    loaded["clusters"].append({"name": "managed", "cluster": {**own, "tls-server-name": "kubernetes.default"}})
    loaded["users"].append({"name": "managed", "user": {"exec": {**exec_, "args": [str(directory / "token")]}}})
    loaded["contexts"].append({"name": "managed@cloud", "context": {"cluster": "managed", "user": "managed"}})
    kubeconfig = directory / "config"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(json.dumps(loaded))
    return kubeconfig


@pytest.mark.light
async def test_two_contexts_one_of_them_with_an_exec_plugin(light_cluster: Cluster, tmp_path: pathlib.Path) -> None:
    kubeconfig = await _two_contexts(light_cluster, tmp_path)
    admin = yaml.safe_load(kubeconfig.read_text())["current-context"]
    options = ("--kubeconfig", str(kubeconfig), "--context", "managed@cloud", "--context", admin)
    async with started(tmp_path, *options, temporary=tmp_path) as demo:
        print(f"the demo was ready after {demo.took_s:.1f} s")
        assert demo.took_s <= READY_S * room()
        assert [cluster["name"] for cluster in demo.made["clusters"]] == ["managed-cloud", admin]
        assert {"managed-cloud/agent", f"{admin}/agent"} <= demo.made["pids"].keys()
        for cluster in demo.made["clusters"]:
            who = (await demo.kubectl(cluster["context"], "auth", "whoami")).check()
            assert "riata:admin" in who.stdout
            (await demo.kubectl(cluster["context"], "get", "secrets", "--all-namespaces")).check()
        assert len(await _bindings(light_cluster)) == 2
        assert await demo.end(signal.SIGTERM) == 0
        demo.assert_gone()
    assert await _bindings(light_cluster) == []


@pytest.mark.light
async def test_after_a_sigkill_the_next_one_cleans_up_and_names_the_rest(
    light_cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    options = ("--kubeconfig", str(light_cluster.admin_kubeconfig))
    async with started(tmp_path, *options, temporary=tmp_path) as killed:
        assert await killed.end(signal.SIGKILL) == -signal.SIGKILL
    left = pathlib.Path(killed.made["kubeconfig"]).parent
    (binding,) = await _bindings(light_cluster)
    assert (left / "hub").is_dir()
    async with started(tmp_path, *options, temporary=tmp_path) as demo:
        assert not left.exists()
        said = demo.errors.read_text()
        assert f"removed what a killed demo left: {left}\n" in said
        assert await demo.end(signal.SIGTERM) == 0
    (command,) = re.findall(r"^  (kubectl .*)$", said, re.MULTILINE)
    path = os.pathsep.join([str(pathlib.Path(tools.kube("kubectl")).parent), os.environ["PATH"]])
    (await harness.execute(["sh", "-c", command], env={"PATH": path, "HOME": str(tmp_path)})).check()
    assert binding.endswith(command.split()[-2])
    assert await _bindings(light_cluster) == []
