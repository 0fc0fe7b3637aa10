"""`/livez`, `/readyz` and `/metrics`, served by threads of their own: they answer while the event loop is stuck.

`/livez` is about the event loop (its last beat), `/readyz` about the session with the hub; its body says what is
wrong.
"""

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from agent.config import EVERYWHERE, split_listen
from agent.errors import ConfigError
from proto.aio.transport import address_text

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT: Final = 5.0
"""Seconds that a scraper may take to send its request."""
Page = Callable[[], tuple[bool, bytes]]
"""Returns whether all is well (200, else 503) and the body."""


@dataclass(frozen=True, slots=True)
class Site:
    """What one listener serves."""

    pages: dict[str, Page]
    content_type: str = "text/plain; charset=utf-8"

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """WSGI application."""
        page = self.pages.get(str(environ.get("PATH_INFO", "")))
        if page is None:
            status, body = "404 Not Found", b"not found\n"
        elif environ.get("REQUEST_METHOD") not in {"GET", "HEAD"}:
            status, body = "405 Method Not Allowed", b"use GET\n"
        else:
            is_well, body = page()
            status = "200 OK" if is_well else "503 Service Unavailable"
        content_type = self.content_type if status.startswith("200") else "text/plain; charset=utf-8"
        start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body if environ.get("REQUEST_METHOD") != "HEAD" else b""]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _ServerOfAll(_Server6):
    """Every address, of IPv4 too, whatever the system's default is."""

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Quiet(WSGIRequestHandler):
    """No reverse lookups, no line on stderr for each probe, no reader that holds a thread for ever."""

    timeout = REQUEST_TIMEOUT

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        logger.debug("probe")


def _served(host: str) -> tuple[type[_Server], str]:
    """What serves a host of a listen address, and the address to bind."""
    if host == EVERYWHERE:
        return (_ServerOfAll, "::") if socket.has_dualstack_ipv6() else (_Server, "0.0.0.0")  # noqa: S104 - asked for
    return _Server6 if ":" in host else _Server, host


class Listener:
    """One listening address with its thread."""

    def __init__(self, flag: str, listen: str, site: Site) -> None:
        """Binds at once. Raises ConfigError that names `flag`."""
        host, port = split_listen(flag, listen)
        server_class, address = _served(host)
        try:
            self._server = make_server(address, port, site, server_class=server_class, handler_class=_Quiet)
        except OSError as exc:
            raise ConfigError(f"{flag} {listen}: {exc.strerror}: choose another port, or 0 for a free one") from exc
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name=flag[2:], daemon=True)
        reached = "127.0.0.1" if host == EVERYWHERE else host
        self.url = f"http://{address_text((reached, self._server.server_port))}"

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving; returns when the thread has ended."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
