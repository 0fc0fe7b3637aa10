"""The aiohttp application around the handlers: authenticate, check, answer, log. Everything but `/k8s/` comes here.

Connections end after each answer: the edge handed them over for good.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import pydantic
from aiohttp import web

from hub import errors, health, status
from hub.api import agents, ca, cleanups, clusters, grants, jointokens, manifests, nodes, openapi, registration, tokens
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Holder, Services
from hub.auth.bearer import Bearer
from hub.auth.principal import Principal
from hub.edge.application import TUNNEL_PATH
from hub.edge.framing import PROBES
from hub.edge.handover import HandedOver
from hub.store.model import RevisionConflict, StoreError
from proto.redaction import redact_text

logger = logging.getLogger(__name__)
access = logging.getLogger("riata.access")

_PATH_MAX: Final = 512
_CAUSES_MAX: Final = 16
_ERRORS_MAX: Final = 100
"""A body of a hundred thousand fields that there are not is 100 MiB of explanations."""
_FIELD_MAX: Final = 64
UNFINISHED_MAX: Final = 1_000
"""Requests under way that change something, those whose time is over included: each waits for the disk."""
UNDER_WAY_MAX: Final = 50
"""Requests of one user in one worker until their answers are read: a list of five thousand clusters is 8 MB."""
_REFUSALS: Final = {401: "unauthenticated", 403: "forbidden"}
"""What is counted as a refusal, by status."""

_PRINCIPAL: Final = web.RequestKey("principal", Principal)
_COUNTED: Final = web.RequestKey("counted", Holder)
"""As whose it is counted."""

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _document(_call: Call) -> Reply:
    return Reply(_DOCUMENT)


async def _elsewhere(_call: Call) -> Reply:
    raise errors.NotFound


_OPENAPI = Route(
    method="GET", path="/v1/openapi.json", name="getOpenApi", who=Who.ANYBODY, handler=_document,
    summary="This API as an OpenAPI document.", replies={200: "application/json"},
)  # fmt: skip
_TUNNEL = Route(
    method="GET", path=TUNNEL_PATH, name="openTunnel", who=Who.ANYBODY, handler=None, replies={101: None},
    summary="Where agents connect (WebSocket, riata.mux.v1); they prove who they are inside: docs/protocol.md.",
    errors=(errors.TooManyRequests, errors.BadRequest),
)  # fmt: skip

ROUTES: Final[tuple[Route, ...]] = (
    *health.ROUTES, _OPENAPI, _TUNNEL, *tokens.ROUTES, *registration.ROUTES, *clusters.ROUTES, *nodes.ROUTES,
    *cleanups.ROUTES, *jointokens.ROUTES, *manifests.ROUTES, *agents.ROUTES, *grants.ROUTES, *ca.ROUTES,
)  # fmt: skip
_DOCUMENT: Final = json.dumps(openapi.document(ROUTES)).encode()


def build_application(services: Services) -> web.Application:
    """The application that the edge hands connections to."""
    app = web.Application(middlewares=[_answer_everything(services)], client_max_size=services.settings.body_bytes_max)
    for route in ROUTES:
        if route.handler is not None:
            for method in _methods(route):
                app.router.add_route(method, route.path, _endpoint(services, route), expect_handler=_later)
    return app


def _methods(route: Route) -> tuple[str, ...]:
    """Of a probe its HEAD too: monitors and load balancers want the status alone."""
    return (route.method, "HEAD") if route.path.encode() in PROBES else (route.method,)


def _endpoint(services: Services, route: Route) -> Endpoint:
    async def serve(request: web.Request) -> web.StreamResponse:
        principal = _authenticate(services, route, request)
        if principal is not None and route.method != "DELETE":
            _count(services, request, Holder.of(principal))
        _continue(request)
        query = _query(route, request)
        body = await _body(services, route, request)
        if body is not None:  # the body took its time, in which the token or the grant may have been revoked
            principal = _authenticate(services, route, request)
        assert route.handler is not None
        bearer = _bearer(request) if route.who is Who.JOIN_TOKEN else b""
        call = Call(services, principal, request.match_info, body, query, _peer(request), bearer)
        if route.method == "GET":
            return _response(await route.handler(call))
        return _response(await _whole(services, route, call))

    return serve


def _count(services: Services, request: web.Request, holder: Holder) -> None:
    """Who has stolen a limited token keeps its user neither from looking nor, since that is not counted, from revoking
    it. Raises TooManyRequests."""
    if services.under_way[holder] >= UNDER_WAY_MAX:
        raise errors.TooManyRequests(
            f"{UNDER_WAY_MAX} of your requests wait for their answers here, which is as many as may: read these first"
        )
    services.under_way[holder] += 1
    request[_COUNTED] = holder


def _discount(services: Services, request: web.Request) -> None:
    """It is answered, or nobody reads the answer."""
    holder = request.get(_COUNTED)
    if holder is not None:
        services.under_way[holder] -= 1
        if not services.under_way[holder]:
            del services.under_way[holder]


async def _whole(services: Services, route: Route, call: Call) -> Reply:
    """What has begun to change something does so to its end, audit event included, though the time of its request is
    over: that ends the answer. Raises HubError, StoreError."""
    if len(services.changes) >= UNFINISHED_MAX:
        raise errors.ClusterUnavailable("too many changes wait for the hub's disk")
    assert route.handler is not None
    change = route.handler(call)
    return await services.changes.unbroken(change, (errors.HubError, StoreError), name=route.name)


async def _later(_request: web.Request) -> None:
    """aiohttp would answer `Expect` before any middleware runs, and a refusal would leave no access line."""


def _continue(request: web.Request) -> None:
    """Ask for the body, of one who may send it. Raises UnknownExpectation."""
    expectation = request.headers.get("Expect", "").lower()
    if expectation not in {"", "100-continue"}:
        raise errors.UnknownExpectation
    if expectation and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _authenticate(services: Services, route: Route, request: web.Request) -> Principal | None:
    """Raises Unauthenticated, PermissionDenied. The principal is kept on the request for the access log."""
    if route.who is Who.ANYBODY:
        return None
    bearer = _bearer(request)
    if route.who is Who.JOIN_TOKEN:
        if services.join_token_index.presented(bearer) is None:
            raise errors.Unauthenticated
        return None
    principal = services.authenticator.authenticate(Bearer(bearer))
    request[_PRINCIPAL] = principal
    if route.who is Who.HUB_ADMIN and not principal.is_admin:
        raise errors.PermissionDenied(
            "this needs hub administration: a grant of the role hub-admin, an unlimited token"
        )
    return principal


def _bearer(request: web.Request) -> bytes:
    """Raises Unauthenticated."""
    values = request.headers.getall("Authorization", [])
    scheme, _, bearer = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != "bearer":
        raise errors.Unauthenticated
    return bearer.strip(" ").encode("utf-8", "replace")


def _peer(request: web.Request) -> str:
    """As the edge knows it: the transport is gone with its client."""
    return request.protocol.peer if isinstance(request.protocol, HandedOver) else ""


def _query(route: Route, request: web.Request) -> pydantic.BaseModel | None:
    """The checked parameters of a route that takes some. Raises Invalid."""
    if route.query is None:
        return None
    try:
        return route.query.model_validate(dict(request.query))
    except pydantic.ValidationError as exc:
        raise _invalid(exc) from None


async def _body(services: Services, route: Route, request: web.Request) -> pydantic.BaseModel | None:
    """The checked body. Raises BadRequest, Invalid, TooLarge, RequestTimeout."""
    if route.request is None:
        return None
    if request.content_type != "application/json" or "Content-Encoding" in request.headers:
        raise errors.BadRequest("send the body as plain JSON with Content-Type: application/json")
    try:
        async with asyncio.timeout(services.settings.request_timeout_s):
            content = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise errors.TooLarge(f"the body has more than {services.settings.body_bytes_max} bytes") from None
    except TimeoutError:
        raise errors.RequestTimeout from None
    except OSError:
        raise errors.BadRequest("the body is not whole: its sender has left") from None
    try:
        return route.request.model_validate_json(content)
    except pydantic.ValidationError as exc:
        raise _invalid(exc) from None


def _invalid(exc: pydantic.ValidationError) -> errors.HubError:
    """The fields that are wrong, without repeating what was sent: it may be a secret."""
    if exc.error_count() > _ERRORS_MAX:
        return errors.Invalid(f"more than {_ERRORS_MAX} things are wrong with the body")
    found = exc.errors(include_url=False, include_context=False, include_input=False)
    if any(item["type"] == "json_invalid" for item in found):
        return errors.BadRequest("the body is no JSON")
    causes = [
        errors.Cause(".".join(_field(part) for part in item["loc"]), _plain(item["type"], item["msg"]))
        for item in found[:_CAUSES_MAX]
    ]
    text = "; ".join(f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes)
    return errors.Invalid(text, causes=causes)


def _field(part: str | int) -> str:
    """Of a field that there is not its name is what was sent."""
    return redact_text(str(part)[:_FIELD_MAX])


def _plain(kind: str, text: str) -> str:
    """Pydantic's messages, in the words of this API where they would confuse."""
    known = {"extra_forbidden": "there is no such field", "missing": "is required"}
    return known.get(kind, text.removeprefix("Value error, "))


def _response(reply: Reply) -> web.Response:
    if isinstance(reply.body, pydantic.BaseModel):
        content = reply.body.model_dump_json(by_alias=True).encode() + b"\n"
    else:
        content = reply.body or b""
    response = web.Response(status=reply.status, body=content if reply.body is not None else None)
    if reply.body is not None:
        response.content_type = reply.content_type
    return response


def _answer_everything(services: Services) -> Callable[..., Awaitable[web.StreamResponse]]:
    """The one middleware: every outcome becomes an answer, a log line, and the end of the connection."""
    timeout_s = services.settings.request_timeout_s

    @web.middleware
    async def answer(request: web.Request, handler: Endpoint) -> web.StreamResponse:
        try:
            return await answer_counted(request, handler)
        finally:
            _discount(services, request)

    async def answer_counted(request: web.Request, handler: Endpoint) -> web.StreamResponse:
        started = time.monotonic()
        request_id = secrets.token_hex(8)
        try:
            async with asyncio.timeout(timeout_s):
                response = await _guarded(request, handler, request_id)
        except TimeoutError:
            response = _error(errors.Timeout("the hub did not answer in time; what it did is unknown"), request_id)
        response = _finish(request, response, request_id)
        if reason := _REFUSALS.get(response.status):
            services.refused(reason)
        try:
            async with asyncio.timeout(timeout_s):  # a client that does not read is not waited for
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass  # it has left, as its line says: nothing of ours has failed
        finally:
            _log(request, response.status, request_id, time.monotonic() - started)
        return response

    return answer


async def _guarded(request: web.Request, handler: Endpoint, request_id: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except errors.HubError as exc:
        return _error(exc, request_id)
    except web.HTTPException as exc:
        return _error(_from_aiohttp(exc), request_id)
    except RevisionConflict:
        return _error(errors.Conflict(), request_id)
    except StoreError:
        logger.exception("store refused a request", extra={"request_id": request_id})
        return _error(errors.ClusterUnavailable("the hub's store does not work; its log says why"), request_id)
    except Exception:
        logger.exception("request failed", extra={"request_id": request_id})
        return _error(errors.InternalError(), request_id)


def _from_aiohttp(exc: web.HTTPException) -> errors.HubError:
    by_status: dict[int, type[errors.HubError]] = {
        404: errors.NotFound,
        405: errors.MethodNotAllowed,
        413: errors.TooLarge,
        417: errors.UnknownExpectation,
    }
    known = by_status.get(exc.status)
    if known is not None:
        return known()
    return errors.BadRequest() if exc.status < 500 else errors.InternalError()


def _error(exc: errors.HubError, request_id: str) -> web.Response:
    code, body, headers = status.answer(exc, request_id=request_id)
    return web.Response(status=code, body=body, content_type=status.CONTENT_TYPE, headers=dict(headers))


def _finish(request: web.Request, response: web.StreamResponse, request_id: str) -> web.StreamResponse:
    response.headers["Server"] = "riata"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Riata-Request-Id"] = request_id
    if response.status == errors.MethodNotAllowed.http_status:
        response.headers["Allow"] = ", ".join(_allowed(request.path))
    response.force_close()
    return response


def _allowed(path: str) -> Sequence[str]:
    """The methods of a path; `{…}` stands for one segment."""
    parts = path.split("/")

    def fits(route: Route) -> bool:
        pattern = route.path.split("/")
        return len(pattern) == len(parts) and all(
            want.startswith("{") or want == part for want, part in zip(pattern, parts, strict=True)
        )

    return sorted({method for route in ROUTES if fits(route) for method in _methods(route)})


def _log(request: web.Request, code: int, request_id: str, seconds: float) -> None:
    principal = request.get(_PRINCIPAL)
    fields = {
        "request_id": request_id,
        "method": request.method,
        "path": request.path[:_PATH_MAX],
        "status": code,
        "seconds": round(seconds, 6),
        "user": principal.user if principal else "",
        "token_id": principal.token_id if principal else "",
        "peer": _peer(request),
    }
    access.info("request", extra=fields)
