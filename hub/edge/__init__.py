"""The public listener: a strict HTTP/1.1 front that relays Kubernetes requests itself and hands the rest to aiohttp."""
