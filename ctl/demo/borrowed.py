"""The demo on clusters that you have: a hub, and an agent process for each context. Nothing is built."""

import asyncio
import contextlib
import pathlib
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from ctl import client, files
from ctl.demo import children, leftovers, progress, records, running, yours

_CONNECTED_S = 30.0


@contextlib.asynccontextmanager
async def demo(
    directory: pathlib.Path, steps: progress.Steps, *, kubeconfig: pathlib.Path, contexts: Sequence[str]
) -> AsyncIterator[running.Running]:
    """Hub and agents, connected. Each agent carries the credentials of its context; none of them reaches the hub."""
    chosen = yours.read(kubeconfig, contexts)
    async with contextlib.AsyncExitStack() as stack:
        with steps.step("hub"):
            hub, ready = await _hub(stack, directory)
        started = running.Running(
            hub_url=str(ready["url"]),
            ca_file=pathlib.Path(ready["ca_file"]),
            ca_pin=str(ready["ca_pin"]),
            admin_token_file=directory / "admin.token",
            metrics_url=str(ready["metrics_url"]),
            directory=directory,
            clusters=tuple(running.DemoCluster(y.name, "yours", "", f"context {y.context}") for y in chosen),
            pids={"hub": hub.pid},
            kubectl=None,
        )
        async with client.HubClient(started.login(), {}) as api:
            for each in chosen:
                with steps.step(f"{each.name} (context {each.context})"):
                    await _cluster(stack, steps, api, each, kubeconfig, started)
        yield started


async def _hub(stack: contextlib.AsyncExitStack, directory: pathlib.Path) -> tuple[children.Child, dict[str, Any]]:
    data, ready_file, log = directory / "hub", directory / "hub.ready.json", directory / "hub.log"
    program = children.program("riata-hub", "hub")
    init = [*program, "init", "--data", str(data), "--admin-token-file", str(directory / "admin.token"), "-o", "json"]
    await children.completed("riata-hub init", init, log=log)
    serve = [*program, "serve", "--data", str(data), "--ready-file", str(ready_file)]
    serve += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    hub = await stack.enter_async_context(children.child("riata-hub", serve, log=log))
    return hub, await hub.ready(ready_file)


async def _cluster(
    stack: contextlib.AsyncExitStack,
    steps: progress.Steps,
    api: client.HubClient,
    each: yours.Yours,
    kubeconfig: pathlib.Path,
    started: running.Running,
) -> None:
    binding = f"riata-demo-{secrets.token_hex(4)}"
    noted = _note(started.directory, binding, kubeconfig, each.context)
    if await stack.enter_async_context(yours.administrators(each, binding, lambda: leftovers.tell(noted))):
        steps.note(f"{each.name}: ClusterRoleBinding {binding} made; it is removed when the demo ends")
    else:
        steps.note(f"{each.name}: you may not bind the hub's administrators there; expect 403 until somebody does")
    await api.post(client.target("v1", "clusters"), {"name": each.name, "labels": {"demo": "yours"}})
    made = await api.post(client.target("v1", "clusters", each.name, "join-tokens"), {})
    token_file = started.directory / f"agent-{each.name}.token"
    files.write_secret(token_file, str(made["token"]))
    agent = await stack.enter_async_context(_agent(started, each, kubeconfig, token_file))
    started.pids[f"{each.name}/agent"] = agent.pid
    await _connected(api, each, agent)


def _note(directory: pathlib.Path, name: str, kubeconfig: pathlib.Path, context: str) -> records.Binding:
    """Write the binding down before it is made: a demo that is killed cannot say what it left."""
    binding = records.Binding(name, str(kubeconfig.resolve()), context)
    records.change(directory, lambda own: msgspec.structs.replace(own, bindings=(*own.bindings, binding)))
    return binding


def _agent(
    started: running.Running, each: yours.Yours, kubeconfig: pathlib.Path, token_file: pathlib.Path
) -> contextlib.AbstractAsyncContextManager[children.Child]:
    command = [*children.program("riata-agent", "agent"), "cluster"]
    command += ["--hub-url", started.hub_url, "--hub-ca-file", str(started.ca_file), "--hub-ca-pin", started.ca_pin]
    command += ["--join-token-file", str(token_file), "--key-file", str(started.directory / f"agent-{each.name}.key")]
    command += ["--kubeconfig", str(kubeconfig.resolve()), "--context", each.context]
    command += ["--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    return children.child(f"riata-agent of {each.name}", command, log=started.directory / f"agent-{each.name}.log")


async def _connected(api: client.HubClient, each: yours.Yours, agent: children.Child) -> None:
    """Returns when the hub calls the cluster connected. CommandError with the agent's log when it does not."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CONNECTED_S
    while not (await api.get(client.target("v1", "clusters", each.name)))["connected"]:
        if agent.returncode is not None:
            raise agent.failure(f"ended with {agent.returncode}")
        if loop.time() > deadline:
            raise agent.failure(f"did not connect within {_CONNECTED_S:g} s")
        await asyncio.sleep(0.05)
