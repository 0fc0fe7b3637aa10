"""Reference pages made from the code: `python -m hub.reference` writes them, a test fails when they differ.

Settings come with the docstrings under their fields, routes with their models, errors and metrics from their classes.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pydantic

from hub import cli, config, errors, status
from hub.api import openapi
from hub.api.routes import Route
from hub.api.server import ROUTES
from hub.audit import Audit
from hub.cacli import ca_app
from hub.keyscli import keys_app
from hub.metrics import Metrics
from proto.errors import Code

DIRECTORY: Final = Path(__file__).parents[1] / "docs" / "reference"
_NOTE: Final = "Made from the code by `python -m hub.reference`; a test fails when the two differ.\n"
_FLAGS: Final = frozenset(
    {
        "data", "workers", "listen", "metrics_listen", "public_url", "tls_cert", "tls_key", "tls_ca", "plain_http",
        "ready_file", "log_format", "log_level",
    }
)  # fmt: skip
"""Settings that `riata-hub serve` takes as flags; a test compares with the command line."""


def pages() -> dict[str, str]:
    """File name → text."""
    return {
        "config.md": config_page(),
        "api.md": api_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
        "audit.md": audit_page(),
    }


def config_page() -> str:
    hints = typing.get_type_hints(config.Settings)
    groups = [("", config.Settings)] + [(name, hints[name]) for name in config.GROUPS]
    lines = [
        "# Settings of `riata-hub`\n",
        _NOTE,
        "Precedence: flag, environment, TOML file (`--config`, `RIATA_HUB_CONFIG`, else `hub.toml` in the data",
        "directory), default. An unknown name is an error wherever it is set. `riata-hub config show` prints what is",
        "in effect. Secrets are never settings, only paths of files that hold them. Lists are separated by commas in",
        "the environment.\n",
        "## Commands\n",
        "Data goes to standard output, all else to standard error. Exit status: 0 done, 1 failed, 2 wrong usage or",
        "settings.\n",
        "| command | what it does |",
        "|---|---|",
        *(f"| `riata-hub {name}` | {text} |" for name, text in commands()),
        "",
    ]
    for name, group in groups:
        lines.append(f"## `[{name}]`\n" if name else "## Top level\n")
        if name:
            lines.append(f"{attribute_docs(config.Settings)[name]}\n")
        lines += _settings(name, group)
    return "\n".join(lines)


def commands() -> list[tuple[str, str]]:
    """(command, its help) of the hub's command line."""
    groups = (("", cli.app), ("config ", cli.config_app), ("ca ", ca_app), ("keys ", keys_app))
    found = [
        (f"{prefix}{name}", " ".join(app[name].help.split()))
        for prefix, app in groups
        for name in app
        if not name.startswith("-") and name not in {"config", "ca", "keys"}
    ]
    return sorted(found)


def api_page() -> str:
    lines = [
        "# Management API\n",
        _NOTE,
        "JSON over HTTPS with `Authorization: Bearer riata_…`. The same as an OpenAPI document: `/v1/openapi.json`.",
        "Errors are Kubernetes Status objects ([errors.md](errors.md)). A body has at most"
        f" {config.ApiSettings().body_bytes_max // 1024} KiB",
        "(`api.body_bytes_max`); unknown fields are errors. Every answer ends its connection. Requests to clusters are",
        "not part of this API: `/k8s/clusters/{cluster}/…` takes whatever the cluster's own API server takes.\n",
        "| method | path | for | what |",
        "|---|---|---|---|",
    ]
    lines += [f"| {route.method} | `{route.path}` | {route.who.value} | {route.summary} |" for route in ROUTES]
    lines.append("")
    for route in ROUTES:
        lines += _route(route)
    lines.append("## Objects\n")
    for model in _models():
        lines += _model(model)
    return "\n".join(lines)


def errors_page() -> str:
    lines = [
        "# Errors of the hub\n",
        _NOTE,
        "Every error of the hub is a Kubernetes `Status` (`kind`, `apiVersion`, `status: Failure`, `message`,",
        "`reason`, `details`, `code`). Errors of a cluster's own API server pass through byte for byte. `Retry-After`",
        "is only sent where nothing was delivered, because client-go repeats any verb on it.\n",
        "| error | HTTP | `reason` | when |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{error.__name__}` | {error.http_status} | `{error.reason}` | {_doc(error)} |" for error in hub_errors()
    ]
    lines += [
        "\n## Tunnel codes\n",
        "What a request is answered with when its stream ends with a code before a response head arrived; behind the",
        "head the connection to the client is broken off instead. Mutation: delivered, and not GET, HEAD or OPTIONS.\n",
        "| code | name | meaning | read | mutation |",
        "|---|---|---|---|---|",
    ]
    meanings = attribute_docs(Code)
    for code in Code:
        read, mutation = (_fate(code, is_mutation) for is_mutation in (False, True))
        lines.append(f"| {code.value} | `{code.name}` | {meanings.get(code.name, '')} | {read} | {mutation} |")
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    lines = [
        "# Metrics of the hub\n",
        _NOTE,
        "Served at `/metrics` of `metrics_listen`, without authentication: keep that address on loopback or in a",
        "network of its own. Labels come from closed sets; `cluster` names only clusters that exist. With them come",
        "the `process_*` metrics of Prometheus' clients (CPU, memory, open files), of all processes where there are",
        "workers. `/livez` beside it answers while the process works, also when the main listener has all the",
        "connections that it takes.\n",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for name, kind, labels, text in sorted(metrics()):
        lines.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |")
    return "\n".join(lines) + "\n"


def audit_page() -> str:
    lines = [
        "# Audit events of the hub\n",
        _NOTE,
        "Records of the hub's log with `audit: true`; `event` is one of these names. Fields name agents, tokens and",
        "clusters by their ids, the peer by its address, and never hold a secret. Behind a front that ends TLS that is",
        "the front's: the hub reads no X-Forwarded-For and no PROXY protocol (docs/operate/install.md).",
        "They are written whatever the hub's `log_level` is; the access log is of level `info` and follows it.\n",
        "| event | meaning |",
        "|---|---|",
    ]
    meanings = attribute_docs(Audit)
    lines += [f"| `{event.value}` | {meanings[event.name]} |" for event in Audit]
    return "\n".join(lines) + "\n"


def hub_errors() -> list[type[errors.HubError]]:
    """Every class of hub.errors that becomes an answer, by status."""
    found = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.HubError) and value is not errors.HubError
    ]
    return sorted(found, key=lambda error: (error.http_status, error.__name__))


def metrics() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """(exposed name, type, labels, meaning) of every metric."""
    for collector in Metrics().registry._collector_to_names:
        labels = tuple(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield name, family.type, labels, family.documentation


def attribute_docs(kind: type) -> dict[str, str]:
    """The docstrings under the fields of a class, as one line each."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, following in itertools.pairwise(tree.body):
        if not isinstance(following, ast.Expr) or not isinstance(following.value, ast.Constant):
            continue
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = " ".join(str(following.value.value).split())
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            found[statement.targets[0].id] = " ".join(str(following.value.value).split())
    return found


def _settings(group: str, kind: Any) -> Iterable[str]:
    docs, hints = attribute_docs(kind), typing.get_type_hints(kind)
    yield "| setting | environment | type | default | meaning |"
    yield "|---|---|---|---|---|"
    for field in dataclasses.fields(kind):
        if not group and field.name in config.GROUPS:
            continue
        name = f"{group}.{field.name}" if group else field.name
        flag = f" `--{field.name.replace('_', '-')}`" if not group and field.name in _FLAGS else ""
        default = "needed" if field.default is dataclasses.MISSING else f"`{_default(field.default)}`"
        meaning = docs[field.name].replace("|", "\\|")
        environment = config.environment_name(name)
        yield f"| `{field.name}`{flag} | `{environment}` | {_type(hints[field.name])} | {default} | {meaning} |"
    yield ""


def _default(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)


def _type(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(kind))
    if typing.get_origin(kind) is types.UnionType:
        return " or ".join(_type(part) for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is tuple:
        return "list of text"
    return {int: "number", float: "number", bool: "true or false", str: "text", Path: "path"}[kind]


def _route(route: Route) -> Iterable[str]:
    yield f"## {route.method} `{route.path}`\n"
    yield f"{route.summary} For {route.who.value}. Operation `{route.name}`.\n"
    if route.request is not None:
        yield f"Takes [{route.request.__name__}](#{route.request.__name__.lower()}).\n"
    if route.query is not None:
        yield f"Parameters (`?…`): [{route.query.__name__}](#{route.query.__name__.lower()}).\n"
    for code, reply in route.replies.items():
        yield f"- {code}: {_reply(reply)}"
    answered = ", ".join(f"{error.http_status} {error.reason}" for error in openapi.errors_of(route))
    yield f"- errors: {answered}\n"


def _reply(reply: type[pydantic.BaseModel] | str | None) -> str:
    if reply is None:
        return "no body"
    return f"`{reply}`" if isinstance(reply, str) else f"[{reply.__name__}](#{reply.__name__.lower()})"


def _models() -> list[type[pydantic.BaseModel]]:
    """Every model that the routes name, and those inside them."""
    found: dict[str, type[pydantic.BaseModel]] = {}
    waiting: list[object] = [item for route in ROUTES for item in (route.request, route.query, *route.replies.values())]
    while waiting:
        item = waiting.pop()
        if inspect.isclass(item) and issubclass(item, pydantic.BaseModel):
            if item.__name__ not in found:
                found[item.__name__] = item
                waiting += [field.annotation for field in item.model_fields.values()]
        else:
            waiting += [part for part in typing.get_args(item) if not isinstance(part, str)]
    return [found[name] for name in sorted(found)]


def _model(model: type[pydantic.BaseModel]) -> Iterable[str]:
    properties = model.model_json_schema(by_alias=True)["properties"]
    yield f"### {model.__name__}\n"
    yield "| field | needed | what |"
    yield "|---|---|---|"
    for name, field in model.model_fields.items():
        alias = field.alias or name
        schema = properties[alias]
        text = " ".join(part for part in (_shape(schema), schema.get("description", "")) if part).replace("|", "\\|")
        yield f"| `{alias}` | {'yes' if field.is_required() else 'no'} | {text} |"
    yield ""


def _shape(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_shape(part).rstrip(".") for part in schema["anyOf"]) + "."
    if "$ref" in schema:
        return f"{schema['$ref'].rpartition('/')[2]}."
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"]) + "."
    if schema.get("type") == "array":
        return f"List of {_shape(schema['items']).rstrip('.')}."
    return f"{schema.get('format', schema.get('type', 'any'))}."


def _fate(code: Code, is_mutation: bool) -> str:
    alive, ended = (_answer(code, is_mutation=is_mutation, is_busy=is_busy) for is_busy in (True, False))
    return ended if alive == ended else f"{alive} while the session lives; else {ended}"


def _answer(code: Code, *, is_mutation: bool, is_busy: bool) -> str:
    fate = status.Fate(is_mutation=is_mutation, is_delivered=True, is_recent_loss=True, is_busy=is_busy)
    error = status.stream_lost(code, fate)
    retry = f", Retry-After {error.retry_after_s}" if error.retry_after_s is not None else ""
    return f"{error.http_status} {error.reason}{retry}"


def _doc(kind: type | enum.Enum) -> str:
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split()).replace("|", "\\|")


def main() -> None:
    for name, text in pages().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
