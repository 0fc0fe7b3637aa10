"""The hub's own manifest of the agent: the chart's documents with real values in their places."""

import dataclasses
import datetime
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm import plain, render
from hub import tls
from hub.clusters.cleanups import CleanUp, State
from hub.clusters.manifest import (
    CLUSTER_ADMINS,
    OWNER_LABEL,
    PROFILES,
    ManifestError,
    ManifestValues,
    Placeholder,
    documents,
    dump,
)
from hub.clusters.owned import ANCHOR, KINDS
from proto.pins import pins_of_pem
from tests.deploy.hostile import HOSTILE

IMAGE = "registry.example:5000/riata/riata-agent:1.0"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory: Path = tmp_path_factory.mktemp("ca") / "tls"
    tls.make_ca(directory, "hub", datetime.datetime.now(datetime.UTC))
    return (directory / tls.CA_CERT).read_text()


def values(ca: str, **others: Any) -> ManifestValues:
    base: dict[str, Any] = {
        "hub_url": "https://hub.example.org/prefix",
        "ca_pins": (pins_of_pem(ca.encode())[0],),
        "ca_pem": ca,
        "token": "riata-join.abc_DEF-1",
        "image": IMAGE,
        "cluster_uid": "0f1e-2d3c",
        "audience": "riata:hub-1:0f1e",
    }
    return ManifestValues(**base | others)


def by_chart(given: ManifestValues) -> list[dict[str, Any]]:
    """What the chart makes for the same values."""
    registry, _, rest = given.image.partition("/")
    repository, _, tag = rest.partition(":")
    rendered = render(
        "riata-agent",
        {
            "namespace": {"create": True},
            "image": {"registry": registry, "repository": repository, "tag": tag},
            "hub": {
                "url": given.hub_url,
                "caPins": list(given.ca_pins),
                "ca": given.ca_pem,
                "audience": given.audience,
                "clusterUid": given.cluster_uid,
            },
            "enrolment": {"enabled": True},
            "token": {"value": given.token},
            "rbac": {"profile": given.profile, "clusterAdmins": given.cluster_admins},
            "nodeAgents": {"enabled": given.node_agents},
        },
    )
    return plain(rendered)


@pytest.mark.parametrize(
    ("profile", "has_nodes", "has_ca", "is_admin"),
    list(itertools.product(PROFILES, (False, True), (False, True), (False, True))),
)
def test_it_is_what_the_chart_makes(ca: str, profile: Any, has_nodes: bool, has_ca: bool, is_admin: bool) -> None:
    given = values(ca, profile=profile, node_agents=has_nodes, ca_pem=ca if has_ca else "", cluster_admins=is_admin)
    assert documents(given) == by_chart(given)
    assert list(yaml.safe_load_all(dump(documents(given)))) == by_chart(given)
    assert any(each["metadata"]["name"] == CLUSTER_ADMINS for each in documents(given)) is is_admin


def test_no_placeholder_is_left(ca: str) -> None:
    text = dump(documents(values(ca, node_agents=True)))
    for name, placeholder in vars(Placeholder).items():
        assert name.startswith("_") or placeholder not in text
    assert "placeholder" not in text


def test_two_pins_are_written_as_the_agent_reads_them(ca: str) -> None:
    pins = (pins_of_pem(ca.encode())[0], "SHA256:" + "A" * 64)
    text = dump(documents(values(ca, ca_pins=pins)))
    assert f"{pins[0]},{pins[1].lower()}" in text


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "field", ["hub_url", "token", "image", "audience", "cluster_uid", "ca_pem", "ca_pins", "profile"]
)
def test_hostile_values_are_refused_or_stay_values(ca: str, field: str, text: str) -> None:
    """Alone, and behind what would be well-formed."""
    good = values(ca, node_agents=True)
    shape = _shape(documents(good))
    before = getattr(good, field)
    for hostile in (text, f"{before[0] if isinstance(before, tuple) else before}{text}"):
        if (field, hostile) == ("ca_pem", ""):
            continue  # that is how it is left out
        given = (hostile,) if field == "ca_pins" else hostile
        made = _replaced(good, field, given)
        if isinstance(made, ManifestError):
            assert field in str(made)
            continue
        again = list(yaml.safe_load_all(dump(documents(made))))
        assert again == documents(made)
        assert _shape(again) == shape


def test_the_dump_keeps_what_no_check_would_let_through() -> None:
    """The second wall: even unchecked, a value is a scalar and nothing else."""
    for text in HOSTILE:
        document = {"kind": "X", "value": text, "list": [text]}
        assert list(yaml.safe_load_all(dump([document, document]))) == [document, document]


def test_a_refused_token_is_not_shown(ca: str) -> None:
    with pytest.raises(ManifestError, match="token") as caught:
        values(ca, token="sec ret")
    assert "sec ret" not in str(caught.value)
    assert "riata-join" not in repr(values(ca))


def test_a_ca_that_no_pin_matches_is_refused(ca: str) -> None:
    with pytest.raises(ManifestError, match="ca_pem: none of its certificates matches"):
        values(ca, ca_pins=("sha256:" + "0" * 64,))
    with pytest.raises(ManifestError, match="ca_pem"):
        values(ca, ca_pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def test_node_agents_need_an_audience(ca: str) -> None:
    with pytest.raises(ManifestError, match="audience"):
        values(ca, node_agents=True, audience="")


def _replaced(good: ManifestValues, field: str, value: Any) -> ManifestValues | ManifestError:
    try:
        return dataclasses.replace(good, **{field: value})
    except ManifestError as exc:
        return exc


def _shape(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _shape(inner) for key, inner in node.items()}
    if isinstance(node, list):
        return [_shape(inner) for inner in node]
    return type(node).__name__


def test_every_object_has_the_owner_label(ca: str) -> None:
    """Without it, it would stay behind when the cluster is deleted; and each kind is one that is looked for."""
    for each in documents(values(ca, node_agents=True)):
        assert each["metadata"]["labels"][OWNER_LABEL] == "0f1e-2d3c", each["metadata"]["name"]
        assert KINDS[each["apiVersion"], each["kind"]][1] is ("namespace" in each["metadata"])
    assert f"riata-agent{ANCHOR}" in {
        each["metadata"]["name"] for each in documents(values(ca)) if each["kind"] == "ClusterRoleBinding"
    }


def test_the_command_for_a_person_names_every_kind_there_is(ca: str) -> None:
    """Also those in the namespace, but not that: it may be somebody else's, or have the hub and its volume in it."""
    clean_up = CleanUp("0f1e", "a", 0.0, "ann", (), State.PENDING, 0.0)
    kinds = clean_up.command.split()[2].split(",")
    for each in documents(values(ca, node_agents=True)):
        is_named = KINDS[each["apiVersion"], each["kind"]][0].rpartition("/")[2] in kinds
        assert is_named == (each["kind"] != "Namespace"), each["metadata"]
    assert "podmonitors" not in kinds, "kubectl fails where there are none"
