"""kubectl logs, attach, cp, port-forward, top and rollout status through the line, on real pods."""

import asyncio
import hashlib
import itertools
import json
import os
import time
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.entry import Entry
from tests.e2e.kubectl import MODES, Running
from tests.e2e.pods import BOX, ECHO, IMAGE, NAMESPACE, TALKER, WEB, WEB_FILE_BYTES, WEB_PORT
from tests.e2e.upgrades import COMMAND, FORWARD, Upgrade, upgrades
from tests.e2e.waiting import until

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

CP_BYTES = 100 * 1024 * 1024
PARALLEL = 20


async def test_logs(full: Entry) -> None:
    kubectl = full.kubectl
    await asyncio.sleep(0.5)
    assert (await kubectl("logs", TALKER)).lines[:2] == ["line 1", "line 2"]
    assert len((await kubectl("logs", TALKER, "--tail=2")).lines) == 2
    stamped = (await kubectl("logs", TALKER, "--timestamps", "--limit-bytes=40")).stdout
    assert stamped.startswith("20")
    assert stamped[30:].lstrip().startswith("line 1")
    missing = await kubectl("logs", "no-such-pod", rc=1)
    assert 'pods "no-such-pod" not found' in missing.stderr


async def test_followed_logs_arrive_as_they_are_written(full: Entry) -> None:
    async with full.kubectl.running("logs", "-f", TALKER, "--tail=1") as follow:
        first = int((await follow.line()).split()[1])
        came = []
        for number in range(first + 1, first + 21):
            assert await follow.line() == f"line {number}"
            came.append(time.monotonic())
    # One line every 0.1 s in the pod: they must trickle, not come in lumps.
    gaps = [after - before for before, after in itertools.pairwise(came)]
    print(f"\n20 followed lines: longest gap {max(gaps) * 1e3:.0f} ms")
    assert max(gaps) < 1.0
    assert came[-1] - came[0] > 1.0


@pytest.mark.parametrize("mode", MODES)
async def test_attach_talks_to_the_running_program(full: Entry, mode: str) -> None:
    async with full.kubectl.over(mode).running("attach", "-v=8", "-i", ECHO) as attached:
        word = f"word-{mode}"
        # What is sent before the kubelet attached would be lost: wait for kubectl's own words.
        await _says(attached, "If you don't see a command prompt")
        await attached.send(f"{word}\n".encode())
        assert await attached.line() == f"got:{word}"
        assert upgrades(attached.stderr) == [COMMAND[mode]]


async def _says(running: Running, words: str) -> None:
    deadline = time.monotonic() + 15
    while words not in running.stderr:
        assert time.monotonic() < deadline, running.stderr
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("mode", MODES)
async def test_cp_both_ways(full: Entry, mode: str, tmp_path: Path) -> None:
    kubectl = full.kubectl.over(mode)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(CP_BYTES))
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    started = time.monotonic()
    up_log = (await kubectl("cp", "-v=8", str(source), f"{BOX}:/tmp/copied")).stderr
    up = time.monotonic() - started
    assert (await kubectl("exec", BOX, "--", "sha256sum", "/tmp/copied")).stdout.split()[0] == wanted
    started = time.monotonic()
    down_log = (await kubectl("cp", "-v=8", f"{BOX}:/tmp/copied", str(back))).stderr
    print(f"\n{mode}: 100 MiB up in {up:.1f} s, down in {time.monotonic() - started:.1f} s")
    assert hashlib.sha256(back.read_bytes()).hexdigest() == wanted
    assert _ways(up_log) == _ways(down_log) == {COMMAND[mode]}
    await kubectl("exec", BOX, "--", "rm", "/tmp/copied")


def _ways(log: str) -> set[Upgrade]:
    """cp runs several commands in the pod."""
    return set(upgrades(log))


@pytest.mark.parametrize("mode", MODES)
async def test_cp_of_a_directory(full: Entry, mode: str, tmp_path: Path) -> None:
    kubectl = full.kubectl.over(mode)
    for number in range(20):
        (tmp_path / "tree" / f"d{number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / f"d{number % 3}" / f"f{number}").write_text(str(number))
    up = await kubectl("cp", "-v=8", str(tmp_path / "tree"), f"{BOX}:/tmp/tree-{mode}")
    down = await kubectl("cp", "-v=8", f"{BOX}:/tmp/tree-{mode}", str(tmp_path / "back"))
    assert _ways(up.stderr) == _ways(down.stderr) == {COMMAND[mode]}
    found = {path.name: path.read_text() for path in (tmp_path / "back").rglob("f*")}
    assert found == {f"f{number}": str(number) for number in range(20)}


@pytest.mark.parametrize("mode", MODES)
async def test_port_forward_carries_parallel_requests(full: Entry, mode: str) -> None:
    kubectl = full.kubectl.over(mode)
    forward = ("port-forward", "-v=8", "--address=127.0.0.1", f"pod/{WEB}", f":{WEB_PORT}")
    async with kubectl.running(*forward) as forwarding, aiohttp.ClientSession() as session:
        said = await forwarding.line()
        assert said.startswith("Forwarding from 127.0.0.1:"), said
        base = f"http://127.0.0.1:{said.split()[2].rpartition(':')[2]}"
        sums = dict(reversed(line.split()) for line in (await _get(session, f"{base}/sums")).decode().splitlines())
        started = time.monotonic()
        bodies = await asyncio.gather(*(_get(session, f"{base}/{number}") for number in range(PARALLEL)))
        took = time.monotonic() - started
        for number, body in enumerate(bodies):
            assert len(body) == WEB_FILE_BYTES
            assert hashlib.sha256(body).hexdigest() == sums[str(number)]
        assert (await session.get(f"{base}/none")).status == 404
        assert upgrades(forwarding.stderr) == [FORWARD[mode]]
    print(f"\n{mode}: {PARALLEL} parallel requests of 256 KiB in {took * 1e3:.0f} ms")


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    # One connection each: parallel, and as the browser would open them.
    async with session.get(url, headers={"Connection": "close"}) as answer:
        assert answer.status == 200
        return await answer.read()


@pytest.mark.parametrize("mode", MODES)
async def test_port_forward_to_a_closed_port_says_so(full: Entry, mode: str) -> None:
    async with (
        full.kubectl.over(mode).running(
            "port-forward", "-v=8", "--address=127.0.0.1", f"pod/{WEB}", ":9"
        ) as forwarding,
        aiohttp.ClientSession() as session,
    ):
        port = (await forwarding.line()).split()[2].rpartition(":")[2]
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://127.0.0.1:{port}/")
        await _says(forwarding, "onnection refused")
        assert upgrades(forwarding.stderr) == [FORWARD[mode]]


async def test_top_reads_the_aggregated_metrics_api(full: Entry) -> None:
    kubectl = full.kubectl
    registered = json.loads((await kubectl("get", "apiservice", "v1beta1.metrics.k8s.io", "-o", "json")).stdout)
    assert registered["spec"]["service"]["name"], "served by a custom resource, not by an aggregated API server"
    nodes = (await kubectl("top", "nodes", "-v=6")).stderr
    assert "/apis/metrics.k8s.io/v1beta1/nodes" in nodes
    assert (await kubectl("top", "nodes", "--no-headers")).lines[0].startswith("node-1 ")

    async def shown() -> set[str]:
        """The kubelet looks at a new container every 10 s: until then a pod has no figures."""
        lines = (await kubectl("top", "pods", "--no-headers", rc=None)).lines
        found = {line.split()[0] for line in lines}
        return found if {BOX, ECHO, TALKER, WEB} <= found else set()

    await until(shown, what="figures of the shared pods", within=40, every=0.5)
    one = (await kubectl("top", "pod", TALKER, "--containers", "--no-headers")).lines[0].split()
    assert one[:2] == [TALKER, "main"]
    listed = await kubectl("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods")
    assert json.loads(listed.stdout)["kind"] == "PodMetricsList"


async def test_rollout_status_of_a_deployment(full: Entry) -> None:
    kubectl = full.kubectl
    await kubectl("create", "-f", "-", stdin=json.dumps(deployment("rolled", replicas=2)).encode())
    try:
        status = await kubectl("rollout", "status", "deployment/rolled", "--timeout=60s", within=70)
        assert 'deployment "rolled" successfully rolled out' in status.stdout
        await kubectl("wait", "--for=condition=Available", "deployment/rolled", "--timeout=30s")
        await kubectl("scale", "deployment/rolled", "--replicas=1")
        await kubectl("rollout", "restart", "deployment/rolled")
        await kubectl("rollout", "status", "deployment/rolled", "--timeout=60s", within=70)
        assert len((await kubectl("rollout", "history", "deployment/rolled")).lines) >= 3
    finally:
        await kubectl("delete", "deployment", "rolled", "--wait=false")
        await kubectl("delete", "pods", "-l", "app=rolled", "--force", "--grace-period=0")


def deployment(name: str, replicas: int) -> dict[str, object]:
    """A deployment of idle pods."""
    labels = {"app": name}
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "100000"]}
    spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
