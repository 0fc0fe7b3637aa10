"""`make manifests`: what is made from the charts. `python -m deploy.render [--check]`.

The manifests for kubectl (deploy/agent, deploy/hub), the hub's own copy of the agent's manifest
(hub/clusters/manifest.json), the charts' reference (docs/reference/charts.md), the hub's dashboard, and in the schema
of the hub's values the names of its settings. With `--check` nothing is written, and the exit code is 1 when a file
differs.
"""

import itertools
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deploy import dashboard, reference
from deploy.helm import ROOT, Document, plain, render
from hub import config
from hub.clusters import manifest

REPOSITORY: Final = ROOT.parent
EXAMPLE_URL: Final = "https://hub.example.org:8443"
EXAMPLE_PIN: Final = "sha256:" + "0" * 64
EXAMPLE_AUDIENCE: Final = "riata:HUB-ID:CLUSTER-UID"

_SCHEMA: Final = ROOT / "charts" / "riata-hub" / "values.schema.json"
_HEAD: Final = "# Made from deploy/charts/{chart} by `make manifests`; a test compares. {advice}\n"
_AGENT_FILES: Final = {
    "00-namespace.yaml": "",
    "10-rbac.yaml": "",
    "20-cluster-admins.yaml": "Leave this file out, and the hub's administrators have no rights here.",
    "30-settings.yaml": "The policy belongs to this cluster: the hub cannot change it.",
    "40-agents.yaml": "Edit the hub's URL, its pin, the image and the audience.",
}
_HUB_FILES: Final = {
    "00-namespace.yaml": "",
    "40-hub.yaml": "Edit the public URL, the image and the size of the volume.",
}
_SETTINGS: Final = ("ConfigMap", "Secret", "Lease")
_RIGHTS: Final = (
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)


def agent_values(**others: Any) -> dict[str, Any]:
    """The least that the agent's chart needs, and `others`."""
    return {"hub": {"url": EXAMPLE_URL, "caPins": [EXAMPLE_PIN], "audience": EXAMPLE_AUDIENCE}, **others}


def hub_values(**others: Any) -> dict[str, Any]:
    """The least that the hub's chart needs, and `others`."""
    return {"publicUrl": EXAMPLE_URL, **others}


def files() -> dict[Path, str]:
    """Every file that is made from the charts, by its path."""
    agent = plain(render("riata-agent", agent_values(namespace={"create": True})))
    hub = plain(render("riata-hub", hub_values(namespace={"create": True})))
    found = _split("riata-agent", ROOT / "agent", agent, _AGENT_FILES, _agent_file)
    found |= _split("riata-hub", ROOT / "hub", hub, _HUB_FILES, _hub_file)
    found[REPOSITORY / "hub" / "clusters" / manifest.FILE_NAME] = json.dumps(_variants(), indent=1) + "\n"
    found[REPOSITORY / "docs" / "reference" / "charts.md"] = reference.page()
    found[ROOT / dashboard.FILE] = dashboard.text()
    found[_SCHEMA] = _schema()
    return found


def _schema() -> str:
    """The schema of the hub's values, which is written by hand, with the names of the settings that the hub has and the
    chart does not set itself."""
    schema: dict[str, Any] = json.loads(_SCHEMA.read_text())
    settings = schema["properties"]["settings"]
    (own, nothing), (_, value) = settings["patternProperties"].items()
    names = "|".join(re.escape(name) for name, _ in config.fields() if not re.search(own, name))
    settings["patternProperties"] = {own: nothing, f"^({names})$": value}
    return json.dumps(schema, indent=2) + "\n"


def _agent_file(document: Document) -> str:
    kind, name = document["kind"], document["metadata"]["name"]
    if kind == "Namespace":
        return "00-namespace.yaml"
    if name.endswith("-cluster-admins"):
        return "20-cluster-admins.yaml"
    if kind in _RIGHTS:
        return "10-rbac.yaml"
    return "30-settings.yaml" if kind in _SETTINGS else "40-agents.yaml"


def _hub_file(document: Document) -> str:
    return "00-namespace.yaml" if document["kind"] == "Namespace" else "40-hub.yaml"


def _split(
    chart: str, directory: Path, documents: list[Document], names: Mapping[str, str], place: Any
) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for name, advice in names.items():
        head = _HEAD.format(chart=chart, advice=advice).replace(" \n", "\n")
        found[directory / name] = head + manifest.dump([each for each in documents if place(each) == name])
    return found


def _variants() -> dict[str, Any]:
    """Every form of the agent's manifest that a hub gives out, each document once."""
    documents: list[Document] = []
    variants: dict[str, list[int]] = {}
    for profile, nodes, with_ca in itertools.product(manifest.PROFILES, (False, True), (False, True)):
        values = {
            "namespace": {"create": True},
            "image": {"registry": "registry.invalid", "repository": "riata-agent", "tag": "placeholder"},
            "hub": {
                "url": manifest.Placeholder.HUB_URL,
                "caPins": [manifest.Placeholder.CA_PINS],
                "ca": manifest.Placeholder.CA if with_ca else "",
                "audience": manifest.Placeholder.AUDIENCE,
                "clusterUid": manifest.Placeholder.CLUSTER_UID,
            },
            "enrolment": {"enabled": True},
            "token": {"value": manifest.Placeholder.TOKEN},
            "rbac": {"profile": profile},
            "nodeAgents": {"enabled": nodes},
        }
        indexes = []
        for document in plain(render("riata-agent", values)):
            if document not in documents:
                documents.append(document)
            indexes.append(documents.index(document))
        variants[manifest.variant(profile, node_agents=nodes, has_ca=with_ca)] = indexes
    return {"documents": documents, "variants": variants}


def main(arguments: list[str]) -> int:
    made = files()
    differing = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    stray = [path for name in ("agent", "hub") for path in (ROOT / name).glob("*") if path not in made]
    if "--check" in arguments:
        for path in differing + stray:
            print(f"differs from the charts: {path}; cure: make manifests", file=sys.stderr)
        return 1 if differing or stray else 0
    for path in differing:
        path.parent.mkdir(exist_ok=True)
        path.write_text(made[path])
    for path in stray:
        path.unlink()
    print(f"Manifests: {len(differing)} of {len(made)} files written, {len(stray)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
