"""The charts, rendered by Helm's own engine (helm-python-sdk: Helm 4 as a library; no helm program, no cluster)."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from helm_python import Chart
from helm_python.chart import lint
from helm_python.errors import HelmError

ROOT: Final = Path(__file__).parent
CHARTS: Final = ("riata-agent", "riata-hub")
NAMESPACE: Final = "riata-system"

_ORDER: Final = (
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)
"""These come first; the rest as Helm has them."""
_REMARK: Final = 1
_BY_HELM: Final = ("app.kubernetes.io/managed-by", "helm.sh/chart")

# The pure one is ten times slower, and some installations of PyYAML have only that.
_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Document = dict[str, Any]


class Refused(Exception):
    """The chart does not take these values. The text is Helm's: it names the value and the rule."""


def render(chart: str, values: Mapping[str, Any], *, release: str = "", namespace: str = NAMESPACE) -> list[Document]:
    """The documents that an installation would make, in the order in which kubectl can apply them. Raises Refused."""
    try:
        files = _loaded(chart).render(dict(values), name=release or chart, namespace=namespace)
    except HelmError as exc:
        raise Refused(str(exc)) from exc
    try:
        return sorted(_documents(files), key=_rank)
    except yaml.YAMLError as exc:  # a control character in an object that is taken as it is; Helm refuses it too
        raise Refused(f"{chart} makes no YAML of this: {exc}") from exc


def notes(chart: str, values: Mapping[str, Any], *, is_upgrade: bool = False) -> str:
    """What Helm says at the end of an installation, or of an upgrade."""
    whether = {"is_install": not is_upgrade, "is_upgrade": is_upgrade}
    files = _loaded(chart).render(dict(values), name=chart, namespace=NAMESPACE, **whether)
    return str(files[f"{chart}/templates/NOTES.txt"])


def findings(chart: str, values: Mapping[str, Any]) -> list[str]:
    """What `helm lint --strict` says, but for remarks."""
    report = lint(ROOT / "charts" / chart, dict(values), strict=True)
    found = [str(each["error"]) for each in report["messages"] if each["severity"] > _REMARK]
    return found + [str(each) for each in report["errors"]]


@functools.cache
def _loaded(chart: str) -> Chart:
    return Chart.load(ROOT / "charts" / chart)


def plain(documents: list[Document]) -> list[Document]:
    """The same without the labels that say that Helm keeps them: for kubectl."""
    for document in documents:
        labels = document["metadata"].get("labels", {})
        for label in _BY_HELM:
            labels.pop(label, None)
    return documents


def _rank(document: Document) -> int:
    kind = document["kind"]
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _documents(files: Mapping[str, str]) -> Iterator[Document]:
    for name, text in sorted(files.items()):
        if name.endswith(".yaml"):
            yield from (document for document in yaml.load_all(text, Loader=_Loader) if document)
