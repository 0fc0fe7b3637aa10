"""The way to the hub: trust, proxies, credential, WebSocket, reconnecting, diagnosis."""
