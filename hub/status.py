"""Error → HTTP status, Kubernetes Status body, Retry-After (facts/style.md §5.6, design P2 and P11).

The only place where the hub's errors and the wire codes of a stream become HTTP. 503 and 504, never 502: apimachinery
has no reason for it and kubectl would print an "InternalError".
"""

from __future__ import annotations

import dataclasses
import http
import json
from typing import Final, NamedTuple

from hub import errors
from proto.errors import UNEXECUTED, Code
from proto.redaction import redact_text

CONTENT_TYPE: Final = "application/json"
NAME_MAX: Final = 253
"""Characters of a name in an answer: no object has more."""
RECENTLY_LOST_S: Final = 30.0
"""P2: only a tunnel lost less than this ago is worth an automatic repetition by client-go."""

REASON_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}


class Answer(NamedTuple):
    """An error as it leaves the hub. `headers` are those that the status itself demands (RFC 9110)."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """What is known about a request when its stream died before the response head."""

    is_mutation: bool
    is_delivered: bool
    """The OPEN was handed to a session, so the API server may have executed it."""
    is_recent_loss: bool
    """The cluster had a tunnel less than RECENTLY_LOST_S ago."""
    is_busy: bool = False
    """The session lives: a REFUSED is the agent's limit, not its end."""
    request_id: str = ""


def answer(error: errors.HubError, *, request_id: str = "") -> Answer:
    """The answer for an error. A 500 names the request id, so that an operator finds the log line."""
    message = error.message
    if error.http_status == http.HTTPStatus.INTERNAL_SERVER_ERROR and request_id:
        message = f"{message} (request {request_id})"
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": error.reason,
        "details": _details(error),
        "code": error.http_status,
    }
    if not body["details"]:
        del body["details"]
    return Answer(error.http_status, json.dumps(body, separators=(",", ":")).encode() + b"\n", _headers(error))


def _details(error: errors.HubError) -> dict[str, object]:
    details: dict[str, object] = {}
    if error.name:
        # It came in the path, where a token may stand for its id, and as long as a head may be.
        details["name"] = redact_text(error.name[:NAME_MAX])
    if error.kind:
        details["kind"] = error.kind
    if error.causes:
        details["causes"] = [
            {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in error.causes
        ]
    if error.retry_after_s is not None:
        details["retryAfterSeconds"] = error.retry_after_s
    return details


def _headers(error: errors.HubError) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(error.retry_after_s)))
    if isinstance(error, errors.Unauthenticated):
        headers.append(("www-authenticate", 'Bearer realm="riata"'))
    if isinstance(error, errors.MethodNotAllowed):
        headers.append(("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
    return tuple(headers)


def no_tunnel(cluster: str, *, is_recent_loss: bool) -> errors.HubError:
    """Known to be disconnected; nothing was sent, so `kubectl` may repeat while a reconnect is likely (P2)."""
    text = f"cluster {cluster!r} is not connected to the hub"
    return errors.ClusterUnavailable(text, retry_after_s=1 if is_recent_loss else None)


def deadline_passed(*, is_mutation: bool, is_delivered: bool) -> errors.HubError:
    """The caller's own deadline (hub.proxy.deadline) passed before the answer began. Nobody is asked to repeat the
    request: who set the deadline waits no more."""
    if not is_delivered:
        return errors.Timeout("the timeout of the request passed before an agent took it: it was not executed")
    text = "the timeout of the request passed before the cluster answered"
    return errors.Timeout(f"{text}: outcome unknown" if is_mutation else text)


def right_ended(why: errors.HubError, *, is_mutation: bool, is_delivered: bool) -> errors.HubError:
    """The caller's right ended (`why`) before the answer began: the cluster has nothing to do with it."""
    if is_mutation and is_delivered:
        return errors.Timeout("the right to this request ended after it was sent: outcome unknown")
    return why


_NEVER_REACHED: Final = {
    Code.DIAL_REFUSED: "the cluster's agent is connected, but the Kubernetes API server refused its connection",
    Code.DIAL_DNS: "the cluster's agent is connected, but cannot resolve the name of the Kubernetes API server",
    Code.DIAL_UNREACHABLE: "the cluster's agent is connected, but the Kubernetes API server is unreachable from it",
    Code.KUBE_UNAUTHORIZED: "the Kubernetes API server does not accept the token of the cluster's agent",
}

_BROKEN: Final = frozenset({Code.NONE, Code.PROTOCOL, Code.INTERNAL, Code.FLOW_CONTROL, Code.UNKNOWN_STREAM})
"""Somebody's bug. The text is fixed: what the agent says about itself is for our logs."""


def stream_lost(code: Code, fate: Fate) -> errors.HubError:
    """The error for a stream that was reset before its response head arrived."""
    if code is Code.REFUSED and fate.is_busy:
        return errors.TooManyRequests("the cluster's agent is busy and did not take the request")
    if code in UNEXECUTED:
        text = "the cluster's agent is restarting and did not take the request"
        return errors.ClusterUnavailable(text, retry_after_s=1 if fate.is_recent_loss else None)
    if code in _NEVER_REACHED:
        return errors.ClusterUnavailable(_NEVER_REACHED[code])
    if code is Code.DIAL_TIMEOUT:
        return errors.Timeout("the Kubernetes API server did not accept a connection in time")
    if code is Code.FORBIDDEN:
        return errors.PermissionDenied("the policy of the cluster's agent does not allow this request")
    if code is Code.TOO_BIG:
        return errors.TooLarge("the request is larger than the cluster's agent takes")
    return _unfinished(code, fate)


def _unfinished(code: Code, fate: Fate) -> errors.HubError:
    """Everything after which the API server may or may not have acted."""
    if fate.is_mutation and fate.is_delivered:
        return errors.Timeout("the connection to the cluster was lost after the request was sent: outcome unknown")
    if code in _BROKEN:
        return errors.InternalError("the exchange with the cluster's agent failed")
    if code is Code.OVERLOADED:
        return errors.TooManyRequests("the cluster's agent is busy")
    if code is Code.IDLE:
        return errors.Timeout("the Kubernetes API server did not answer in time")
    if code is Code.UPSTREAM:
        return errors.ClusterUnavailable("the Kubernetes API server broke off before it answered")
    may_repeat = not fate.is_delivered and fate.is_recent_loss
    text = "the connection to the cluster was lost before it answered"
    return errors.ClusterUnavailable(text, retry_after_s=1 if may_repeat else None)
