"""A real edge on loopback in front of a scripted agent: raw bytes in, exact frames seen at the other end.

The agent sits on the far end of an in-memory pipe and records every stream it is asked to serve: what is not recorded
there never left the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import re
import ssl
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from hub import errors
from hub.auth.agents import AgentIdentity, Challenge
from hub.auth.bearer import Bearer
from hub.auth.grants import Access
from hub.auth.principal import Principal
from hub.auth.rotation import ProvenSession
from hub.edge.limits import EdgeLimits
from hub.edge.server import EdgeServer
from hub.metrics import Metrics
from hub.proxy.limits import ProxyLimits
from hub.proxy.relay import Relay
from hub.tunnel.accept import TunnelEndpoint
from hub.tunnel.registry import ClusterFacts, Registry, Tunnel
from proto import frames
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.aio.owner import StreamOwner
from proto.aio.tasks import TaskGroup
from proto.aio.transport import PipeEnd, pipe
from proto.compression import HISTORY_BYTES, Histories
from proto.errors import Code
from proto.frames import Flag, FrameType
from proto.handshake import Negotiated
from proto.limits import Limits
from proto.messages import Accepted, AgentAuth, Headers, HttpHead, HttpRequest, Opening, StreamClass, StreamKind
from proto.session import Role, Session

ALICE = "riata_aliceaaaaa_secret"
BOSS = "riata_bossbbbbbb_secret"
NOBODY = "riata_nobodycccc_secret"

PRINCIPALS = {
    ALICE: Principal("alice", ("dev",), "aliceaaaaa", False, None),
    BOSS: Principal("boss", ("ops",), "bossbbbbbb", True, None),
    NOBODY: Principal("nobody", (), "nobodycccc", False, None),
}

AUTH = f"Authorization: Bearer {ALICE}\r\n".encode()
BOSS_AUTH = f"Authorization: Bearer {BOSS}\r\n".encode()
HOST = b"Host: hub.test\r\n"


class FakeAuthenticator:
    """Knows the three tokens above."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def authenticate(self, bearer: Bearer) -> Principal:
        self.asked.append(bearer.text)
        principal = PRINCIPALS.get(bearer.text.decode("ascii", "replace"))
        if principal is None:
            raise errors.Unauthenticated
        return principal


class FakeAuthorizer:
    """Clusters `c1` and `c2`; alice may use c1, boss administers both and may act as bob and as group ops."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.clusters = {"c1"}
        """What alice may use."""
        self.denied: set[str] = set()

    def access(self, principal: Principal, cluster_name: str) -> Access | None:
        self.asked.append((principal.user, cluster_name))
        if cluster_name not in ("c1", "c2") or principal.user in self.denied:
            return None
        if principal.user == "boss":
            return Access(f"uid-{cluster_name}", cluster_name, True, ("bob",), ("ops",))
        if principal.user == "alice" and cluster_name in self.clusters:
            return Access(f"uid-{cluster_name}", cluster_name, False, (), ())
        return None


@dataclasses.dataclass(slots=True)
class Seen:
    """One stream as the agent saw it; also its owner there."""

    request: HttpRequest
    stream: LinkStream
    cls: StreamClass
    script: Callable[[Seen], None]
    body: bytearray = dataclasses.field(default_factory=bytearray)
    is_ended: bool = False
    code: Code | None = None
    returns_credit: bool = True
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def accepted(self, message: Accepted) -> None: ...

    def head(self, message: HttpHead) -> None: ...

    def writable(self) -> None: ...

    def trailers(self, headers: Headers) -> None:
        self.is_ended = True
        self.changed.set()

    def data(self, chunk: memoryview) -> None:
        self.body += chunk
        if self.returns_credit:
            self.stream.consumed(len(chunk))
        self.changed.set()

    def end(self) -> None:
        self.is_ended = True
        self.changed.set()

    def reset(self, code: Code, text: str) -> None:
        self.code = code
        self.changed.set()

    async def until(self, condition: Callable[[Seen], bool], timeout_s: float = 15.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()

    def headers_named(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.request.headers if key == name]

    def answer(self, status: int = 200, body: bytes = b"ok", *fields: tuple[bytes, bytes], end: bool = True) -> None:
        """A whole answer with an exact length."""
        length = (b"content-length", b"%d" % len(body))
        self.stream.head(HttpHead(status=status, headers=(*fields, length)), end=end and not body)
        if body:
            self.stream.send(body, end=end)


def answer_ok(seen: Seen) -> None:
    seen.answer()


class _Nobody:
    """No agent has a credential here: tunnels are added by `add_agent`."""

    def authenticate(self, auth: AgentAuth) -> AgentIdentity:
        raise errors.Unauthenticated


NOBODY = _Nobody()


class ScriptedAgent:
    """The far end of the pipe."""

    def __init__(self, transport: PipeEnd, negotiated: Negotiated) -> None:
        self.seen: list[Seen] = []
        self.script: Callable[[Seen], None] = answer_ok
        self.arrived = asyncio.Event()
        self.transport = transport
        self.link = Link(Session(Role.AGENT, negotiated), transport, on_open=self._open, name="agent")

    async def inject(self, kind: FrameType, stream_id: int, payload: bytes, *, end: bool = False) -> None:
        """Put a frame on the wire behind our own core's back: what a hostile agent would send."""
        await self.transport.send(frames.encode(kind, Flag.FIN if end else 0, stream_id, payload))

    def _open(self, stream: LinkStream, kind: StreamKind, cls: StreamClass, message: Opening) -> StreamOwner | None:
        assert isinstance(message, HttpRequest)
        seen = Seen(message, stream, cls, self.script)
        self.seen.append(seen)
        self.arrived.set()
        asyncio.get_running_loop().call_soon(self.script, seen)
        return seen

    async def next(self, number: int = 1, timeout_s: float = 15.0) -> Seen:
        """The `number`th stream, waited for."""
        async with asyncio.timeout(timeout_s):
            while len(self.seen) < number:
                self.arrived.clear()
                await self.arrived.wait()
        return self.seen[number - 1]


class Line:
    """Edge, relay, registry and agents."""

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        limits: EdgeLimits,
        proxy_limits: ProxyLimits,
        app: web.Application,
        host_names: frozenset[str] | None,
    ) -> None:
        self.metrics = Metrics()
        self.registry = Registry()
        self.authenticator = FakeAuthenticator()
        self.authorizer = FakeAuthorizer()
        self.relay = Relay(
            authenticator=self.authenticator,
            authorizer=self.authorizer,
            routes=self.registry,
            metrics=self.metrics,
            limits=proxy_limits,
            histories=Histories(100 * HISTORY_BYTES),
        )
        self.edge = EdgeServer(
            listen=[("127.0.0.1", 0)],
            tls=tls,
            aiohttp_app=app,
            application=self.relay,
            tunnels=TunnelEndpoint(hub_id="hub", authenticator=NOBODY, registry=self.registry, metrics=self.metrics),
            limits=limits,
            host_names=host_names,
        )
        self.port = 0
        self.tasks = TaskGroup("line")
        self._instances = 0

    async def add_agent(
        self, cluster: str = "c1", *, compresses: bool = False, node: str = "", is_fallback: bool = False
    ) -> ScriptedAgent:
        """Connect one more agent to a cluster; with `node` one of role node, which says that its node is one of the
        control plane."""
        self._instances += 1
        negotiated = Negotiated(1, Limits().offer(), compresses=compresses)
        here, there = pipe()
        link = Link(
            Session(Role.HUB, negotiated),
            here,
            on_open=lambda stream, kind, cls, message: None,
            name=f"{cluster}/{self._instances}",
            observer=self.metrics.link_observer(),
        )
        identity = AgentIdentity(
            f"uid-{cluster}", cluster, "cred", "node" if node else "cluster", node=node, is_fallback=is_fallback
        )
        tunnel = Tunnel(
            identity=identity,
            instance=bytes([self._instances]) * 16,
            epoch=1,
            link=link,
            address="pipe",
            version="test",
            cluster=ClusterFacts("v1.0"),
            connected_at=datetime.datetime.now(datetime.UTC),
            session_id="s",
            proven=ProvenSession(identity, Challenge("hub", b"", "pipe"), b"", 1, b""),
            is_control_plane=bool(node),
        )
        self.registry.add(tunnel)
        agent = ScriptedAgent(there, negotiated)
        self.tasks.spawn(agent.link.run(), name="agent")
        self.tasks.spawn(self._run(tunnel), name="hub link")
        await asyncio.sleep(0)
        return agent

    async def _run(self, tunnel: Tunnel) -> None:
        try:
            await tunnel.link.run()
        finally:
            self.registry.remove(tunnel)

    async def connect(self, tls: ssl.SSLContext | None = None, *, source: str = "127.0.0.1") -> Client:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname="localhost" if tls else None, local_addr=(source, 0)
        )
        return Client(reader, writer)

    async def ask(self, raw: bytes, timeout_s: float = 15.0) -> bytes:
        """Send raw bytes on a fresh connection and read until the hub closes it."""
        client = await self.connect()
        try:
            await client.send(raw)
            return await client.rest(timeout_s)
        finally:
            client.close()


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def head(self, timeout_s: float = 15.0) -> bytes:
        async with asyncio.timeout(timeout_s):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, n: int, timeout_s: float = 15.0) -> bytes:
        async with asyncio.timeout(timeout_s):
            return await self.reader.readexactly(n)

    async def response(self) -> bytes:
        """One response with a Content-Length, whole."""
        head = await self.head()
        length = next(int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
        return head + await self.exactly(length)

    async def rest(self, timeout_s: float = 15.0) -> bytes:
        """Everything until EOF. An abort (RST) ends it too and is told by `is_broken`."""
        got = b""
        async with asyncio.timeout(timeout_s):
            try:
                while chunk := await self.reader.read(65536):
                    got += chunk
            except ConnectionError:
                self.is_broken = True
        return got

    is_broken = False

    def close(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def line(
    *,
    tls: ssl.SSLContext | None = None,
    limits: EdgeLimits | None = None,
    proxy_limits: ProxyLimits | None = None,
    app: web.Application | None = None,
    host_names: frozenset[str] | None = None,
) -> AsyncIterator[Line]:
    """A running line without agents."""
    built = Line(
        tls,
        limits or EdgeLimits(sweep_interval_s=0.05),
        proxy_limits or ProxyLimits(sweep_interval_s=0.05),
        app or web.Application(),
        host_names,
    )
    bound = await built.edge.start()
    built.port = bound[0][1]
    built.relay.start()
    try:
        yield built
    finally:
        await built.relay.aclose()
        await built.edge.close()
        await built.tasks.aclose()


def status_of(raw: bytes) -> int:
    """Status of the first response in `raw`; 0 when there is none."""
    return int(raw[9:12]) if raw.startswith(b"HTTP/1.1 ") else 0


def statuses_of(raw: bytes) -> list[int]:
    """Statuses of all responses in `raw`."""
    return [int(match) for match in re.findall(rb"HTTP/1\.1 (\d\d\d) ", raw)]


def get(path: bytes = b"/k8s/clusters/c1/api", *lines: bytes, auth: bytes = AUTH) -> bytes:
    """A GET request as raw bytes."""
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + auth + b"".join(lines) + b"\r\n"
