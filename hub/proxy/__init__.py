"""The way of a Kubernetes request through the hub: authenticate, rewrite, open a stream, relay the answer."""
