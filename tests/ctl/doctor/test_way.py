"""Each fault between an operator and the hub is found by its check, with its cure; what lies behind it is not run."""

import asyncio
import datetime
import pathlib
import socket
import ssl

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from ctl import client, logins
from ctl.doctor import way
from proto import pins
from proto.causes import Level
from proto.findings import Finding
from tests.ctl.fakehub import ADMIN, FakeHub

NOW = 1_800_000_000.0
YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def _clock(fake: FakeHub) -> None:
    fake.date = NOW


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


async def _serve(fake: FakeHub, certificate: trustme.LeafCert) -> TestServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server = TestServer(fake.app(), host="127.0.0.1", scheme="https")
    await server.start_server(ssl=context)
    return server


def _login(hub: str, ca: trustme.CA, *, pin: str = "", token: str = ADMIN) -> logins.Login:
    return logins.Login(hub=hub, ca=ca.cert_pem.bytes().decode(), ca_pin=pin, token=token)


async def _examine(login: logins.Login, **env: str) -> dict[str, Finding]:
    found = await way.Way(login, env, NOW).examine()
    assert [finding.check for finding in found] == list(way.CHECKS)
    return {finding.check: finding for finding in found}


def _failed(found: dict[str, Finding], check: str, cause: str, cure: str) -> Finding:
    finding = found[check]
    assert (finding.level, finding.cause) == (Level.FAIL, cause)
    assert cure in finding.cure
    at = way.CHECKS.index(check)
    assert all(found[before].level is not Level.FAIL for before in way.CHECKS[:at])
    return finding


def _nothing_behind(found: dict[str, Finding], check: str) -> None:
    behind = [found[each] for each in way.CHECKS[way.CHECKS.index(check) + 1 :] if each != "clock"]
    assert behind
    assert all((each.level, each.what) == (Level.NOT_RUN, f"not run: {check} failed") for each in behind)


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def test_all_is_well(fake: FakeHub, ca: trustme.CA) -> None:
    server = await _serve(fake, ca.issue_cert("127.0.0.1"))
    pin = pins.pins_of_pem(ca.cert_pem.bytes())[0]
    found = await _examine(_login(f"https://127.0.0.1:{server.port}", ca, pin=pin))
    await server.close()
    assert {finding.level for finding in found.values()} == {Level.OK}, found
    assert "TLSv1" in found["tls"].what
    assert pin in found["pin"].what
    assert "you are admin, an administrator" in found["credential"].what
    exec_ = next(path for _, path, _ in fake.calls if path.startswith("/k8s/"))
    assert "/pods/-/exec" in exec_, "no pod may have that name"


async def test_a_name_that_does_not_resolve(ca: trustme.CA) -> None:
    found = await _examine(_login("https://hub.invalid", ca))
    _failed(found, "dns", "dns-unresolved", "riata login --hub")
    _nothing_behind(found, "dns")


async def test_nobody_listens(ca: trustme.CA) -> None:
    found = await _examine(_login(f"https://127.0.0.1:{_free()}", ca))
    _failed(found, "tcp", "tcp-refused", "Check that the hub runs")
    _nothing_behind(found, "tcp")


async def test_a_dead_proxy(ca: trustme.CA) -> None:
    found = await _examine(_login("https://hub.test", ca), HTTPS_PROXY=f"http://u:s3cret@127.0.0.1:{_free()}")
    assert "s3cret" not in _failed(found, "proxy", "proxy-unreachable", "NO_PROXY").what
    _nothing_behind(found, "proxy")


async def test_a_proxy_that_refuses(ca: trustme.CA) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"CONNECT" in await reader.read(1024):  # one comes only to see whether anybody listens
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await _examine(_login("https://hub.test", ca), HTTPS_PROXY=proxy)
    assert "403" in _failed(found, "proxy", "proxy-refused", "CONNECT").what


async def test_a_proxy_that_dies_of_the_request(ca: trustme.CA) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.transport.abort()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    async with server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await _examine(_login("https://hub.test", ca), HTTPS_PROXY=proxy)
    assert "broke off the way to hub.test:443" in _failed(found, "proxy", "proxy-refused", "HTTPS_PROXY").what


async def test_a_variable_that_names_no_proxy(ca: trustme.CA) -> None:
    found = await _examine(_login("https://hub.test", ca), HTTPS_PROXY="socks5://127.0.0.1:1")
    assert "HTTPS_PROXY" in _failed(found, "proxy", "proxy-not-http", "").what


async def test_another_ca(fake: FakeHub, ca: trustme.CA) -> None:
    server = await _serve(fake, trustme.CA().issue_cert("127.0.0.1"))
    found = await _examine(_login(f"https://127.0.0.1:{server.port}", ca))
    await server.close()
    assert "the CA of this login" in _failed(found, "pin", "pin-other-ca", "--ca-file FILE").what
    _nothing_behind(found, "pin")
    assert fake.calls == [], "no token went to it"


async def test_an_expired_certificate_and_one_of_another_name(fake: FakeHub, ca: trustme.CA) -> None:
    for certificate, cause in (
        (ca.issue_cert("127.0.0.1", not_after=YESTERDAY), "tls-dates"),
        (ca.issue_cert("hub.test"), "tls-name"),
    ):
        server = await _serve(fake, certificate)
        found = await _examine(_login(f"https://127.0.0.1:{server.port}", ca))
        await server.close()
        _failed(found, "tls", cause, "hub")
        _nothing_behind(found, "tls")


async def test_no_tls_there(hub: str, ca: trustme.CA) -> None:
    found = await _examine(_login(hub.replace("http:", "https:"), ca))
    _failed(found, "tls", "tls-none", "https")


async def test_a_ca_that_is_not_of_its_pin(fake: FakeHub, ca: trustme.CA) -> None:
    server = await _serve(fake, ca.issue_cert("127.0.0.1"))
    found = await _examine(_login(f"https://127.0.0.1:{server.port}", ca, pin="sha256:" + "0" * 64))
    await server.close()
    _failed(found, "pin", "pin-no-ca", "riata-hub init")


def _plain(hub: str, token: str = ADMIN) -> logins.Login:
    return logins.Login(hub=hub, token=token)


async def test_another_program(hub: str, fake: FakeHub) -> None:
    fake.answer = web.Response(text="<html>hello")
    found = await _examine(_plain(hub))
    _failed(found, "http", "api-strange", "another program")
    _nothing_behind(found, "http")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [(web.Response(status=302, headers={"Location": "/x"}), "http-redirect"), (web.Response(status=503), "http-busy")],
)
async def test_other_answers(hub: str, fake: FakeHub, answer: web.Response, cause: str) -> None:
    fake.answer = answer
    _failed(await _examine(_plain(hub)), "http", cause, "")


async def test_a_token_that_the_hub_does_not_know(hub: str, fake: FakeHub) -> None:
    found = await _examine(_plain(hub, "riata_other"))
    _failed(found, "credential", "token-refused", "riata tokens create")
    assert found["websocket"].level is not Level.NOT_RUN


@pytest.mark.parametrize("code", [429, 503, 504])
async def test_a_busy_hub_is_no_other_program(hub: str, fake: FakeHub, code: int) -> None:
    fake.who = code
    busy = _failed(await _examine(_plain(hub)), "credential", "http-busy", "passes by itself")
    assert str(code) in busy.what


@pytest.mark.parametrize(("path", "check"), [("/version", "http"), ("/v1/whoami", "credential")])
async def test_a_hub_that_takes_a_question_and_does_not_answer(
    hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch, path: str, check: str
) -> None:
    """A firewall was blamed, and with it the connection that stood."""
    monkeypatch.setattr(client, "TIMEOUT", aiohttp.ClientTimeout(sock_read=0.1))
    fake.silent[path] = asyncio.Event()
    found = await _examine(_plain(hub))
    fake.silent[path].set()
    assert path in _failed(found, check, "http-silent", "the hub's log").what
    assert found["tcp"].level is Level.OK
    _nothing_behind(found, check)


async def test_a_hub_that_does_not_answer_the_tls_handshake(ca: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel takes connections while its process is stuck."""
    monkeypatch.setattr(client, "TIMEOUT", aiohttp.ClientTimeout(connect=0.1))
    with socket.socket() as stuck:
        stuck.bind(("127.0.0.1", 0))
        stuck.listen()
        found = await _examine(_login(f"https://127.0.0.1:{stuck.getsockname()[1]}", ca))
    assert "TLS handshake" in _failed(found, "tls", "http-silent", "the hub's log").what
    assert found["tcp"].level is Level.OK
    _nothing_behind(found, "tls")


async def test_a_token_that_ends_soon(hub: str, fake: FakeHub) -> None:
    fake.ends = datetime.datetime.fromtimestamp(NOW + 600, datetime.UTC).isoformat()
    assert (await _examine(_plain(hub)))["credential"].cause == "token-ends"
    fake.ends = datetime.datetime.fromtimestamp(NOW + 10**6, datetime.UTC).isoformat()
    assert (await _examine(_plain(hub)))["credential"].level is Level.OK


async def test_who_is_no_administrator_cannot_make_a_token_that_lives_on(hub: str, fake: FakeHub) -> None:
    fake.ends = datetime.datetime.fromtimestamp(NOW + 600, datetime.UTC).isoformat()
    fake.is_admins = False
    finding = (await _examine(_plain(hub)))["credential"]
    assert (finding.level, finding.cause) == (Level.WARN, "token-ends-user")
    assert "administrator: riata tokens create NAME --user admin --group ops --expires-in 30d, and" in finding.cure
    fake.scope = ["a"]
    assert "--cluster CLUSTER" in (await _examine(_plain(hub)))["credential"].cure


@pytest.mark.parametrize(("skew", "cause"), [(-3600, "clock-wrong"), (300, "clock-wrong"), (40, "clock-off"), (2, "")])
async def test_a_clock_that_is_off(hub: str, fake: FakeHub, skew: float, cause: str) -> None:
    fake.date = NOW + skew
    finding = (await _examine(_plain(hub)))["clock"]
    assert finding.cause == cause
    assert ("behind" if skew > 0 else "ahead of") in finding.what or not cause


@pytest.mark.parametrize(
    ("version", "cause"), [("0.1.9", ""), ("0.2.0", ""), ("0.3.0", "version-apart"), ("1.0", "version-apart")]
)
async def test_versions(hub: str, fake: FakeHub, version: str, cause: str) -> None:
    fake.version = version
    assert (await _examine(_plain(hub)))["version"].cause == cause


async def test_something_takes_the_upgrade_away(hub: str, fake: FakeHub) -> None:
    fake.strips = True
    _failed(await _examine(_plain(hub)), "websocket", "websocket-stripped", "proxy_http_version")


async def test_another_sub_protocol(hub: str, fake: FakeHub) -> None:
    fake.subprotocols = ()
    _failed(await _examine(_plain(hub)), "websocket", "websocket-other", "another generation")


async def test_paths_below_k8s_lead_elsewhere(hub: str, fake: FakeHub) -> None:
    fake.kubernetes = web.Response(status=404, text="<html>not found")
    assert "404" in _failed(await _examine(_plain(hub)), "websocket", "websocket-k8s", "Upgrade").what


async def test_what_the_hub_says_does_not_drive_the_terminal(hub: str, fake: FakeHub, home: pathlib.Path) -> None:
    fake.version = "9.0\x1b[31m"
    assert "\x1b" not in (await _examine(_plain(hub)))["version"].what
