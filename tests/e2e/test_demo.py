"""`riata demo` as a script starts it: ready in time, worth trying, and gone afterwards, also after a SIGKILL."""

import asyncio
import json
import os
import pathlib
import signal

import pytest

from tests import harness
from tests.e2e.demos import Demo, run_of, started
from tests.e2e.survivors import survey
from tests.e2e.waiting import until
from tests.harness import tools
from tests.harness.children import launched
from tests.harness.runs import state_root
from tests.room import room

READY_S = 60.0
"""What the demo promises with its tools built."""


@pytest.mark.alone
@pytest.mark.light
@pytest.mark.timeout(300)
async def test_three_clusters_within_a_minute_and_nothing_of_them_after_sigterm(tmp_path: pathlib.Path) -> None:
    async with started(tmp_path) as demo:
        print(f"the demo was ready after {demo.took_s:.1f} s")
        assert demo.took_s <= READY_S * room()
        full = harness.full_obstacle() is None
        assert [c["size"] for c in demo.made["clusters"]] == ["full" if full else "light", "light", "light"]
        agents = {f"{name}/{agent}" for name in ("alpha", "beta", "gamma") for agent in ("agent", "node-agent")}
        assert {"hub", *agents, "beta/kube-apiserver"} <= demo.made["pids"].keys()
        for cluster in demo.made["clusters"]:
            ready = (await demo.kubectl(cluster["context"], "get", "deployment", "hello", "-o", "name")).check()
            assert ready.stdout == "deployment.apps/hello\n"
            await _came_in_by_its_manifest(demo, cluster["context"])
        await _node_agents_serve(demo, "gamma")
        if full:
            await _pods_are_real(demo)
            await _network_can_be_entered(demo)
        run = pathlib.Path(demo.made["ca_file"]).relative_to(state_root()).parts[0]
        assert survey(run).lives()
        assert await demo.end(signal.SIGTERM) == 0
        demo.assert_gone()
        assert not survey(run).lives()
        assert not (state_root() / run).exists()


async def _came_in_by_its_manifest(demo: Demo, context: str) -> None:
    """It was applied, and the agent has put its own key into the Secret, with the rights that it got."""
    get = ("get", "secret,deployment", "--namespace=riata-system", "-o", "json")
    items = json.loads((await demo.kubectl(context, *get)).check().stdout)["items"]
    found = {(item["kind"], item["metadata"]["name"]): item for item in items}
    assert found["Secret", "riata-agent-key"]["data"]
    uids = {item["metadata"]["labels"]["riata.io/cluster-uid"] for item in items}
    assert len(uids) == 1
    assert ("Deployment", "riata-agent") in found


async def _node_agents_serve(demo: Demo, name: str) -> None:
    """When the cluster agent is gone, kubectl goes by way of the node agent."""
    os.kill(demo.made["pids"][f"{name}/agent"], signal.SIGKILL)

    async def answers() -> bool:
        return (await demo.kubectl(f"riata-{name}", "get", "nodes", "-o", "name")).rc == 0

    await until(answers, what="kubectl by way of the node agent", within=20)


async def _pods_are_real(demo: Demo) -> None:
    shown = await demo.kubectl("riata-alpha", "exec", "deployment/hello", "--", "cat", "/tmp/www/index.html")
    assert shown.check().stdout == "hello from riata\n"
    logs = await demo.kubectl("riata-alpha", "logs", "deployment/hello", "--tail=1")
    assert logs.check().stdout.startswith("hello ")


async def _network_can_be_entered(demo: Demo) -> None:
    networks = [cluster["network_namespace"] for cluster in demo.made["clusters"]]
    assert networks[1:] == [None, None]
    inside = await harness.execute(["nsenter", f"--net={networks[0]}", "ip", "-o", "link", "show", "dev", "uplink"])
    assert "uplink" in inside.check().stdout


@pytest.mark.alone
@pytest.mark.light
@pytest.mark.timeout(300)
async def test_light_clusters_only_as_without_root(tmp_path: pathlib.Path) -> None:
    async with started(tmp_path, "--light") as demo:
        assert demo.took_s <= READY_S * room()
        assert [c["size"] for c in demo.made["clusters"]] == ["light", "light", "light"]
        assert [c["network_namespace"] for c in demo.made["clusters"]] == [None, None, None]
        for cluster in demo.made["clusters"]:
            nodes = (await demo.kubectl(cluster["context"], "get", "nodes", "--no-headers")).check()
            assert len(nodes.stdout.splitlines()) == 20
            ready = ("get", "deployment", "hello", "-o", "jsonpath={.status.readyReplicas}")
            assert (await demo.kubectl(cluster["context"], *ready)).check().stdout == "6"
        said = demo.errors.read_text()
        assert (
            "three light clusters: API servers with simulated nodes, so no exec and no logs (as --light says)" in said
        )
        assert await demo.end(signal.SIGTERM) == 0
        demo.assert_gone()


@pytest.mark.alone
@pytest.mark.light
@pytest.mark.timeout(180)
async def test_an_interrupt_while_it_starts_leaves_nothing(tmp_path: pathlib.Path) -> None:
    errors = tmp_path / "demo.err"
    with errors.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *launched([*tools.console_script("riata", "ctl"), "demo"]), stdout=output, stderr=output
        )

    async def run_that_lives() -> str | None:
        assert process.returncode is None, errors.read_text()
        run = run_of(process.pid)
        return run if run is not None and survey(run).lives() else None

    try:
        run = await until(run_that_lives, what="a process of the demo's clusters", within=60)
        assert run is not None
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "ended before it was ready" in errors.read_text()
    assert not survey(run).lives()
    assert not (state_root() / run).exists()
