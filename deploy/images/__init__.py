"""The images riata-hub and riata-agent, as OCI archives made without a container engine: `make images`."""
