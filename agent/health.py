"""`/livez`, `/readyz` and `/metrics`, served by threads of their own: they answer while the event loop is stuck.

`/livez` is about the event loop (its last beat), `/readyz` about the session with the hub; its body says what is
wrong.
"""

import contextlib
import io
import logging
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from agent.config import EVERYWHERE, split_listen
from agent.errors import ConfigError
from proto.aio.transport import address_text

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT: Final = 5.0
"""Seconds that a scraper may take to send its request, all of it; and as many to take each part of the answer."""
THREADS_MAX: Final = 32
"""Connections at a time of one listener."""
ROOM_WAIT: Final = 1.0
"""Seconds for the thread of a connection that was closed to notice, which takes none."""
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
    request_queue_size = THREADS_MAX
    """With the library's five the kernel drops the sixth of a burst, whose client tries again after a second."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._room = threading.BoundedSemaphore(THREADS_MAX)
        self._lock = threading.Lock()
        self._silent: dict[socket.socket, None] = {}
        """Connections whose request has not come yet, the oldest first."""

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False) and not self._make_room():
            self.shutdown_request(request)
            return
        with self._lock:
            self._silent[request] = None
        try:
            super().process_request(request, client_address)
        except Exception:  # no thread came of it
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def heard(self, request: socket.socket) -> None:
        """Its request has come whole: it is answered."""
        with self._lock:
            self._silent.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        self.heard(request)
        super().shutdown_request(request)

    def _make_room(self) -> bool:
        """Take the place of the one that has been silent for longest: a few clients that say nothing would else keep
        the kubelet out, which restarts the agent."""
        with self._lock:  # else its descriptor could be closed, and be another's, before it is shut down
            if not self._silent:
                return False
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            with contextlib.suppress(OSError):  # it has gone
                oldest.shutdown(socket.SHUT_RDWR)
        return self._room.acquire(timeout=ROOM_WAIT)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or sent nothing in time; the library's own prints it where the log goes."""
        logger.debug("probe ended early", exc_info=sys.exception())


class _Server6(_Server):
    address_family = socket.AF_INET6


class _ServerOfAll(_Server6):
    """Every address, of IPv4 too, whatever the system's default is."""

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Sent(io.RawIOBase):
    """What a client sends until `until`: a socket's own time-out begins anew with each byte."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request did not come in time")
        self._sock.settimeout(left)
        try:
            return self._sock.recv_into(buffer)
        finally:
            self._sock.settimeout(REQUEST_TIMEOUT)  # for the answer


class _Quiet(WSGIRequestHandler):
    """No reverse lookups, no line on stderr for each probe, no reader that holds a thread for ever."""

    timeout = REQUEST_TIMEOUT

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Sent(self.connection, time.monotonic() + REQUEST_TIMEOUT))

    def parse_request(self) -> bool:
        is_request = super().parse_request()
        cast(_Server, self.server).heard(self.connection)
        return is_request

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
