"""Opening the WebSocket to the hub: proxies, TLS, the opening handshake, all by `websockets`. Then it is ours.

Its reconnecting iterator, keepalive, compression and redirects are all switched off: reconnecting is `connect.py`'s,
keepalive is the session's, compression would mix tenants' secrets, and a redirect must not choose whom we trust.
"""

import asyncio
import datetime
import email.utils
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from websockets import exceptions
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.datastructures import Headers
from websockets.typing import Subprotocol

from agent.config import HubSettings
from agent.uplink import proxies
from agent.uplink.diagnose import ConnectFailed, Diagnosis, of_cause, of_network_error, of_status, unreached
from agent.uplink.proxies import Proxy
from proto import causes
from proto.aio import dial
from proto.aio.websocket import WebSocketTransport
from proto.pins import spki_pin
from proto.versions import PRODUCT_VERSION, SUBPROTOCOL

OPEN_TIMEOUT: Final = 10.0
"""Seconds for name, TCP, TLS and the WebSocket handshake together."""
CLOSE_TIMEOUT: Final = 1.5
"""Seconds the hub has to answer a close; a dead peer must not delay the next attempt."""
RETRY_AFTER_MAX: Final = 300.0
_DER: Final = 2  # _ssl.ENCODING_DER
_SWITCHED: Final = re.compile(rb"HTTP/1\.1 101\b")


class _Connect(websocket):
    """`connect` that treats a redirect as any other refusal."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Handshake(ClientConnection):
    """The library's connection until the hub's 101 has been read; what comes behind it is ours."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.early = b""
        self._head = b""
        self._is_switched = False

    def data_received(self, data: bytes) -> None:
        if self._is_switched:
            self.early += data  # little: reading is paused
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end >= 4 and _SWITCHED.match(self._head):
            self._is_switched = True
            self.early = self._head[end:]
            self.transport.pause_reading()
        super().data_received(data[: len(data) - len(self.early)])


def root_pin(tls: object) -> str:
    """Pin of the CA that the chain of an `ssl.SSLObject` ends in, behind its handshake; empty when the TLS library does
    not tell. The chain is public API only from Python 3.13 on."""
    inner = getattr(tls, "_sslobj", None)
    if inner is None:
        return ""
    chain = inner.get_verified_chain()
    return spki_pin(chain[-1].public_bytes(_DER)) if chain else ""


async def open_transport(settings: HubSettings, context: ssl.SSLContext, proxy: Proxy | None) -> WebSocketTransport:
    """Connect, TLS, WebSocket handshake. Raises ConnectFailed for whatever went wrong. Safe to cancel."""
    through = proxy.address if proxy is not None else ""
    try:
        async with asyncio.timeout(OPEN_TIMEOUT):
            if proxy is None:
                sock = await dial.connected(settings.host, settings.port)
                connection = await _open(settings, context, _Handshake, sock=sock)
            else:
                connection = await _open_through(await proxies.reached(proxy), proxy.host, settings, context)
    except (OSError, UnicodeError, exceptions.WebSocketException) as exc:
        raise ConnectFailed(_explain(exc, settings, through)) from exc
    if connection.subprotocol != SUBPROTOCOL:
        connection.transport.abort()
        raise ConnectFailed(of_cause(causes.WEBSOCKET_OTHER, subprotocol=SUBPROTOCOL))
    assert isinstance(connection, _Handshake)
    transport = WebSocketTransport(connection.transport, is_server=False, early=connection.early)
    # The library's connection was told nothing of this; its tasks end as if its transport had.
    connection.connection_lost(None)
    return transport


async def _open_through(proxy: Proxy, name: str, settings: HubSettings, context: ssl.SSLContext) -> ClientConnection:
    """By a proxy, which is called `name` in its certificate. Raises ProxyUnreached for what is not the hub's error."""
    is_through = False

    def make(*args: Any, **options: Any) -> _Handshake:
        nonlocal is_through
        is_through = True  # the library asks for a connection once it has a way to the hub
        return _Handshake(*args, **options)

    options = {"proxy_server_hostname": name} if proxy.scheme == "https" else {}
    try:
        return await _open(settings, context, make, proxy=proxy.url, **options)
    except socket.gaierror:
        raise  # the hub's name, which a socks5:// wants resolved here
    except OSError as exc:
        if is_through:
            raise
        raise unreached(exc) from exc


async def _open(
    settings: HubSettings, context: ssl.SSLContext, make: Callable[..., _Handshake], **way: Any
) -> ClientConnection:
    return await _Connect(
        settings.tunnel_url,
        create_connection=cast(type[ClientConnection], make),
        ssl=context,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        user_agent_header=f"riata-agent/{PRODUCT_VERSION}",
        open_timeout=None,
        close_timeout=CLOSE_TIMEOUT,
        ping_interval=None,
        **{"proxy": None, **way},
    )


def _explain(error: Exception, settings: HubSettings, through: str) -> Diagnosis:
    """What the library raised, as a Diagnosis: the only place that knows its exceptions."""
    if isinstance(error, OSError | UnicodeError):
        return of_network_error(error, settings.host, settings.port, through=through)
    if isinstance(error, exceptions.InvalidStatus):
        headers = error.response.headers
        return of_status(
            error.response.status_code, retry_after(_first(headers, "Retry-After")), _first(headers, "Location")
        )
    if isinstance(error, exceptions.ProxyError | exceptions.InvalidProxy):
        status = getattr(getattr(error, "response", None), "status_code", None)
        said = f"answered {status}" if status is not None else "does not do what it should"
        return of_cause(causes.PROXY_REFUSED, through=through, said=said)
    if isinstance(error, exceptions.NegotiationError):
        return of_cause(causes.WEBSOCKET_OTHER, subprotocol=SUBPROTOCOL)
    return of_cause(causes.WEBSOCKET_BROKEN)


def _first(headers: Headers, name: str) -> str:
    """A header's value, or nothing. Something in front of the hub may add another of the same name, for which
    `headers.get` raises."""
    return next(iter(headers.get_all(name)), "")


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
