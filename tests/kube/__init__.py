"""The Kubernetes tools for tests and demo: pinned as Go modules, built once into a per-user cache."""
