"""The deadline that a caller gives its request, as kube-apiserver reads it (endpoints/filters/request_deadline.go).

`timeout=30s` is a Go duration and holds for whatever is not long-running; for the start of a watch it is
`timeoutSeconds=300`, whole seconds (handlers/get.go ignores `timeout` there). What the API server would refuse is no
deadline here: it is passed on, and the API server says what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_TIMEOUT: Final = re.compile(rb"(?:\A|&)timeout(?:=([^&]*))?(?:&|\Z)")
_TIMEOUT_SECONDS: Final = re.compile(rb"(?:\A|&)timeoutSeconds=\+?([0-9]{1,18})(?:&|\Z)")
_PART: Final = rb"([0-9]*)(?:\.([0-9]*))?(ns|us|\xc2\xb5s|\xce\xbcs|ms|s|m|h)"
_DURATION: Final = re.compile(rb"[-+]?(?:0|(?:" + _PART + rb")+)")
_PARTS: Final = re.compile(_PART)
_LONGEST: Final = 64
"""Bytes of a value that is looked at; nobody writes a longer one."""
_NANOSECONDS: Final = {
    b"ns": 1, b"us": 10**3, b"\xc2\xb5s": 10**3, b"\xce\xbcs": 10**3, b"ms": 10**6, b"s": 10**9,
    b"m": 60 * 10**9, b"h": 3_600 * 10**9,
}  # fmt: skip
_OVERFLOW: Final = 1 << 63


def timeout_s(query: bytes) -> float:
    """Seconds that `timeout` of a raw query gives the request; 0.0 without one, or without a valid one above zero."""
    if b"timeout" not in query:
        return 0.0
    found = _TIMEOUT.search(query)
    if found is None or not found[1] or len(found[1]) > _LONGEST:
        return 0.0
    return duration_s(unquote_to_bytes(found[1].replace(b"+", b" ")))


def watch_timeout_s(query: bytes) -> float:
    """Seconds that `timeoutSeconds` gives a watch; 0.0 without one, or without a valid one above zero."""
    if b"timeoutSeconds" not in query:
        return 0.0
    found = _TIMEOUT_SECONDS.search(query)
    return float(found[1]) if found is not None else 0.0


def duration_s(text: bytes) -> float:
    """Go's time.ParseDuration, in seconds; 0.0 for what it refuses, and for what is not above zero."""
    if _DURATION.fullmatch(text) is None:
        return 0.0
    total = 0
    for whole, fraction, unit in _PARTS.findall(text):
        if not whole and not fraction:
            return 0.0  # no digits: `.s`
        scale = _NANOSECONDS[unit]
        total += int(whole or b"0") * scale + int(fraction or b"0") * scale // 10 ** len(fraction)
        if total > _OVERFLOW:
            return 0.0
    return 0.0 if text.startswith(b"-") else total / 10**9
