"""ctl/connected.py: agents, not tunnels, whatever the hub's version."""

from typing import Any

from ctl import connected


def tunnel(role: str, instance: str) -> dict[str, Any]:
    return {"role": role, "instance": instance}


def test_an_agent_whose_old_session_drains_is_one() -> None:
    cluster = {"tunnels": [tunnel("cluster", "a"), tunnel("cluster", "a"), tunnel("cluster", "b"), tunnel("node", "n")]}
    assert (connected.agents(cluster), connected.agents({})) == (2, 0)


def test_node_agents_are_counted_by_the_hub_or_here_where_it_is_older() -> None:
    tunnels = [tunnel("node", "n"), tunnel("node", "n"), tunnel("node", "m"), tunnel("cluster", "a")]
    assert connected.node_agents({"nodeAgents": 7, "tunnels": tunnels}) == 7
    assert connected.node_agents({"tunnels": tunnels}) == 2
