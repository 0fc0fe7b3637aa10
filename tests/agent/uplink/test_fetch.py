"""The small GET, through proxies too."""

import socket

import pytest

from agent.relay.endpoint import KubeTrust
from agent.uplink import fetch
from agent.uplink.diagnose import ProxyRefused, ProxyUnreached
from agent.uplink.proxies import Proxy
from tests.agent.apiserver import Pki, api_server, json_answer, serving
from tests.agent.uplink.test_wsclient import connect_proxy, socks_proxy
from tests.proto.aio.names import black_hole, resolving


async def script(head, reader, writer):
    writer.write(json_answer(b"hello"))


async def get(pki, port, **more):
    answer = await fetch.ask("localhost", port, "/x", context=KubeTrust(ca_file=pki.ca_file).context(), **more)
    assert answer.tls.startswith("TLSv1")
    assert answer.not_after.endswith("GMT")
    return answer.status, answer.body


async def test_directly(tmp_path):
    pki = Pki(tmp_path)
    async with api_server(pki, script) as (server, port):
        assert await get(pki, port) == (200, b"hello")
        assert b"authorization" not in server.heads[0]


@pytest.mark.parametrize(("kind", "url"), [(connect_proxy, "http://u:p@"), (socks_proxy, "socks5h://")])
async def test_through_a_proxy(tmp_path, kind, url):
    pki = Pki(tmp_path)
    seen = []
    async with serving(lambda r, w: kind(r, w, seen)) as proxy_port, api_server(pki, script) as (_, port):
        address = f"127.0.0.1:{proxy_port}"
        proxy = Proxy(f"{url}{address}", url.partition(":")[0], "p")
        assert await get(pki, port, proxy=proxy) == (200, b"hello")
        assert f"localhost:{port}".encode() in seen[0]


async def test_an_address_that_drops_packets_is_passed_over(tmp_path, monkeypatch):
    pki = Pki(tmp_path)
    async with api_server(pki, script) as (_, port):
        with black_hole() as hole:
            resolving(monkeypatch, localhost=[hole, ("127.0.0.1", port)])
            assert await get(pki, port) == (200, b"hello")


async def test_an_address_of_the_proxys_that_drops_packets_is_passed_over(tmp_path, monkeypatch):
    pki = Pki(tmp_path)
    async with serving(lambda r, w: socks_proxy(r, w, [])) as proxy_port, api_server(pki, script) as (_, port):
        with black_hole(proxy_port) as hole:
            resolving(monkeypatch, **{"proxy.test": [hole, ("127.0.0.1", proxy_port)]})
            proxy = Proxy(f"socks5h://proxy.test:{proxy_port}", "socks5h", "p")
            assert await get(pki, port, proxy=proxy) == (200, b"hello")


async def test_a_proxy_that_is_not_there_is_told_from_a_hub_that_is_not(tmp_path, monkeypatch):
    pki = Pki(tmp_path)
    async with serving(lambda r, w: socks_proxy(r, w, [])) as port:
        pass
    with pytest.raises(ProxyUnreached, match="Connection refused"):
        await get(pki, 1, proxy=Proxy(f"socks5h://127.0.0.1:{port}", "socks5h", "p"))
    resolving(monkeypatch, localhost=[])
    async with serving(lambda r, w: socks_proxy(r, w, [])) as port:
        with pytest.raises(socket.gaierror):
            await get(pki, 1, proxy=Proxy(f"socks5://127.0.0.1:{port}", "socks5", "p"))


async def asking_for_a_password(reader, writer):
    """As much of SOCKS5 (RFC 1928)."""
    _, count = await reader.readexactly(2)
    await reader.readexactly(count)
    writer.write(b"\x05\x02")
    await reader.read()


async def test_proxies_that_refuse_or_cannot(tmp_path):
    pki = Pki(tmp_path)
    async with serving(lambda r, w: connect_proxy(r, w, [])) as proxy_port:
        address = f"http://127.0.0.1:{proxy_port}"
        with pytest.raises(ConnectionError, match="refused"):
            await get(pki, 1, proxy=Proxy(address, "http", address))
    async with serving(lambda r, w: connect_proxy(r, w, [])) as proxy_port:
        address = f"127.0.0.1:{proxy_port}"
        with pytest.raises(ProxyRefused, match="cannot be shown this user") as caught:
            await get(pki, 1, proxy=Proxy(f"http://us%3Aer:s3cret@{address}", "http", f"http://{address}"))
        assert "s3cret" not in str(caught.value)
    async with serving(asking_for_a_password) as proxy_port:
        address = f"127.0.0.1:{proxy_port}"
        with pytest.raises(ProxyRefused, match="not ASCII") as caught:
            await get(pki, 1, proxy=Proxy(f"socks5h://u:s%C3%A9cret@{address}", "socks5h", f"socks5h://{address}"))
        assert "\xe9" not in str(caught.value)
    with pytest.raises(ProxyUnreached, match="idna"):
        await get(pki, 1, proxy=Proxy("http://a..b:1", "http", "http://a..b:1"))
    with pytest.raises(ConnectionError, match="--hub-ca-file"):
        await get(pki, 1, proxy=Proxy("https://p.test:1", "https", "https://p.test:1"))
