"""Each fault between agent and hub is found by its check, with its cure; what lies behind it is not run."""

import datetime
import http
import socket

import pytest

from agent.doctor import way
from agent.hubca import CaFile, HubCa
from agent.uplink.credentials import AgentTokenFile
from proto.causes import Level
from proto.errors import Code
from tests.agent.apiserver import Pki, serving
from tests.agent.doctor.hub import NOW, Hub, whole
from tests.agent.uplink.renewed import RenewedCa

ORDER = ["proxy", "dns", "tcp", "tls", "pin", "http", "websocket", "session", "clock", "credential"]


async def examine(settings):
    found = await way.examine(settings, AgentTokenFile(settings.hub.token_file), NOW)
    assert [finding.check for finding in found] == ORDER
    return {finding.check: finding for finding in found}


def failed(found, check, cause, cure):
    """The one failure, with everything behind it not run and everything before it good."""
    finding = found[check]
    assert (finding.level, finding.cause) == (Level.FAIL, cause)
    assert cure in finding.cure
    for before in ORDER[: ORDER.index(check)]:
        assert found[before].level is not Level.FAIL, found[before]
    for behind in ORDER[ORDER.index(check) + 1 :]:
        if behind != "clock":
            assert found[behind].level is Level.NOT_RUN
            assert check in found[behind].what
    return finding


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def test_a_hub_that_is_well(tmp_path):
    pki, hub = Pki(tmp_path), Hub()
    async with hub.listening(pki) as port:
        found = await examine(whole(pki, port, tmp_path))
    assert {finding.level for finding in found.values()} == {Level.OK}, found
    assert "127.0.0.1" in found["dns"].what
    assert "TLSv1.3" in found["tls"].what
    assert "sha256:" in found["pin"].what
    assert "hub-1" in found["session"].what
    assert found["credential"].what == "the hub takes it for cluster alpha"
    (auth,) = hub.seen
    assert auth.ext["trial"] is True, "the pod's own session must not be superseded, nor another one be made"


async def test_what_the_agent_has_learnt_of_the_hubs_ca_holds_here_too(tmp_path):
    """The settings name the CA of before its replacement, and the agent is well."""
    pki, before, hub = Pki(tmp_path), Pki(tmp_path, "before"), Hub()
    store = CaFile(tmp_path / "agent.key")
    async with hub.listening(pki) as port:
        given = whole(before, port, tmp_path)
        credential = AgentTokenFile(given.hub.token_file)
        await store.save(HubCa(given.hub.ca_pins, pki.ca_file.read_text()))
        found = {each.check: each for each in await way.examine(given, credential, NOW, store)}
        assert found["pin"].level is Level.OK
        assert found["credential"].level is Level.OK
        (tmp_path / "agent.key.hub-ca").write_text("{")  # what cannot be read is as if it were not there
        found = {each.check: each for each in await way.examine(given, credential, NOW, store)}
        assert found["pin"].level is not Level.OK or found["tls"].level is not Level.OK


async def test_a_ca_that_was_renewed_with_its_key_is_asked_for_as_the_agent_does(tmp_path):
    """Its certificate in the manifest has ended, and the agent is connected."""
    pki, ca, file = Pki(tmp_path), RenewedCa(tmp_path), tmp_path / "ended.crt"
    file.write_bytes(ca.ended)
    async with Hub(ca=ca.renewed).listening(ca) as port:
        found = await examine(whole(pki, port, tmp_path, ca_file=file, ca_pins=(ca.pin,)))
    assert {finding.level for finding in found.values()} == {Level.OK}, found
    assert ca.pin in found["pin"].what
    async with Hub(ca=pki.ca_file.read_bytes()).listening(ca) as port:
        found = await examine(whole(pki, port, tmp_path, ca_file=file, ca_pins=(ca.pin,)))
    assert Level.FAIL in {found["tls"].level, found["pin"].level}


async def test_a_name_that_does_not_resolve(tmp_path):
    found = await examine(whole(Pki(tmp_path), 443, tmp_path, url="https://hub.invalid"))
    failed(found, "dns", "dns-unresolved", "resolv.conf")


async def test_a_port_where_nobody_listens(tmp_path):
    found = await examine(whole(Pki(tmp_path), free_port(), tmp_path))
    failed(found, "tcp", "tcp-refused", "right port")


async def test_a_dead_proxy(tmp_path):
    proxies = {"https_proxy": f"http://user:s3cret@127.0.0.1:{free_port()}"}
    found = await examine(whole(Pki(tmp_path), 443, tmp_path, url="https://hub.test", proxies=proxies))
    finding = failed(found, "proxy", "proxy-unreachable", "HTTPS_PROXY")
    assert "s3cret" not in finding.what


async def test_a_proxy_that_refuses(tmp_path):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(refuse) as port:
        proxies = {"https_proxy": f"http://127.0.0.1:{port}"}
        found = await examine(whole(Pki(tmp_path), 443, tmp_path, url="https://hub.test", proxies=proxies))
    assert "407" in failed(found, "proxy", "proxy-refused", "CONNECT").what


async def test_a_variable_that_names_no_proxy(tmp_path):
    found = await examine(
        whole(Pki(tmp_path), 443, tmp_path, url="https://hub.test", proxies={"https_proxy": "ftp://x/y/z"})
    )
    failed(found, "proxy", "proxy-unusable", "socks5://")


async def test_no_proxy_is_named(tmp_path):
    proxies = {"https_proxy": "http://127.0.0.1:1", "no_proxy": "localhost"}
    found = await examine(whole(Pki(tmp_path), free_port(), tmp_path, proxies=proxies))
    assert "NO_PROXY" in found["proxy"].what


async def test_no_tls_there(tmp_path):
    async def plain(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(plain) as port:
        failed(await examine(whole(Pki(tmp_path), port, tmp_path)), "tls", "tls-none", "https")


async def test_an_expired_certificate(tmp_path):
    pki = Pki(tmp_path)
    pki.leaf = pki.ca.issue_cert(
        "localhost", not_after=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    )
    async with Hub().listening(pki) as port:
        finding = failed(await examine(whole(pki, port, tmp_path)), "tls", "tls-dates", "clock")
    assert "has expired" in finding.what


async def test_a_certificate_for_another_name(tmp_path):
    pki = Pki(tmp_path)
    pki.leaf = pki.ca.issue_cert("elsewhere.test")
    async with Hub().listening(pki) as port:
        finding = failed(await examine(whole(pki, port, tmp_path)), "tls", "tls-name", "--public-url")
    assert "elsewhere.test" in finding.what


async def test_another_ca(tmp_path):
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    other.leaf = other.ca.issue_cert("localhost")
    async with Hub().listening(other) as port:
        hub = whole(pki, port, tmp_path)
        finding = failed(await examine(hub), "pin", "pin-other-ca", "somebody is in between")
    assert "trustme" in finding.what, "it says what certificate it met"


async def test_a_ca_file_without_the_pin(tmp_path):
    pki = Pki(tmp_path)
    async with Hub().listening(pki) as port:
        found = await examine(whole(pki, port, tmp_path, ca_pins=("sha256:" + "0" * 64,)))
    assert "another hub" in failed(found, "pin", "pin-no-ca", "riata-hub init").what
    assert "localhost" in found["tls"].what


async def test_a_proxy_that_takes_the_upgrade_away(tmp_path):
    pki = Pki(tmp_path)
    async with Hub(strips=True).listening(pki) as port:
        found = await examine(whole(pki, port, tmp_path))
    failed(found, "websocket", "websocket-stripped", "proxy_http_version")
    assert found["clock"].level is Level.OK


@pytest.mark.parametrize(
    ("status", "check", "cause"),
    [
        (http.HTTPStatus.NOT_FOUND, "http", "http-no-hub"),
        (http.HTTPStatus.SERVICE_UNAVAILABLE, "http", "http-busy"),
        (http.HTTPStatus.INTERNAL_SERVER_ERROR, "http", "http-other"),
    ],
)
async def test_other_answers(tmp_path, status, check, cause):
    pki = Pki(tmp_path)
    async with Hub(status=status).listening(pki) as port:
        failed(await examine(whole(pki, port, tmp_path)), check, cause, "")


async def test_while_there_is_no_ca_nothing_is_called_verified(tmp_path):
    async def no_http(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-x\r\n\r\n")
        await writer.drain()

    pki = Pki(tmp_path)
    async with serving(no_http, pki.server_context()) as port:
        found = await examine(whole(pki, port, tmp_path, ca_file=None))
    failed(found, "http", "http-broken", "--hub-url")
    assert (found["tls"].level, "not verified" in found["tls"].what) == (Level.OK, True)
    assert found["pin"].level is Level.NOT_RUN


async def test_another_program(tmp_path):
    pki = Pki(tmp_path)
    async with Hub().listening(pki, subprotocols=()) as port:
        failed(await examine(whole(pki, port, tmp_path)), "websocket", "websocket-other", "--hub-url")


@pytest.mark.parametrize(
    ("code", "cause", "cure"),
    [
        (Code.UNAUTHENTICATED, "credential-refused", "riata join-tokens create"),
        (Code.REVOKED, "credential-revoked", "riata join-tokens create"),
    ],
)
async def test_a_credential_that_the_hub_refuses(tmp_path, code, cause, cure):
    pki = Pki(tmp_path)
    async with Hub(refuse=code).listening(pki) as port:
        found = await examine(whole(pki, port, tmp_path))
    failed(found, "credential", cause, cure)
    assert "hub-1" in found["session"].what


async def test_a_hub_that_refuses_the_session(tmp_path):
    pki = Pki(tmp_path)
    async with Hub(refuse=Code.OVERLOADED).listening(pki) as port:
        failed(await examine(whole(pki, port, tmp_path)), "session", "session-refused", "pass")


async def test_a_hub_of_the_version_before_is_told_nothing(tmp_path):
    """It would take the trial for a session, and send requests there."""
    pki, hub = Pki(tmp_path), Hub(tries=False)
    async with hub.listening(pki) as port:
        found = await examine(whole(pki, port, tmp_path))
    assert (found["credential"].level, found["credential"].cause) == (Level.WARN, "credential-untried")
    assert hub.seen == []
    assert {found[check].level for check in ORDER[:-1]} == {Level.OK}


class Broken:
    """A credential with an error that nobody foresaw."""

    async def prepare(self):
        raise LookupError("with a s3cret")


async def test_what_nobody_foresaw_is_a_finding(tmp_path, caplog):
    """Nothing is said of TLS then, nor of what is behind it: how far the attempt came is not known."""
    pki = Pki(tmp_path)
    async with Hub().listening(pki) as port:
        found = {each.check: each for each in await way.examine(whole(pki, port, tmp_path), Broken(), NOW)}
    assert "LookupError" in failed(found, "tls", "attempt-broken", "report").what
    assert "s3cret" not in found["tls"].what
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


async def test_no_token_hides_nothing_else(tmp_path):
    pki = Pki(tmp_path)
    async with Hub().listening(pki) as port:
        settings = whole(pki, port, tmp_path, token_file=tmp_path / "none")
        failed(await examine(settings), "credential", "credential-no-token", "riata agent-tokens create")


@pytest.mark.parametrize(
    ("skew", "cause", "level"),
    [
        (-600, "clock-wrong", Level.FAIL),
        (3600, "clock-wrong", Level.FAIL),
        (60, "clock-off", Level.WARN),
        (3, "", Level.OK),
    ],
)
async def test_a_clock_that_is_off(tmp_path, skew, cause, level):
    pki = Pki(tmp_path)
    async with Hub(date=NOW + skew).listening(pki) as port:
        finding = (await examine(whole(pki, port, tmp_path)))["clock"]
    assert (finding.cause, finding.level) == (cause, level)
    if cause:
        assert ("behind" if skew > 0 else "ahead of") in finding.what


async def test_a_proxy_that_takes_the_date_away(tmp_path):
    pki = Pki(tmp_path)
    async with Hub(date=None).listening(pki) as port:
        assert (await examine(whole(pki, port, tmp_path)))["clock"].cause == "clock-unknown"
