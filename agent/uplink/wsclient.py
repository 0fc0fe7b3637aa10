"""The WebSocket to the hub as a Transport: the only importer of `websockets`.

Its reconnecting iterator, keepalive, compression and redirects are all switched off: reconnecting is `connect.py`'s,
keepalive is the session's, compression would mix tenants' secrets, and a redirect must not choose whom we trust.
"""

import datetime
import email.utils
import ssl
from typing import Final

from websockets import exceptions
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.typing import Subprotocol

from agent.config import HubSettings
from agent.uplink.diagnose import ConnectFailed, Diagnosis, Step, of_network_error, of_status
from agent.uplink.proxies import Proxy
from proto import limits
from proto.aio import transport
from proto.versions import PRODUCT_VERSION, SUBPROTOCOL

OPEN_TIMEOUT: Final = 10.0
"""Seconds for name, TCP, TLS and the WebSocket handshake together."""
CLOSE_TIMEOUT: Final = 1.5
"""Seconds the hub has to answer a close; a dead peer must not delay the next attempt."""
QUEUE_MESSAGES: Final = 4
"""Messages read ahead of the link; with 256 KiB each this bounds the library's buffer."""
RETRY_AFTER_MAX: Final = 300.0


class _Connect(websocket):
    """`connect` that treats a redirect as any other refusal."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class WebSocketTransport:
    """proto.aio.transport.Transport over one WebSocket."""

    __slots__ = ("_connection", "peer")

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        address = connection.remote_address
        self.peer: str = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unknown"

    async def send(self, message: bytes) -> None:
        try:
            await self._connection.send(message)
        except exceptions.ConnectionClosed as exc:
            raise ConnectionError(_ending(exc)) from exc

    async def receive(self) -> bytes:
        try:
            message = await self._connection.recv()
        except exceptions.ConnectionClosedOK as exc:
            raise EOFError(_ending(exc)) from exc
        except exceptions.ConnectionClosed as exc:
            raise ConnectionError(_ending(exc)) from exc
        if isinstance(message, str):
            self.abort()
            raise ConnectionError("the hub sent a text message")
        return message

    def limit_unsent(self, size: int) -> None:
        transport.limit_unsent(self._connection.transport.get_extra_info("socket"), size)

    def abort(self) -> None:
        self._connection.transport.abort()

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)


async def open_transport(settings: HubSettings, context: ssl.SSLContext, proxy: Proxy | None) -> WebSocketTransport:
    """Connect, TLS, WebSocket handshake. Raises ConnectFailed for whatever went wrong. Safe to cancel."""
    through = proxy.address if proxy is not None else ""
    try:
        connection = await _Connect(
            settings.tunnel_url,
            ssl=context,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            user_agent_header=f"riata-agent/{PRODUCT_VERSION}",
            proxy=proxy.url if proxy is not None else None,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=None,
            max_size=limits.MESSAGE_MAX_BYTES,
            max_queue=QUEUE_MESSAGES,
            write_limit=transport.WRITE_BUFFER_BYTES,
        )
    except (OSError, UnicodeError, exceptions.WebSocketException) as exc:
        raise ConnectFailed(_explain(exc, settings, through)) from exc
    transport.tune(connection.transport.get_extra_info("socket"), transport=connection.transport)
    if connection.subprotocol != SUBPROTOCOL:
        connection.transport.abort()
        raise ConnectFailed(
            Diagnosis(
                Step.WEBSOCKET,
                f"what answers does not speak {SUBPROTOCOL}",
                "It may be another program, or a hub of another generation: check --hub-url",
            )
        )
    return WebSocketTransport(connection)


def _explain(error: Exception, settings: HubSettings, through: str) -> Diagnosis:
    """What the library raised, as a Diagnosis: the only place that knows its exceptions."""
    if isinstance(error, OSError | UnicodeError):
        return of_network_error(error, settings.host, settings.port, through=through)
    if isinstance(error, exceptions.InvalidStatus):
        headers = error.response.headers
        return of_status(
            error.response.status_code, retry_after(headers.get("Retry-After", "")), headers.get("Location", "")
        )
    if isinstance(error, exceptions.ProxyError | exceptions.InvalidProxy):
        status = getattr(getattr(error, "response", None), "status_code", None)
        said = f"answered {status}" if status is not None else "does not do what it should"
        return Diagnosis(
            Step.PROXY,
            f"the proxy {through} {said}",
            "Check HTTPS_PROXY with its user and password, and that it allows CONNECT to the hub; or add the hub to"
            " NO_PROXY",
        )
    if isinstance(error, exceptions.NegotiationError):
        return Diagnosis(
            Step.WEBSOCKET, f"what answers does not speak {SUBPROTOCOL}", "Check --hub-url: it may be another program"
        )
    return Diagnosis(
        Step.WEBSOCKET,
        "the WebSocket handshake failed",
        "Something between agent and hub may not pass WebSockets: look at load balancers and inspecting proxies",
    )


def retry_after(value: str, now: float | None = None) -> float:
    """Seconds of a Retry-After header, also one with a date (what stands in front of a hub may send one); 0 for none.

    `now` is the wall clock in seconds, for tests.
    """
    if value.isascii() and value.isdigit() and len(value) < 10:
        return min(float(value), RETRY_AFTER_MAX)
    try:
        until = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    wall = datetime.datetime.now(datetime.UTC).timestamp() if now is None else now
    return min(max(until - wall, 0.0), RETRY_AFTER_MAX)


def _ending(exc: exceptions.ConnectionClosed) -> str:
    if exc.rcvd is None:
        return "the connection broke"
    return f"the hub closed the WebSocket ({exc.rcvd.code} {exc.rcvd.reason})".rstrip()
