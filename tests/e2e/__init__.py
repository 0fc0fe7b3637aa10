"""The whole line against a real Kubernetes API server: kubectl and client libraries → hub → tunnel → agent → API server."""
