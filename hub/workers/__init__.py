"""Several processes that are one hub: a main process that owns the store, and workers that serve (docs/adr/0011)."""
