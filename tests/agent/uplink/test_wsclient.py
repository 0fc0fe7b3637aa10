"""The WebSocket client against real handshakes on loopback: what works, and what each failure is called."""

import asyncio
import datetime
import http
import socket
import struct

import pytest

from agent.uplink.diagnose import ConnectFailed, Step
from agent.uplink.proxies import Proxy
from agent.uplink.trust import HubTrust
from agent.uplink.wsclient import open_transport, retry_after
from tests.agent.apiserver import Pki, api_server, serving
from tests.agent.uplink.hub import settings, websocket_hub
from tests.proto.aio.names import black_hole, resolving


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def connect(hub_settings, proxy=None):
    return await open_transport(hub_settings, await HubTrust(hub_settings).context(proxy), proxy)


async def failure(hub_settings, proxy=None):
    with pytest.raises(ConnectFailed) as caught:
        await connect(hub_settings, proxy)
    return caught.value.diagnosis


async def test_messages_go_both_ways_and_the_socket_is_tuned(tmp_path):
    pki = Pki(tmp_path)
    async with websocket_hub(pki, echo) as port:
        transport = await connect(settings(pki, port, tmp_path))
        for message in (b"x", b"y" * 60_000):
            await transport.send(message)
            assert await transport.receive() == message
        sock = transport._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert transport.peer.endswith(f":{port}")
        await transport.close(1000, "bye")
        with pytest.raises((EOFError, ConnectionError)):
            await transport.receive()


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 100, 303])
async def test_a_message_that_the_wire_cuts_never_arrives(tmp_path, cut):
    """At any byte: of the header, of the length, of the payload. What was whole before it does arrive."""
    frame = b"\x82\x7e\x01\x2c" + bytes(300)

    async def cut_off(connection):
        await connection.send(b"whole")
        connection.transport.write(frame[:cut])
        await asyncio.sleep(0.05)
        connection.transport.abort()

    pki = Pki(tmp_path)
    async with websocket_hub(pki, cut_off) as port:
        transport = await connect(settings(pki, port, tmp_path))
        assert await transport.receive() == b"whole"
        with pytest.raises((ConnectionError, EOFError)):
            await transport.receive()


async def test_the_hubs_close_is_an_orderly_end_and_its_vanishing_is_not(tmp_path):
    pki = Pki(tmp_path)

    async def close(connection):
        await connection.close(1001, "restart")

    async def vanish(connection):
        connection.transport.abort()

    for handler, error in ((close, EOFError), (vanish, ConnectionError)):
        async with websocket_hub(pki, handler) as port:
            transport = await connect(settings(pki, port, tmp_path))
            with pytest.raises(error):
                await transport.receive()
            with pytest.raises(ConnectionError):
                await transport.send(b"x")


async def test_text_messages_and_giants_end_the_connection(tmp_path):
    pki = Pki(tmp_path)

    async def text(connection):
        await connection.send("hello")
        await connection.wait_closed()

    async def giant(connection):
        await connection.send(b"x" * (256 * 1024 + 1))
        await connection.wait_closed()

    for handler in (text, giant):
        async with websocket_hub(pki, handler) as port:
            transport = await connect(settings(pki, port, tmp_path))
            with pytest.raises(ConnectionError):
                await transport.receive()


@pytest.mark.parametrize(
    ("status", "headers", "step", "retry_s", "is_slow"),
    [
        (http.HTTPStatus.UNAUTHORIZED, {}, Step.CREDENTIAL, 0.0, True),
        (http.HTTPStatus.FORBIDDEN, {}, Step.CREDENTIAL, 0.0, True),
        (http.HTTPStatus.NOT_FOUND, {}, Step.HTTP, 0.0, False),
        (http.HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "7"}, Step.HTTP, 7.0, False),
        (http.HTTPStatus.FOUND, {"Location": "https://127.0.0.1:1/"}, Step.HTTP, 0.0, False),
        (http.HTTPStatus.OK, {}, Step.HTTP, 0.0, False),
    ],
)
async def test_http_answers(tmp_path, status, headers, step, retry_s, is_slow):
    pki = Pki(tmp_path)

    def answer(connection, request):
        response = connection.respond(status, "no\n")
        response.headers.update(headers)
        return response

    async with websocket_hub(pki, echo, process_request=answer) as port:
        diagnosis = await failure(settings(pki, port, tmp_path))
        assert (diagnosis.step, diagnosis.retry_s, diagnosis.is_slow) == (step, retry_s, is_slow)


@pytest.mark.parametrize(
    ("status", "name", "values", "retry_s"),
    [
        (http.HTTPStatus.SERVICE_UNAVAILABLE, "Retry-After", ("7", "5"), 7.0),
        (http.HTTPStatus.FOUND, "Location", ("https://first.test/", "https://second.test/"), 0.0),
    ],
)
async def test_of_two_headers_of_a_name_the_first_counts(tmp_path, status, name, values, retry_s):
    """What stands in front of the hub adds its own to the hub's."""
    pki = Pki(tmp_path)

    def answer(connection, request):
        response = connection.respond(status, "no\n")
        for value in values:
            response.headers[name] = value
        return response

    async with websocket_hub(pki, echo, process_request=answer) as port:
        diagnosis = await failure(settings(pki, port, tmp_path))
        assert (diagnosis.step, diagnosis.retry_s) == (Step.HTTP, retry_s)
        assert "second" not in diagnosis.what


async def test_another_subprotocol(tmp_path):
    pki = Pki(tmp_path)
    async with websocket_hub(pki, echo, subprotocols=()) as port:
        diagnosis = await failure(settings(pki, port, tmp_path))
        assert diagnosis.step is Step.WEBSOCKET


async def test_something_that_is_no_http_server(tmp_path):
    pki = Pki(tmp_path)

    async def script(head, reader, writer):
        writer.write(b"SSH-2.0-x\r\n")
        writer.close()

    async with api_server(pki, script) as (_, port):
        assert (await failure(settings(pki, port, tmp_path))).step is Step.WEBSOCKET


async def test_another_ca(tmp_path):
    ours, theirs = Pki(tmp_path), Pki(tmp_path, "other")
    theirs.leaf = theirs.ca.issue_cert("localhost", "127.0.0.1")
    async with websocket_hub(theirs, echo) as port:
        diagnosis = await failure(settings(ours, port, tmp_path))
        assert diagnosis.step is Step.PIN
        assert diagnosis.is_slow


async def test_another_name(tmp_path):
    pki = Pki(tmp_path)
    pki.leaf = pki.ca.issue_cert("hub.example")
    async with websocket_hub(pki, echo) as port:
        diagnosis = await failure(settings(pki, port, tmp_path))
        assert diagnosis.step is Step.TLS
        assert "'localhost'" in diagnosis.what


async def test_plain_http(tmp_path):
    pki = Pki(tmp_path)

    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with serving(plain) as port:
        diagnosis = await failure(settings(pki, port, tmp_path))
        assert diagnosis.step is Step.TLS
        assert "does not speak TLS" in diagnosis.what


async def test_nobody_listens(tmp_path):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        diagnosis = await failure(settings(Pki(tmp_path), sock.getsockname()[1], tmp_path))
    assert diagnosis.step is Step.TCP


async def connect_proxy(reader, writer, seen):
    """An HTTP proxy: CONNECT with a password."""
    head = await reader.readuntil(b"\r\n\r\n")
    seen.append(head)
    if b"Proxy-Authorization: Basic dTpw" not in head:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        return
    target = head.split()[1].decode()
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await splice(reader, writer, target.rsplit(":", 1))


async def socks_proxy(reader, writer, seen):
    """SOCKS5 without a password (RFC 1928), names resolved by the proxy."""
    _, count = await reader.readexactly(2)
    await reader.readexactly(count)
    writer.write(b"\x05\x00")
    _, _, _, kind = await reader.readexactly(4)
    host = (await reader.readexactly((await reader.readexactly(1))[0])).decode() if kind == 3 else "127.0.0.1"
    if kind == 1:
        await reader.readexactly(4)
    (port,) = struct.unpack("!H", await reader.readexactly(2))
    seen.append(f"{kind} {host}:{port}".encode())
    writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    await splice(reader, writer, (host, port))


async def splice(reader, writer, target):
    there_reader, there_writer = await asyncio.open_connection(target[0], int(target[1]))

    async def pump(source, sink):
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        sink.close()

    try:
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
    finally:
        there_writer.transport.abort()


@pytest.mark.parametrize(("kind", "url"), [(connect_proxy, "http://u:p@"), (socks_proxy, "socks5h://")])
async def test_through_a_proxy(tmp_path, kind, url):
    pki = Pki(tmp_path)
    seen = []
    async with serving(lambda r, w: kind(r, w, seen)) as proxy_port, websocket_hub(pki, echo) as port:
        address = f"127.0.0.1:{proxy_port}"
        proxy = Proxy(f"{url}{address}", url.partition(":")[0], f"proxy {address}")
        transport = await connect(settings(pki, port, tmp_path), proxy)
        await transport.send(b"x")
        assert await transport.receive() == b"x"
        assert f"localhost:{port}".encode() in seen[0]
        await transport.close(1000, "")


async def test_an_address_that_drops_packets_is_passed_over(tmp_path, monkeypatch):
    pki = Pki(tmp_path)
    async with websocket_hub(pki, echo) as port:
        with black_hole() as hole:
            resolving(monkeypatch, localhost=[hole, ("127.0.0.1", port)])
            transport = await connect(settings(pki, port, tmp_path))
            await transport.send(b"x")
            assert await transport.receive() == b"x"
            await transport.close(1000, "")


@pytest.mark.parametrize("name", ["proxy.test", "other.test"])
async def test_a_proxy_of_https_with_several_addresses(tmp_path, monkeypatch, name):
    """It is known by its name, whichever address it answers at, and the hub's certificate is still the hub's."""
    pki, theirs = Pki(tmp_path), Pki(tmp_path, "proxy.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(theirs.ca_file))

    async def proxied(reader, writer):
        await connect_proxy(reader, writer, [])

    async with serving(proxied, theirs.server_context()) as proxy_port, websocket_hub(pki, echo) as port:
        with black_hole(proxy_port) as hole:
            resolving(monkeypatch, **{name: [hole, ("127.0.0.1", proxy_port)]})
            proxy = Proxy(f"https://u:p@{name}:{proxy_port}", "https", f"https://{name}:{proxy_port}")
            if name == "other.test":
                diagnosis = await failure(settings(pki, port, tmp_path), proxy)
                assert (diagnosis.step, "other.test" in diagnosis.what) == (Step.PROXY, True)
                return
            transport = await connect(settings(pki, port, tmp_path), proxy)
            await transport.send(b"x")
            assert await transport.receive() == b"x"
            await transport.close(1000, "")


async def test_a_proxy_whose_certificate_nobody_here_knows(tmp_path):
    """Nobody is between the agent and the hub: the CA in question is not the hub's."""
    pki = Pki(tmp_path)
    async with serving(lambda r, w: connect_proxy(r, w, []), pki.server_context()) as port:
        address = f"https://localhost:{port}"
        diagnosis = await failure(settings(pki, 1, tmp_path), Proxy(address, "https", address))
    assert (diagnosis.cause, diagnosis.is_slow) == ("proxy-unreachable", False)
    assert "SSL_CERT_FILE" in diagnosis.what


@pytest.mark.parametrize(("kind", "url"), [(connect_proxy, "http://u:p@"), (socks_proxy, "socks5h://")])
async def test_behind_a_proxy_the_hubs_certificate_is_still_looked_at(tmp_path, kind, url):
    ours, theirs = Pki(tmp_path), Pki(tmp_path, "other")
    theirs.leaf = theirs.ca.issue_cert("localhost", "127.0.0.1")
    async with serving(lambda r, w: kind(r, w, [])) as proxy_port, websocket_hub(theirs, echo) as port:
        address = f"127.0.0.1:{proxy_port}"
        proxy = Proxy(f"{url}{address}", url.partition(":")[0], f"proxy {address}")
        assert (await failure(settings(ours, port, tmp_path), proxy)).step is Step.PIN


@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
async def test_a_proxy_that_is_not_there(tmp_path, scheme):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"
        diagnosis = await failure(settings(Pki(tmp_path), 1, tmp_path), Proxy(address, scheme, address))
    assert diagnosis.cause == "proxy-unreachable"
    assert "refused" in diagnosis.what


async def test_the_hubs_name_may_be_what_a_proxy_wants_resolved(tmp_path, monkeypatch):
    resolving(monkeypatch, localhost=[])
    async with serving(lambda r, w: socks_proxy(r, w, [])) as port:
        address = f"socks5://127.0.0.1:{port}"
        assert (await failure(settings(Pki(tmp_path), 1, tmp_path), Proxy(address, "socks5", address))).step is Step.DNS


async def test_a_proxy_that_wants_a_password(tmp_path):
    pki = Pki(tmp_path)
    async with serving(lambda r, w: connect_proxy(r, w, [])) as proxy_port:
        address = f"http://127.0.0.1:{proxy_port}"
        diagnosis = await failure(settings(pki, 1, tmp_path), Proxy(address, "http", address))
        assert diagnosis.step is Step.PROXY
        assert "407" in diagnosis.what


@pytest.mark.parametrize(
    ("value", "seconds"), [("", 0.0), ("7", 7.0), ("99999", 300.0), ("-1", 0.0), ("soon", 0.0), ("9" * 400, 0.0)]
)
def test_retry_after(value, seconds):
    assert retry_after(value) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("Thu, 26 Nov 2026 12:00:30 GMT", 30.0),
        ("Thu, 26 Nov 2026 11:00:00 GMT", 0.0),
        ("Thu, 26 Nov 2099 11:00:00 GMT", 300.0),
    ],
)
def test_retry_after_with_a_date(value, seconds):
    now = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC).timestamp()
    assert retry_after(value, now) == seconds
