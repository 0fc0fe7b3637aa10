"""riata beside its peers: `make bench-race`."""
