"""What a proof names of the connection it is for: the CA in which the hub's verified chain ends."""

import ssl

import pytest

from agent.uplink.wsclient import open_transport, root_pin
from proto.pins import pins_of_pem
from tests.agent.apiserver import Pki
from tests.agent.uplink.hub import settings, websocket_hub


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


async def test_a_proof_names_the_ca_in_which_the_chain_ends(pki, tmp_path):
    other = Pki(tmp_path, "other")
    both = other.ca_file.read_text() + pki.ca_file.read_text()
    context = ssl.create_default_context(cadata=both)
    async with websocket_hub(pki, lambda connection: connection.wait_closed()) as port:
        transport = await open_transport(settings(pki, port, tmp_path), context, None)
        assert [root_pin(transport.tls)] == pins_of_pem(pki.ca_file.read_bytes())
        transport.abort()


def test_what_is_no_tls_has_no_root():
    assert root_pin(None) == ""
    context = ssl.create_default_context()
    assert root_pin(context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="x")) == ""
