"""Where agents arrive: the WebSocket endpoint, the live tunnels and the choice among them."""
