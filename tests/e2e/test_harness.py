"""The harness itself: clusters come up quickly, work without riata, and leave nothing, however their run ends."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import harness
from tests.e2e.survivors import Survey, survey
from tests.e2e.waiting import until
from tests.harness import images, janitor, tools
from tests.harness.children import RUN_VARIABLE, launched
from tests.harness.runs import Run, state_root
from tests.room import room

_LIGHT_READY_S = 10.0
_THOUSAND_READY_S = 90.0
_CROWDED_READY_S = 120.0
_BOTH_WAYS = pytest.mark.parametrize("websockets", ["true", "false"], ids=["websocket", "spdy"])


def _way(websockets: str) -> dict[str, str]:
    return {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets, "KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets}


@pytest.mark.light
async def test_light_cluster_is_ready_within_ten_seconds() -> None:
    started = time.monotonic()
    async with harness.light("quick") as cluster:
        took = time.monotonic() - started
        print(f"light cluster ready after {took:.1f} s")
        version = json.loads((await cluster.kubectl("version", "-o", "json")).check().stdout)
        assert version["serverVersion"]["gitVersion"] == "v1.37.2"
    assert took <= _LIGHT_READY_S * room()


@pytest.mark.light
async def test_two_light_clusters_start_side_by_side() -> None:
    async with harness.light("left") as left, harness.light("right") as right:
        assert left.url != right.url
        results = await asyncio.gather(*(each.kubectl("get", "--raw", "/readyz") for each in (left, right)))
    assert [result.stdout for result in results] == ["ok", "ok"]


async def test_an_agent_pod_has_a_bound_short_token_and_one_right(
    light_cluster: harness.Cluster, tmp_path: Path
) -> None:
    pod = await light_cluster.agent_pod(tmp_path / "pod")
    names = sorted(each.name for each in pod.directory.iterdir())
    token = pod.token_file.read_text()
    as_agent = ("--token", token, "--server", light_cluster.url, "--certificate-authority", str(pod.ca_file))
    nobody = tmp_path / "none"
    nobody.write_text("")
    answers = {}
    for verb, what in (("impersonate", "users"), ("get", "secrets"), ("list", "pods")):
        answers[what] = (await harness.kubectl(nobody, *as_agent, "auth", "can-i", verb, what)).stdout.strip()
    renewed = pod.rotate()
    pod.close()
    assert names == ["ca.crt", "namespace", "token"]
    assert answers == {"users": "yes", "secrets": "no", "pods": "no"}
    assert renewed != token


@pytest.mark.light
async def test_a_thousand_simulated_nodes_and_their_pods_are_ready() -> None:
    started = time.monotonic()
    async with harness.light("many", kwok_nodes=1000, kwok_pods=200) as cluster:
        took = time.monotonic() - started
        print(f"1000 nodes and 200 pods after {took:.1f} s")
        nodes = (await cluster.kubectl("get", "nodes", "--no-headers")).stdout.splitlines()
        pods = (await cluster.kubectl("get", "pods", "-n", "simulated", "--no-headers")).stdout.splitlines()
    assert took <= _THOUSAND_READY_S
    assert len(nodes) == 1000
    assert len(pods) == 200
    assert all(" Ready " in line for line in nodes)
    assert all(" Running " in line for line in pods)


@pytest.mark.full
async def test_simulated_nodes_stand_beside_the_real_one() -> None:
    started = time.monotonic()
    async with harness.full("crowded", kwok_nodes=200) as cluster:
        took = time.monotonic() - started
        print(f"a full cluster with 200 simulated nodes after {took:.1f} s")
        nodes = (await cluster.kubectl("get", "nodes", "--no-headers")).check().stdout.splitlines()
        simulated = (await cluster.kubectl("get", "nodes", "-l", "type=kwok", "-o", "name")).check().stdout.splitlines()
        await _box(cluster, "real")
        place = await cluster.kubectl("get", "pod", "real", "-o", "jsonpath={.spec.nodeName}")
    assert took <= _CROWDED_READY_S
    assert (len(nodes), len(simulated)) == (201, 200)
    assert all(" Ready " in line for line in nodes)
    assert place.stdout == "node-1"


# --- real pods ------------------------------------------------------------------------------------------------------


async def _box(cluster: harness.Cluster, name: str, *command: str) -> None:
    arguments = ["run", name, f"--image={images.BOX}", "--image-pull-policy=Never", "--restart=Never"]
    overrides = {"spec": {"terminationGracePeriodSeconds": 0}}
    (await cluster.kubectl(*arguments, f"--overrides={json.dumps(overrides)}", *command)).check()
    (await cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout=70)).check()


@_BOTH_WAYS
async def test_exec_logs_cp_and_port_forward_in_real_pods(
    full_cluster: harness.Cluster, websockets: str, tmp_path: Path
) -> None:
    name, way = f"box-{websockets}", _way(websockets)
    script = "echo started; mkdir /tmp/www; echo served > /tmp/www/f; exec httpd -f -p 8080 -h /tmp/www"
    await _box(full_cluster, name, "--", "sh", "-c", script)
    ended = await full_cluster.kubectl("exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 3", env=way)
    piped = await full_cluster.kubectl("exec", "-i", name, "--", "sha256sum", stdin=b"x" * 1_000_000, env=way)
    logs = (await full_cluster.kubectl("logs", name)).check()
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3_000_000))
    (await full_cluster.kubectl("cp", str(big), f"{name}:/tmp/big", env=way)).check()
    (await full_cluster.kubectl("cp", f"{name}:/tmp/big", str(tmp_path / "back"), env=way)).check()
    served = await _through_port_forward(full_cluster, name, way)
    (await full_cluster.kubectl("delete", "pod", name, "--now", "--wait=false")).check()
    assert (ended.rc, ended.stdout) == (3, "out\n")
    assert "err\n" in ended.stderr
    assert piped.check().stdout.split()[0] == hashlib.sha256(b"x" * 1_000_000).hexdigest()
    assert logs.stdout == "started\n"
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    assert served == b"served\n"


async def _through_port_forward(cluster: harness.Cluster, name: str, way: dict[str, str]) -> bytes:
    """One GET through `kubectl port-forward`, from inside the cluster's network, where kubectl listens."""
    command = harness.kubectl_command(
        cluster.admin_kubeconfig, "port-forward", name, "18080:8080", prefix=cluster.command_prefix
    )
    process = await asyncio.create_subprocess_exec(
        *launched(command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **way}
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        assert line.startswith(b"Forwarding from"), line
        fetch = [*cluster.command_prefix, "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:18080/f"]
        return (await harness.execute(fetch, timeout=20)).check().stdout_bytes
    finally:
        process.kill()
        await process.communicate()


async def test_top_shows_the_node_and_a_pod(full_cluster: harness.Cluster) -> None:
    await _box(full_cluster, "measured")
    nodes = (await full_cluster.kubectl("top", "nodes", "--no-headers")).check().stdout
    assert nodes.startswith("node-1 ")
    # The kubelet looks at a new container every 10 s.
    await until(lambda: _shown(full_cluster, "measured"), what="kubectl top pod", within=40, every=0.5)


async def _shown(cluster: harness.Cluster, pod: str) -> bool:
    return (await cluster.kubectl("top", "pod", pod, "--no-headers")).stdout.startswith(f"{pod} ")


# --- the network of a full cluster ------------------------------------------------------------------------------------


async def test_nothing_reaches_into_a_full_cluster(full_cluster: harness.Cluster) -> None:
    uplink = await harness.execute([*full_cluster.command_prefix, "ip", "-o", "-4", "address", "show", "uplink"])
    address = uplink.check().stdout.split()[3].partition("/")[0]
    for port in (6443, 10250, 22):
        with pytest.raises(TimeoutError):
            socket.create_connection((address, port), timeout=1).close()


async def test_a_full_cluster_dials_the_hub_and_nothing_else(full_cluster: harness.Cluster) -> None:
    def listener() -> socket.socket:
        return socket.create_server((full_cluster.hub_host, 0))

    with listener() as hub, listener() as other:
        hub_port, other_port = hub.getsockname()[1], other.getsockname()[1]
        await full_cluster.allow_hub(hub_port)
        allowed = await _dials(full_cluster, full_cluster.hub_host, hub_port)
        refused = await _dials(full_cluster, full_cluster.hub_host, other_port)
    assert allowed
    assert not refused


def _nc(host: str, port: int) -> list[str]:
    return ["nc", "-w", "2", host, str(port), "-e", "true"]  # ends with 0 as soon as it is connected


async def _dials(cluster: harness.Cluster, host: str, port: int) -> bool:
    command = [*cluster.command_prefix, "busybox", *_nc(host, port)]
    return (await harness.execute(command, timeout=20)).rc == 0


async def test_a_pod_dials_the_hub_and_its_own_api_server(full_cluster: harness.Cluster) -> None:
    await _box(full_cluster, "dialler")
    with socket.create_server((full_cluster.hub_host, 0)) as hub:
        port: int = hub.getsockname()[1]
        await full_cluster.allow_hub(port)
        results = {}
        targets = {
            "hub": (full_cluster.hub_host, port),
            "service": ("10.0.0.1", 443),
            "else": (full_cluster.hub_host, 9),
        }
        for name, target in targets.items():
            results[name] = (await full_cluster.kubectl("exec", "dialler", "--", *_nc(*target))).rc == 0
    assert results == {"hub": True, "service": True, "else": False}


# --- ends -------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _elsewhere(*command: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Survey]]:
    """A Python process with a cluster in it; and what the machine shows of it."""
    process = await asyncio.create_subprocess_exec(
        *launched([sys.executable, *command]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(tools.REPOSITORY)},
    )
    try:
        yield process, survey(await _announced(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _announced(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    said = []
    async with asyncio.timeout(120):
        while line := (await process.stdout.readline()).decode():
            said.append(line)
            if line.startswith("run "):
                return line.split()[1]
    raise AssertionError(f"no run: {''.join(said)}")


async def _gone(run: str) -> bool:
    return not survey(run).lives()


async def _nothing_is_left_of(before: Survey) -> None:
    await until(lambda: _gone(before.run), what="the run's end", within=10)
    janitor.sweep(state_root())
    assert not (state_root() / before.run).exists()
    assert not [group for group in before.cgroups if group.exists()]


def _looks_like(found: Survey, size: str) -> None:
    """See that the survey sees: without it, a blind one would find nothing afterwards either."""
    assert len(found.processes) >= (8 if size == "full" else 2)
    assert bool(found.links) == (size == "full")
    kinds = Counter(name.partition(":")[0] for name in found.namespaces)
    if size == "full":  # the node's own, and those of the pod
        assert min(kinds[kind] for kind in ("pid", "net", "mnt")) >= 2
    else:
        assert not kinds


_SIZES = [pytest.param(size, marks=getattr(pytest.mark, size)) for size in ("light", "full")]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
@pytest.mark.parametrize("size", _SIZES)
async def test_the_end_of_a_run_is_the_end_of_all_it_started(size: str, how: signal.Signals) -> None:
    async with _elsewhere("-m", "tests.e2e.survivors", size) as (process, before):
        _looks_like(before, size)
        process.send_signal(how)
        await process.communicate()
        await _nothing_is_left_of(before)


@pytest.mark.parametrize("size", _SIZES)
async def test_a_run_that_fails_leaves_nothing(size: str) -> None:
    command = ("-m", "pytest", "-s", "-p", "no:cacheprovider", f"tests/e2e/failing.py::test_on_{size}")
    async with _elsewhere(*command) as (process, before):
        _looks_like(before, size)
        assert process.stdin is not None
        process.stdin.close()  # lets it fail
        output, _ = await process.communicate()
        assert process.returncode == pytest.ExitCode.TESTS_FAILED
        assert b"on purpose" in output
        assert b"left behind" not in output
        await _nothing_is_left_of(before)


@pytest.mark.full
async def test_the_survey_finds_an_orphan_without_a_mark() -> None:
    """As a container is whose shim died: no mark in its environment, no parent of ours, a network of its own."""
    run = f"rz{os.getpid() % 0x100000:05x}"
    script = f"env -i {shutil.which('unshare')} --net {shutil.which('sleep')} 60 & wait"
    parent = await asyncio.create_subprocess_exec(
        *launched(["sh", "-c", script]), env={**os.environ, RUN_VARIABLE: run}
    )
    before: Survey | None = None
    try:
        before = await until(lambda: _with_network(run), what="the orphan to be")
        assert before is not None
        parent.kill()
        await parent.wait()
        left = survey(run)
        assert left.processes < before.processes
        assert left.namespaces
        assert not janitor.processes(run), "the mark would have found it"
    finally:
        for process in survey(run).processes:
            os.kill(process.pid, signal.SIGKILL)
    await until(lambda: _gone(run), what="the orphan's end")


async def _with_network(run: str) -> Survey | None:
    found = survey(run)
    return found if found.namespaces else None


def test_the_run_of_these_tests_is_alive_to_the_janitor() -> None:
    run = Run.current()
    janitor.sweep(state_root())
    assert run.directory.is_dir()
