"""A CA that is renewed with its key: the pin is the same, and the certificate that the agent holds ends one day."""

import asyncio
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.hubca import HubCa
from agent.uplink.trust import HubTrust
from proto.pins import pins_of_pem
from tests.agent.apiserver import Pki, serving
from tests.agent.uplink.hub import settings

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])


class RenewedCa:
    """Its certificate ended yesterday; the next one, of the same key, is good. The hub's own is of today."""

    def __init__(self, directory):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.ended, self.renewed = (self._ca(since, until) for since, until in ((-9, -1), (-2, 9)))
        self.pin = pins_of_pem(self.ended)[0]
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        leaf = self._builder(subject, key, -1, 9).add_extension(names, critical=False)
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        leaf = leaf.add_extension(ours, critical=False).sign(self.key, hashes.SHA256())
        self.pair = directory / "pair.pem"
        self.pair.write_bytes(pem(leaf) + private(key))

    def _builder(self, subject, key, since, until):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(NAME)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=since))
            .not_valid_after(now + datetime.timedelta(days=until))
        )

    def _ca(self, since, until):
        own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = self._builder(NAME, self.key, since, until).add_extension(own, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        return pem(builder.add_extension(usage, critical=True).sign(self.key, hashes.SHA256()))

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair)
        return context


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def private(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


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
