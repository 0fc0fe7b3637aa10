"""What must never reach a log, and how it is taken out (facts/security.md §2.L).

Two rules work together: a field whose name says that it holds a secret loses its value whatever that is, and every
text, also text inside exceptions, loses what looks like a credential. Token ids stay: an operator must find the token.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

REDACTED: Final = "[redacted]"
TEXT_MAX: Final = 2048
"""Characters of one value; a longer one is cut. Request targets and error texts come from strangers."""
TRACEBACK_MAX: Final = 16_384
_DEPTH_MAX: Final = 6

_SECRET_FIELDS: Final = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "set-cookie", "sec-websocket-protocol",
        "token", "bearer", "password", "secret", "private-key", "credential", "api-key", "x-api-key",
    }
)  # fmt: skip
_SECRET_FIELD_PREFIXES: Final = ("impersonate-", "x-remote-", "x-forwarded-user", "x-auth-")

_HEADER_NAMES: Final = (
    r"(?:proxy-)?authorization|(?:set-)?cookie|sec-websocket-protocol|x-api-key|x-auth-[\w-]{1,256}"
    r"|impersonate[-_][\w%.-]{1,256}|x-remote-[\w%.-]{1,256}"
)
"""With bounds: a stranger's `x-auth-x-auth-…` begins one at every hyphen, and each would be read to the end."""
_RULES: Final = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), REDACTED),
    (re.compile(r"\b(riata(?:agent|join)?_[a-z0-9]{10})_\w+"), rf"\1_{REDACTED}"),
    (re.compile(r"\beyJ[\w-]{4,4096}+\.[\w-]+(?:\.[\w-]*)*"), REDACTED),
    (re.compile(r"(base64url\.bearer\.authorization\.k8s\.io\.)[\w=+/-]+", re.I), rf"\1{REDACTED}"),
    (re.compile(rf"""\b({_HEADER_NAMES})(["']?\s*[:=,]\s*b?["']?)[^\r\n"'\\]+""", re.I), rf"\1\2{REDACTED}"),
    (re.compile(r"\b(bearer|basic)(\s+)(?!\[redacted\])[\w.~+/=%-]{6,}", re.I), rf"\1\2{REDACTED}"),
    (
        re.compile(r"\b((?:access_|id_|refresh_)?token|password|secret|client_secret|signature)=[^&\s\"'\\;]+", re.I),
        rf"\1={REDACTED}",
    ),
)
_TRIGGER: Final = re.compile(
    r"riata|eyJ|bearer|basic|token=|password=|secret=|signature=|authorization|cookie|websocket-protocol|x-api-key|x-auth|"
    r"impersonate|x-remote|PRIVATE KEY",
    re.I,
)
"""One cheap search decides whether the rules are tried at all: nearly every line is harmless."""


def redact_text(text: str) -> str:
    """The text without anything that looks like a credential."""
    if _TRIGGER.search(text) is None:
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def is_secret_field(name: str) -> bool:
    """Whether a field's or header's name alone says that its value is secret. Case and `_` do not matter."""
    plain = name.casefold().replace("_", "-")
    return plain in _SECRET_FIELDS or plain.startswith(_SECRET_FIELD_PREFIXES)


def redact_value(value: object, *, limit: int = TEXT_MAX) -> Any:
    """A copy that a log may hold: plain values stay, texts are redacted and cut, the rest becomes its redacted repr."""
    return _redact(value, limit, _DEPTH_MAX)


def _redact(value: object, limit: int, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _cut(redact_text(value[: 2 * limit]), limit)
    if depth > 0 and isinstance(value, Mapping):
        return _redact_mapping(value, limit, depth)
    if depth > 0 and isinstance(value, tuple | list | set | frozenset):
        return [_redact_item(item, limit, depth) for item in value]
    return _cut(redact_text(repr(value)[: 2 * limit]), limit)


def _redact_mapping(value: Mapping[Any, Any], limit: int, depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = _name(key)
        result[redact_text(name)] = REDACTED if is_secret_field(name) else _redact(item, limit, depth - 1)
    return result


def _redact_item(item: object, limit: int, depth: int) -> Any:
    """Headers travel as pairs: `(b"authorization", b"…")` is known by its first half."""
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str | bytes):
        name = _name(item[0])
        if is_secret_field(name):
            return [name, REDACTED]
    return _redact(item, limit, depth - 1)


def _name(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
