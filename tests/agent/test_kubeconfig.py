"""Kubeconfigs: what is used, and what is refused with its cure."""

import base64
import json
import os
import ssl

import pytest
import yaml

from agent.config import KubeSettings
from agent.errors import ConfigError
from agent.kubeconfig import load
from agent.relay.credential import CertificateOnly
from tests.agent.apiserver import Pki


def b64(data):
    return base64.b64encode(data).decode()


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


@pytest.fixture
def write(tmp_path, pki):
    def write(user, cluster=None, current="dev", name="config"):
        cluster = cluster or {
            "server": "https://kube.test:6443",
            "certificate-authority-data": b64(pki.ca_file.read_bytes()),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": current,
            "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        }
        path = tmp_path / name
        path.write_text(yaml.safe_dump(document))
        return path

    return write


def access(path, context=""):
    return load(KubeSettings(kubeconfig=path, context=context))


def test_a_token(write):
    result = access(write({"token": "abc"}))
    assert result.endpoint.host == "kube.test"
    assert result.credential.authorization(0.0) == b"Bearer abc"
    assert len(result.trust.context().get_ca_certs()) == 1


def test_a_token_file_and_a_ca_file_beside_the_kubeconfig(write, tmp_path, pki):
    (tmp_path / "t").write_text("from-file\n")
    cluster = {
        "server": "https://kube.test",
        "certificate-authority": pki.ca_file.name,
        "tls-server-name": "other.test",
    }
    result = access(write({"tokenFile": "t"}, cluster), "dev")
    assert result.credential.authorization(0.0) == b"Bearer from-file"
    assert result.endpoint.server_name == "other.test"
    assert result.trust.context().verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("inline", [True, False])
def test_a_client_certificate(write, tmp_path, pki, inline):
    leaf = pki.ca.issue_cert("client")
    certificate, key = leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
    if inline:
        user = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
    else:
        (tmp_path / "crt").write_bytes(certificate)
        (tmp_path / "key").write_bytes(key)
        user = {"client-certificate": "crt", "client-key": str(tmp_path / "key")}
    before = set(os.listdir("/tmp"))
    result = access(write(user))
    assert isinstance(result.credential, CertificateOnly)
    assert result.trust.context() is result.trust.context()
    left = [name for name in set(os.listdir("/tmp")) - before if name.startswith("riata-agent-")]
    assert left == []


def test_a_client_certificate_in_the_kubeconfig_follows_a_ca_file(write, tmp_path, pki, caplog):
    leaf, other = pki.ca.issue_cert("client"), Pki(tmp_path, "other")
    user = {
        "client-certificate-data": b64(leaf.cert_chain_pems[0].bytes()),
        "client-key-data": b64(leaf.private_key_pem.bytes()),
    }
    trust = access(write(user, {"server": "https://k", "certificate-authority": pki.ca_file.name})).trust
    first = trust.context()
    pki.ca_file.write_bytes(other.ca_file.read_bytes())
    assert trust.context() is not first
    assert trust.context().get_ca_certs() != first.get_ca_certs()
    assert "unusable" not in caplog.text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_base64_may_have_line_breaks(write, pki, end):
    """As `base64` writes it, in a block of YAML; kubectl reads it."""
    lines = base64.encodebytes(pki.ca_file.read_bytes()).decode().replace("\n", end)
    assert lines.count(end) > 5
    result = access(write({"token": "abc"}, {"server": "https://k", "certificate-authority-data": lines}))
    assert len(result.trust.context().get_ca_certs()) == 1


def test_an_exec_plugin(write, tmp_path):
    plugin = tmp_path / "plugin"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "made"}}
    plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    plugin.chmod(0o700)
    section = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "args": None, "env": None}
    assert access(write({"exec": section})).credential.authorization(0.0) == b"Bearer made"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({}, "no token"),
        ({"username": "a", "password": "b"}, "basic authentication"),
        ({"auth-provider": {"name": "gcp"}}, "exec plugin"),
        ({"token": "a", "as": "root"}, "impersonates"),
        ({"token": "a b"}, "bearer token"),
        ({"token": 5}, "no text"),
        ({"client-certificate-data": b64(b"x")}, "needs its key"),
        ({"client-certificate-data": "%%%", "client-key-data": b64(b"x")}, "not base64"),
        ({"client-certificate-data": "é", "client-key-data": b64(b"x")}, "client-certificate-data is not base64"),
        ({"client-certificate-data": b64(b"x"), "client-key-data": "eA= ="}, "client-key-data is not base64"),
        ({"client-certificate-data": b64(b"x"), "client-key-data": b64(b"x")}, "unusable"),
        ({"exec": {"command": "/no/such/plugin", "apiVersion": "client.authentication.k8s.io/v1"}}, "cannot be run"),
        ({"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"}}, "v1alpha1"),
        ({"exec": ["x"]}, "malformed"),
    ],
)
def test_unusable_users(write, user, words):
    with pytest.raises(ConfigError, match=words):
        access(write(user))


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"server": "https://k", "insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        ({"server": "https://k", "proxy-url": "http://p"}, "proxy-url"),
        ({"server": "http://k"}, "https"),
        ({"x": "y"}, "https"),
    ],
)
def test_unusable_clusters(write, cluster, words):
    with pytest.raises(ConfigError, match=words):
        access(write({"token": "a"}, cluster))


def test_contexts(write, tmp_path):
    with pytest.raises(ConfigError, match="no context 'other'"):
        access(write({"token": "a"}), "other")
    with pytest.raises(ConfigError, match="--context"):
        access(write({"token": "a"}, current=""))


@pytest.mark.parametrize("text", ["", "[]", "a: [", "a: &a [*a]", "\x00"])
def test_what_is_no_kubeconfig(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError, match="--kubeconfig"):
        access(path)
    with pytest.raises(ConfigError, match="--kubeconfig"):
        access(tmp_path / "missing")
