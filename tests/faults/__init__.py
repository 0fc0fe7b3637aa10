"""Faults, each a repeatable test with a seed and a printed figure (docs/operate/failures.md, facts/security.md §3)."""
