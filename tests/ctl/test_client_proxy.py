"""The client behind an HTTP proxy: CONNECT, TLS with the hub inside it, and what a refusal looks like."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from aiohttp.test_utils import TestServer

from ctl import client, errors, logins
from tests.ctl.fakehub import ADMIN, FakeHub

HUB = "https://hub.test"
"""A name that only the proxy can resolve."""


class Proxy:
    """Answers CONNECT; everything goes to `port`, whatever was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = "200 OK"
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        with contextlib.closing(writer):
            if self.status.startswith("200"):
                there, away = await asyncio.open_connection("127.0.0.1", self.port)
                with contextlib.closing(away), contextlib.suppress(ConnectionError):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_pump(reader, away))
                        group.create_task(_pump(there, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def proxy(fake: FakeHub, ca: trustme.CA) -> AsyncIterator[tuple[Proxy, str]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("hub.test").configure_cert(context)
    hub = TestServer(fake.app(), host="127.0.0.1")
    await hub.start_server(ssl=context)
    assert hub.port is not None
    made = Proxy(hub.port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    yield made, f"http://user:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await hub.close()
    for _ in range(100):  # the proxy's two directions end one after the other
        if len(asyncio.all_tasks()) == 1:
            break
        await asyncio.sleep(0.01)


def _login(ca: trustme.CA) -> logins.Login:
    return logins.Login(hub=HUB, ca=ca.cert_pem.bytes().decode(), token=ADMIN)


async def test_the_hub_is_reached_through_the_proxy_and_only_it_sees_the_token(
    proxy: tuple[Proxy, str], ca: trustme.CA
) -> None:
    made, url = proxy
    async with client.HubClient(_login(ca), {"HTTPS_PROXY": url}) as hub:
        assert (await hub.get("/v1/whoami"))["user"] == "admin"
    assert made.heads[0].startswith("CONNECT hub.test:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic " in made.heads[0]
    assert ADMIN not in made.heads[0]


async def test_a_proxy_that_refuses_is_unreachable_and_its_password_is_not_shown(
    proxy: tuple[Proxy, str], ca: trustme.CA
) -> None:
    made, url = proxy
    made.status = "403 Forbidden"
    async with client.HubClient(_login(ca), {"HTTPS_PROXY": url}) as hub:
        with pytest.raises(errors.CommandError) as caught:
            await hub.get("/v1/whoami")
    assert caught.value.exit_code == errors.Exit.UNREACHABLE
    assert "answered 403" in caught.value.what
    assert "secret" not in caught.value.render()
