"""The rights that the chart grants, as questions to the API server.

tests/agent/doctor/test_rights.py compares this table with the chart's golden files, so that the two cannot differ.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

AUTHENTICATION: Final = "authentication.k8s.io"
EXTRA: Final = "userextras/riata.io/request-id"
CONSTRAINED: Final = "impersonate:user-info"
_ON: Final = "impersonate-on:user-info:"
_READS: Final = ("get", "list", "watch")

CORE_READ: Final = (
    "bindings", "componentstatuses", "configmaps", "endpoints", "events", "limitranges", "namespaces",
    "namespaces/status", "nodes", "nodes/status", "persistentvolumeclaims", "persistentvolumeclaims/status",
    "persistentvolumes", "persistentvolumes/status", "pods", "pods/log", "pods/status", "podtemplates",
    "replicationcontrollers", "replicationcontrollers/scale", "replicationcontrollers/status", "resourcequotas",
    "resourcequotas/status", "serviceaccounts", "services", "services/status",
)  # fmt: skip
"""Resources of the core group that profile read-only opens."""
GROUPS_READ: Final = (
    "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "autoscaling", "batch",
    "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io", "flowcontrol.apiserver.k8s.io", "metrics.k8s.io",
    "networking.k8s.io", "node.k8s.io", "policy", "rbac.authorization.k8s.io", "resource.k8s.io", "scheduling.k8s.io",
    "storage.k8s.io",
)  # fmt: skip
"""Groups that it opens whole."""


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one thing."""

    verb: str
    group: str = ""
    resource: str = ""
    """With its subresource behind a slash."""
    name: str = ""
    namespace: str = ""
    """Empty: in the whole cluster."""
    url: str = ""
    """A path that is no resource; the others are then empty."""

    def __str__(self) -> str:
        """As in the golden files, without who has it."""
        what = self.url or f"{self.group or 'core'}/{self.resource}{f' ({self.name})' if self.name else ''}"
        return f"{self.verb} {what}, in {self.namespace or 'the cluster'}"

    def question(self) -> dict[str, object]:
        """The SelfSubjectAccessReview that asks for it."""
        if self.url:
            spec: dict[str, object] = {"nonResourceAttributes": {"path": self.url, "verb": self.verb}}
        else:
            resource, _, subresource = self.resource.partition("/")
            attributes = {
                "verb": self.verb, "group": self.group, "resource": resource, "subresource": subresource,
                "name": self.name, "namespace": self.namespace,
            }  # fmt: skip
            spec = {"resourceAttributes": {key: value for key, value in attributes.items() if value}}
        return {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}


def _each(verbs: Iterable[str], group: str, resources: Iterable[str]) -> Iterator[Right]:
    return (Right(verb, group, resource) for verb, resource in itertools.product(verbs, resources))


def _on(verbs: Iterable[str]) -> tuple[str, ...]:
    return tuple(_ON + verb for verb in verbs)


_PEOPLE: Final = tuple(_each((CONSTRAINED,), AUTHENTICATION, ("users", "groups", EXTRA)))
PROFILES: Final[dict[str, tuple[Right, ...]]] = {
    "impersonate": (
        *_each(("impersonate",), "", ("users", "groups")),
        Right("impersonate", AUTHENTICATION, EXTRA),
    ),
    "constrained": (
        *_PEOPLE,
        *_each(_on((*_READS, "create", "update", "patch", "delete", "deletecollection")), "*", ("*",)),
        *(Right(verb, url="*") for verb in _on(("get", "head", "options", "post", "put", "patch", "delete"))),
    ),
    "read-only": (
        *_PEOPLE,
        *_each(_on(_READS), "", CORE_READ),
        *(right for group in GROUPS_READ for right in _each(_on(_READS), group, ("*",))),
        *_each(_on(("create",)), AUTHENTICATION, ("selfsubjectreviews",)),
        *_each(_on(("create",)), "authorization.k8s.io", ("selfsubjectaccessreviews", "selfsubjectrulesreviews")),
        *(Right(verb, url="*") for verb in _on(("get", "head"))),
    ),
}
"""What an agent that serves requests needs, by the chart's rbac.profile."""


def key(namespace: str, name: str) -> tuple[Right, ...]:
    """For the Secret with the agent's key."""
    return tuple(Right(verb, "", "secrets", name, namespace) for verb in ("get", "update"))


def nodes(namespace: str, agent: str) -> tuple[Right, ...]:
    """What the cluster agent does for node agents; `agent`: its name, which its lease has too."""
    return (
        Right("list", "", "pods", "", namespace),
        *(Right(verb, "coordination.k8s.io", "leases", agent, namespace) for verb in ("get", "update")),
        *(Right(verb, "", "configmaps", f"{agent}-endpoints", namespace) for verb in ("get", "update")),
        Right("get", "discovery.k8s.io", "endpointslices", "kubernetes", "default"),
        *_each(("list", "patch"), "", ("nodes",)),
        *(Right("get", url=url) for url in ("/.well-known/openid-configuration", "/openid/v1/jwks")),
    )
