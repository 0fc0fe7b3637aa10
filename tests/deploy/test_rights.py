"""What the agents may do: golden files, and what must be in none of them."""

import pytest

from deploy.helm import render
from tests.deploy import matrix, rights

ROLES = [
    (f"{chart}: {case}", each)
    for chart, case in matrix.CASES
    for each in render(chart, matrix.values_of(chart, case))
    if "rules" in each and each["kind"] in {"ClusterRole", "Role"}
]


@pytest.mark.parametrize("case", rights.CASES)
def test_rights_are_those_of_the_golden_file(case: str) -> None:
    golden = rights.GOLDEN / f"rights-{case}.txt"
    assert rights.text(case) == golden.read_text(), (
        "if it is meant: python -m tests.deploy.rights, and look at the diff"
    )


def test_there_is_no_other_golden_file() -> None:
    assert {path.name for path in rights.GOLDEN.glob("rights-*")} == {f"rights-{case}.txt" for case in rights.CASES}


def test_no_role_has_a_dangerous_right() -> None:
    assert ROLES
    for case, role in ROLES:
        for rule in role["rules"]:
            assert not {"*", "escalate", "bind"} & set(rule["verbs"]), case
            assert "nodes/proxy" not in rule.get("resources", []), case
            # Stars only where constrained impersonation asks what the user's own rights then decide.
            if "*" in [*rule.get("resources", []), *rule.get("apiGroups", []), *rule.get("nonResourceURLs", [])]:
                assert all(verb.startswith("impersonate-on:user-info:") for verb in rule["verbs"]), case
            if "secrets" in rule.get("resources", []):
                assert rule["resourceNames"] == [f"{role['metadata']['name']}-key"], case


def test_nobody_but_a_cluster_agent_and_a_fallback_node_agent_may_impersonate() -> None:
    for case in rights.CASES:
        who = {
            line.split(":")[0]
            for line in rights.text(case).splitlines()
            if line.split(": ", 1)[1].startswith("impersonate")
        }
        expected = {"ServiceAccount riata-agent"}
        if case.endswith("-nodes"):
            expected.add("ServiceAccount riata-agent-node-fallback")
        assert who == expected


def test_an_ordinary_node_agent_and_the_hub_have_no_right_at_all() -> None:
    for case in rights.CASES:
        assert "ServiceAccount riata-agent-node:" not in rights.text(case)
    assert not [case for case, _ in ROLES if case.startswith("riata-hub")]


def test_read_only_opens_no_way_into_a_pod() -> None:
    """exec, attach and port-forward over WebSocket are GETs: none of them, nor a star that holds them."""
    lines = [line for case in ("read-only", "read-only-nodes") for line in rights.text(case).splitlines()]
    core = [line.split("core/")[1].split(",")[0] for line in lines if "impersonate-on" in line and "core/" in line]
    assert "pods/log" in core
    ways_in = {"exec", "attach", "portforward", "proxy"}
    assert not [each for each in core if each in {"*", "secrets"} or each.split("/")[-1] in ways_in]
    verbs = {line.split(": ")[1].split(" ")[0] for line in lines if "impersonate-on" in line}
    assert {verb.rsplit(":", 1)[1] for verb in verbs} == {"get", "list", "watch", "head", "create"}
    created = [line for line in lines if "impersonate-on:user-info:create" in line]
    assert created
    assert all("/selfsubject" in line for line in created)
