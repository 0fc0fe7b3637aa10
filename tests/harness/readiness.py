"""Asks an API server's /readyz, without any client library and without any event loop of its own."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.harness.children import Child
from tests.harness.failures import HarnessError
from tests.harness.pki import Pair

_PROBE_S = 2.0
_POLL_S = 0.1


async def ready(url: str, *, ca: Path, client: Pair, timeout_s: float, alive: Sequence[Child]) -> None:
    """Wait until `url`/readyz answers 200. Raises HarnessError when one of `alive` ends or time runs out."""
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(client.certificate, client.key)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    last = "no answer"
    while True:
        for child in alive:
            child.check()
        try:
            last = await _status(url, context)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            last = repr(error)
        if last == "200":
            return
        if loop.time() > deadline:
            raise HarnessError(f"{url} not ready within {timeout_s:g} s: {last}")
        await asyncio.sleep(_POLL_S)


async def _status(url: str, context: ssl.SSLContext) -> str:
    parts = urlsplit(url)
    async with asyncio.timeout(_PROBE_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
        try:
            writer.write(f"GET /readyz HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readuntil(b"\r\n")
        finally:
            writer.transport.abort()
    return line.split()[1].decode()
