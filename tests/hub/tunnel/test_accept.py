"""hub/tunnel/accept.py and wsserver.py: an agent's way in, over a real WebSocket on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import msgspec
import pytest
from aiohttp import web

from hub.auth.agents import AgentIdentity, Challenge, CredentialRefused
from hub.edge.application import Application
from hub.edge.framing import read_request
from hub.edge.head import parse_head
from hub.edge.server import EdgeServer
from hub.metrics import Metrics
from hub.route import Reason
from hub.tunnel import accept, greetings
from hub.tunnel.accept import TunnelEndpoint
from hub.tunnel.registry import Registry, Tunnel
from proto import codec, frames
from proto.aio.owner import StreamOwner
from proto.aio.websocket import WebSocketTransport
from proto.errors import Code
from proto.frames import FrameType
from proto.handshake import CONTROL_PLANE, AgentHandshake
from proto.limits import HANDSHAKE_MAX_BYTES, MESSAGE_MAX_BYTES, Limits
from proto.messages import AgentAuth, Credential, HttpRequest, Refused, StreamClass, StreamKind, TcpTarget, Welcome
from proto.versions import SUBPROTOCOL
from tests.harness.records import captured
from tests.hub.edge.fakes import FakeTransport
from tests.room import room

INSTANCE = b"i" * 16


class FakeAuthenticator:
    """`good` is a credential of c1, `node` one of a node agent there that may not serve."""

    async def authenticate(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
        if auth.credential.value == b"node":
            return AgentIdentity("uid-c1", "c1", "c1:n1", "node", node="n1")
        if auth.credential.value != b"good":
            code = Code.REVOKED if auth.credential.value == b"old" else Code.UNAUTHENTICATED
            raise CredentialRefused("no", code=code)
        return AgentIdentity("uid-c1", "c1", "cred", auth.role)


class Hub:
    def __init__(self, registry: Registry | None = None, **options: object) -> None:
        self.registry = registry or Registry()
        self.metrics = Metrics()
        self.endpoint = TunnelEndpoint(
            hub_id="hub-1",
            authenticator=FakeAuthenticator(),
            registry=self.registry,
            metrics=self.metrics,
            **options,  # type: ignore[arg-type]
        )
        self.edge = EdgeServer(
            listen=[("127.0.0.1", 0)],
            tls=None,
            aiohttp_app=web.Application(),
            application=cast(Application, None),
            tunnels=self.endpoint,
        )
        self.port = 0
        self.session: aiohttp.ClientSession

    def connect(self, **options: object) -> aiohttp.client._WSRequestContextManager:
        options.setdefault("protocols", [SUBPROTOCOL])
        return self.session.ws_connect(f"http://127.0.0.1:{self.port}/v1/tunnel", **options)  # type: ignore[arg-type]

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"riata_hub_{name}", labels) or 0.0


@contextlib.asynccontextmanager
async def running(registry: Registry | None = None, **options: object) -> AsyncIterator[Hub]:
    hub = Hub(registry, **options)
    ((_, hub.port),) = await hub.edge.start()
    try:
        async with aiohttp.ClientSession() as hub.session:
            yield hub
    finally:
        for tunnel in hub.registry:
            tunnel.link.close(Code.CLOSED)
        await hub.edge.close()


def agent(epoch: int = 1, instance: bytes = INSTANCE, **options: object) -> AgentHandshake:
    return AgentHandshake("cluster", instance, epoch, Limits(), **options)  # type: ignore[arg-type]


async def greet(
    socket: aiohttp.ClientWebSocketResponse, handshake: AgentHandshake, value: bytes = b"good"
) -> Welcome | Refused:
    handshake.receive_hello(await socket.receive_bytes())
    await socket.send_bytes(handshake.auth(Credential(scheme="bearer", value=value)))
    return handshake.receive_answer(await socket.receive_bytes())


async def test_welcome_makes_a_tunnel_and_its_end_removes_it() -> None:
    async with running() as hub:
        async with hub.connect() as socket:
            answer = await greet(socket, agent(kubernetes="v1.37.2"))
            assert isinstance(answer, Welcome)
            assert (answer.cluster, answer.ext) == ("c1", {"cluster_uid": "uid-c1"})
            (status,) = hub.registry.status("uid-c1")
            assert (status.instance, status.kubernetes) == (INSTANCE.hex(), "v1.37.2")
            assert hub.registry.pick("uid-c1").route is not None
            assert hub.count("sessions", role="cluster") == 1
            assert hub.count("tunnel_handshakes") == 0
        await until_gone(hub)
        assert hub.registry.lost_at("uid-c1") is not None
        assert hub.count("sessions", role="cluster") == 0


async def test_what_an_agent_says_of_its_node_orders_it_and_lets_it_do_nothing() -> None:
    async with running() as hub, hub.connect() as socket:
        handshake = agent()
        handshake.receive_hello(await socket.receive_bytes())
        auth = codec.decode(AgentAuth, frames.split(handshake.auth(Credential(scheme="bearer", value=b"node")))[0][3])
        claims = {CONTROL_PLANE: True, "is_fallback": True, "fallback": True, "serves": True, "role": "cluster"}
        lying = msgspec.structs.replace(auth, ext={**auth.ext, **claims})
        await socket.send_bytes(frames.encode(FrameType.AUTH, 0, 0, codec.encode(lying)))
        assert isinstance(handshake.receive_answer(await socket.receive_bytes()), Welcome)
        (tunnel,) = hub.registry
        assert tunnel.candidate.is_control_plane
        assert not tunnel.candidate.is_eligible
        assert hub.registry.pick("uid-c1").reason is Reason.NONE_ELIGIBLE


async def until_gone(hub: Hub) -> None:
    for _ in range(200):
        if not list(hub.registry) and not sum(hub.count("sessions", role=role) for role in ("cluster", "node")):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the tunnel is still there")


async def test_a_bad_credential() -> None:
    async with running() as hub, hub.connect() as socket:
        answer = await greet(socket, agent(), b"bad")
        assert isinstance(answer, Refused)
        assert answer.code == Code.UNAUTHENTICATED
        assert answer.retry_ms > 0
        assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert list(hub.registry) == []
        assert hub.count("tunnel_refusals_total", reason="credential") == 1


@pytest.mark.parametrize(("value", "answer"), [(b"good", Welcome), (b"bad", Refused)])
async def test_a_trial_is_answered_and_leaves_no_trace(value: bytes, answer: type) -> None:
    async with running() as hub, hub.connect() as session:
        assert isinstance(await greet(session, agent()), Welcome)
        async with hub.connect() as socket:  # of the same instance and a higher epoch: it would supersede
            assert isinstance(await greet(socket, agent(9, is_trial=True), value), answer)
            assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        (tunnel,) = hub.registry
        assert tunnel.epoch == 1
        assert hub.count("sessions", role="cluster") == 1


async def test_a_join_is_never_tried() -> None:
    """Its authenticator would enrol the key."""
    async with running() as hub, hub.connect() as socket:
        handshake = agent(is_trial=True)
        handshake.receive_hello(await socket.receive_bytes())
        await socket.send_bytes(handshake.auth(Credential(scheme="join", value=b"good")))
        refused = handshake.receive_answer(await socket.receive_bytes())
        assert isinstance(refused, Refused)
        assert refused.code == Code.PROTOCOL


async def test_a_revoked_credential_is_told_so() -> None:
    async with running() as hub, hub.connect() as socket:
        answer = await greet(socket, agent(), b"old")
        assert isinstance(answer, Refused)
        assert (answer.code, answer.text) == (Code.REVOKED, "no")


async def test_no_common_version() -> None:
    async with running() as hub, hub.connect() as socket:
        socket_agent = agent(wire_versions=(1, 1))
        socket_agent.receive_hello(await socket.receive_bytes())
        message = socket_agent.auth(Credential(scheme="bearer", value=b"good"))
        await socket.send_bytes(message.replace(b"\xa8versions\x92\x01\x01", b"\xa8versions\x92\x09\x09"))
        answer = frames.split(await socket.receive_bytes())[0]
        assert answer[0] == FrameType.REFUSED
        assert hub.count("tunnel_refusals_total", reason="version") == 1


@pytest.mark.parametrize(
    "message",
    [b"", b"junk", b"\x00" * 8, frames.encode(FrameType.PING, 0, 0, bytes(8))],
    ids=["empty", "junk", "zeros", "another frame"],
)
async def test_nonsense_before_welcome(message: bytes) -> None:
    async with running() as hub, hub.connect() as socket:
        await socket.receive_bytes()
        await socket.send_bytes(message)
        answer = frames.split(await socket.receive_bytes())[0]
        assert answer[0] == FrameType.REFUSED
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await until_nobody(hub)
        assert list(hub.registry) == []


async def test_before_welcome_a_message_has_64_kib() -> None:
    async with running() as hub, hub.connect() as socket:
        await socket.receive_bytes()
        await socket.send_bytes(bytes(HANDSHAKE_MAX_BYTES + 1))
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1009
        await until_nobody(hub)


async def until_nobody(hub: Hub) -> None:
    for _ in range(200):
        if not hub.count("tunnel_handshakes"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the handshake is still there")


async def test_a_message_above_the_limit_ends_the_connection() -> None:
    async with running() as hub, hub.connect() as socket:
        await greet(socket, agent())
        await socket.send_bytes(bytes(MESSAGE_MAX_BYTES + 1))
        while not (message := await socket.receive()).type & aiohttp.WSMsgType.CLOSE:
            pass
        assert message.data in (1009, None) or socket.close_code == 1009
        await until_gone(hub)


async def test_silence_ends_after_the_deadline() -> None:
    async with running(handshake_timeout_s=0.1) as hub, hub.connect() as socket:
        await socket.receive_bytes()
        answer = frames.split(await socket.receive_bytes())[0]
        assert answer[0] == FrameType.REFUSED
        assert hub.count("tunnel_refusals_total", reason="timeout") == 1


async def test_unauthenticated_sessions_are_bounded() -> None:
    async with running(unauthenticated_max=2) as hub:
        sockets = [await hub.connect() for _ in range(2)]
        with captured(accept.__name__) as lines, pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await hub.connect()
        assert [(line["event"], line["reason"]) for line in lines] == [("agent refused", "too-many-handshakes")]
        assert caught.value.status == 503
        assert caught.value.headers is not None
        assert caught.value.headers["Retry-After"] == "2"
        assert hub.count("tunnel_refusals_total", reason="too-many-handshakes") == 1
        for number, socket in enumerate(sockets):
            assert isinstance(await greet(socket, agent(instance=bytes([number]) * 16)), Welcome)
        extra = await hub.connect()
        for socket in (*sockets, extra):
            await socket.close()
        await until_gone(hub)


async def test_an_offer_that_would_make_millions_of_frames_is_refused_whatever_the_credential() -> None:
    async with running() as hub:
        for limits in (
            Limits(data_bytes=1),
            Limits(window_bytes=1),
            Limits(window_bytes=1, session_window_bytes=4_200_000),
        ):
            async with hub.connect() as socket:
                small = AgentHandshake("cluster", INSTANCE, 1, limits)
                answer = await greet(socket, small, b"unknown")
                assert isinstance(answer, Refused)
                assert answer.code == Code.PROTOCOL


class Owner:
    """A request that was routed to a tunnel before its agent had been welcomed."""

    def __init__(self) -> None:
        self.code: Code | None = None

    def reset(self, code: Code, text: str) -> None:
        self.code = code


async def test_a_request_on_a_tunnel_that_is_never_welcomed_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner()
    async with running() as hub:
        add = hub.registry.add

        def add_and_use(tunnel: Tunnel) -> None:
            add(tunnel)
            opening = HttpRequest(method="GET", path=b"/", headers=())
            tunnel.link.open(opening, cast(StreamOwner, owner), kind=StreamKind.HTTP, cls=StreamClass.NORMAL)
            monkeypatch.setattr(WebSocketTransport, "send", broken)

        async def broken(_self: WebSocketTransport, _message: bytes) -> None:
            raise ConnectionResetError

        monkeypatch.setattr(hub.registry, "add", add_and_use)
        async with hub.connect() as socket:
            handshake = agent()
            handshake.receive_hello(await socket.receive_bytes())
            await socket.send_bytes(handshake.auth(Credential(scheme="bearer", value=b"good")))
            await socket.receive(timeout=30)
        await until_gone(hub)
    assert owner.code is not None


async def test_silent_sessions_give_way_to_one_that_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may open WebSockets and say nothing: the fleet must get in all the same."""
    monkeypatch.setattr(greetings, "PATIENCE_S", 0.0)
    async with running(unauthenticated_max=2) as hub:
        silent = [await hub.connect() for _ in range(2)]
        loser = silent[0].get_extra_info("sockname")
        with captured(accept.__name__) as lines:
            socket = await hub.connect()
        async with socket:
            (line,) = lines
            assert (line["event"], line["reason"]) == ("agent refused", "too-many-handshakes")
            assert line["peer"] == f"{loser[0]}:{loser[1]}"
            assert isinstance(await greet(socket, agent()), Welcome)
            await silent[0].receive(timeout=30)  # the hub's HELLO
            await silent[0].receive(timeout=30)
            assert silent[0].closed
            assert hub.count("tunnel_handshakes") == 1
            assert hub.count("tunnel_refusals_total", reason="too-many-handshakes") == 1
        for each in silent:
            await each.close()
        await until_gone(hub)


async def test_a_newer_session_of_the_instance_supersedes() -> None:
    async with running() as hub, hub.connect() as first, hub.connect() as second, hub.connect() as third:
        await greet(first, agent(1))
        assert isinstance(await greet(second, agent(2)), Welcome)
        while (await first.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
        assert [tunnel.epoch for tunnel in hub.registry] == [2]
        with captured(accept.__name__) as lines:
            answer = await greet(third, agent(1))
        assert isinstance(answer, Refused)
        assert answer.code == Code.SUPERSEDED
        (line,) = [each for each in lines if each["event"] == "agent refused"]
        assert (line["reason"], line["cluster"], line["role"]) == ("superseded", "c1", "cluster")
        assert "node" not in line


async def test_which_node_of_which_cluster_has_no_room_is_said() -> None:
    """All agents of a site come from one address."""
    async with running(Registry(node_tunnels_max=1)) as hub, hub.connect() as first, hub.connect() as second:
        assert isinstance(await greet(first, agent(), b"node"), Welcome)
        with captured(accept.__name__) as lines:
            answer = await greet(second, agent(instance=b"j" * 16), b"node")
        assert isinstance(answer, Refused)
        (line,) = [each for each in lines if each["event"] == "agent refused"]
        assert (line["reason"], line["cluster"], line["node"]) == ("too-many-nodes", "c1", "n1")


async def test_who_proves_nothing_is_of_no_cluster() -> None:
    async with running() as hub, hub.connect() as socket:
        with captured(accept.__name__) as lines:
            await greet(socket, agent(), b"bad")
        assert [(line["reason"], "cluster" in line) for line in lines] == [("credential", False)]


async def test_what_a_superseded_session_still_sends_is_dropped_and_counted() -> None:
    async with running() as hub, hub.connect() as first, hub.connect() as second:
        await greet(first, agent(1))
        (old,) = hub.registry
        assert isinstance(await greet(second, agent(2)), Welcome)
        old.link.message_received(frames.encode(frames.FrameType.PING, 0, 0, bytes(8)) * 3)
        assert hub.count("late_frames_total", code="superseded") == 3


async def test_a_tunnel_is_gone_before_its_goodbye_is_said() -> None:
    """Other workers hear of its end from the registry: they would wait for an agent that answers nothing any more."""
    async with running() as hub, hub.connect() as socket:
        await greet(socket, agent())
        (tunnel,) = hub.registry
        tunnel.link.close(Code.REVOKED, "")
        assert list(hub.registry) == []
        assert hub.count("sessions", role="cluster") == 1  # its WebSocket is still there
        while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
            pass
        await until_gone(hub)


async def test_revocation_ends_the_session_within_a_second() -> None:
    async with running() as hub, hub.connect() as socket:
        await greet(socket, agent())
        assert hub.registry.cut(credential_id="cred", code=Code.REVOKED) == 1
        async with asyncio.timeout(1 * room()):
            while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
        await until_gone(hub)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"protocols": []}, 400),
        ({"protocols": ["riata.mux.v9"]}, 400),
        ({"origin": "https://evil"}, 403),
        ({"headers": {"Cookie": "a=b"}}, 403),
    ],
)
async def test_turned_away_before_the_websocket(options: dict[str, object], status: int) -> None:
    async with running() as hub:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await hub.connect(**options)
        assert caught.value.status == status


async def test_a_request_whose_upgrade_was_taken_away() -> None:
    """The doctors know this answer: something on the way does not pass WebSockets."""
    async with running() as hub, hub.session.get(f"http://127.0.0.1:{hub.port}/v1/tunnel") as answer:
        assert answer.status == 400
        assert "by WebSocket" in (await answer.json())["message"]


async def test_compression_is_not_negotiated() -> None:
    """D12."""
    async with running() as hub, hub.connect(compress=15) as socket:
        assert socket.compress == 0


@pytest.mark.parametrize("kind", ["ping", "text"])
async def test_control_frame_flood_and_text(kind: str) -> None:
    """D11: closed with 1008; a text message with 1003."""
    async with running() as hub, hub.connect(autoping=False) as socket:
        await greet(socket, agent())
        if kind == "text":
            await socket.send_str("hello")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000 if kind == "ping" else 0):
                await socket.ping(b"x")
        async with asyncio.timeout(30):
            while (await socket.receive()).type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PONG):
                pass
        assert socket.close_code == (1008 if kind == "ping" else 1003)
        await until_gone(hub)


async def test_a_few_pings_are_answered() -> None:
    async with running() as hub, hub.connect(autoping=False) as socket:
        await greet(socket, agent())
        await socket.ping(b"hi")
        async with asyncio.timeout(30):
            while (message := await socket.receive()).type is not aiohttp.WSMsgType.PONG:
                pass
        assert message.data == b"hi"


@pytest.mark.parametrize(("hub_wants", "agent_wants"), [(True, True), (True, False), (False, True)])
async def test_bodies_may_be_compressed_where_both_sides_want_it(hub_wants: bool, agent_wants: bool) -> None:
    async with running(compresses=hub_wants) as hub, hub.connect() as socket:
        await greet(socket, agent(compresses=agent_wants))
        link = hub.registry.pick("uid-c1").route
        assert link is not None
        assert link.compresses is (hub_wants and agent_wants)


async def test_an_agent_opens_no_streams() -> None:
    """E6: of the right parity, and yet refused; the session lives."""
    async with running() as hub, hub.connect() as socket:
        await greet(socket, agent())
        payload = frames.OPEN_PREFIX.pack(1, 0, 65536) + codec.encode(TcpTarget(host="x", port=1))
        await socket.send_bytes(frames.encode(FrameType.OPEN, 0, 1, payload))
        kinds = set()
        async with asyncio.timeout(30):
            while FrameType.RESET not in kinds:
                kinds |= {frame[0] for frame in frames.split(await socket.receive_bytes())}
        assert len(list(hub.registry)) == 1


@pytest.mark.parametrize("is_going_down", [False, True])
async def test_who_is_refused_has_a_place_until_the_connection_has_ended(
    monkeypatch: pytest.MonkeyPatch, is_going_down: bool
) -> None:
    """Over TLS it ends with the peer's goodbye only; uncounted, strangers could hold every descriptor."""
    monkeypatch.setattr(accept, "LINGER_S", 0.0)
    hub, transport, lost = Hub(), FakeTransport(), asyncio.Event()
    request = read_request(parse_head(b"GET /v1/tunnel HTTP/1.1\r\nHost: h\r\n\r\n"), 0.0, "a:1", None)
    if is_going_down:
        await hub.endpoint.aclose()
    hub.endpoint.take(cast(asyncio.Transport, transport), request, b"", lost.set)
    assert len(hub.endpoint) == (not is_going_down)
    await lost.wait()
    assert transport.is_aborted
    assert transport.written.startswith(b"" if is_going_down else b"HTTP/1.1 400 ")
    assert len(hub.endpoint) == 0
    await hub.endpoint.aclose()
