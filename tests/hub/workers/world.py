"""A hub with two worker processes, a real agent, a scripted API server, and clients that know which worker they met."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.agent.apiserver import Pki, serving
from tests.harness.records import written

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**{k: v for k, v in os.environ.items() if not k.startswith("RIATA_")}, "PYTHONPATH": str(ROOT)}
PATH = "/k8s/clusters/alpha"


async def until(true: Callable[[], Any], what: str, within: float = 40.0) -> Any:
    """Poll until `true()` is; its value. Raises AssertionError."""
    deadline = asyncio.get_running_loop().time() + within
    while not (value := true()):
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.02)
    return value


class ApiServer:
    """`/version` answers at once, `watch` sends what `events` is given, POST echoes, an upgrade echoes bytes."""

    def __init__(self) -> None:
        self.watchers: list[asyncio.StreamWriter] = []
        self.ended = 0
        self.posts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"watch=1" in head:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
                self.watchers.append(writer)
                with contextlib.suppress(ConnectionResetError):  # an agent whose client has gone
                    await reader.read()
                self.ended += 1
                return
            if b"\r\nupgrade:" in head:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: SPDY/3.1\r\nconnection: upgrade\r\n\r\n")
                while data := await reader.read(65536):
                    writer.write(data)
                return
            body = b'{"major":"1"}'
            if head.startswith(b"post"):
                self.posts += 1
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)

    def event(self, number: int) -> None:
        line = b'{"type":"ADDED","object":{"n":%d}}\n' % number
        for writer in self.watchers:
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))


class Client:
    """One connection, kept alive. `worker`: the process that serves it; `is_hop`: its requests go over another one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self.reader = reader
        self.writer = writer
        self.token = token
        self.worker = 0
        self.is_hop = False

    async def ask(self, method: str, path: str, body: bytes = b"", *more: str) -> tuple[int, dict[str, str]]:
        """Send; status and fields of the answer's head."""
        fields = [f"{method} {path} HTTP/1.1", "Host: hub", f"Authorization: Bearer {self.token}", *more]
        fields += [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
        self.writer.write("\r\n".join([*fields, "", ""]).encode() + body)
        async with asyncio.timeout(40):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        answer = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        return int(lines[0].split(" ")[1]), answer

    async def whole(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """The same with the body of an answer that has a length."""
        status, fields = await self.ask(method, path, body)
        async with asyncio.timeout(40):
            return status, fields, await self.reader.readexactly(int(fields.get("content-length", "0")))

    async def rest(self, within: float) -> bytes:
        """What comes until the connection ends, however it does. Raises TimeoutError."""
        read = b""
        async with asyncio.timeout(within):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while data := await self.reader.read(65536):
                    read += data
        return read

    async def clean_end(self, within: float) -> None:
        """Read to the end of a chunked body. Raises TimeoutError, IncompleteReadError when it breaks off."""
        async with asyncio.timeout(within):
            await self.reader.readuntil(b"0\r\n\r\n")

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


class World:
    """Start it with `world`."""

    def __init__(self, directory: Path, stack: contextlib.AsyncExitStack, options: dict[str, str]) -> None:
        self.directory = directory
        self.api = ApiServer()
        self.hub: asyncio.subprocess.Process
        self.agent: asyncio.subprocess.Process
        self.ready: dict[str, Any] = {}
        self.token = ""
        self._stack = stack
        self._options = options
        self._kube: list[str] = []

    @property
    def log(self) -> list[dict[str, Any]]:
        return written(self.directory / "hub.log")

    def said(self, event: str, **fields: object) -> list[dict[str, Any]]:
        wanted = {"event": event, **fields}
        return [line for line in self.log if wanted.items() <= line.items()]

    @property
    def workers(self) -> dict[int, int]:
        """Process by worker's number, of those that serve now."""
        found = {line["worker"]: line["pid"] for line in self.log if line["event"] == "worker serves"}
        gone = {line["pid"] for line in self.log if line["event"] == "worker ended"}
        return {number: pid for number, pid in found.items() if pid not in gone}

    @property
    def owner(self) -> int:
        """The worker that has the agent's tunnel."""
        return int(self.said("session opened")[-1]["component"].removeprefix("hub."))

    @property
    def other(self) -> int:
        return 3 - self.owner

    async def start_hub(self) -> None:
        ready = self.directory / "hub.ready"
        ready.unlink(missing_ok=True)
        command = ["hub", "serve", "--data", self.directory / "hub", "--workers", "2", "--listen", "127.0.0.1:0"]
        command += ["--metrics-listen", "127.0.0.1:0", "--ready-file", ready]
        self.hub = await self._spawn("hub.log", command, self._options)
        await until(lambda: ready.exists() and ready.read_text(), "hub not ready")
        self.ready = json.loads(ready.read_text())
        self.token = (self.directory / "token").read_text().strip()

    async def start_agent(self, name: str = "agent") -> None:
        data, before = self.directory, len(self.said("session opened"))
        command = ["agent", "cluster", "--hub-url", self.ready["url"], "--hub-ca-file", self.ready["ca_file"]]
        command += ["--hub-ca-pin", self.ready["ca_pin"], "--token-file", data / "agent.token", *self._kube]
        command += ["--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        self.agent = await self._spawn(f"{name}.log", command, {})
        await until(lambda: len(self.said("session opened")) > before, "agent not connected")

    async def start(self) -> None:
        pki = Pki(self.directory)
        port = await self._stack.enter_async_context(serving(self.api.serve, pki.server_context()))
        (self.directory / "kube.token").write_text("kube-token")
        self._kube = ["--kube-url", f"https://localhost:{port}", "--kube-ca-file", str(pki.ca_file)]
        self._kube += ["--kube-token-file", str(self.directory / "kube.token")]
        init = ["hub", "init", "--data", self.directory / "hub", "--admin-token-file", self.directory / "token"]
        assert await (await self._spawn("init.log", init, {})).wait() == 0
        await self.start_hub()
        assert (await self.manage("POST", "/v1/clusters", {"name": "alpha"}))[0] == 201
        _, made = await self.manage("POST", "/v1/clusters/alpha/agent-tokens", {"name": "t"})
        (self.directory / "agent.token").touch(mode=0o600)
        (self.directory / "agent.token").write_text(made["token"])
        await self.start_agent()

    async def manage(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One call of the management API, at any worker."""
        async with self.connected() as client:
            content = b"" if body is None else json.dumps(body).encode()
            status, _, answer = await client.whole(method, path, content)
        return status, json.loads(answer) if answer[:1] in (b"{", b"[") else answer

    @contextlib.asynccontextmanager
    async def connected(self, token: str = "") -> AsyncIterator[Client]:
        host, port = self.ready["url"].split("//")[1].split(":")
        context = ssl.create_default_context(cafile=self.ready["ca_file"])
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        client = Client(reader, writer, token or self.token)
        try:
            yield client
        finally:
            await client.close()

    @contextlib.asynccontextmanager
    async def client(self, worker: int, token: str = "") -> AsyncIterator[Client]:
        """A connection that this worker serves, with one GET behind it."""
        for _ in range(64):
            async with self.connected(token) as client:
                status, fields, _ = await client.whole("GET", f"{PATH}/version")
                number = fields["riata-request-id"]
                (line,) = await until(lambda: self.said("request", request_id=number), "not logged")  # noqa: B023
                assert status == 200, line
                client.worker = int(line["component"].removeprefix("hub."))
                client.is_hop = "@" in line["route"]
                if client.worker == worker:
                    yield client
                    return
        raise AssertionError(f"no connection reached worker {worker}")

    async def metrics(self) -> dict[str, float]:
        """Name with labels → value."""
        host, port = self.ready["metrics_url"].split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(40):
            page = (await reader.read()).partition(b"\r\n\r\n")[2].decode()
        writer.close()
        await writer.wait_closed()
        rows = (line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    async def _spawn(self, log: str, command: list[Any], more: dict[str, str]) -> asyncio.subprocess.Process:
        with (self.directory / log).open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *map(str, command)),
                stdout=output,
                stderr=output,
                env=ENVIRONMENT | more,
                cwd=self.directory,
            )
        self._stack.push_async_callback(end, process)
        return process


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL after 15 s."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(40):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def world(directory: Path, **options: str) -> AsyncIterator[World]:
    """`options`: environment of the hub."""
    async with contextlib.AsyncExitStack() as stack:
        made = World(directory, stack, options)
        await made.start()
        yield made
