"""The API server's address and its trust."""

import errno
import os
import shutil
import ssl
import tempfile
import weakref
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.relay import resumption
from agent.relay.endpoint import Endpoint, KubeTrust
from tests.agent.apiserver import Pki
from tests.harness import tls_pair


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://10.0.0.1", ("10.0.0.1", 443, b"10.0.0.1:443", b"")),
        ("https://10.0.0.1:6443/", ("10.0.0.1", 6443, b"10.0.0.1:6443", b"")),
        ("https://[fd00::1]:6443", ("fd00::1", 6443, b"[fd00::1]:6443", b"")),
        ("https://rancher.test/k8s/clusters/c-1", ("rancher.test", 443, b"rancher.test:443", b"/k8s/clusters/c-1")),
    ],
)
def test_urls(url, expected):
    endpoint = Endpoint.from_url(url)
    assert (endpoint.host, endpoint.port, endpoint.authority, endpoint.base_path) == expected
    assert endpoint.server_name == expected[0]
    assert Endpoint.from_url(url, "other.test").server_name == "other.test"


@pytest.mark.parametrize(
    "url",
    ["", "10.0.0.1", "http://10.0.0.1", "https://", "https://u:p@h", "https://h?x", "https://h#x", "https://h:x",
     "https://h:99999", "https://h/a b", "https://h/a\r\nb", "https://ä.test"],
)  # fmt: skip
def test_what_is_no_address(url):
    with pytest.raises(ConfigError, match="--kube-url"):
        Endpoint.from_url(url)


def trusting(pki, directory):
    """A CA's file that may be replaced, and who trusts it."""
    live = directory / "ca.crt"
    shutil.copy(pki.ca_file, live)
    return live, KubeTrust(ca_file=live)


def test_the_context_follows_the_file_and_always_verifies(tmp_path, caplog):
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    live, trust = trusting(pki, tmp_path)
    first = trust.context()
    assert first.check_hostname
    assert first.verify_mode is ssl.CERT_REQUIRED
    assert trust.context() is first
    shutil.copy(other.ca_file, live)
    second = trust.context()
    assert second is not first
    assert len(second.get_ca_certs()) == 1
    live.write_text("broken")
    assert trust.context() is second
    live.unlink()
    assert trust.context() is second
    assert caplog.text.count("unusable") == 2


def test_the_same_ca_in_another_file_is_the_same_context(tmp_path):
    """As the kubelet writes it, each time that it has a new token for its neighbour."""
    pki = Pki(tmp_path)
    live, trust = trusting(pki, tmp_path)
    context = trust.context()
    for _ in range(3):
        shutil.copy(pki.ca_file, tmp_path / "next")
        os.replace(tmp_path / "next", live)
        assert trust.context() is context


def test_nothing_is_left_of_a_former_trust(tmp_path):
    """A context that is kept by a session of its own would stay for ever (agent/relay/resumption.py)."""
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    live, trust = trusting(pki, tmp_path)
    former = trust.context()
    client, server = tls_pair.handshake(former, pki.server_context(), "localhost")
    server.write(b"hello")
    client.read(5)
    resumption.keep(client)
    tls_pair.handshake(former, pki.server_context(), "localhost")
    assert resumption.offers(former) == 1
    left = weakref.ref(former)
    del former, client, server
    shutil.copy(other.ca_file, live)
    trust.context()
    assert left() is None


def test_a_renewed_client_certificate_makes_another_context(tmp_path, caplog):
    """cert-manager writes all three files anew, with the same CA."""
    pki = Pki(tmp_path)
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"

    def renew():
        leaf = pki.ca.issue_cert("agent")
        leaf.cert_chain_pems[0].write_to_path(str(pair[0]))
        leaf.private_key_pem.write_to_path(str(pair[1]))

    renew()
    trust = KubeTrust(ca_file=pki.ca_file, client_certificate=pair)
    first = trust.context()
    assert trust.context() is first
    renew()
    second = trust.context()
    assert second is not first
    for file in pair:
        file.unlink()
    assert trust.context() is second
    assert "unusable" not in caplog.text


def test_a_client_certificate_that_is_data_follows_the_ca_too(tmp_path, caplog, monkeypatch):
    """`ssl` reads files only: those of the first context are gone when the second is made."""
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    leaf = pki.ca.issue_cert("agent")
    pair = leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
    live = tmp_path / "ca.crt"
    shutil.copy(pki.ca_file, live)
    trust = KubeTrust(ca_file=live, client_certificate=pair)
    first = trust.context()
    shutil.copy(other.ca_file, live)
    second = trust.context()
    assert second is not first
    assert second.get_ca_certs() != first.get_ca_certs()
    assert "unusable" not in caplog.text
    assert list(private.iterdir()) == []


def test_no_context_at_all(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        KubeTrust(ca_file=tmp_path / "none").context()


def test_data_instead_of_a_file_and_old_fashioned_cas(tmp_path):
    pki = Pki(tmp_path)
    context = KubeTrust(ca_file=None, ca_data=pki.ca_file.read_bytes(), allow_legacy_ca=True).context()
    assert len(context.get_ca_certs()) == 1
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_comments_between_cas_may_be_in_any_language(tmp_path):
    """`openssl s_client -showcerts` writes the subject beside each; a UnicodeError would be taken for one of a name."""
    pem = Pki(tmp_path).ca_file.read_bytes()
    context = KubeTrust(ca_file=None, ca_data="s:O = Société\n".encode() + pem).context()
    assert len(context.get_ca_certs()) == 1
    with pytest.raises(ssl.SSLError):
        KubeTrust(ca_file=None, ca_data=b"\xff\xff").context()  # and not the system's CAs


def test_a_ca_file_that_could_not_be_read_for_a_moment_is_read_again(tmp_path, monkeypatch):
    """At the limit of open files, say: the kubelet writes it again 48 minutes later."""
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    live, trust = trusting(pki, tmp_path)
    first = trust.context()
    shutil.copy(other.ca_file, live)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", out_of_files)
        assert trust.context() is first
    assert trust.context() is not first


def out_of_files(path):
    raise OSError(errno.EMFILE, "Too many open files")
