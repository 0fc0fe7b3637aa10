"""The asyncio shell around the protocol core: links, transports, tasks. It knows no WebSocket library and no HTTP."""
