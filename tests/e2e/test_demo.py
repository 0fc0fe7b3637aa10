"""`riata demo` as a user starts it: ready in time, worth trying, and gone afterwards."""

import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests import harness
from tests.e2e.survivors import survey
from tests.harness import Cluster, tools
from tests.harness.children import launched
from tests.harness.runs import state_root

READY_S = 60.0
"""What the demo promises with its tools built."""


@dataclasses.dataclass
class Demo:
    process: asyncio.subprocess.Process
    errors: pathlib.Path
    made: dict[str, Any]
    took_s: float

    async def kubectl(self, context: str, *arguments: str) -> harness.Result:
        return await harness.kubectl(pathlib.Path(self.made["kubeconfig"]), "--context", context, *arguments)

    async def end(self, number: int) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)


@contextlib.asynccontextmanager
async def started(directory: pathlib.Path, *arguments: str) -> AsyncIterator[Demo]:
    """The demo, from its command line to the one JSON object; killed at the end when a test has not ended it."""
    errors = directory / "demo.err"
    command = [*tools.console_script("riata", "ctl"), "demo", "-o", "json", *arguments]
    with errors.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *launched(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            env={**os.environ, "TMPDIR": str(directory)} if arguments else None,
        )
    began = time.monotonic()
    try:
        yield Demo(process, errors, await _document(process, errors), time.monotonic() - began)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        assert process.stdout is not None
        process.stdout.feed_eof()


async def _document(process: asyncio.subprocess.Process, errors: pathlib.Path) -> dict[str, Any]:
    assert process.stdout is not None
    text = b""
    async with asyncio.timeout(150):
        while chunk := await process.stdout.read(65536):
            text += chunk
            with contextlib.suppress(ValueError):
                found: dict[str, Any] = json.loads(text)
                return found
    raise AssertionError(f"no JSON object: {text!r}\n{errors.read_text()}")


def _runs(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _gone(demo: Demo) -> None:
    assert [role for role, pid in demo.made["pids"].items() if _runs(pid)] == []
    assert not pathlib.Path(demo.made["kubeconfig"]).exists()


@pytest.mark.light
@pytest.mark.timeout(300)
async def test_three_clusters_within_a_minute_and_nothing_of_them_after_sigterm(tmp_path: pathlib.Path) -> None:
    async with started(tmp_path) as demo:
        print(f"the demo was ready after {demo.took_s:.1f} s")
        assert demo.took_s <= READY_S
        full = harness.full_obstacle() is None
        assert [c["size"] for c in demo.made["clusters"]] == ["full" if full else "light", "light", "light"]
        assert {"hub", "alpha/agent", "beta/agent", "gamma/agent", "beta/kube-apiserver"} <= demo.made["pids"].keys()
        for cluster in demo.made["clusters"]:
            ready = (await demo.kubectl(cluster["context"], "get", "deployment", "hello", "-o", "name")).check()
            assert ready.stdout == "deployment.apps/hello\n"
        if full:
            await _pods_are_real(demo)
        run = pathlib.Path(demo.made["ca_file"]).relative_to(state_root()).parts[0]
        assert survey(run).lives()
        assert await demo.end(signal.SIGTERM) == 0
        _gone(demo)
        assert not survey(run).lives()
        assert not (state_root() / run).exists()


async def _pods_are_real(demo: Demo) -> None:
    shown = await demo.kubectl("riata-alpha", "exec", "deployment/hello", "--", "cat", "/tmp/www/index.html")
    assert shown.check().stdout == "hello from riata\n"
    logs = await demo.kubectl("riata-alpha", "logs", "deployment/hello", "--tail=1")
    assert logs.check().stdout.startswith("hello ")


@pytest.mark.light
@pytest.mark.timeout(120)
async def test_an_interrupt_while_it_starts_leaves_nothing(tmp_path: pathlib.Path) -> None:
    errors, before = tmp_path / "demo.err", _run_names()
    with errors.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *launched([*tools.console_script("riata", "ctl"), "demo"]), stdout=output, stderr=output
        )
    await asyncio.sleep(4)
    (run,) = _run_names() - before
    assert survey(run).lives()
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 60) == 130
    assert "ended before it was ready" in errors.read_text()
    assert not survey(run).lives()
    assert not (state_root() / run).exists()


def _run_names() -> set[str]:
    root = state_root()
    return (
        {entry.name for entry in root.iterdir() if re.fullmatch("r[0-9a-f]{6}", entry.name)} if root.exists() else set()
    )


@pytest.mark.light
async def test_the_users_own_cluster_by_its_kubeconfig(light_cluster: Cluster, tmp_path: pathlib.Path) -> None:
    kubeconfig = str(light_cluster.admin_kubeconfig)
    async with started(tmp_path, "--kubeconfig", kubeconfig) as demo:
        print(f"the demo was ready after {demo.took_s:.1f} s")
        (cluster,) = demo.made["clusters"]
        assert cluster["size"] == "yours"
        namespaces = (await demo.kubectl(cluster["context"], "get", "namespaces", "-o", "name")).check()
        assert "namespace/kube-system" in namespaces.stdout
        who = (await demo.kubectl(cluster["context"], "auth", "whoami")).check()
        assert "riata:admin" in who.stdout
        assert len(await _bindings(light_cluster)) == 1
        assert await demo.end(signal.SIGINT) == 0
        _gone(demo)
    assert await _bindings(light_cluster) == []
    assert "ClusterRoleBinding riata-demo-" in demo.errors.read_text()


async def _bindings(cluster: Cluster) -> list[str]:
    selector = "--selector=app.kubernetes.io/managed-by=riata-demo"
    return (await cluster.kubectl("get", "clusterrolebindings", selector, "-o", "name")).check().stdout.split()
