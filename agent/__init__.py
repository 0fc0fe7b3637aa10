"""The agent: dials out to a hub and executes its requests on the local kube-apiserver."""
