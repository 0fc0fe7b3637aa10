"""Choosing the nodes whose agents may stand in for the cluster agent (design D5). Mode cluster only."""
