"""A CA that is renewed with its key, and a hub's certificate of it."""

import datetime
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proto.pins import pins_of_pem

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
