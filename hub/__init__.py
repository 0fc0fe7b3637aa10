"""The hub: authentication proxy, management API, tunnel endpoint and store of a fleet."""
