"""One small GET over a connection of its own: the hub's CA before it can be trusted, the API server's version."""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import httptools

from agent.uplink import proxies
from agent.uplink.diagnose import AnswerBroken, ProxyRefused, ProxyUnfit, unreached
from agent.uplink.proxies import Proxy
from proto.aio import dial
from proto.aio.transport import address_text

TIMEOUT: Final = 10.0
"""Seconds for everything together."""
BODY_BYTES_MAX: Final = 256 * 1024
_HEAD_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    date: str
    """The Date header, or empty."""
    tls: str
    """Version of TLS."""
    not_after: str
    """The end of the certificate as OpenSSL writes it; empty on a connection that is not verified."""


class _Callbacks:
    """httptools callbacks."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.date = ""
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"date":
            self.date = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


async def ask(
    host: str,
    port: int,
    path: str,
    *,
    context: ssl.SSLContext,
    server_name: str = "",
    authorization: bytes = b"",
    proxy: Proxy | None = None,
) -> Answer:
    """GET. Raises OSError (TLS errors and time-outs are OSErrors too), and UnicodeError for a name that is none.
    Redirects are not followed."""
    async with asyncio.timeout(TIMEOUT):
        sock = await (_through(proxy, host, port) if proxy is not None else dial.connected(host, port))
        reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=server_name or host)
        try:
            lines = [f"GET {path} HTTP/1.1", f"host: {address_text((host, port))}", "connection: close", "accept: */*"]
            request = "\r\n".join(lines).encode()
            if authorization:
                request += b"\r\nauthorization: " + authorization
            writer.write(request + b"\r\n\r\n")
            status, callbacks = await _read(reader)
            tls = writer.get_extra_info("ssl_object")
            certificate = writer.get_extra_info("peercert") or {}
            return Answer(
                status,
                bytes(callbacks.body),
                callbacks.date,
                tls.version() or "" if tls is not None else "",
                str(certificate.get("notAfter", "")),
            )
        finally:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> tuple[int, _Callbacks]:
    answer = _Callbacks()
    parser = httptools.HttpResponseParser(answer)
    seen = 0
    try:
        while not answer.is_complete:
            data = await reader.read(64 * 1024)
            seen += len(data)
            if not data:
                raise AnswerBroken("the answer ended early")
            if seen > _HEAD_BYTES_MAX + BODY_BYTES_MAX:
                raise AnswerBroken("the answer is too big")
            parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:  # the latter is no error of its family
        raise AnswerBroken("the answer is not HTTP/1.1") from exc
    return parser.get_status_code(), answer


async def _through(proxy: Proxy, host: str, port: int) -> socket.socket:
    """A socket to `host`:`port` that the proxy has opened. Raises OSError, UnicodeError."""
    if proxy.scheme == "https":
        raise ProxyUnfit("fetching the CA through an https:// proxy is not supported: give --hub-ca-file")
    from python_socks import ProxyError, ProxyType  # here, because most agents have no proxy
    from python_socks.async_.asyncio import Proxy as Connector

    parts = urlsplit((await proxies.reached(proxy)).url)
    kinds = {"http": ProxyType.HTTP, "socks4": ProxyType.SOCKS4, "socks4a": ProxyType.SOCKS4}
    connector = Connector(
        kinds.get(parts.scheme, ProxyType.SOCKS5),
        parts.hostname or "",
        parts.port or 0,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        rdns=parts.scheme in {"http", "socks4a", "socks5h"},
    )
    try:
        return await connector.connect(dest_host=host, dest_port=port)
    except socket.gaierror:
        raise  # the hub's name, which a socks5:// wants resolved here
    except OSError as exc:
        raise unreached(exc) from exc
    except ProxyError as exc:
        raise ProxyRefused(f"refused: {exc}") from exc
    except ValueError as exc:
        if isinstance(exc, UnicodeError) and getattr(exc, "encoding", "") != "ascii":
            raise  # the hub's name, which IDNA cannot encode
        why = "they are not ASCII" if isinstance(exc, UnicodeError) else str(exc)  # which quotes a password otherwise
        raise ProxyRefused(f"cannot be shown this user and password: {why}") from exc
