"""Charts, manifests and images."""
