"""What is measured: a hub and an agent as their users run them, in front of the stand-in API server of `load/`."""

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.harness import pki, tools

CLUSTER = "bench"
HUB_READY = "hub.ready"


@dataclasses.dataclass(frozen=True)
class Rig:
    """Running processes and where they listen."""

    directory: Path
    load: Path
    hub_pid: int
    agent_pid: int
    target_pid: int
    hub_url: str
    hub_ca: Path
    hub_ca_pin: str
    admin_token_file: Path
    target_url: str
    target_ca: Path
    target_token_file: Path

    @property
    def through(self) -> list[str]:
        """Flags of `load` for the way through riata."""
        url = f"{self.hub_url}/k8s/clusters/{CLUSTER}"
        return ["-url", url, "-ca", str(self.hub_ca), "-token-file", str(self.admin_token_file)]

    @property
    def direct(self) -> list[str]:
        """Flags of `load` for the direct way."""
        return ["-url", self.target_url, "-ca", str(self.target_ca), "-token-file", str(self.target_token_file)]

    async def run(self, *arguments: str) -> dict[str, Any]:
        """Run `load` and return what it measured. Raise RuntimeError with its complaint."""
        process = await asyncio.create_subprocess_exec(
            str(self.load), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"load {arguments[0]}: {err.decode().strip()}")
        result: dict[str, Any] = json.loads(out)
        return result

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the hub's management API as its administrator."""
        return await call(self.hub_url, self.hub_ca, self.admin_token_file, method, path, body)


async def call(
    url: str, ca: Path, token: Path, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Call a management API; raise on any answer that is not a success."""
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
    context = ssl.create_default_context(cafile=str(ca))
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, url + path, json=body, ssl=context) as response,
    ):
        answer: dict[str, Any] = await response.json()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.get('message', answer)}")
        return answer


@contextlib.asynccontextmanager
async def running(directory: Path, load: Path, *, workers: int = 1) -> AsyncIterator[Rig]:
    """Start target, hub and agent in a directory; end them, newest first, whatever happens."""
    async with contextlib.AsyncExitStack() as stack:
        token_file = write(directory / "target.token", secrets.token_hex(24))
        target_pid, target_url, target_ca = await start_target(stack, directory, load)
        hub_pid, ready, admin = await start_hub(stack, directory, workers)
        url, hub_ca = ready["url"], Path(ready["ca_file"])
        await call(url, hub_ca, admin, "POST", "/v1/clusters", {"name": CLUSTER})
        minted = await call(url, hub_ca, admin, "POST", f"/v1/clusters/{CLUSTER}/agent-tokens", {"name": "bench"})
        agent_token = write(directory / "agent.token", minted["token"])
        kube = ["--kube-url", target_url, "--kube-ca-file", str(target_ca), "--kube-token-file", str(token_file)]
        agent_pid = await start(stack, directory / "agent.log", agent_command(url, ready, agent_token, kube))
        rig = Rig(directory, load, hub_pid, agent_pid, target_pid, url, hub_ca, ready["ca_pin"], admin,
                  target_url, target_ca, token_file)  # fmt: skip
        await wait_connected(rig, CLUSTER)
        yield rig


async def start_target(stack: contextlib.AsyncExitStack, directory: Path, load: Path) -> tuple[int, str, Path]:
    authority = pki.Authority.create(directory, "target-ca")
    pair = authority.leaf("target", "kube-apiserver", hosts=["127.0.0.1", "localhost"])
    log = directory / "target.json"
    command = [str(load), "target", "-cert", str(pair.certificate), "-key", str(pair.key)]
    pid = await start(stack, log, command)
    port = json.loads(await wait_for_text(log))["port"]
    return pid, f"https://127.0.0.1:{port}", authority.files.certificate


async def start_hub(
    stack: contextlib.AsyncExitStack, directory: Path, workers: int = 1
) -> tuple[int, dict[str, Any], Path]:
    admin = await init_hub(directory)
    pid = await start(stack, directory / "hub.log", [*hub_command(directory), "--workers", str(workers)])
    answer: dict[str, Any] = json.loads(await wait_for_text(directory / HUB_READY))
    return pid, answer, admin


async def init_hub(directory: Path) -> Path:
    """Set a hub up in a directory; returns the file with its administrator's token."""
    admin = directory / "admin.token"
    command = [
        str(tools.programs() / "riata-hub"),
        "init",
        "--data",
        str(directory / "hub"),
        "--admin-token-file",
        str(admin),
    ]
    init = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    if await init.wait() != 0:
        raise RuntimeError("riata-hub init failed")
    return admin


def hub_command(directory: Path, listen: str = "127.0.0.1:0") -> list[str]:
    """How the hub of a directory is run; it writes HUB_READY there once it listens."""
    where = ["--listen", listen, "--metrics-listen", "127.0.0.1:0", "--ready-file", str(directory / HUB_READY)]
    return [str(tools.programs() / "riata-hub"), "serve", "--data", str(directory / "hub"), *where]


def agent_command(hub_url: str, ready: dict[str, Any], token: Path, kube: list[str]) -> list[str]:
    """How a cluster agent is run; `ready` is the hub's ready file, `kube` the flags of its API server."""
    hub = ["--hub-url", hub_url, "--hub-ca-file", ready["ca_file"], "--hub-ca-pin", ready["ca_pin"]]
    listen = ["--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    return [str(tools.programs() / "riata-agent"), "cluster", *hub, "--token-file", str(token), *kube, *listen]


async def start(stack: contextlib.AsyncExitStack, log: Path, command: list[str]) -> int:
    process = await launch(log, command)
    stack.push_async_callback(stop, process)
    return process.pid


async def launch(log: Path, command: list[str], **environment: str) -> asyncio.subprocess.Process:
    """Start a program whose output goes to a file; `stop` it."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command, stdout=output, stderr=output, env=_environment() | environment
        )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


async def stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def wait_for_text(path: Path) -> str:
    for _ in range(300):
        if path.exists() and (text := path.read_text()).strip():
            return text
        await asyncio.sleep(0.05)
    raise TimeoutError(f"{path} stayed empty for 15 s; see the logs in {path.parent}")


async def wait_connected(rig: Rig, cluster: str) -> None:
    for _ in range(300):
        if (await rig.call("GET", f"/v1/clusters/{cluster}"))["connected"]:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"the agent did not connect within 15 s; see {rig.directory / 'agent.log'}")


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path
