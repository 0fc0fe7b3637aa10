"""Whose a connection is, as far as its address tells: what is shared out among strangers is shared out by that."""

from __future__ import annotations

import socket
from typing import Final

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""IPv4 in IPv6 (RFC 4291 §2.5.5.2)."""
_PREFIX_BYTES: Final = 8


def origin_of_peer(peer: str) -> str:
    """Of `host:port` or `[host]:port`."""
    return origin_of(peer.rpartition(":")[0])


def origin_of(host: str) -> str:
    """Of IPv6 the /64, the least network that there is (RFC 4291 §2.5.1): whoever has one has 2^64 addresses. Of IPv4
    the address. Brackets are ignored, and what is no address is its own origin."""
    if ":" not in host:
        return host
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.strip("[]").partition("%")[0])
    except OSError:
        return host
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed[:_PREFIX_BYTES].ljust(len(packed), b"\0"))
