"""A CA that is renewed with its key: the pin is the same, and the certificate that the agent holds ends one day."""

import asyncio
import ssl

import pytest

from agent.hubca import HubCa
from agent.uplink.trust import HubTrust
from tests.agent.apiserver import Pki, serving
from tests.agent.uplink.hub import settings
from tests.agent.uplink.renewed import RenewedCa


class Learnt:
    """The CAs that an earlier process was told of."""

    def __init__(self, given, ca):
        self.known = HubCa(given.ca_pins, ca.decode())

    async def load(self):
        return self.known

    async def save(self, known):
        self.known = known


@pytest.fixture
def ca(tmp_path):
    return RenewedCa(tmp_path)


@pytest.fixture
def other(tmp_path):
    return Pki(tmp_path, "other")


def trust_by(way, ca, other, tmp_path, answer):
    async def fetch(*_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    file = tmp_path / "hub-ca.crt"
    if way == "file":
        file.write_bytes(ca.ended)
        return HubTrust(settings(other, 1, tmp_path, ca_file=file, ca_pins=(ca.pin,)), fetch_ca=fetch)
    given = settings(other, 1, tmp_path)
    return HubTrust(given, fetch_ca=fetch, store=Learnt(given, ca.ended))


async def is_verified(ca, context):
    async def hub(reader, writer):
        writer.write(b"!")
        await reader.read()

    async with serving(hub, ca.server_context()) as port:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        except ssl.SSLCertVerificationError:
            return False
        assert await reader.readexactly(1) == b"!"
        writer.transport.abort()
        return True


@pytest.mark.parametrize("way", ["file", "learnt"])
async def test_once_the_one_at_hand_has_ended_the_hub_is_asked_for_the_next(ca, other, tmp_path, way):
    trust = trust_by(way, ca, other, tmp_path, other.ca_file.read_bytes() + ca.renewed)
    assert not await is_verified(ca, await trust.context(None))
    trust.doubt()
    context = await trust.context(None)
    assert await is_verified(ca, context)
    assert await trust.context(None) is context
    assert trust.pins == (ca.pin,)
    assert len(context.get_ca_certs()) == 2  # of the one key: what has another one is not kept


@pytest.mark.parametrize("answer", [b"", b"no pem", OSError("refused"), "other"])
@pytest.mark.parametrize("way", ["file", "learnt"])
async def test_a_hub_that_has_nothing_better_changes_nothing(ca, other, tmp_path, way, answer):
    trust = trust_by(way, ca, other, tmp_path, other.ca_file.read_bytes() if answer == "other" else answer)
    trust.doubt()
    assert len((await trust.context(None)).get_ca_certs()) == 1
    assert trust.pins == (ca.pin,)
