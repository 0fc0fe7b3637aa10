"""Bounds of the tunnels of a hub."""

from __future__ import annotations

from typing import Final

NODE_TUNNELS_MAX: Final = 6_000
"""Of the node agents of one cluster together. Kubernetes is made for 5,000 nodes; some more for those that come while
others go."""
