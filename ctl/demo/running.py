"""What a running demo consists of."""

import dataclasses
import pathlib
from typing import Any, Literal

from ctl import files, logins


@dataclasses.dataclass(frozen=True, slots=True)
class DemoCluster:
    """One cluster of the demo, by its name on the hub."""

    name: str
    size: Literal["full", "light", "yours"]
    """full: real pods; light: an API server with simulated nodes; yours: a cluster that was there before."""
    namespace: str
    """Where the sample workloads are, and the namespace of the context; empty when there are none."""
    note: str
    """What it is made of, in a few words."""
    network: str | None = None
    """The network namespace that it lives in, as a path to enter (`nsenter --net=PATH`); None: that of the machine."""


@dataclasses.dataclass(frozen=True, slots=True)
class Running:
    """Hub, agents and clusters, all connected."""

    hub_url: str
    ca_file: pathlib.Path
    ca_pin: str
    admin_token_file: pathlib.Path
    metrics_url: str
    directory: pathlib.Path
    """For files of the demo itself."""
    clusters: tuple[DemoCluster, ...]
    pids: dict[str, int]
    """Process ids by role: `hub`, `CLUSTER/agent`, `CLUSTER/etcd` …"""
    kubectl: pathlib.Path | None
    """The kubectl that was built with the clusters; None when there is none."""

    def login(self) -> logins.Login:
        """The administrator of the hub."""
        ca = files.read_ca(str(self.ca_file))
        return logins.Login(hub=self.hub_url, ca=ca, token=files.read_token(str(self.admin_token_file)))

    def document(self, kubeconfig: pathlib.Path) -> dict[str, Any]:
        """What `-o json` prints: one object, for scripts. Its keys are described in `ctl.reference`."""
        return {
            "hub_url": self.hub_url,
            "ca_file": str(self.ca_file),
            "ca_pin": self.ca_pin,
            "admin_token_file": str(self.admin_token_file),
            "metrics_url": self.metrics_url,
            "kubeconfig": str(kubeconfig),
            "kubectl": None if self.kubectl is None else str(self.kubectl),
            "clusters": [{**_public(cluster), "context": f"riata-{cluster.name}"} for cluster in self.clusters],
            "pids": self.pids,
        }


def _public(cluster: DemoCluster) -> dict[str, str | None]:
    return {
        "name": cluster.name,
        "size": cluster.size,
        "namespace": cluster.namespace,
        "network_namespace": cluster.network,
        "note": cluster.note,
    }
