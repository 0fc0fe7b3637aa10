"""Trust: pins, the CA file, and the CA that is fetched without trusting anything (design P8, facts/security.md H3)."""

import shutil

import pytest

from agent.uplink.diagnose import ConnectFailed, Step
from agent.uplink.proxies import Proxy
from agent.uplink.trust import HubTrust
from proto.pins import pins_of_pem
from tests.agent.apiserver import Pki, api_server
from tests.agent.uplink.hub import settings


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


@pytest.fixture
def other(tmp_path):
    return Pki(tmp_path, "other")


def pins(pki):
    return tuple(pins_of_pem(pki.ca_file.read_bytes()))


def roots(context):
    return len(context.get_ca_certs())


async def test_only_pinned_cas_are_trusted(pki, other, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(other.ca_file.read_bytes() + pki.ca_file.read_bytes())
    trust = HubTrust(settings(pki, 1, tmp_path, ca_file=bundle))
    context = await trust.context(None)
    assert roots(context) == 1
    assert context.get_ca_certs(binary_form=True) == (
        await HubTrust(settings(pki, 1, tmp_path)).context(None)
    ).get_ca_certs(binary_form=True)


async def test_two_pins_during_rotation(pki, other, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(other.ca_file.read_bytes() + pki.ca_file.read_bytes())
    trust = HubTrust(settings(pki, 1, tmp_path, ca_file=bundle, ca_pins=pins(pki) + pins(other)))
    assert roots(await trust.context(None)) == 2


async def test_verification_is_always_on(pki, tmp_path):
    context = await HubTrust(settings(pki, 1, tmp_path, allow_legacy_ca=True)).context(None)
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"


async def test_a_ca_file_that_the_pin_does_not_match_is_named_until_it_does(pki, other, tmp_path):
    """The agent stays up: a mounted file is often mended while the process runs."""
    live = tmp_path / "live.pem"
    shutil.copy(other.ca_file, live)
    trust = HubTrust(settings(pki, 1, tmp_path, ca_file=live))
    with pytest.raises(ConnectFailed, match=r"--hub-ca-file .* holds no CA with the pin") as caught:
        await trust.context(None)
    assert caught.value.diagnosis.step is Step.PIN
    shutil.copy(pki.ca_file, live)
    assert roots(await trust.context(None)) == 1


@pytest.mark.parametrize("content", [b"", b"no pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_a_broken_ca_file_is_named(pki, tmp_path, content):
    broken = tmp_path / "broken"
    broken.write_bytes(content)
    for file in (broken, tmp_path / "missing"):
        with pytest.raises(ConnectFailed, match="--hub-ca-file"):
            await HubTrust(settings(pki, 1, tmp_path, ca_file=file)).context(None)


async def test_the_ca_file_is_followed(pki, other, tmp_path):
    live = tmp_path / "live.pem"
    shutil.copy(pki.ca_file, live)
    trust = HubTrust(settings(pki, 1, tmp_path, ca_file=live, ca_pins=pins(pki) + pins(other)))
    first = await trust.context(None)
    assert await trust.context(None) is first
    shutil.copy(other.ca_file, live)
    second = await trust.context(None)
    assert second is not first
    live.unlink()
    with pytest.raises(ConnectFailed) as caught:
        await trust.context(None)
    assert caught.value.diagnosis.step is Step.PIN


async def test_the_ca_is_fetched_without_a_credential_and_only_pinned_ones_are_kept(pki, other, tmp_path):
    body = other.ca_file.read_bytes() + pki.ca_file.read_bytes()

    async def script(head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with api_server(pki, script) as (server, port):
        trust = HubTrust(settings(pki, port, tmp_path, ca_file=None, url=f"https://localhost:{port}/hubs/one/"))
        context = await trust.context(None)
        assert roots(context) == 1
        assert await trust.context(None) is context
        assert server.connections == 1
        assert server.heads[0].startswith(b"GET /hubs/one/v1/ca HTTP/1.1\r\n")
        for word in (b"authorization", b"cookie", b"riataagent"):
            assert word not in server.heads[0].lower()
        trust.doubt()
        assert await trust.context(None) is not context
        assert server.connections == 2


async def test_a_hub_that_shows_another_ca_is_not_trusted(pki, other, tmp_path):
    async def script(head, reader, writer):
        body = other.ca_file.read_bytes()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with api_server(other, script) as (_, port):
        with pytest.raises(ConnectFailed) as caught:
            await HubTrust(settings(pki, port, tmp_path, ca_file=None)).context(None)
        assert caught.value.diagnosis.step is Step.PIN
        assert caught.value.diagnosis.is_slow


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"SSH-2.0-x\r\n\r\n", "not HTTP/1.1"), (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello", "ended early")],
)
async def test_an_answer_that_is_none_is_told_as_one(pki, tmp_path, answer, words):
    """The hub's address was reached: there is nothing to look for at the route to it."""

    async def script(head, reader, writer):
        writer.write(answer)
        writer.close()

    async with api_server(pki, script) as (_, port):
        with pytest.raises(ConnectFailed, match=words) as caught:
            await HubTrust(settings(pki, port, tmp_path, ca_file=None)).context(None)
    assert (caught.value.diagnosis.step, caught.value.diagnosis.cause) == (Step.HTTP, "http-broken")


async def test_a_proxy_through_which_no_ca_can_be_fetched_is_told_with_its_cure(pki, tmp_path):
    proxy = Proxy("https://u:s3cret@p.test:1", "https", "https://p.test:1")
    with pytest.raises(ConnectFailed) as caught:
        await HubTrust(settings(pki, 1, tmp_path, ca_file=None)).context(proxy)
    diagnosis = caught.value.diagnosis
    assert (diagnosis.step, diagnosis.cause, "--hub-ca-file" in diagnosis.cure) == (Step.PROXY, "proxy-unfit", True)
    assert "https://p.test:1" in diagnosis.what


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900000,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_other_answers_to_the_request_for_the_ca(pki, tmp_path, answer):
    async def script(head, reader, writer):
        writer.write(answer)
        writer.close()

    async with api_server(pki, script) as (_, port):
        with pytest.raises(ConnectFailed):
            await HubTrust(settings(pki, port, tmp_path, ca_file=None)).context(None)
