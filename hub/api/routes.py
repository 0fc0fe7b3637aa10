"""A route as data: the server registers it, the OpenAPI document describes it, tests compare both with the pages."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import pydantic

from hub import audit
from hub.audit import Audit
from hub.auth.principal import Principal
from hub.errors import HubError

if TYPE_CHECKING:
    from hub.api.services import Services


class Who(enum.Enum):
    """Who may call a route. What exactly they may see or do is the handler's business."""

    ANYBODY = "anybody"
    JOIN_TOKEN = "holders of a join token"  # noqa: S105 no secret
    PRINCIPAL = "any authenticated principal"
    HUB_ADMIN = "hub administrators"


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One authenticated and checked request. `path` holds the percent-decoded variables of the route's path."""

    services: Services
    principal: Principal | None
    path: Mapping[str, str]
    body: pydantic.BaseModel | None
    query: pydantic.BaseModel | None = None
    """Of a route that takes one."""
    peer: str = ""
    bearer: bytes = dataclasses.field(default=b"", repr=False)
    """The presented token, for routes that want a join token; the handler judges it."""

    @property
    def caller(self) -> Principal:
        """The principal of a route that needs one."""
        assert self.principal is not None
        return self.principal

    def audit(self, event: Audit, **fields: Any) -> None:
        """Write an audit event of what the caller has done, with who that is and from where."""
        audit.record(event, **fields, user=self.caller.user, peer=self.peer)


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A body of `content_type`, or a model that becomes JSON."""

    body: pydantic.BaseModel | bytes | None
    status: int = 200
    content_type: str = "application/json"


Handler = Callable[[Call], Coroutine[Any, Any, Reply]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`handler` None: the route is served by another part of the hub and is only described here."""

    method: str
    path: str
    name: str
    summary: str
    who: Who
    handler: Handler | None
    request: type[pydantic.BaseModel] | None = None
    query: type[pydantic.BaseModel] | None = None
    """Of its parameters behind the `?`, none of which is needed; others are passed over."""
    replies: Mapping[int, type[pydantic.BaseModel] | str | None]
    """Status → model, content type of something else than JSON, or None for no body."""
    errors: tuple[type[HubError], ...] = ()
    """Beyond those that every route may answer."""
