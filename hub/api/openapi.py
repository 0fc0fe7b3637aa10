"""The OpenAPI 3.1 document, generated from the route table and the models: it cannot say what the code does not do."""

from __future__ import annotations

import http
import re
from collections.abc import Iterable
from typing import Any, Final

import pydantic
from pydantic.json_schema import models_json_schema

from hub import errors
from hub.api.routes import Route, Who
from proto.versions import PRODUCT_VERSION

_REFERENCE: Final = "#/components/schemas/{model}"
_ALWAYS: Final[tuple[type[errors.HubError], ...]] = (errors.InternalError, errors.Timeout)
_WITH_BODY: Final[tuple[type[errors.HubError], ...]] = (
    errors.BadRequest,
    errors.Invalid,
    errors.TooLarge,
    errors.RequestTimeout,
)

STATUS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A Kubernetes Status, as kubectl and client-go understand it.",
    "required": ["kind", "apiVersion", "metadata", "status", "message", "reason", "code"],
    "properties": {
        "kind": {"const": "Status"},
        "apiVersion": {"const": "v1"},
        "metadata": {"type": "object"},
        "status": {"const": "Failure"},
        "message": {"type": "string"},
        "reason": {"type": "string"},
        "details": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "kind": {"type": "string"},
                "retryAfterSeconds": {"type": "integer"},
                "causes": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {name: {"type": "string"} for name in ("reason", "message", "field")},
                    },
                },
            },
        },
        "code": {"type": "integer"},
    },
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document as plain JSON values."""
    routes = tuple(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "riata hub",
            "version": PRODUCT_VERSION,
            "description": "Management API of the hub. Clusters themselves are under /k8s/clusters/{cluster}/.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Status": STATUS_SCHEMA, **_schemas(routes)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def errors_of(route: Route) -> list[type[errors.HubError]]:
    """Every error that a route may answer, those of its kind included."""
    found: list[type[errors.HubError]] = [*_ALWAYS, *route.errors]
    if route.who is not Who.ANYBODY:
        found.append(errors.Unauthenticated)
    if route.who in (Who.PRINCIPAL, Who.HUB_ADMIN):
        found.append(errors.PermissionDenied)
        if route.method != "DELETE":
            found.append(errors.TooManyRequests)
    if route.request is not None:
        found += _WITH_BODY
    if route.query is not None:
        found.append(errors.Invalid)
    if route.method in ("POST", "DELETE"):
        found.append(errors.ClusterUnavailable)
    return sorted(set(found), key=lambda error: (error.http_status, error.reason))


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"For {route.who.value}.",
        "security": [] if route.who is Who.ANYBODY else [{"token": []}],
        "responses": _responses(route),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is not None:
        shapes = route.query.model_json_schema()["properties"]
        parameters += [{"name": name, "in": "query", "schema": shape} for name, shape in shapes.items()]
    if parameters:
        operation["parameters"] = parameters
    if route.request is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.request)}
    return operation


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, reply in route.replies.items():
        responses[str(status)] = {"description": http.HTTPStatus(status).phrase}
        if reply is not None:
            responses[str(status)]["content"] = _content(reply)
    for error in errors_of(route):
        responses.setdefault(
            str(error.http_status),
            {
                "description": f"{error.reason}: {error.default_message}",
                "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Status")}}},
            },
        )
    return responses


def _content(reply: type[pydantic.BaseModel] | str) -> dict[str, Any]:
    if isinstance(reply, str):
        return {reply: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(model=reply.__name__)}}}


def _schemas(routes: Iterable[Route]) -> dict[str, Any]:
    asked = {route.request for route in routes if route.request is not None}
    given = {reply for route in routes for reply in route.replies.values() if isinstance(reply, type)}
    inputs = [(model, "validation") for model in sorted(asked, key=lambda model: model.__name__)]
    outputs = [(model, "serialization") for model in sorted(given - asked, key=lambda model: model.__name__)]
    _, definitions = models_json_schema([*inputs, *outputs], ref_template=_REFERENCE)  # type: ignore[list-item]
    schemas = definitions["$defs"]
    assert isinstance(schemas, dict)
    return schemas
