"""What the rendered roles grant, one right a line, for the golden files.

`python -m tests.deploy.rights` writes them.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.helm import render
from tests.deploy import matrix

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    f"{profile}{'-nodes' if has_nodes else ''}": {
        **(matrix.nodes() if has_nodes else matrix.alone()),
        "rbac": {"profile": profile},
    }
    for profile, has_nodes in itertools.product(("impersonate", "constrained", "read-only"), (False, True))
}


def granted(documents: list[dict[str, Any]]) -> Iterator[str]:
    """`subject: verb what (names) in scope` for each right that a binding gives to somebody."""
    roles = {(each["kind"], each["metadata"]["name"]): each for each in documents if "rules" in each}
    for binding in documents:
        if binding["kind"] not in {"ClusterRoleBinding", "RoleBinding"}:
            continue
        reference = binding["roleRef"]
        role = roles.get((reference["kind"], reference["name"]))
        scope = binding["metadata"].get("namespace", "the cluster")
        for subject in binding["subjects"]:
            who = f"{subject['kind']} {subject['name']}"
            if role is None:
                yield f"{who}: everything that {reference['name']} grants, in {scope}"
                continue
            for rule in role["rules"]:
                yield from (f"{who}: {right}, in {scope}" for right in _rights(rule))


def _rights(rule: dict[str, Any]) -> Iterator[str]:
    assert set(rule) <= {"apiGroups", "resources", "resourceNames", "nonResourceURLs", "verbs"}
    names = f" ({', '.join(rule['resourceNames'])})" if "resourceNames" in rule else ""
    for verb in rule["verbs"]:
        for url in rule.get("nonResourceURLs", []):
            yield f"{verb} {url}"
        for group, resource in itertools.product(rule.get("apiGroups", []), rule.get("resources", [])):
            yield f"{verb} {group or 'core'}/{resource}{names}"


def text(case: str) -> str:
    """Contents of a golden file."""
    return "\n".join(sorted(granted(render("riata-agent", CASES[case])))) + "\n"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in CASES:
        (GOLDEN / f"rights-{name}.txt").write_text(text(name))
    sys.exit(0)
