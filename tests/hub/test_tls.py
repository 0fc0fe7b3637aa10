"""Certificates that strict verifiers take, private files, and a reload that cannot break what runs."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import os
import shutil
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from hub import tls
from proto import pins
from tests.harness import tls_pair

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    tls.make_ca(tmp_path / "tls", "h1", NOW)
    tls.ensure_leaf(tmp_path / "tls", ["localhost", "127.0.0.1", "::1"], NOW)
    return tmp_path / "tls"


def files(directory: Path) -> tls.TlsFiles:
    return tls.TlsFiles(directory / tls.LEAF_CERT, directory / tls.LEAF_KEY, directory / tls.CA_CERT)


def handshake(server: ssl.SSLContext, ca: Path, host: str, ciphers: str = "", **client: object) -> ssl.SSLObject:
    """A handshake in memory; raises what the client raises."""
    context = ssl.create_default_context(cafile=str(ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if ciphers:
        context.set_ciphers(ciphers)
    for name, value in client.items():
        setattr(context, name, value)
    context.set_alpn_protocols(["http/1.1"])
    return tls_pair.handshake(context, server, host)[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_strict_client_accepts_the_leaf(directory: Path, host: str) -> None:
    client = handshake(tls.ServerContext(files(directory)).context, directory / tls.CA_CERT, host)
    assert client.version() in {"TLSv1.2", "TLSv1.3"}
    assert client.selected_alpn_protocol() == "http/1.1"


def test_other_names_are_not_covered(directory: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tls.ServerContext(files(directory)).context, directory / tls.CA_CERT, "example.org")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_tls_is_refused(directory: Path) -> None:
    context = tls.ServerContext(files(directory)).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(context, directory / tls.CA_CERT, "localhost", maximum_version=ssl.TLSVersion.TLSv1_1)


def test_nobody_gets_a_ticket(directory: Path) -> None:
    client = handshake(tls.ServerContext(files(directory)).context, directory / tls.CA_CERT, "localhost")
    assert client.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLWantReadError):
        client.read(1)  # tickets come behind the handshake
    assert client.session is None or not client.session.has_ticket


def test_the_ca_is_not_sent_to_those_who_have_it(directory: Path) -> None:
    sent = pins.certificates_of_pem((directory / tls.LEAF_CERT).read_bytes())
    assert len(sent) == 1
    older = (directory / tls.LEAF_CERT).read_bytes() + (directory / tls.CA_CERT).read_bytes()
    (directory / tls.LEAF_CERT).write_bytes(older)  # as hubs made it before
    assert tls.ensure_leaf(directory, ["localhost"], NOW)
    assert len(pins.certificates_of_pem((directory / tls.LEAF_CERT).read_bytes())) == 1


@pytest.mark.parametrize("first", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
def test_the_client_chooses_among_strong_ciphers(directory: Path, first: str) -> None:
    context = tls.ServerContext(files(directory)).context
    older = ssl.TLSVersion.TLSv1_2  # Python has no setting for those of TLS 1.3
    wish = f"{first}:ECDHE-ECDSA-AES256-GCM-SHA384"
    client = handshake(context, directory / tls.CA_CERT, "localhost", maximum_version=older, ciphers=wish)
    assert (client.cipher() or ("",))[0] == first


def test_a_cipher_without_authentication_of_its_own_is_refused(directory: Path) -> None:
    context = tls.ServerContext(files(directory)).context
    only = "ECDHE-ECDSA-AES128-SHA256"
    with pytest.raises(ssl.SSLError):
        handshake(context, directory / tls.CA_CERT, "localhost", maximum_version=ssl.TLSVersion.TLSv1_2, ciphers=only)


def test_every_extension_that_strict_mode_wants(directory: Path) -> None:
    ca = x509.load_pem_x509_certificate((directory / tls.CA_CERT).read_bytes())
    leaf = x509.load_pem_x509_certificate((directory / tls.LEAF_CERT).read_bytes())
    for certificate in (ca, leaf):
        extensions = {extension.oid: extension.critical for extension in certificate.extensions}
        assert extensions[x509.BasicConstraints.oid]
        assert extensions[x509.KeyUsage.oid]
        assert x509.SubjectKeyIdentifier.oid in extensions
        assert x509.AuthorityKeyIdentifier.oid in extensions
    assert x509.ExtendedKeyUsage.oid in {extension.oid for extension in leaf.extensions}
    assert len(pins.pins_of_pem((directory / tls.CA_CERT).read_bytes())) == 1


def test_a_name_that_no_certificate_can_hold_is_named(directory: Path) -> None:
    with pytest.raises(tls.TlsError, match="xn--"):
        tls.ensure_leaf(directory, ["h\u00fcb"], NOW)


def test_keys_are_for_the_owner_only(directory: Path) -> None:
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert {path.name for path in directory.iterdir()} == {tls.CA_CERT, tls.CA_KEY, tls.LEAF_CERT, tls.LEAF_KEY}


def test_a_ca_is_never_replaced(directory: Path) -> None:
    before = (directory / tls.CA_CERT).read_bytes()
    with pytest.raises(FileExistsError):
        tls.make_ca(directory, "h2", NOW)
    assert (directory / tls.CA_CERT).read_bytes() == before


def test_a_ca_says_for_which_hub_it_was_made(directory: Path) -> None:
    assert tls.hub_of((directory / tls.CA_CERT).read_bytes()) == "h1"
    assert tls.hub_of((directory / tls.LEAF_CERT).read_bytes()) == ""
    with pytest.raises(ValueError, match="PEM"):
        tls.hub_of(b"")


def test_a_ca_whose_making_was_cut_off_is_made_anew(directory: Path) -> None:
    (directory / tls.CA_CERT).unlink()
    key = (directory / tls.CA_KEY).read_bytes()
    tls.make_ca(directory, "h", NOW)
    assert (directory / tls.CA_KEY).read_bytes() != key
    assert tls.ensure_leaf(directory, ["localhost"], NOW)


def test_the_leaf_is_made_anew_only_when_needed(directory: Path) -> None:
    assert not tls.ensure_leaf(directory, ["localhost"], NOW)
    assert tls.ensure_leaf(directory, ["localhost", "hub.example.org"], NOW)
    assert not tls.ensure_leaf(directory, ["localhost", "hub.example.org"], NOW)
    assert tls.ensure_leaf(directory, ["localhost"], NOW + tls.LEAF_LIFETIME - datetime.timedelta(days=59))
    (directory / tls.LEAF_KEY).write_bytes(b"damaged")
    assert tls.ensure_leaf(directory, ["localhost"], NOW)


def test_a_ca_that_has_ended_is_named(directory: Path) -> None:
    """Or a clock that is far ahead: what the running hub says of it must not end its care for the certificate."""
    with pytest.raises(tls.TlsError, match=r"ca\.crt: ended at .*: set this machine's clock right"):
        tls.ensure_leaf(directory, ["hub"], NOW + tls.CA_LIFETIME + datetime.timedelta(hours=2))


def test_the_leaf_never_outlives_the_ca(directory: Path) -> None:
    late = NOW + tls.CA_LIFETIME - datetime.timedelta(days=30)
    assert tls.ensure_leaf(directory, ["localhost"], late)
    leaf = x509.load_pem_x509_certificate((directory / tls.LEAF_CERT).read_bytes())
    ca = x509.load_pem_x509_certificate((directory / tls.CA_CERT).read_bytes())
    assert leaf.not_valid_after_utc <= ca.not_valid_after_utc
    assert not tls.ensure_leaf(directory, ["localhost"], late)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [(tls.CA_KEY, None, "cannot be read"), (tls.CA_KEY, b"x", "damaged"), (tls.CA_CERT, b"x", "damaged")],
)
def test_a_damaged_ca_is_named(directory: Path, name: str, content: bytes | None, message: str) -> None:
    (directory / name).unlink() if content is None else (directory / name).write_bytes(content)
    with pytest.raises(tls.TlsError, match=message):
        tls.ensure_leaf(directory, ["new.example.org"], NOW)


def test_a_ca_that_the_hub_may_not_read_is_not_to_be_restored(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(tls.TlsError, match=rf"chown -R .* {directory}") as caught:
        tls.load_ca(directory)
    assert f"{directory / tls.CA_CERT}: user {os.geteuid()} may not open it" in str(caught.value)
    assert "backup" not in str(caught.value)


def closed(path: Path, **_options: object) -> NoReturn:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_a_certificate_that_could_not_be_read_is_looked_at_again_when_it_can(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = tls.ServerContext(files(directory))
    tls.ensure_leaf(directory, ["localhost", "new.example.org"], NOW)

    def refuses(*_paths: object, **_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(ssl.SSLContext, "load_cert_chain", refuses)
        assert not server.reload_if_changed()
        assert not server.reload_if_changed()
    (said,) = [record.reason for record in caplog.records if hasattr(record, "reason")]
    assert said.startswith(f"{directory / tls.LEAF_KEY}: user {os.geteuid()} may not open it")
    (directory / tls.LEAF_KEY).chmod(0o640)  # changes neither time nor file, as chown does not
    assert server.reload_if_changed()


def test_a_reload_serves_the_new_leaf(directory: Path) -> None:
    server = tls.ServerContext(files(directory))
    assert not server.reload_if_changed()
    tls.ensure_leaf(directory, ["localhost", "new.example.org"], NOW)
    assert server.reload_if_changed()
    handshake(server.context, directory / tls.CA_CERT, "new.example.org")


def test_a_mismatched_pair_leaves_the_live_context_alone(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = tls.ServerContext(files(directory))
    shutil.copy(directory / tls.CA_KEY, directory / tls.LEAF_KEY)
    assert not server.reload_if_changed()
    assert not server.reload_if_changed()
    assert [record.message for record in caplog.records] == ["new certificate refused, the old one stays"]
    handshake(server.context, directory / tls.CA_CERT, "localhost")
    with pytest.raises(tls.TlsError, match="no matching"):
        server.reload()
    (directory / tls.LEAF_KEY).unlink()
    assert not server.reload_if_changed()


def test_a_certificate_that_was_refused_for_a_reason_that_passes_is_taken_when_it_has(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A clock some seconds behind the issuer's, and the old one was served to its end."""
    server = tls.ServerContext(files(directory))
    heard: list[str] = []
    server.on_reload = heard.append
    tls.ensure_leaf(directory, ["localhost", "new.example.org"], NOW)

    def no_descriptors(*_paths: object, **_options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    class Behind(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Behind:
            return cls.fromtimestamp(NOW.timestamp() - 7200, tz)

    with monkeypatch.context() as patched:
        patched.setattr(ssl.SSLContext, "load_cert_chain", no_descriptors)
        assert [server.reload_if_changed() for _ in range(3)] == [False] * 3
    with monkeypatch.context() as patched:
        patched.setattr(datetime, "datetime", Behind)
        assert [server.reload_if_changed() for _ in range(3)] == [False] * 3
    assert [server.reload_if_changed() for _ in range(3)] == [True, False, False]
    handshake(server.context, directory / tls.CA_CERT, "new.example.org")
    assert heard == ["refused", "refused", "taken"]
    said = [record.reason for record in caplog.records if hasattr(record, "reason")]
    assert ["Too many open files" in said[0], "begins only at" in said[1], len(said)] == [True, True, 2]


def test_the_end_is_that_of_the_certificate_that_is_served(directory: Path) -> None:
    def end() -> float:
        leaf = x509.load_pem_x509_certificate((directory / tls.LEAF_CERT).read_bytes())
        return leaf.not_valid_after_utc.timestamp()

    server = tls.ServerContext(files(directory))
    first = end()
    assert server.ends_at == first
    (directory / tls.LEAF_CERT).unlink()
    tls.ensure_leaf(directory, ["localhost"], NOW + datetime.timedelta(days=2))
    assert not server.reload_if_changed()  # it begins only then
    assert server.ends_at == first != end()
    (directory / tls.LEAF_CERT).unlink()
    tls.ensure_leaf(directory, ["localhost"], NOW - datetime.timedelta(days=2))
    assert server.reload_if_changed()
    assert server.ends_at == end() != first


def test_who_asks_has_the_files_read_in_any_case(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = tls.ServerContext(files(directory))
    old = (directory / tls.LEAF_CERT).read_bytes(), (directory / tls.LEAF_KEY).read_bytes()
    tls.ensure_leaf(directory, ["localhost", "new.example.org"], NOW)
    assert server.reload_if_changed()
    stamp = [os.stat(directory / name) for name in (tls.LEAF_CERT, tls.LEAF_KEY)]
    for name, content, state in zip((tls.LEAF_CERT, tls.LEAF_KEY), old, stamp, strict=True):
        (directory / name).write_bytes(content)
        os.utime(directory / name, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a copy that keeps times does
    assert not server.reload_if_changed()
    assert server.reload_if_changed(is_asked=True)
    (directory / tls.LEAF_KEY).write_bytes(b"none")
    for _ in range(2):
        assert not server.reload_if_changed()
        assert not server.reload_if_changed(is_asked=True)
    assert [record.message for record in caplog.records if hasattr(record, "reason")] == [
        "new certificate refused, the old one stays"
    ] * 3  # at the first look, and to who asked


def test_a_file_that_is_gone_is_said_once_unless_it_is_back_at_once(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = tls.ServerContext(files(directory))
    key = (directory / tls.LEAF_KEY).rename(directory / "away")
    assert not server.reload_if_changed()
    key.rename(directory / tls.LEAF_KEY)
    assert not server.reload_if_changed()
    assert not caplog.records
    (directory / tls.LEAF_KEY).unlink()
    assert [server.reload_if_changed() for _ in range(4)] == [False] * 4
    (said,) = [record.reason for record in caplog.records if hasattr(record, "reason")]
    assert said.startswith(f"{directory / tls.LEAF_KEY}: cannot be read: No such file or directory; put it back")
    handshake(server.context, directory / tls.CA_CERT, "localhost")


def test_a_directory_that_the_hub_may_not_enter_is_to_be_opened_and_its_files_are_not_to_be_put_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = tls.ServerContext(files(directory))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", closed)
        assert [server.reload_if_changed() for _ in range(3)] == [False] * 3
    (said,) = [record.reason for record in caplog.records if hasattr(record, "reason")]
    assert said.startswith(
        f"{directory / tls.LEAF_CERT}: user {os.geteuid()} may not open it (its directory is closed)"
    )
    assert said.endswith(f"let that user into {directory}")


def test_an_operators_files_are_checked_at_start(directory: Path) -> None:
    with pytest.raises(tls.TlsError, match="cannot be read"):
        tls.ServerContext(tls.TlsFiles(directory / "none", directory / tls.LEAF_KEY, None))
    with pytest.raises(tls.TlsError, match="no matching"):
        tls.ServerContext(tls.TlsFiles(directory / tls.LEAF_CERT, directory / tls.CA_KEY, None))


def test_a_private_file_is_whole_or_absent(tmp_path: Path) -> None:
    tls.write_private(tmp_path / "f", b"one")
    tls.write_private(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_a_certificate_that_no_client_would_accept_is_refused_and_the_old_one_stays(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = dataclasses.replace(files(directory), host="localhost")
    server = tls.ServerContext(given)
    heard: list[str] = []
    server.on_reload = heard.append
    tls.ensure_leaf(directory, ["localhost", "127.0.0.1", "hub.example.org"], NOW)
    assert server.reload_if_changed()
    for hosts, now, says in (
        (["hub.example.org"], NOW, "does not cover 'localhost'"),
        (["localhost"], NOW - tls.LEAF_LIFETIME - datetime.timedelta(days=1), "ended at"),
        (["localhost"], NOW + datetime.timedelta(days=2), "begins only at"),
    ):
        (directory / tls.LEAF_CERT).unlink()
        tls.ensure_leaf(directory, hosts, now)
        caplog.clear()
        assert not server.reload_if_changed()
        assert says in caplog.records[0].reason  # type: ignore[attr-defined]
        handshake(server.context, directory / tls.CA_CERT, "hub.example.org")
    assert heard == ["taken", "refused", "refused", "refused"]


@pytest.mark.parametrize(
    ("host", "names", "is_covered"),
    [
        ("hub.example.org", ["hub.example.org"], True),
        ("HUB.example.org.", ["hub.EXAMPLE.org"], True),
        ("hub.example.org", ["*.example.org"], True),
        ("a.hub.example.org", ["*.example.org"], False),
        ("example.org", ["*.example.org"], False),
        ("10.0.0.1", ["10.0.0.1"], True),
        ("::1", ["0:0:0:0:0:0:0:1"], True),
        ("10.0.0.1", ["hub.example.org"], False),
        ("hub.example.org", [], False),
    ],
)
def test_which_names_a_certificate_covers(host: str, names: list[str], is_covered: bool) -> None:
    key, ca = tls.new_ca(x509.Name([]), NOW)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(ca.subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + tls.LEAF_LIFETIME)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([tls._name(name) for name in names]), False)
    assert tls._covers(builder.sign(key, hashes.SHA256()), host) is is_covered
