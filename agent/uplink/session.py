"""Opening one session: dial, HELLO, AUTH, WELCOME. Everything that can go wrong comes out as a ConnectFailed."""

import asyncio
import dataclasses
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from agent.config import HubSettings
from agent.uplink import proxies, wsclient
from agent.uplink.credentials import Claims, HubCredential, Proven
from agent.uplink.diagnose import (
    ConnectFailed,
    Diagnosis,
    Step,
    of_cause,
    of_refusal,
    of_versions,
    presented_certificate,
)
from agent.uplink.proxies import Proxy
from agent.uplink.trust import HubTrust
from proto import causes, limits
from proto.aio.transport import Transport
from proto.aio.websocket import WebSocketTransport
from proto.errors import ProtocolError, VersionMismatch, code_of
from proto.facts import NodeFacts
from proto.handshake import AgentHandshake, TrialNotOffered
from proto.messages import Refused, Welcome
from proto.session import Role, Session

HANDSHAKE_TIMEOUT: Final = 10.0
"""Seconds from HELLO to WELCOME (design P5)."""

SEND_QUEUE_BYTES: Final = 128 * 1024
"""Bytes queued for a stalled reader; half of the protocol's default, because an agent has a cluster's memory to spare,
not a hub's, and the API server can be paused at once."""

Dial = Callable[[HubSettings, ssl.SSLContext, Proxy | None], Awaitable[Transport]]
"""Opens the WebSocket. Raises ConnectFailed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What this process says of itself in every session."""

    instance: bytes
    """16 random bytes of this process."""
    role: str = "cluster"


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """An open session, not yet driven."""

    session: Session
    transport: Transport
    welcome: Welcome
    proven: Proven


class Opener:
    """Opens sessions, one at a time; numbers them (a higher epoch of an instance supersedes the lower ones)."""

    def __init__(
        self,
        settings: HubSettings,
        identity: Identity,
        trust: HubTrust,
        credential: HubCredential,
        *,
        proxy_environment: Mapping[str, str],
        kubernetes: Callable[[], Awaitable[str]],
        session_limits: limits.Limits | None = None,
        compresses: bool = False,
        is_trial: bool = False,
        is_control_plane: Callable[[], bool] = lambda: False,
        facts: Callable[[], NodeFacts] = NodeFacts,
        dial: Dial = wsclient.open_transport,
    ) -> None:
        """`kubernetes` returns the API server's version, "" when unknown, and takes a bounded time. `compresses`:
        whether answers may be compressed where the hub can read it. `is_trial`: only learn whether the hub would take
        the credential; the hub then closes, and what `open` returns is to be aborted. `is_control_plane`: whether this
        node is one of the control plane, and `facts`, what else is seen of it, are asked for each session."""
        self._settings = settings
        self._identity = identity
        self._trust = trust
        self._credential = credential
        self._proxy_environment = proxy_environment
        self._kubernetes = kubernetes
        self._limits = session_limits or limits.Limits(
            send_queue_bytes=SEND_QUEUE_BYTES, send_queue_low_bytes=SEND_QUEUE_BYTES // 2
        )
        self._compresses = compresses
        self._is_trial = is_trial
        self._is_control_plane = is_control_plane
        self._facts = facts
        self._dial = dial
        self._epoch = 0

    async def open(self) -> Opened:
        """One attempt. Raises ConnectFailed. Safe to cancel: nothing stays open."""
        version = await self._kubernetes()
        await self._credential.prepare()
        proxy = proxies.choose(self._proxy_environment, self._settings.host, self._settings.port)
        context = await self._trust.context(proxy)
        try:
            transport = await self._dial(self._settings, context, proxy)
        except ConnectFailed as failure:
            if failure.diagnosis.step in {Step.PIN, Step.TLS}:
                self._trust.doubt()
                raise await self._with_certificate(failure, proxy) from failure
            raise
        self._epoch += 1
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                return await self._shake_hands(transport, version)
        except BaseException as exc:
            transport.abort()
            if isinstance(exc, ProtocolError | EOFError | OSError):
                raise ConnectFailed(_of_handshake(exc)) from exc
            raise

    async def _shake_hands(self, transport: Transport, version: str) -> Opened:
        handshake = AgentHandshake(
            self._identity.role,
            self._identity.instance,
            self._epoch,
            self._limits,
            kubernetes=version,
            compresses=self._compresses,
            is_trial=self._is_trial,
            is_control_plane=self._is_control_plane(),
            facts=self._facts(),
        )
        hello = handshake.receive_hello(await transport.receive())
        limits.check_offer(hello.limits)
        claims = Claims(self._identity.role, self._identity.instance, self._epoch, self._pins_in_use(transport))
        await transport.send(handshake.auth(self._credential.present(hello, claims)))
        answer = handshake.receive_answer(await transport.receive())
        if isinstance(answer, Refused):
            has_more = self._credential.refused(code_of(answer.code))
            raise ConnectFailed(of_refusal(answer, has_more=has_more))
        await self._credential.welcomed(answer)
        session = Session(Role.AGENT, handshake.negotiated, self._limits)
        return Opened(session, transport, answer, Proven(hello, claims))

    def _pins_in_use(self, transport: Transport) -> tuple[str, ...]:
        """What a proof names: the CA that this connection's chain ends in; every trusted one if that is not known."""
        pin = wsclient.root_pin(transport.tls) if isinstance(transport, WebSocketTransport) else ""
        return (pin,) if pin in self._trust.pins else self._trust.pins

    async def _with_certificate(self, failure: ConnectFailed, proxy: Proxy | None) -> ConnectFailed:
        """Add what certificate was met; through a proxy that takes another road and is left out."""
        diagnosis = failure.diagnosis
        seen = "" if proxy is not None else await presented_certificate(self._settings.host, self._settings.port)
        if not seen:
            return failure
        return ConnectFailed(dataclasses.replace(diagnosis, what=f"{diagnosis.what} (it shows: {seen})"))


def _of_handshake(error: Exception) -> Diagnosis:
    if isinstance(error, TimeoutError):
        return of_cause(causes.SESSION_SLOW)
    if isinstance(error, TrialNotOffered):
        return of_cause(causes.CREDENTIAL_UNTRIED)
    if isinstance(error, VersionMismatch):
        return of_versions(error.text)
    if isinstance(error, ProtocolError):
        return of_cause(causes.SESSION_BROKEN, said=error.text)
    return of_cause(causes.SESSION_CLOSED)
