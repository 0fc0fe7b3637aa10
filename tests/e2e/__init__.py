"""The whole line with a real Kubernetes API server at its end: client → hub → tunnel → agent → API server."""
