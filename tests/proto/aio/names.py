"""Names with several addresses, and an address that leads nowhere."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

Address = tuple[str, int]


@contextlib.contextmanager
def black_hole(port: int = 0) -> Iterator[Address]:
    """An address where connections are neither taken nor refused, as behind a firewall: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


def resolving(monkeypatch: pytest.MonkeyPatch, **names: list[Address]) -> None:
    """Have the running loop find these addresses, in this order, for these names; none: it does not resolve."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **more: Any) -> Any:
        if host not in names:
            return await resolve(host, port, **more)
        if not names[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address) for address in names[host]]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
