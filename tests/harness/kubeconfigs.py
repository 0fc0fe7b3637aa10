"""Writes kubeconfig files: with a client certificate, or with a bearer token."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.harness.pki import Pair, write_private


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def with_certificate(path: Path, *, url: str, ca: Path, pair: Pair, name: str = "test") -> Path:
    """A kubeconfig that authenticates with a client certificate."""
    user = {"client-certificate-data": _encoded(pair.certificate), "client-key-data": _encoded(pair.key)}
    return _write(path, url, ca, user, name)


def with_token(path: Path, *, url: str, ca: Path, token: str, name: str = "test") -> Path:
    """A kubeconfig that authenticates with a bearer token."""
    return _write(path, url, ca, {"token": token}, name)


def _write(path: Path, url: str, ca: Path, user: dict[str, Any], name: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": _encoded(ca)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    write_private(path, json.dumps(document, indent=1).encode())  # JSON is YAML
    return path
