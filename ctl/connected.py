"""How many agents of a cluster are connected, by what the hub shows of it."""

from collections.abc import Mapping
from typing import Any


def agents(cluster: Mapping[str, Any], *, of_nodes: bool = False) -> int:
    """Of its tunnels: an agent whose old session still drains beside its new one is one."""
    tunnels = cluster.get("tunnels") or []
    return len({str(t.get("instance")) for t in tunnels if (t.get("role") != "cluster") == of_nodes})


def node_agents(cluster: Mapping[str, Any]) -> int:
    """As the hub counts them, whose list leaves most out; one that is older lists them all."""
    counted = cluster.get("nodeAgents")
    return counted if isinstance(counted, int) else agents(cluster, of_nodes=True)
