"""The hub's CA is replaced while agents serve requests: real processes, a scripted API server, no Kubernetes."""

import asyncio
import base64
import contextlib
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hub import carotation, tls
from hub.carotation import Phase
from proto.aio.tasks import TaskGroup
from proto.pins import pins_of_pem
from tests.agent.apiserver import Pki, serving
from tests.harness import tools
from tests.harness.records import written
from tests.hub.workers.world import ENVIRONMENT, PATH, ApiServer, end, until

pytestmark = [pytest.mark.timeout(180)]


@dataclass
class Rig:
    """One hub, agents, a scripted API server."""

    directory: Path
    stack: contextlib.AsyncExitStack
    workers: int
    flags: tuple[object, ...] = ()
    api: ApiServer = field(default_factory=ApiServer)
    kube: list[str] = field(default_factory=list)
    ready: dict[str, Any] = field(default_factory=dict)
    token: str = ""
    hub: asyncio.subprocess.Process | None = None

    @property
    def data(self) -> Path:
        return self.directory / "hub"

    @property
    def log(self) -> list[dict[str, Any]]:
        return written(self.directory / "hub.log")

    def count(self, event: str, file: str = "hub.log") -> int:
        return (self.directory / file).read_text().count(f'"event":"{event}"') + (
            self.directory / file
        ).read_text().count(f'"event": "{event}"')

    async def spawn(self, log: str, *command: object) -> asyncio.subprocess.Process:
        with (self.directory / log).open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *map(str, command)),
                stdout=output,
                stderr=output,
                env=ENVIRONMENT,
                cwd=self.directory,
            )
        self.stack.push_async_callback(end, process)
        return process

    async def start_hub(self) -> None:
        ready = self.directory / "hub.ready"
        ready.unlink(missing_ok=True)
        listen = self.ready["url"].split("//")[1] if self.ready else "127.0.0.1:0"
        command = ["hub", "serve", "--data", self.data, "--workers", self.workers, "--listen", listen, *self.flags]
        self.hub = await self.spawn("hub.log", *command, "--metrics-listen", "127.0.0.1:0", "--ready-file", ready)
        await until(lambda: ready.exists() and ready.read_text(), "hub not ready")
        self.ready = json.loads(ready.read_text())
        self.token = (self.directory / "token").read_text().strip()

    async def start_agent(self, name: str, *more: object) -> asyncio.subprocess.Process:
        """`more`: how it knows the hub and proves itself."""
        command = ["agent", "cluster", "--hub-url", self.ready["url"], *more, *self.kube]
        return await self.spawn(
            f"{name}.log", *command, "--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"
        )

    async def ca(self, *arguments: str) -> tuple[int, str]:
        """`riata-hub ca …`; exit status and all that it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hub", "ca", *arguments, "--data", str(self.data)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=ENVIRONMENT,
            cwd=self.directory,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    async def kubeconfig_pins(self) -> list[str]:
        """What a user's new kubeconfig trusts, made with the CA of the first day."""
        named = {"RIATA_HUB": self.ready["url"], "RIATA_CA_FILE": str(self.trusted)}
        named |= {"RIATA_TOKEN_FILE": str(self.directory / "token"), "RIATA_CONFIG": str(self.directory / "login")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ctl", "kubeconfig", "alpha", "-o", "json"),
            stdout=asyncio.subprocess.PIPE,
            env=ENVIRONMENT | named,
            cwd=self.directory,
        )
        said, _ = await process.communicate()
        (cluster,) = json.loads(said)["clusters"]
        return pins_of_pem(base64.b64decode(cluster["cluster"]["certificate-authority-data"]))

    async def kubectl(self) -> str:
        """What kubectl gets that trusts the CA of the first day alone."""
        options = ["--server", self.ready["url"], "--certificate-authority", str(self.trusted), "--token", self.token]
        process = await asyncio.create_subprocess_exec(
            *(tools.kube("kubectl"), *options, "get", "--raw", f"{PATH}/version"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"HOME": str(self.directory), "PATH": os.environ["PATH"]},
        )
        return (await process.communicate())[0].decode()

    async def manage(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        content = b"" if body is None else json.dumps(body).encode()
        status, answer = await self.ask(method, path, content)
        return status, json.loads(answer) if answer[:1] in (b"{", b"[") else answer

    async def ask(self, method: str, path: str, body: bytes = b"", ca: Path | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        host, port = self.ready["url"].split("//")[1].split(":")
        context = ssl.create_default_context(cafile=str(ca or self.trusted))
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        lines = [f"{method} {path} HTTP/1.1", "Host: hub", f"Authorization: Bearer {self.token}", "Connection: close"]
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            async with asyncio.timeout(15):
                answer = await reader.read()
        finally:
            writer.transport.abort()
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), rest

    @contextlib.asynccontextmanager
    async def watch(self) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        """A watch; gives the next line that comes."""
        host, port = self.ready["url"].split("//")[1].split(":")
        context = ssl.create_default_context(cafile=str(self.trusted))
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        head = f"GET {PATH}/api/v1/pods?watch=1 HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {self.token}\r\n\r\n"

        async def line() -> str:
            async with asyncio.timeout(15):
                while True:
                    found = (await reader.readline()).decode()
                    assert found, "the watch has ended"
                    if found.startswith("{"):
                        return found

        try:
            writer.write(head.encode())
            async with asyncio.timeout(15):
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await until(lambda: self.api.watchers, "the watch is not there")
            yield line
        finally:
            writer.transport.abort()

    @property
    def trusted(self) -> Path:
        """What a user keeps: the CA of the first day."""
        return self.directory / "users-ca.crt"


@contextlib.asynccontextmanager
async def rig(directory: Path, workers: int, *flags: object, ca: Path | None = None) -> AsyncIterator[Rig]:
    """`flags` of the hub; `ca`: what users trust, the hub's own when None."""
    async with contextlib.AsyncExitStack() as stack:
        made = Rig(directory, stack, workers, flags)
        pki = Pki(directory)
        port = await stack.enter_async_context(serving(made.api.serve, pki.server_context()))
        (directory / "kube.token").write_text("kube-token")
        made.kube = ["--kube-url", f"https://localhost:{port}", "--kube-ca-file", str(pki.ca_file)]
        made.kube += ["--kube-token-file", str(directory / "kube.token")]
        init = await made.spawn(
            "init.log", "hub", "init", "--data", made.data, "--admin-token-file", directory / "token"
        )
        assert await init.wait() == 0
        made.trusted.write_bytes((ca or made.data / "tls" / "ca.crt").read_bytes())
        await made.start_hub()
        assert (await made.manage("POST", "/v1/clusters", {"name": "alpha"}))[0] == 201
        yield made


@contextlib.asynccontextmanager
async def load(a_rig: Rig) -> AsyncIterator[list[int]]:
    """Requests one after the other, each on a new connection that trusts the CA of the first day."""
    seen: list[int] = []

    async def run() -> None:
        while True:
            seen.append((await a_rig.ask("GET", f"{PATH}/version"))[0])

    async with TaskGroup("load") as group:
        tasks = [group.spawn(run(), name=f"load-{number}") for number in range(3)]
        yield seen
        assert not [task for task in tasks if task.done()]
        await group.aclose()


async def when(a_rig: Rig, says: str) -> str:
    """`riata-hub ca status`, as soon as it says this."""
    said = ""
    for _ in range(60):
        _, said = await a_rig.ca("status")
        if says in said:
            return said
        await asyncio.sleep(0.5)
    raise AssertionError(said)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_ca_is_replaced_under_load_and_no_session_ends(tmp_path: Path, workers: int) -> None:
    async with rig(tmp_path, workers) as a_rig:
        old_pin = a_rig.ready["ca_pin"]
        _, made = await a_rig.manage("POST", "/v1/clusters/alpha/join-tokens", {})
        (tmp_path / "join.token").write_text(made["token"])
        _, made = await a_rig.manage("POST", "/v1/clusters/alpha/agent-tokens", {"name": "t"})
        (tmp_path / "agent.token").write_text(made["token"])
        pinned = ["--hub-ca-pin", old_pin]
        keyed = [*pinned, "--hub-ca-file", a_rig.trusted, "--key-file", tmp_path / "agent.key"]
        keyed += ["--join-token-file", tmp_path / "join.token"]
        bare = [*pinned, "--token-file", tmp_path / "agent.token"]  # no CA file, no place to keep anything
        agent = await a_rig.start_agent("keyed", *keyed)
        other = await a_rig.start_agent("bare", *bare)
        await until(lambda: a_rig.count("session opened") == 2, "agents not connected")

        async with load(a_rig) as seen:
            assert (await a_rig.ca("rotate", "--finish"))[0] == 1
            status, said = await a_rig.ca("rotate")
            assert status == 0, said
            new_pin = next(line for line in said.splitlines() if line.startswith("sha256:"))
            await when(a_rig, "not ready for the next step: 0")
            _, shown = await a_rig.manage("GET", "/v1/ca/rotation")
            assert (shown["phase"], shown["pin"]) == ("introduced", new_pin)
            assert [each["knows"] for each in shown["agents"]] == [True, True]
            assert await a_rig.kubeconfig_pins() == [old_pin, new_pin]
            assert (await a_rig.ca("rotate", "--finish"))[0] == 0
            said = await when(a_rig, "not ready for the next step: 1")  # the one that cannot keep it
            assert "its settings do not name it" in said
            assert '"major"' in await a_rig.kubectl()  # Go's verifier, and the CA of the first day
            before = len(seen)
            await until(lambda: len(seen) > before + 100, "no load")
            status, said = await a_rig.ca("rotate", "--retire")
            assert status == 1
            assert "its settings do not name it" in said
        assert set(seen) == {200}
        assert a_rig.count("session ended") == 0  # not one, in three steps

        # Who knows nothing but the old CA still comes in, and learns; who has learnt does so by the new one.
        for process, name, options in ((agent, "keyed", keyed), (other, "bare", bare)):
            await end(process)
            opened = a_rig.count("session opened")
            again = await a_rig.start_agent(name, *options)
            await until(lambda: a_rig.count("session opened") > opened, f"{name} not back")  # noqa: B023
            if name == "bare":
                await end(again)
        assert (await a_rig.ask("GET", f"{PATH}/version"))[0] == 200
        assert {event: a_rig.count(event) for event in ("ca-introduced", "ca-switched")} == {
            "ca-introduced": 1,
            "ca-switched": 1,
        }

        await when(a_rig, "not ready for the next step: 0")
        assert (await a_rig.ca("rotate", "--retire"))[0] == 0
        await until(lambda: a_rig.count("ca-retired") == 1, "not noticed")
        await until(lambda: "hub CAs learnt" in (tmp_path / "keyed.log").read_text(), "not learnt")
        assert pins_of_pem((a_rig.data / "tls" / "ca.crt").read_bytes()) == [new_pin]
        with pytest.raises(ssl.SSLCertVerificationError):
            await a_rig.ask("GET", "/version")
        assert (await a_rig.ask("GET", f"{PATH}/version", ca=a_rig.data / "tls" / "ca.crt"))[0] == 200


async def test_a_step_that_would_lose_an_agent_names_it_and_can_be_forced(tmp_path: Path) -> None:
    async with rig(tmp_path, 1) as a_rig:
        _, made = await a_rig.manage("POST", "/v1/clusters/alpha/join-tokens", {})
        (tmp_path / "join.token").write_text(made["token"])
        options = ["--hub-ca-pin", a_rig.ready["ca_pin"], "--key-file", tmp_path / "agent.key"]
        options += ["--join-token-file", tmp_path / "join.token"]
        agent = await a_rig.start_agent("agent", *options)
        await until(lambda: a_rig.count("session opened") == 1, "agent not connected")
        await end(agent)
        await a_rig.ca("rotate")
        said = await when(a_rig, "not ready for the next step: 1")
        assert f"{made['id']} of alpha (it is not connected)" in said
        status, said = await a_rig.ca("rotate", "--finish")
        assert status == 1
        assert made["id"] in said
        assert (await a_rig.ca("rotate", "--finish", "--force"))[0] == 0
        assert (await a_rig.ca("rotate", "--retire", "--force"))[0] == 0
        await until(lambda: a_rig.count("hub certificate reloaded") >= 1, "not reloaded")
        await a_rig.start_agent("agent", *options)
        log = tmp_path / "agent.log"
        await until(lambda: "holds no CA with the pin" in log.read_text(), "it does not say why")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rotate", "--finish", "--retire"], "exclude each other"),
        (["rotate", "--force"], "belongs to"),
        (["rotate", "--finish"], "begin one"),
        (["rotate", "--abort"], "begin one"),
    ],
)
async def test_steps_that_cannot_be_taken(tmp_path: Path, arguments: list[str], says: str) -> None:
    data = tmp_path / "hub"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hub", "init", "--data", str(data)),
        env=ENVIRONMENT | {"PYTHONPATH": os.environ.get("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
    async with contextlib.AsyncExitStack() as stack:
        status, said = await Rig(tmp_path, stack, 1).ca(*arguments)
    assert status in {1, 2}
    assert says in said


KILLED = """
import os, pathlib, signal, sys
from hub import cli
left = int(sys.argv[1])
def guard(original):
    def call(*args, **more):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **more)
    return call
for name in ("replace", "unlink"):
    setattr(pathlib.Path, name, guard(getattr(pathlib.Path, name)))
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("step", [[], ["--finish", "--force"], ["--retire", "--force"]])
async def test_a_command_that_is_killed_at_any_write_is_repeated_and_done(tmp_path: Path, step: list[str]) -> None:
    """At every number of writes that it lives for; then the same again, or the step was taken already."""
    async with contextlib.AsyncExitStack() as stack:
        a_rig = Rig(tmp_path, stack, 1)
        init = await a_rig.spawn("init.log", "hub", "init", "--data", a_rig.data)
        assert await init.wait() == 0
        finish = ["--finish", "--force"]
        before: dict[tuple[str, ...], list[list[str]]] = {(): [], tuple(finish): [[]]}
        before["--retire", "--force"] = [[], finish]
        for earlier in before[tuple(step)]:
            assert (await a_rig.ca("rotate", *earlier))[0] == 0
        kept = {path.name: path.read_bytes() for path in (a_rig.data / "tls").iterdir()}
        for lives in range(10):
            for path in (a_rig.data / "tls").iterdir():
                path.unlink()
            for name, content in kept.items():
                tls.write_private(a_rig.data / "tls" / name, content)
            command = ["-c", KILLED, str(lives), "ca", "rotate", *step, "--data", str(a_rig.data)]
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, env=ENVIRONMENT, cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            if await process.wait() == 0:
                assert lives > 0
                return
            status, said = await a_rig.ca("rotate", *step)
            assert status == 0 or "riata-hub ca rotate" in said, said
            phase = {0: Phase.INTRODUCED, 1: Phase.SWITCHED, 2: Phase.STEADY}[len(before[tuple(step)])]
            assert carotation.phase(a_rig.data / "tls") is phase
            tls.load_ca(a_rig.data / "tls")
        pytest.fail("it never came to its end")
