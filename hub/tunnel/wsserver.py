"""The opening handshake of an agent's WebSocket (RFC 6455 §4.2) at the hub. `proto.aio.websocket` does the rest."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from hub import errors
from hub.edge.framing import Request
from proto.versions import SUBPROTOCOL

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_VERSION: Final = b"13"


def switching(request: Request) -> bytes:
    """The 101 for an agent's upgrade. Raises hub.errors.HubError for a request that does not become a WebSocket.

    No extension is ever agreed to: a shared compressor is an oracle and costs 100 KiB a connection (facts/security.md
    D12). Cookies and Origin have no meaning here, and a browser is turned away (D8).
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in request.fields:
        fields.setdefault(name, []).append(value)
    offered = [each.strip() for value in fields.get(b"sec-websocket-protocol", ()) for each in value.split(b",")]
    if request.method != b"GET" or request.upgrade != "websocket" or SUBPROTOCOL.encode() not in offered:
        raise errors.BadRequest(f"agents connect here by WebSocket with the sub-protocol {SUBPROTOCOL}")
    if b"origin" in fields or b"cookie" in fields:
        raise errors.PermissionDenied("this is not for browsers")
    if fields.get(b"sec-websocket-version") != [_VERSION]:
        raise errors.BadRequest("Sec-WebSocket-Version must be 13")
    accept = base64.b64encode(hashlib.sha1(_key(fields) + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n" % (accept, SUBPROTOCOL.encode())
    )


def _key(fields: dict[bytes, list[bytes]]) -> bytes:
    keys = fields.get(b"sec-websocket-key", [])
    try:
        is_good = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == _KEY_BYTES
    except binascii.Error:
        is_good = False
    if not is_good:
        raise errors.BadRequest("Sec-WebSocket-Key must be 16 bytes in base64")
    return keys[0]
