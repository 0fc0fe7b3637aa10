"""Header hygiene: hop-by-hop fields, identity fields, legal names and values. Pure functions for both sides.

Names and values are bytes, names in lower case (functions that meet raw input fold it themselves). Sources: RFC 9110
§5.5, §5.6.2, §7.6.1; facts/security.md §2.A, §2.E13.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that concern one connection only (RFC 9110 §7.6.1, and those that proxies must treat alike)."""

_IDENTITY_NAMES: Final = frozenset(
    {
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"cookie2",
        b"forwarded",
        b"x-real-ip",
        b"x-client-cert",
        b"x-ssl-cert",
        b"ssl-client-cert",
    }
)
_IDENTITY_PREFIXES: Final = (b"impersonate-", b"x-remote-", b"x-forwarded-", b"x-auth-", b"x-api-", b"x-client-cert-")

USUAL: Final = frozenset(
    (
        b"accept accept-encoding accept-language audit-id cache-control content-disposition content-encoding"
        b" content-length content-type date etag impersonate-extra-riata.io%2frequest-id impersonate-group"
        b" impersonate-user kubectl-command kubectl-session last-modified origin sec-websocket-accept"
        b" sec-websocket-key sec-websocket-protocol sec-websocket-version server user-agent vary warning"
        b" x-content-type-options x-kubernetes-pf-flowschema-uid x-kubernetes-pf-prioritylevel-uid"
        b" x-stream-protocol-version"
    ).split()
)
"""Names that most requests and answers carry: legal ones, which need no look at their characters."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME_CHARS: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_VALUE_CHARS: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])


def valid_name(name: bytes) -> bool:
    """Tell whether `name` is a non-empty lower-case field name (RFC 9110 token)."""
    return bool(name) and not name.translate(None, _NAME_CHARS)


def valid_value(value: bytes) -> bool:
    """Tell whether `value` has no control character but tab, and no white space around it. Empty is valid."""
    return not value.translate(None, _VALUE_CHARS) and value == value.strip(b" \t")


def fault(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return what is wrong with a header list, or None.

    Every request and response comes through here: names that everybody uses are known to be good, and all values are
    checked in one pass of C code. What surrounds a value is not looked at: it is harmless where the value is written
    again as it stands.
    """
    values: list[bytes] = []
    for name, value in headers:
        if name not in USUAL:
            if not name:
                return "empty header name"
            if name.translate(None, _NAME_CHARS):
                return "illegal character in a header name"
        values.append(value)
    return values_fault(values)


def values_fault(values: list[bytes]) -> str | None:
    """The same for header values alone."""
    return "illegal character in a header value" if b"".join(values).translate(None, _VALUE_CHARS) else None


def is_hop_by_hop(name: bytes) -> bool:
    """Tell whether the field concerns one connection only, whatever `Connection` says. Any case."""
    return name.lower() in HOP_BY_HOP


def connection_tokens(values: Iterable[bytes]) -> frozenset[bytes]:
    """Return the lower-case field names listed in the values of all `Connection` fields.

    Tokens may be separated by commas and any white space; what is not a token is returned too, so that a caller who
    compares names cannot be fooled by its spelling.
    """
    return frozenset(token.lower() for value in values for part in value.split(b",") for token in part.split() if token)


def strip_hop_by_hop(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return `headers` without hop-by-hop fields and without those that `Connection` lists, in the same order."""
    fields = list(headers)
    listed = connection_tokens(value for name, value in fields if name.lower() == b"connection")
    if not listed:
        return [field for field in fields if field[0].lower() not in HOP_BY_HOP]
    return [field for field in fields if (folded := field[0].lower()) not in HOP_BY_HOP and folded not in listed]


def is_identity(name: bytes) -> bool:
    """Tell whether a field says who somebody is. Any case; `_` counts as `-`, as CGI-style servers fold it."""
    folded = name.lower().replace(b"_", b"-").strip()
    return folded in _IDENTITY_NAMES or folded.startswith(_IDENTITY_PREFIXES)


def is_token(value: bytes) -> bool:
    """Tell whether `value` is one RFC 9110 token in any case."""
    return _TOKEN.fullmatch(value) is not None
