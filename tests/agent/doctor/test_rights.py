"""The doctor asks for exactly what the chart grants: its table against the chart's golden files."""

import pytest

from agent.doctor import rights
from agent.doctor.rights import Right
from agent.issuer import SUFFIXES
from tests.deploy.rights import GOLDEN

AGENT, NAMESPACE = "riata-agent", "riata-system"


def granted(case, account):
    """The golden file's rights of one ServiceAccount."""
    lines = (GOLDEN / f"rights-{case}.txt").read_text().splitlines()
    return {line.partition(": ")[2] for line in lines if line.startswith(f"ServiceAccount {account}: ")}


def asked(*parts):
    listed = [str(right) for part in parts for right in part]
    assert len(listed) == len(set(listed))
    return set(listed)


@pytest.mark.parametrize("profile", rights.PROFILES)
def test_a_cluster_agent(profile):
    own = rights.key(NAMESPACE, f"{AGENT}-key")
    assert asked(rights.PROFILES[profile], own) == granted(profile, AGENT)
    nodes = rights.nodes(NAMESPACE, AGENT)
    assert asked(rights.PROFILES[profile], own, nodes) == granted(f"{profile}-nodes", AGENT)


@pytest.mark.parametrize("profile", rights.PROFILES)
def test_node_agents(profile):
    plain, fallback = SUFFIXES
    assert granted(f"{profile}-nodes", f"{AGENT}{plain}") == set()
    assert granted(f"{profile}-nodes", f"{AGENT}{fallback}") == asked(rights.PROFILES[profile])


def test_the_profiles_are_those_of_the_chart():
    assert {path.stem.removeprefix("rights-").removesuffix("-nodes") for path in GOLDEN.glob("rights-*")} == set(
        rights.PROFILES
    )


def test_questions():
    secret = Right("get", "", "secrets", "riata-agent-key", "riata-system").question()["spec"]
    assert secret == {
        "resourceAttributes": {
            "verb": "get",
            "resource": "secrets",
            "name": "riata-agent-key",
            "namespace": "riata-system",
        }
    }
    extra = Right("impersonate", rights.AUTHENTICATION, rights.EXTRA).question()["spec"]["resourceAttributes"]
    assert (extra["resource"], extra["subresource"]) == ("userextras", "riata.io/request-id")
    assert Right("get", url="/openid/v1/jwks").question()["spec"] == {
        "nonResourceAttributes": {"path": "/openid/v1/jwks", "verb": "get"}
    }
