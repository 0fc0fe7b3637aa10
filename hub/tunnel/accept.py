"""`GET /v1/tunnel`: where an agent becomes a tunnel (design P5, P7).

Until WELCOME the peer is nobody: 10 s, 64 KiB a message and 200 such sessions at once are all it gets. The cluster
comes from the credential alone. Cookies and Origin have no meaning here, and a browser is turned away (D8).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import http
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

from hub import errors
from hub.auth.agents import AgentIdentity, Challenge, CredentialRefused
from hub.auth.nodes import ROLE_NODE
from hub.auth.rotation import ProvenSession
from hub.edge import response
from hub.edge.framing import Request
from hub.edge.origin import origin_of_peer
from hub.endings import Endings
from hub.memory import buffer_budget
from hub.metrics import Metrics
from hub.store.model import StoreError
from hub.tunnel.greetings import Greeting, Greetings
from hub.tunnel.registry import ClusterFacts, Refusal, Registry, Tunnel
from hub.tunnel.wsserver import switching
from proto import errors as wire
from proto import facts
from proto.aio.busypoll import BusyPoll
from proto.aio.commands import CommandServer, Handler
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.aio.owner import StreamOwner
from proto.aio.tasks import TaskGroup
from proto.aio.websocket import LINGER_S, WebSocketTransport
from proto.commands import Verb
from proto.credentials import JOIN
from proto.errors import Code
from proto.handshake import CONTROL_PLANE, HubHandshake
from proto.limits import Limits, check_offer
from proto.messages import NONCE_BYTES, AgentAuth, Opening, Refused, StreamKind
from proto.rationing import RationedLog
from proto.session import Role, Session
from proto.tokenrenewal import signed_part
from proto.websocket import BINARY, frame
from proto.window import Budget

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S: Final = 10.0
GOODBYE_S: Final = 2.0
UNAUTHENTICATED_MAX: Final = 200
BUSY_RETRY_S: Final = 2
REFUSED_RETRY_MS: Final = 5_000
"""Told to an agent whose credential is refused: it may become valid, but not within a second."""


class AgentAuthenticator(Protocol):
    async def authenticate(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
        """Raises CredentialRefused. What it returns was true in the same turn of the loop."""
        ...


class TunnelEndpoint:
    """Implements hub.edge.application.Tunnels; one instance for the hub."""

    def __init__(
        self,
        *,
        hub_id: str,
        authenticator: AgentAuthenticator,
        registry: Registry,
        metrics: Metrics,
        limits: Limits | None = None,
        on_drain: Callable[[Tunnel], None] = lambda tunnel: None,
        budget: Budget | None = None,
        compresses: bool = False,
        commands: Callable[[Tunnel], Mapping[Verb, Handler]] = lambda tunnel: {},
        wall: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        unauthenticated_max: int = UNAUTHENTICATED_MAX,
        busy_poll: BusyPoll | None = None,
    ) -> None:
        self._hub_id = hub_id
        self._busy_poll = busy_poll or BusyPoll(0.0)
        self._authenticator = authenticator
        self._registry = registry
        self._metrics = metrics
        self._observer = metrics.link_observer()
        self._limits = limits or Limits()
        self._on_drain = on_drain
        self._commands = commands
        self._groups: dict[Tunnel, TaskGroup] = {}
        self._servers: dict[Tunnel, CommandServer] = {}
        self._budget = budget or Budget(buffer_budget())
        self._compresses = compresses
        self._wall = wall
        self._handshake_timeout_s = handshake_timeout_s
        self._greetings = Greetings(unauthenticated_max, time.monotonic)
        self._strangers = RationedLog(logger, time.monotonic)
        self._endings = Endings()
        self._tasks = TaskGroup("tunnels")

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def greetings(self) -> int:
        return len(self._greetings)

    def take(self, transport: asyncio.Transport, request: Request, early: bytes, when_lost: Callable[[], None]) -> None:
        try:
            answer = switching(request)
            greeting = self._enter(request.peer, transport)
        except errors.HubError as refusal:
            if not isinstance(refusal, errors.ClusterUnavailable):  # that one `_enter` has noted
                status = refusal.http_status
                self._strangers.log(logging.INFO, "tunnel refused", f"http {status}", peer=request.peer, status=status)
            self._own(_turn_away(transport, _refusal(refusal)), transport, request.peer, when_lost)
            return
        nonce = secrets.token_bytes(NONCE_BYTES)
        handshake = HubHandshake(self._hub_id, nonce, self._limits, compresses=self._compresses, tries=True)
        transport.write(answer + frame(BINARY, handshake.hello()))  # at once: a write costs what a request costs
        websocket = WebSocketTransport(transport, is_server=True, early=early, notice=self._endings.soon)
        if not self._own(self._attend(websocket, handshake, greeting), transport, request.peer, when_lost):
            self._leave(greeting)

    def _own(
        self, work: Coroutine[Any, Any, None], transport: asyncio.Transport, peer: str, when_lost: Callable[[], None]
    ) -> bool:
        """Whether a task has the connection now, and with it a place among all; not when the hub is going down."""
        try:
            task = self._tasks.spawn(work, name=peer)
        except RuntimeError:
            transport.abort()
            when_lost()
            return False
        task.add_done_callback(lambda _: when_lost())
        return True

    async def aclose(self) -> None:
        """Give the sessions GOODBYE_S to say goodbye, then drop what is left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._tasks.wait()
        await self._tasks.aclose()

    async def _attend(self, transport: WebSocketTransport, handshake: HubHandshake, greeting: Greeting) -> None:
        try:
            tunnel = await self._greet(transport, handshake)
            self._leave(greeting)
            if tunnel is not None:
                await self._serve(tunnel, transport)
        finally:
            self._leave(greeting)
            transport.abort()

    # -- before the WebSocket

    def _enter(self, peer: str, transport: asyncio.Transport) -> Greeting:
        """A place among those who are nobody yet. Raises hub.errors.ClusterUnavailable when all are taken."""
        evict = functools.partial(self._evict, peer, transport)
        greeting = self._greetings.enter(origin_of_peer(peer), evict)
        self._metrics.handshakes.set(len(self._greetings))
        if greeting is None:
            self._note("too-many-handshakes", peer=peer)
            raise errors.ClusterUnavailable("too many agents are connecting", retry_after_s=BUSY_RETRY_S)
        return greeting

    def _evict(self, peer: str, transport: asyncio.Transport) -> None:
        """Its place goes to another."""
        self._note("too-many-handshakes", peer=peer)
        transport.abort()

    def _leave(self, greeting: Greeting) -> None:
        self._greetings.leave(greeting)
        self._metrics.handshakes.set(len(self._greetings))

    # -- handshake

    async def _greet(self, transport: WebSocketTransport, handshake: HubHandshake) -> Tunnel | None:
        """AUTH, WELCOME. None when the peer was refused or left; the WebSocket is closed then."""
        identity: AgentIdentity | None = None
        try:
            async with asyncio.timeout(self._handshake_timeout_s):
                auth = handshake.receive(await transport.receive())
                check_offer(auth.limits)
                challenge = Challenge(self._hub_id, handshake.nonce, transport.peer)
                if handshake.is_trial and auth.credential.scheme == JOIN:
                    raise wire.ProtocolError("a join cannot be tried: it would be the join")
                identity = await self._authenticator.authenticate(auth, challenge)
                if handshake.is_trial:
                    await self._answer_trial(handshake, identity, transport)
                    return None
                tunnel = self._admit(handshake, auth, identity, transport, challenge)
                welcome = handshake.make_welcome(
                    tunnel.session_id, identity.cluster_name, cluster_uid=identity.cluster_uid
                )
                try:
                    await transport.send(handshake.welcome(welcome))
                except BaseException:
                    # Requests may have been sent on it already, and nobody will run it: their owners must hear.
                    tunnel.link.close(Code.CLOSED, "the agent left before it was welcomed")
                    raise
                return tunnel
        except TimeoutError:
            await self._refuse(handshake, transport, Code.CLOSED, "timeout", "the handshake took too long")
        except wire.ProtocolError as error:
            reason = "version" if error.code is Code.VERSION else "protocol"
            await self._refuse(handshake, transport, error.code, reason, error.text)
        except CredentialRefused as refusal:
            await self._refuse(handshake, transport, refusal.code, "credential", refusal.message)
        except StoreError:
            text = "an agent could not be enrolled"
            self._strangers.log(logging.ERROR, text, "enrolment", with_traceback=True, peer=transport.peer)
            await self._refuse(handshake, transport, Code.OVERLOADED, "store", "the hub's store does not work now")
        except Refusal as refusal:
            await self._refuse(handshake, transport, refusal.code, refusal.reason, refusal.text, identity)
        except (ConnectionError, EOFError):
            transport.abort()
        return None

    async def _answer_trial(
        self, handshake: HubHandshake, identity: AgentIdentity, transport: WebSocketTransport
    ) -> None:
        """Say that the credential is good, and end: nothing is registered, so no request and no list ever sees it."""
        welcome = handshake.make_welcome("trial", identity.cluster_name, cluster_uid=identity.cluster_uid)
        await transport.send(handshake.welcome(welcome))
        await transport.close(1000, "trial")
        logger.info("an agent's credential was tried", extra={"peer": transport.peer, "cluster": identity.cluster_name})

    def _admit(
        self,
        handshake: HubHandshake,
        auth: AgentAuth,
        identity: AgentIdentity,
        transport: WebSocketTransport,
        challenge: Challenge,
    ) -> Tunnel:
        session = Session(Role.HUB, handshake.negotiated, self._limits, budget=self._budget)
        at = f"{identity.cluster_name}:{identity.node}" if identity.node else identity.cluster_name
        name = f"{at}/{auth.instance.hex()[:8]}"
        link = Link(
            session,
            transport,
            on_open=lambda stream, kind, _, message: self._on_open(tunnel, stream, kind, message),
            on_drain=lambda _: self._on_drain(tunnel),
            on_end=lambda: self._registry.remove(tunnel),
            name=name,
            observer=self._observer,
            leg=self._busy_poll.leg(),
        )
        tunnel = Tunnel(
            identity=identity,
            instance=auth.instance,
            epoch=auth.epoch,
            link=link,
            address=transport.peer,
            version=auth.build,
            cluster=ClusterFacts(auth.kubernetes),
            connected_at=self._wall(),
            session_id=secrets.token_hex(8),
            proven=ProvenSession(
                identity,
                challenge,
                auth.instance,
                auth.epoch,
                identity.key,
                identity.expires_at,
                identity.rests_on,
                signed_part(auth.credential.value.decode("ascii", "replace")) if identity.role == ROLE_NODE else "",
            ),
            is_control_plane=auth.ext.get(CONTROL_PLANE) is True,
            facts=facts.from_ext(auth.ext),
        )
        self._registry.add(tunnel)
        return tunnel

    async def _refuse(
        self,
        handshake: HubHandshake,
        transport: WebSocketTransport,
        code: Code,
        reason: str,
        text: str,
        identity: AgentIdentity | None = None,
    ) -> None:
        """`identity`: of one who has proven it."""
        self._note(reason, peer=transport.peer, **({} if identity is None else _place(identity)))
        try:
            async with asyncio.timeout(1.0):
                await transport.send(handshake.refuse(Refused(code=int(code), text=text, retry_ms=REFUSED_RETRY_MS)))
                await transport.close(1008, reason)
        except (ConnectionError, TimeoutError, wire.UsageError):
            transport.abort()

    def _note(self, reason: str, **fields: Any) -> None:
        """Count and log an agent that is refused."""
        self._metrics.tunnel_refused(reason)
        self._strangers.log(logging.INFO, "agent refused", reason, reason=reason, **fields)

    # -- session

    async def _serve(self, tunnel: Tunnel, transport: WebSocketTransport) -> None:
        fields = {
            **_place(tunnel.identity),
            "instance": tunnel.instance.hex(),
            "session": tunnel.session_id,
            "peer": transport.peer,
        }
        serves = tunnel.candidate.is_eligible
        logger.info("session opened", extra={**fields, "agent_version": tunnel.version, "serves": serves})
        self._metrics.session_opened(tunnel.identity.role)
        try:
            async with TaskGroup(f"commands of {tunnel.link.name}") as group:
                self._groups[tunnel] = group
                reason = await tunnel.link.run()
            logger.info("session ended", extra={**fields, "end": reason.kind.value, "code": reason.code.name})
        finally:
            self._groups.pop(tunnel, None)
            self._servers.pop(tunnel, None)
            self._metrics.session_closed(tunnel.identity.role)
            transport.abort()

    def _on_open(self, tunnel: Tunnel, stream: LinkStream, kind: StreamKind, message: Opening) -> StreamOwner | None:
        """Agents open streams of kind `cmd` only."""
        group = self._groups.get(tunnel)
        if kind is StreamKind.CMD and group is not None:
            server = self._servers.get(tunnel)
            if server is None:  # made by the first command: most of five thousand idle tunnels never say one
                server = self._servers[tunnel] = CommandServer(self._commands(tunnel), group)
            return server.on_open(stream, message)
        stream.reset(Code.FORBIDDEN, "the hub serves no such streams of agents")
        return None


def _place(identity: AgentIdentity) -> dict[str, str]:
    """Where an agent belongs, for a line of the log."""
    fields = {"cluster": identity.cluster_name, "role": identity.role}
    return {**fields, "node": identity.node} if identity.node else fields


async def _turn_away(transport: asyncio.Transport, answer: bytes) -> None:
    """Answer and close. Over TLS a stranger who says no goodbye would keep the connection for minutes."""
    transport.write(answer)
    transport.close()
    try:
        await asyncio.sleep(LINGER_S)
    finally:
        transport.abort()


def _refusal(error: errors.HubError) -> bytes:
    answer = response.error_response(error, request_id="", is_head=False, close=True)
    if error.http_status != http.HTTPStatus.BAD_REQUEST:
        return answer
    line, _, rest = answer.partition(b"\r\n")
    return b"".join((line, b"\r\nupgrade: websocket\r\n", rest))
