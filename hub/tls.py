"""TLS of the hub: its own CA and leaf, or files of the operator, and the server context that is reloaded in place.

The self-made CA passes OpenSSL's strict mode (VERIFY_X509_STRICT, default from Python 3.13 on): SKI, AKI, critical
BasicConstraints and KeyUsage (RFC 5280 §4.2). Keys are P-256, files are 0600.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import logging
import os
import re
import secrets
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub import ownership
from proto.aio.tls import RecordReads

logger = logging.getLogger(__name__)

DIRECTORY: Final = "tls"
CA_CERT: Final = "ca.crt"
CA_KEY: Final = "ca.key"
LEAF_CERT: Final = "hub.crt"
LEAF_KEY: Final = "hub.key"

CA_LIFETIME: Final = datetime.timedelta(days=3650)
LEAF_LIFETIME: Final = datetime.timedelta(days=365)
LEAF_RENEWAL: Final = datetime.timedelta(days=60)
"""A leaf with less than this left is made anew, at start and once a day."""
_BACKDATE: Final = datetime.timedelta(hours=1)
"""Clocks of agents may be behind ours."""
_CA_NAME: Final = "riata hub {} CA"


class TlsError(Exception):
    """Certificates or keys cannot be used. The text names the file and the cure."""


@dataclasses.dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the server context is loaded from. `ca` is what clients need to trust; None if only the operator knows.
    `more`: files of other CAs that clients may know the hub by, where they are there (hub.carotation)."""

    certificate: Path
    key: Path
    ca: Path | None
    more: tuple[Path, ...] = ()
    host: str = ""
    """Name or address that the certificate has to cover; empty: any is good."""


def make_ca(directory: Path, hub_id: str, now: datetime.datetime) -> None:
    """Make the CA of this hub in `directory` (0700). Raises FileExistsError when there is one: it is never replaced."""
    ownership.make_directory(directory)
    if (directory / CA_CERT).exists():
        raise FileExistsError(directory / CA_CERT)
    key, made = new_ca(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _CA_NAME.format(hub_id))]), now)
    (directory / CA_KEY).unlink(missing_ok=True)  # of an attempt that ended between the two; it has signed nothing
    write_private(directory / CA_KEY, key_pem(key), is_new=True)
    write_private(directory / CA_CERT, made.public_bytes(Encoding.PEM), is_new=True)


def hub_of(certificate: bytes) -> str:
    """Id of the hub for which a CA (PEM) was made, a rotation keeps it; empty for one of other making. Raises
    ValueError."""
    for each in x509.load_pem_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if found := re.fullmatch(_CA_NAME.format("(.+)"), str(each.value)):
            return found[1]
    return ""


def new_ca(subject: x509.Name, now: datetime.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A key, and the certificate that it signs for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, ca_certificate(subject, None, key.public_key(), now, CA_LIFETIME).sign(key, hashes.SHA256())


def ca_certificate(
    subject: x509.Name,
    issuer: x509.Certificate | None,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    """A CA's certificate, ready to be signed by `issuer`, None by itself. One more CA may stand below it: its successor
    while that takes over (hub.carotation)."""
    builder = _builder(subject, issuer.subject if issuer else subject, key, now, lifetime)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    own = x509.SubjectKeyIdentifier.from_public_key(key)
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value if issuer else own
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)


def ensure_leaf(directory: Path, hosts: Iterable[str], now: datetime.datetime, chain: bytes = b"") -> bool:
    """Make the leaf if it is absent, near its end, of another CA, lacks one of `hosts`, or is followed by another
    chain than this (PEM). True if it was made.

    The CA itself is no part of it: who verifies has it (RFC 8446 §4.4.2), and Go's clients try it once more as an
    intermediate one, a twelfth of what an exec costs kubectl's end. A host is a DNS name or an IP address. Raises
    TlsError when the CA's files are unusable.
    """
    ca, ca_key = load_ca(directory)
    wanted = sorted(set(hosts))
    if _is_good_leaf(directory, ca, wanted, now, chain):
        return False
    require_valid(directory, ca, now)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "riata hub")])
    lifetime = min(LEAF_LIFETIME, ca.not_valid_after_utc - now)
    builder = _builder(subject, ca.subject, key.public_key(), now, lifetime)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_name(host) for host in wanted]), critical=False)
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    builder = builder.add_extension(issuer, critical=False)
    leaf = builder.sign(ca_key, hashes.SHA256())
    write_private(directory / LEAF_KEY, key_pem(key))
    write_private(directory / LEAF_CERT, leaf.public_bytes(Encoding.PEM) + chain)
    logger.info("hub certificate made", extra={"hosts": wanted, "valid_until": leaf.not_valid_after_utc.isoformat()})
    return True


def require_valid(directory: Path, ca: x509.Certificate, now: datetime.datetime) -> None:
    """Raises TlsError for a CA that has ended."""
    if ca.not_valid_after_utc <= now:
        raise TlsError(
            f"{directory / CA_CERT}: ended at {ca.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, and nobody accepts what it"
            " signs: set this machine's clock right, or use certificates of your own (tls_cert, tls_key, tls_ca)"
        )


class ServerContext:
    """The listener's SSLContext. `reload()` swaps the certificate for new connections; old ones live on."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises TlsError."""
        self.files = files
        self.context = _new_context()
        self.on_reload: Callable[[str], None] = lambda result: None
        """Hears of replaced files: 'taken' or 'refused'."""
        self.ends_at = 0.0
        """End of the certificate that is served, in seconds since the epoch."""
        self._stamp: tuple[tuple[int, ...], ...] = ()
        self._absent = 0
        """Looks in a row at which a file was not there."""
        self._said: tuple[tuple[tuple[int, ...], ...], str] | None = None
        """Stamp of the files that were refused last, and why, as long as they are."""
        self.reload()

    def reload(self) -> None:
        """Load the files. They are tried in a scratch context first: a mismatched pair would leave the live context
        broken for every new handshake (facts/dependencies.md trap 18). Raises TlsError, and changes nothing then."""
        stamp = self._stamps()
        _load(_new_context(), self.files)
        leaf = _check(self.files, datetime.datetime.now(datetime.UTC))
        _load(self.context, self.files)
        self.ends_at = leaf.not_valid_after_utc.timestamp()
        self._stamp = stamp

    def reload_if_changed(self, *, is_asked: bool = False) -> bool:
        """Reload when the files are not those in use, or when somebody asks. True if so.

        Files that cannot be used are tried at each look, since the cause may pass without a change of theirs (a clock
        that was behind, no descriptors); it is said once, and to who asks.
        """
        if is_asked:
            self._said = None
        try:
            stamp = self._stamps()
        except TlsError as exc:
            self._absent += 1
            if self._absent > 1 or is_asked:  # else it may be in the middle of a replacement
                is_gone = isinstance(exc.__cause__, FileNotFoundError)
                self._refuse((), f"{exc}; put it back, the hub does not start without it" if is_gone else str(exc))
            return False
        self._absent = 0
        if stamp == self._stamp and not is_asked:
            self._said = None
            return False
        try:
            self.reload()
        except TlsError as exc:
            self._refuse(stamp, str(exc))
            return False
        self._said = None
        logger.info("hub certificate reloaded")
        self.on_reload("taken")
        return True

    def _refuse(self, stamp: tuple[tuple[int, ...], ...], reason: str) -> None:
        if self._said == (stamp, reason):
            return
        self._said = stamp, reason
        logger.error("new certificate refused, the old one stays", extra={"reason": reason})
        self.on_reload("refused")

    def _stamps(self) -> tuple[tuple[int, ...], ...]:
        """Changed too when a file that could not be read can be."""
        try:
            states = [path.stat() for path in (self.files.certificate, self.files.key)]
        except PermissionError as exc:
            raise TlsError(f"{exc.filename}: {ownership.closed(Path(exc.filename))}") from exc
        except OSError as exc:
            raise TlsError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
        return tuple((each.st_mtime_ns, each.st_ino, each.st_uid, each.st_gid, each.st_mode) for each in states)


def ca_stamp(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    """Time of change in nanoseconds, file and size of what `read_ca` reads. Raises OSError."""
    if files.ca is None:
        return ()
    found = [files.ca.stat()]
    for path in files.more:
        with contextlib.suppress(FileNotFoundError):
            found.append(path.stat())
    return tuple((state.st_mtime_ns, state.st_ino, state.st_size) for state in found)


def read_ca(files: TlsFiles) -> bytes:
    """The PEM of the CAs that `/v1/ca` gives out, the one that signs first; empty if the operator brought certificates
    without naming the CA. Raises OSError."""
    if files.ca is None:
        return b""
    content = _contents(files.ca, files.more)
    while (again := _contents(files.ca, files.more)) != content:  # one file takes the other's place meanwhile
        content = again
    return content


def _contents(ca: Path, more: Iterable[Path]) -> bytes:
    found: dict[bytes, None] = {}
    found[ca.read_bytes()] = None
    for path in more:
        with contextlib.suppress(FileNotFoundError):
            found[path.read_bytes()] = None
    return b"".join(found)


def write_private(
    path: Path, content: bytes, *, is_new: bool = False, is_hubs: bool = True, keeps_group: bool = False
) -> None:
    """Write a file that only its owner may read: whole or not at all, and on the disk when this returns.

    With `is_new` an existing file raises FileExistsError. `is_hubs`: written by root it is the hub's user's all the
    same (hub.ownership); otherwise it stays whose it was made by, as the token of an administrator does, and a backup:
    the directory may be anybody's. `keeps_group`: the group of the file that is replaced keeps what it may.
    """
    with making_private(path, is_new=is_new, is_hubs=is_hubs, keeps_group=keeps_group) as file:
        file.write(content)


@contextlib.contextmanager
def making_private(
    path: Path, *, is_new: bool = False, is_hubs: bool = True, keeps_group: bool = False
) -> Iterator[BinaryIO]:
    """The same for whoever writes it bit by bit, or by its name: an empty file that is `path` behind the block."""
    if is_new and path.exists():
        raise FileExistsError(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        try:
            yield file
            file.flush()
            if keeps_group:
                ownership.give_group(file.fileno(), path)
            elif is_hubs:
                ownership.give(file.fileno(), path)
            os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def sync_directory(path: Path) -> None:
    """The name of a file is on the disk only when its directory is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # All of them are strong, so the client chooses: it knows what its processor has instructions for (Mozilla, Server
    # Side TLS 5). By TLS 1.3 there are no others.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = RecordReads
    context.num_tickets = 0  # neither agents nor kubectl come back with one, and two cost a seventh of a handshake
    return context


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    def no_passphrase() -> str:
        raise TlsError(f"{files.key}: the key has a passphrase; store it without one, readable for the hub only")

    try:
        context.load_cert_chain(files.certificate, files.key, password=no_passphrase)
    except ssl.SSLError as exc:
        raise TlsError(f"{files.certificate}, {files.key}: are no matching certificate and key ({exc.reason})") from exc
    except PermissionError as exc:  # which does not say of which
        path = files.key if os.access(files.certificate, os.R_OK) else files.certificate
        raise TlsError(f"{path}: {ownership.closed(path)}") from exc
    except OSError as exc:
        raise TlsError(f"{files.certificate}, {files.key}: cannot be read: {exc.strerror}") from exc


def _check(files: TlsFiles, now: datetime.datetime) -> x509.Certificate:
    """The certificate. Raises TlsError for one that every client would refuse: by its dates, or for the public name."""
    try:
        leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (OSError, ValueError) as exc:
        raise TlsError(f"{files.certificate}: cannot be read as a certificate") from exc
    if leaf.not_valid_after_utc <= now:
        raise TlsError(f"{files.certificate}: ended at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it")
    if leaf.not_valid_before_utc > now:
        raise TlsError(
            f"{files.certificate}: begins only at {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: wait, or set this"
            " machine's clock right if that has passed"
        )
    if files.host and not _covers(leaf, files.host):
        raise TlsError(
            f"{files.certificate}: its subjectAltName does not cover {files.host!r}, the host of public_url: no client"
            " would accept it"
        )
    return leaf


def _covers(leaf: x509.Certificate, host: str) -> bool:
    """RFC 6125: the name itself, or a wildcard for its first label."""
    dns, addresses = names_of(leaf)
    try:
        return str(ipaddress.ip_address(host)) in addresses
    except ValueError:
        pass
    host = host.lower().rstrip(".")
    first, _, rest = host.partition(".")
    names = {name.lower().rstrip(".") for name in dns}
    return host in names or bool(first and rest and f"*.{rest}" in names)


def names_of(leaf: x509.Certificate) -> tuple[set[str], set[str]]:
    """DNS names and addresses of its subjectAltName."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set(), set()
    return set(names.get_values_for_type(x509.DNSName)), {str(a) for a in names.get_values_for_type(x509.IPAddress)}


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    lifetime: datetime.timedelta,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _BACKDATE).not_valid_after(now + lifetime)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as exc:
        raise TlsError(f"{host!r} cannot be a name in a certificate: write it in ASCII (xn--…)") from exc


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As it is kept."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_ca(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Certificate and key of the hub's CA. Raises TlsError."""
    try:
        ca = x509.load_pem_x509_certificate((directory / CA_CERT).read_bytes())
        key = load_pem_private_key((directory / CA_KEY).read_bytes(), None)
    except PermissionError as exc:
        raise TlsError(f"{exc.filename}: {ownership.closed(Path(exc.filename), directory)}") from exc
    except OSError as exc:
        raise TlsError(f"{exc.filename}: cannot be read: {exc.strerror}. Restore it from a backup") from exc
    except (ValueError, TypeError) as exc:
        raise TlsError(f"{directory}: the CA's certificate or key is damaged. Restore it from a backup") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.public_key():
        raise TlsError(f"{directory}: the CA's key does not belong to its certificate. Restore both from a backup")
    return ca, key


def _is_good_leaf(
    directory: Path, ca: x509.Certificate, wanted: list[str], now: datetime.datetime, chain: bytes
) -> bool:
    try:
        content = (directory / LEAF_CERT).read_bytes()
        leaf = x509.load_pem_x509_certificate(content)
        key = load_pem_private_key((directory / LEAF_KEY).read_bytes(), None)
        leaf.verify_directly_issued_by(ca)
    except Exception:  # absent, damaged or of another CA: a new one is the cure for all
        return False
    dns, addresses = names_of(leaf)
    return (
        key.public_key() == leaf.public_key()
        and content == leaf.public_bytes(Encoding.PEM) + chain
        and set(wanted) <= dns | addresses
        and leaf.not_valid_before_utc <= now
        and leaf.not_valid_after_utc - now > min(LEAF_RENEWAL, (ca.not_valid_after_utc - now) / 2)
    )
