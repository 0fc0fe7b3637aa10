"""What can go wrong at the hub, as it is told to a caller.

Each class is one row of the table in facts/style.md §5.6: an HTTP status and a Kubernetes Status reason (constants of
apimachinery meta/v1 types.go). The message is written for the outsider who reads it in kubectl: never `str()` of an
unknown exception, never a secret. `hub/status.py` turns an error into bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Final

NO_CLUSTER: Final = "there is no such cluster or you may not use it"
"""Of a PermissionDenied: who may not know of a cluster does not learn whether there is one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cause:
    """One entry of `details.causes`: which field is wrong, and how."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


class HubError(Exception):
    """Root of everything that becomes a Status answer; by itself an unexplained failure of the hub (500)."""

    http_status: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"
    default_message: ClassVar[str] = "the hub failed to answer this request"

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: str = "",
        name: str = "",
        causes: Sequence[Cause] = (),
        retry_after_s: int | None = None,
    ) -> None:
        """`kind` and `name` fill `details`; `retry_after_s` becomes Retry-After (mind P2: it makes clients repeat)."""
        self.message = self.default_message if message is None else message
        self.kind = kind
        self.name = name
        self.causes = tuple(causes)
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class InternalError(HubError):
    """Anything unknown, and an agent that broke the protocol."""


class BadRequest(HubError):
    """Malformed: syntax, framing, encoding."""

    http_status = 400
    reason = "BadRequest"
    default_message = "the request is malformed"


class Unauthenticated(HubError):
    """No credential or a bad one. One text for malformed, unknown, expired and revoked: the caller learns nothing."""

    http_status = 401
    reason = "Unauthorized"
    default_message = "authentication is required: send a valid riata token as `Authorization: Bearer`"


class PermissionDenied(HubError):
    """Authenticated but not allowed; an unknown cluster answers exactly the same as one that is not granted."""

    http_status = 403
    reason = "Forbidden"
    default_message = "this is not allowed"


class NotFound(HubError):
    """Truly missing, told only to callers who may know."""

    http_status = 404
    reason = "NotFound"
    default_message = "there is nothing here"


class MethodNotAllowed(HubError):
    """The method is not one that this place knows."""

    http_status = 405
    reason = "MethodNotAllowed"
    default_message = "the method is not allowed here"


class Timeout(HubError):
    """A deadline passed; the outcome of a mutation that may have been delivered is unknown (P2: no Retry-After)."""

    http_status = 504
    reason = "Timeout"
    default_message = "the deadline passed before an answer came"


class RequestTimeout(HubError):
    """The client was too slow in sending its request. No Retry-After, so no client repeats it by itself."""

    http_status = 408
    reason = "Timeout"
    default_message = "the request arrived too slowly"


class Conflict(HubError):
    """The state does not admit this now (compare-and-swap lost, something is already running)."""

    http_status = 409
    reason = "Conflict"
    default_message = "the object was changed by somebody else; read it again and repeat"


class AlreadyExists(Conflict):
    """The name is taken."""

    reason = "AlreadyExists"
    default_message = "the name is taken"


class TooLarge(HubError):
    """The body is larger than this place takes."""

    http_status = 413
    reason = "RequestEntityTooLarge"
    default_message = "the request body is too large"


class UnknownExpectation(HubError):
    """`Expect` names something other than 100-continue (RFC 9110 §10.1.1)."""

    http_status = 417
    reason = "BadRequest"
    default_message = "only Expect: 100-continue is known"


class Invalid(HubError):
    """Well-formed but semantically wrong; `causes` name the fields."""

    http_status = 422
    reason = "Invalid"
    default_message = "the object is not valid"


class TooManyRequests(HubError):
    """Over a limit; always with Retry-After, because nothing was executed."""

    http_status = 429
    reason = "TooManyRequests"
    default_message = "too many requests at once; try again later"

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class HeadTooLarge(HubError):
    """The request head is over the limits of P6 (RFC 6585 §5)."""

    http_status = 431
    reason = "BadRequest"
    default_message = "the request head is too large"


class NotImplementedHere(HubError):
    """A transfer coding that the hub does not know (RFC 9112 §6.1)."""

    http_status = 501
    reason = "BadRequest"
    default_message = "the only transfer coding that is understood is chunked"


class ClusterUnavailable(HubError):
    """The cluster cannot be reached now and nothing was executed, or nothing that could be executed twice."""

    http_status = 503
    reason = "ServiceUnavailable"
    default_message = "the cluster is not connected to the hub"


class VersionNotSupported(HubError):
    """An HTTP version other than 1.0 and 1.1."""

    http_status = 505
    reason = "BadRequest"
    default_message = "only HTTP/1.1 is spoken here"
