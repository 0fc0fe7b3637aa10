"""The server's part of a TLS handshake."""

from __future__ import annotations

import asyncio
import functools
import importlib
import socket
import ssl
from typing import Any


async def accept_tls(
    protocol: asyncio.BufferedProtocol,
    sock: socket.socket,
    context: ssl.SSLContext,
    *,
    handshake_timeout_s: float,
    shutdown_timeout_s: float,
) -> asyncio.Transport | None:
    """Hand an accepted socket to the running loop and do the server's part of the handshake. Return the transport below
    TLS: it has a write buffer of its own. None where the loop does not show it. Raises OSError (also of TLS), EOFError
    and TimeoutError; these and being cancelled end the connection.
    """
    loop = asyncio.get_running_loop()
    kind = _uvloop_tls() if type(loop).__module__ == "uvloop" else None
    if kind is None:
        await loop.connect_accepted_socket(
            lambda: protocol,
            sock,
            ssl=context,
            ssl_handshake_timeout=handshake_timeout_s,
            ssl_shutdown_timeout=shutdown_timeout_s,
        )
        return None
    # What `connect_accepted_socket` does; it keeps the transport to itself, and `start_tls` loses what has arrived.
    done = loop.create_future()
    tls = kind(
        loop,
        protocol,
        context,
        done,
        server_side=True,
        ssl_handshake_timeout=handshake_timeout_s,
        ssl_shutdown_timeout=shutdown_timeout_s,
    )
    below, _ = await loop.connect_accepted_socket(lambda: tls, sock)
    try:
        await done
    except BaseException:
        below.abort()
        raise
    return below


@functools.cache
def _uvloop_tls() -> Any:
    """What speaks TLS in uvloop, if it shows it."""
    return getattr(importlib.import_module("uvloop.loop"), "SSLProtocol", None)
