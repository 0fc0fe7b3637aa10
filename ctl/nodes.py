"""The nodes of a cluster, as `riata clusters show` lists them."""

from typing import Any, Final

from ctl import client, errors, output, terminal

LINES_MAX: Final = 100
"""Nodes that a table shows."""


def _registered(key: str) -> Any:
    return lambda node: (node.get("registered") or {}).get(key)


def _agent(node: output.Item) -> str:
    """`serves`: requests may take it; `connected`; empty: none is."""
    agent = node.get("agent")
    return "" if not agent else "serves" if agent.get("serves") else "connected"


def _roles(node: output.Item) -> object:
    facts = (node.get("agent") or {}).get("facts") or {}
    return (node.get("registered") or facts).get("roles")


KIND: Final = output.Kind(
    "name",
    {
        "NODE": lambda node: node.get("name"),
        "READY": _registered("ready"),
        "ROLES": _roles,
        "KUBELET": _registered("kubelet"),
        "OS-IMAGE": _registered("osImage"),
        "KERNEL": _registered("kernel"),
        "ARCH": _registered("architecture"),
        "ADDRESSES": _registered("addresses"),
        "ZONE": _registered("zone"),
        "FALLBACK": _registered("fallback"),
        "AGENT": _agent,
    },
)


async def of_cluster(hub: client.HubClient, name: str) -> dict[str, Any] | None:
    """What the hub knows of a cluster's nodes; None where the caller does not administer it, or the hub is older."""
    try:
        found: dict[str, Any] = await hub.get(client.target("v1", "clusters", name, "nodes"))
    except errors.CommandError as exc:
        if exc.exit_code in {errors.Exit.NOT_FOUND, errors.Exit.FORBIDDEN}:
            return None
        raise
    return found


def show(nodes: dict[str, Any]) -> None:
    """As a table, behind that of the cluster; nothing where there are none."""
    items = nodes.get("items") or []
    if not items:
        return
    terminal.data("")
    terminal.data(KIND.table(items[:LINES_MAX]))
    total = max(len(items), nodes.get("total") or 0)
    if total > LINES_MAX:
        terminal.say(f"{LINES_MAX} of {total} nodes; -o json has {len(items)}")
