"""What kind of Kubernetes request a method and a path are, after apiserver's RequestInfo (endpoints/request).

Used for metrics, priorities, limits and honest endings, never for permission: downstream RBAC reads the path itself.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from hub.proxy.deadline import timeout_s, watch_timeout_s
from proto.messages import StreamClass

_VALUE: Final = rb"(?:=([^&;]*+))?(?=&|\Z)"
"""Go's url.ParseQuery leaves pairs out that hold a semicolon. Broken escapes do not come here (proto.target)."""
_WATCH: Final = re.compile(rb"(?:\A|&)(?:w|%77)(?:a|%61)(?:t|%74)(?:c|%63)(?:h|%68)" + _VALUE)
_FOLLOW: Final = re.compile(rb"(?:\A|&)(?:f|%66)(?:o|%6[Ff])(?:l|%6[Cc])(?:l|%6[Cc])(?:o|%6[Ff])(?:w|%77)" + _VALUE)
_FALSE: Final = frozenset({b"false", b"0"})
"""apiserver reads every other value as true, and of several the first (apimachinery conversion of string slices)."""

_BY_METHOD: Final = {b"POST": "create", b"PUT": "update", b"PATCH": "patch", b"DELETE": "delete"}
_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_SHORT: Final = 512
"""Targets up to here are remembered: clients ask for the same ones again."""
_PROFILES: Final = b"/debug/pprof/"
"""Long-running to apiserver (server/filters/longrunning.go): it gives them no deadline, and a profile of three minutes
begins its answer after three minutes."""
_SESSIONS: Final = frozenset({b"exec", b"attach", b"portforward"})

VERBS: Final = (
    "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "connect", "proxy", "other",
)  # fmt: skip
"""The verb classes: a closed set, so that they may be metric labels."""


class Kind(NamedTuple):
    """`is_mutation`: executing it twice may matter. `is_long_running`: no bound on its time, and its own limits.
    `timeout_s`: how long its caller waits for the answer to begin (hub.proxy.deadline); 0.0 if it does not say."""

    verb: str
    is_mutation: bool
    is_long_running: bool
    stream_class: StreamClass
    timeout_s: float = 0.0


def classify(method: bytes, rest: bytes, *, is_upgrade: bool = False) -> Kind:
    """Classify a request by its method and the raw target behind the cluster's prefix.

    An upgrade that is no watch runs something, however its path is spelt (`%65xec`, `nodes/n/proxy/exec/…`) and though
    WebSocket makes it a GET: it must not be sent twice (P3).
    """
    kind = _remembered(method, rest) if len(rest) <= _SHORT else _classify(method, rest)
    if is_upgrade and kind.verb != "watch":
        return Kind(kind.verb, True, True, StreamClass.INTERACTIVE)
    return kind


def _classify(method: bytes, rest: bytes) -> Kind:
    path, _, query = rest.partition(b"?")
    if path.find(b"%") >= 0:  # RequestInfo reads the decoded path: `configmaps%2Fx` is one object
        path = unquote_to_bytes(path)
    parts = path.split(b"/")  # the first is empty
    is_safe = method in _SAFE
    if parts[1] == b"api":
        scope = 3
    elif parts[1] == b"apis":
        scope = 4
    else:
        scope = len(parts)
    if len(parts) <= scope or not parts[scope]:
        is_profile = path.startswith(_PROFILES)
        timed = 0.0 if is_profile else timeout_s(query)
        return Kind("other", not is_safe, is_profile, StreamClass.NORMAL, timed)
    return _resource(method, parts[scope:], query, is_safe)


def _resource(method: bytes, parts: list[bytes], query: bytes, is_safe: bool) -> Kind:
    """`parts`: [namespaces, NS,] resource[, name[, subresource…]], or the old `watch/…` and `proxy/…` forms."""
    if parts[0] == b"watch" and is_safe:
        return Kind("watch", False, True, StreamClass.NORMAL, watch_timeout_s(query))
    if parts[0] == b"namespaces" and len(parts) > 2 and parts[2] not in (b"", b"finalize", b"status"):
        parts = parts[2:]
    name = parts[1] if len(parts) > 1 else b""
    subresource = parts[2] if len(parts) > 2 else b""
    if subresource in _SESSIONS:
        return Kind("connect", True, True, StreamClass.INTERACTIVE)
    if subresource == b"proxy" or parts[0] == b"proxy":
        return Kind("proxy", not is_safe, True, StreamClass.NORMAL)
    if not is_safe:
        verb = _BY_METHOD.get(method, "other")
        verb = "deletecollection" if verb == "delete" and not name else verb
        return Kind(verb, True, False, StreamClass.NORMAL, timeout_s(query))
    # A GET becomes a list or a watch only without a name: of an object `watch` is ignored, and its answer is one whole.
    if query and not name and not subresource and _is_set(_WATCH, b"watch", query):
        return Kind("watch", False, True, StreamClass.NORMAL, watch_timeout_s(query))
    if subresource == b"log":  # apiserver sets no deadline for it
        return Kind("get", False, _is_set(_FOLLOW, b"follow", query), StreamClass.NORMAL)
    return Kind("get" if name else "list", False, False, StreamClass.NORMAL, timeout_s(query))


def _is_set(parameter: re.Pattern[bytes], name: bytes, query: bytes) -> bool:
    """Whether the API server reads this parameter as true. Most queries hold neither its letters nor an escape."""
    if query.find(name) < 0 and query.find(b"%") < 0:
        return False
    found = parameter.search(query)
    return found is not None and unquote_to_bytes(found[1] or b"").lower() not in _FALSE


_remembered = functools.lru_cache(maxsize=4096)(_classify)
