"""The bounds of tunnels, against what they are for."""

from hub.tunnel.limits import NODE_TUNNELS_MAX

NODES = 5_000
"""Kubernetes' own bound: https://kubernetes.io/docs/setup/best-practices/cluster-large/."""


def test_the_largest_cluster_fits_while_a_tenth_of_its_agents_is_replaced() -> None:
    assert NODE_TUNNELS_MAX >= NODES * 1.1
