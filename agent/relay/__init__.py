"""Executing the hub's requests on the kube-apiserver: policy, connections, exchanges."""
