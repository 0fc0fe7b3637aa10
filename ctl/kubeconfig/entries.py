"""The entries of a kubeconfig that riata owns: one cluster, user and context of the same name for each cluster."""

import base64
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

SECTIONS: Final = {"clusters": "cluster", "users": "user", "contexts": "context"}
"""Lists of a kubeconfig and the key under which an element keeps its body (client-go tools/clientcmd/api/v1)."""

REPLACED: Final = {
    "clusters": frozenset(
        {"server", "certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify"}
    ),
    "users": frozenset(
        {"token", "tokenFile", "username", "password", "exec", "auth-provider"}
        | {"client-certificate", "client-certificate-data", "client-key", "client-key-data"}
    ),
    "contexts": frozenset({"cluster", "user"}),
}
"""Fields of an entry of ours that a new one replaces. Others stay: a context's namespace, a cluster's proxy-url."""

_ACTS: Final = frozenset({"as", "as-uid", "as-groups", "as-user-extra"})
"""Whom a user's entry acts as."""

DEFAULT_PREFIX: Final = "riata"
PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")

_TOKEN = re.compile(r"riata_([a-z0-9]{1,64})_[0-9a-f]{16,256}")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One element of one list: `section` is a key of SECTIONS."""

    section: str
    name: str
    body: dict[str, Any] = dataclasses.field(repr=False)

    def element(self) -> dict[str, Any]:
        return {SECTIONS[self.section]: self.body, "name": self.name}


def context_name(prefix: str, cluster: str) -> str:
    """The stable name: two runs for one cluster name the same entry."""
    return f"{prefix}-{cluster}"


def prefix_of(name: str, cluster: str) -> str:
    """The prefix with which `context_name` makes `name`; empty when none does."""
    prefix = name.removesuffix(f"-{cluster}")
    return prefix if prefix != name and PREFIX.fullmatch(prefix) else ""


def server(hub: str, cluster: str) -> str:
    return f"{hub}/k8s/clusters/{cluster}"


def cluster_at(hub: str, server: object) -> str:
    """Name of the cluster of `hub` that a kubeconfig's `server` leads to; empty when it leads elsewhere."""
    text, prefix = str(server or ""), f"{hub}/k8s/clusters/"
    return text.removeprefix(prefix).split("/")[0] if text.startswith(prefix) else ""


def build(hub: str, ca: str, token: str, clusters: Sequence[str], prefix: str) -> list[Entry]:
    """Entries for `clusters`: clusters first, contexts last, so that a file cut short names nothing that is missing."""
    made = []
    for cluster in clusters:
        body = {"server": server(hub, cluster)}
        if ca:
            body = {"certificate-authority-data": base64.b64encode(ca.encode()).decode(), **body}
        made.append(Entry("clusters", context_name(prefix, cluster), body))
    made += [Entry("users", context_name(prefix, cluster), {"token": token}) for cluster in clusters]
    for cluster in clusters:
        name = context_name(prefix, cluster)
        made.append(Entry("contexts", name, {"cluster": name, "user": name}))
    return made


def replaced(section: str, body: Mapping[str, Any]) -> frozenset[str]:
    """Fields of the entry `body` that one of ours of its name replaces.

    Whom it acts as stays with a token of riata, since without it kubectl would act with wider rights than somebody
    chose; of another credential that was chosen for other rights.
    """
    is_chosen = section != "users" or token_id(body.get("token")) is not None
    return REPLACED[section] if is_chosen else REPLACED[section] | _ACTS


def document(made: Sequence[Entry], current: str) -> dict[str, Any]:
    """A whole kubeconfig of nothing but `made`."""
    lists = {section: [e.element() for e in made if e.section == section] for section in SECTIONS}
    return {"apiVersion": "v1", "kind": "Config", **lists, "current-context": current}


def token_id(token: object) -> str | None:
    """Id of a user token of riata; None for anything else."""
    match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    return match[1] if match else None
