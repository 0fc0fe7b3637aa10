"""The management API: everything that the hub serves over HTTP except `/k8s/` and the tunnel's frames."""
