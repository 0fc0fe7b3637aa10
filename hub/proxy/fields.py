"""The client's header fields, sorted once: what may go on, what identifies, what is dropped without a word.

An allow-list built anew, after hop-by-hop processing (facts/security.md §0.1): a header that is not named here does
not exist for the cluster.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, NamedTuple

from hub import errors
from hub.auth.bearer import Bearer
from hub.edge.framing import Request
from proto.headers import HOP_BY_HOP

Pair = tuple[bytes, bytes]

_FORWARDED: Final = frozenset(
    {
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"content-type",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"kubectl-command",
        b"kubectl-session",
        b"range",
        b"user-agent",
    }
)
"""No header here says who somebody is, frames a message, or concerns one connection."""

_FORWARDED_ON_UPGRADE: Final = frozenset(
    {b"x-stream-protocol-version", b"sec-websocket-key", b"sec-websocket-version", b"origin"}
)
"""apiserver answers a WebSocket watch without Origin with 403 (golang.org/x/net/websocket); it authorises nothing.
Sec-WebSocket-Protocol goes through `_subprotocols`; -Extensions is dropped, API servers negotiate none."""

_BEARER_SUBPROTOCOL: Final = b"base64url.bearer.authorization.k8s.io."
_CREDENTIALS: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_TOKEN68: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_SUBPROTOCOL: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z/]+")
"""A token, and "/" with it: kubectl offers `SPDY/3.1+portforward.k8s.io` (KEP-4006)."""


class Sorted(NamedTuple):
    """`claims` are the client's `Impersonate-*` fields. `bearer` with an empty text: no usable credential."""

    forwarded: list[Pair]
    claims: list[Pair]
    bearer: Bearer
    subprotocols: tuple[bytes, ...]
    """What a WebSocket client offers, without the credential."""


def sort_fields(request: Request) -> Sorted:
    """Sort the fields of a request. Raises BadRequest for what is ambiguous (A4, A8, P9)."""
    allowed = _FORWARDED | _FORWARDED_ON_UPGRADE if request.upgrade else _FORWARDED
    if request.connection_tokens:
        allowed = _without_named(allowed, request.connection_tokens)
    forwarded: list[Pair] = []
    claims: list[Pair] = []
    credentials: list[bytes] = []
    offered: list[bytes] = []
    for pair in request.fields:
        name = pair[0]
        if name in allowed:
            forwarded.append(pair)
        elif name == b"authorization":
            credentials.append(pair[1])
        elif name.startswith(b"impersonate-"):
            claims.append(pair)
        elif name == b"sec-websocket-protocol" and request.upgrade == "websocket":
            offered.append(pair[1])
    subprotocols, embedded = _subprotocols(offered) if offered else ((), None)
    return Sorted(forwarded, claims, Bearer(_bearer(credentials, embedded)), subprotocols)


def _without_named(allowed: frozenset[bytes], tokens: tuple[bytes, ...]) -> frozenset[bytes]:
    """Hop-by-hop comes first: a field that `Connection` names is for us alone (RFC 9110 §7.6.1)."""
    for token in tokens:
        if token.startswith(b"impersonate-"):
            raise errors.BadRequest("Connection must not name an impersonation header")
    return allowed.difference(tokens) if any(token in allowed for token in tokens) else allowed


def _bearer(credentials: list[bytes], embedded: bytes | None) -> bytes:
    if len(credentials) + (embedded is not None) > 1:
        raise errors.BadRequest("more than one credential")
    if embedded is not None:
        return embedded
    match = _CREDENTIALS.fullmatch(credentials[0]) if credentials else None
    return match[1] if match else b""


def _subprotocols(offered: list[bytes]) -> tuple[tuple[bytes, ...], bytes | None]:
    """Take the bearer out of the offered sub-protocols (apiserver authentication/request/websocket/protocol.go)."""
    names: list[bytes] = []
    token: bytes | None = None
    for name in (part.strip(b" \t") for value in offered for part in value.split(b",")):
        if _SUBPROTOCOL.fullmatch(name) is None:
            raise errors.BadRequest("a WebSocket sub-protocol is malformed")
        if not name.startswith(_BEARER_SUBPROTOCOL):
            names.append(name)
            continue
        if token is not None:
            raise errors.BadRequest("more than one credential")
        token = _decode_bearer(name[len(_BEARER_SUBPROTOCOL) :])
    if token is not None and not names:
        raise errors.BadRequest("a credential as sub-protocol needs a real sub-protocol beside it")
    return tuple(names), token


def _decode_bearer(encoded: bytes) -> bytes:
    """base64url without padding, as kubectl and browsers send it."""
    try:
        token = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        token = b""
    if b"=" in encoded or _TOKEN68.fullmatch(token) is None:
        raise errors.BadRequest("the credential in the WebSocket sub-protocol is malformed")
    return token


assert not _FORWARDED & HOP_BY_HOP
