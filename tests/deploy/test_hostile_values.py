"""A hundred hostile texts in each value of the charts that takes one: refused by the schema, or nothing but a value."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.helm import Refused, render
from deploy.reference import values_of
from tests.deploy import matrix
from tests.deploy.hostile import HOSTILE

GOOD = {
    "riata-agent": {
        **matrix.nodes(),
        "policy": {"users": ["robot"], "groups": ["team"]},
        "token": {"value": "abc", "existingSecret": "mine"},
        "rbac": {"profile": "read-only", "readOnlyApiGroups": ["example.org"]},
        "metrics": {"podMonitor": {"enabled": True, "interval": "30s", "labels": {"a": "b"}}},
        "podLabels": {"team": "x"},
        "podAnnotations": {"example.org/a": "x"},
        "extraArgs": ["--log-level"],
        "priorityClassName": "high",
        "fullnameOverride": "other",
        "nameOverride": "riata",
        "image": {**matrix.IMAGE, "repository": "riata/agent"},
    },
    "riata-hub": {
        "encryption": {"existingSecret": "hub-encryption"},
        **matrix.hub_values(),
        "settings": {"host_names": "a"},
        "tls": {"names": ["hub.internal"]},
        "persistence": {"storageClass": "fast", "size": "1Gi"},
        "service": {"annotations": {"a": "b"}, "loadBalancerSourceRanges": ["10.0.0.0/8"], "clusterIP": "10.0.0.1"},
        "ingress": {"enabled": True, "className": "nginx", "annotations": {"a": "b"}, "host": "h", "tlsSecret": "s"},
        "gateway": {"enabled": True, "parentRefs": [{"name": "front"}], "hostnames": ["a.example.org"]},
        "metrics": {
            "serviceMonitor": {"enabled": True, "interval": "30s", "labels": {"a": "b"}},
            "prometheusRule": {"enabled": True, "labels": {"a": "b"}},
        },
        "podLabels": {"team": "x"},
        "podAnnotations": {"example.org/a": "x"},
        "extraArgs": ["--log-level"],
        "priorityClassName": "high",
        "image": {**matrix.IMAGE, "repository": "riata/agent"},
    },
}  # fmt: skip


def attempt(chart: str, values: dict[str, Any]) -> list[dict[str, Any]] | Refused:
    """What the chart makes of the values, or why it refuses them."""
    try:
        return render(chart, values)
    except Refused as exc:
        return exc


def test_there_are_a_hundred() -> None:
    assert len(set(HOSTILE)) == 100


def places(chart: str) -> list[tuple[str | int, ...]]:
    """Where the good values of a chart have a text."""
    return [path for path in _texts(GOOD[chart]) if "parentRefs" not in path]  # the user's own object, taken as it is


def _texts(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner: Any = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        if isinstance(value, str):
            yield (*path, key)
        else:
            yield from _texts(value, (*path, key))


def shape(node: Any) -> Any:
    """The structure of a document: keys, lengths of lists, kinds of scalars."""
    if isinstance(node, dict):
        return {key: shape(inner) for key, inner in node.items()}
    return [shape(inner) for inner in node] if isinstance(node, list) else type(node).__name__


@pytest.mark.parametrize("chart", GOOD)
@pytest.mark.parametrize("number", range(100))
def test_hostile_values_stay_values(chart: str, number: int) -> None:
    """One text in all places: Helm names those where the schema refuses it, and in the others it is a value."""
    text = HOSTILE[number]
    left = places(chart)
    made = attempt(chart, _with(chart, left, text))
    if isinstance(made, Refused):
        named = str(made).replace("~1", "/")
        left = [path for path in left if f"/{'/'.join(map(str, path))}'" not in named]
        assert len(left) < len(places(chart)), named
        made = render(chart, _with(chart, left, text))
    assert _same(shape(made), shape(render(chart, GOOD[chart])), text), (left, json.dumps(made)[:2000])


def _with(chart: str, where: list[tuple[str | int, ...]], text: str) -> dict[str, Any]:
    values = copy.deepcopy(GOOD[chart])
    for path in where:
        node: Any = values
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = text
    return values


def _same(found: Any, expected: Any, text: str) -> bool:
    if found == expected:
        return True
    # An empty text is how most options are turned off.
    return text == "" and len(found) <= len(expected)


def test_every_value_that_takes_a_text_is_attacked() -> None:
    """All strings of the schemas but the enumerations, and lists and maps of strings."""
    for chart, good in GOOD.items():
        attacked = {".".join(str(key) for key in path if isinstance(key, str)) for path in places(chart)}
        for name, schema, _ in values_of(chart):
            if schema.get("type") == "string" and "enum" not in schema:
                assert name in attacked | _UNREACHED[chart], (chart, name)
        assert good


_UNREACHED = {
    "riata-agent": {"hub.ca", "nodeAgents.priorityClassName"},
    "riata-hub": {"nameOverride", "fullnameOverride", "tls.existingSecret", "persistence.existingClaim"},
}
"""Of the same pattern as others that are attacked, or (hub.ca) tried below."""


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_ca_is_refused_or_a_value(text: str) -> None:
    values = copy.deepcopy(GOOD["riata-agent"])
    values["hub"]["ca"] = f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
    made = attempt("riata-agent", values)
    if isinstance(made, Refused):
        assert "/hub/ca" in str(made)
        return
    (settings,) = (each for each in made if each["kind"] == "ConfigMap" and "data" in each)
    assert settings["data"]["hub-ca.crt"] == values["hub"]["ca"]
