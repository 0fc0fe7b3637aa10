"""Rules for a raw HTTP request target, checked by the hub before it authorises and by the agent before it sends.

The target is forwarded byte for byte, so what must not be ambiguous is refused, never repaired
(facts/security.md §2.C): the API server cleans dot segments and decodes escapes after we have decided.
"""

import re
from typing import Final

_CHARS: Final = bytes(code for code in range(0x21, 0x7F) if code != ord("#"))
"""Printable ASCII without `#`: a fragment never crosses the wire."""
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_SEPARATOR: Final = rb"(?:/|\\|%2[fF]|%5[cC])"
_DOTS: Final = re.compile(_SEPARATOR + rb"(?:\.|%2[eE]){1,2}(?=" + _SEPARATOR + rb"|$)")
"""A dot segment, in any encoding of its dots and of the separators around it."""


def fault(target: bytes) -> str | None:
    """Return what is wrong with a request target (path and query), or None. Nothing is normalised."""
    if not target.startswith(b"/"):
        return "request target without a leading slash"
    if target.translate(None, _CHARS):
        return "illegal character in the request target"
    has_escape = target.find(b"%") >= 0  # `in` raises and catches a TypeError first: bytes may hold integers
    if has_escape and _BAD_ESCAPE.search(target) is not None:
        return "illegal escape in the request target"
    path = target.partition(b"?")[0]
    # Most paths hold none of these; the expression visits every byte.
    if (has_escape or path.find(b"/.") >= 0 or path.find(b"\\") >= 0) and _DOTS.search(path) is not None:
        return "dot segment in the request path"
    return None


def is_valid(target: bytes) -> bool:
    """Tell whether `target` may be forwarded."""
    return fault(target) is None
