"""Cluster records: an immutable name for people, a random uid for grants and credentials (design P9)."""
