"""Reading one context of a kubeconfig: for an agent that runs as a local process beside a cluster one already has.

Only what can be used safely and wholly is accepted; everything else is refused with its cure. Field names are those of
k8s.io/client-go/tools/clientcmd/api/v1.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent.config import KubeSettings
from agent.errors import ConfigError, TokenUnavailable
from agent.relay.addresses import Addresses
from agent.relay.credential import CertificateOnly, FixedToken, KubeCredential, TokenFile
from agent.relay.endpoint import Endpoint, KubeTrust, Part
from agent.relay.plugin import ExecPlugin
from proto import kubeconfig

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_UNUSABLE: Final = {
    "username": "basic authentication is gone from Kubernetes: use a token or a client certificate",
    "auth-provider": "auth providers are gone from client-go: use an exec plugin",
    "as": "the agent impersonates on its own: use a user without 'as'",
}


@dataclass(frozen=True, slots=True)
class KubeAccess:
    """How to reach and talk to an API server."""

    endpoint: Endpoint
    trust: KubeTrust
    credential: KubeCredential
    addresses: Addresses | None = None
    """Where else an API server is, for when the endpoint's own address leads nowhere."""


def access(settings: KubeSettings) -> KubeAccess:
    """What the settings name, piece by piece or by a kubeconfig. Raises ConfigError."""
    found = _given(settings) if settings.kubeconfig is None else load(settings)
    return replace(found, addresses=Addresses(found.endpoint, settings.endpoints_file, clock=time.monotonic))


def _given(settings: KubeSettings) -> KubeAccess:
    assert settings.token_file is not None  # KubeSettings has checked it
    return KubeAccess(
        endpoint=Endpoint.from_url(settings.url),
        trust=KubeTrust(ca_file=settings.ca_file, allow_legacy_ca=settings.allow_legacy_ca),
        credential=TokenFile(settings.token_file),
    )


def load(settings: KubeSettings) -> KubeAccess:
    """Endpoint, trust and credential of `settings.kubeconfig`; runs its exec plugin, if any. Raises ConfigError."""
    assert settings.kubeconfig is not None
    path = settings.kubeconfig
    document = _parse(path)
    name = settings.context or _text(document, "current-context", path)
    if not name:
        raise ConfigError(f"--kubeconfig {path} has no current context: give --context")
    context = _named(document, "contexts", "context", name, path)
    cluster = _named(document, "clusters", "cluster", _text(context, "cluster", path), path)
    user = _named(document, "users", "user", _text(context, "user", path), path)
    return KubeAccess(
        endpoint=_endpoint(cluster, path),
        trust=_trust(cluster, user, path, allow_legacy_ca=settings.allow_legacy_ca),
        credential=_credential(user, path),
    )


def _parse(path: Path) -> dict[str, Any]:
    import yaml  # here, because an agent in a pod has no kubeconfig

    try:
        raw = path.read_bytes()
        if len(raw) > FILE_BYTES_MAX:
            raise ConfigError(f"--kubeconfig {path} is bigger than {FILE_BYTES_MAX} bytes")
        document = yaml.safe_load(raw)
    except OSError as exc:
        raise ConfigError(f"--kubeconfig {path}: {exc.strerror}") from exc
    except (yaml.YAMLError, RecursionError) as exc:
        raise ConfigError(f"--kubeconfig {path} is not YAML") from exc
    if not isinstance(document, dict):
        raise ConfigError(f"--kubeconfig {path} is no kubeconfig")
    return document


def _named(document: dict[str, Any], table: str, key: str, name: str, path: Path) -> dict[str, Any]:
    rows = document.get(table)
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("name") == name and isinstance(row.get(key), dict):
            found: dict[str, Any] = row[key]
            return found
    raise ConfigError(f"--kubeconfig {path} has no {key} {name!r}")


def _text(table: dict[str, Any], key: str, path: Path) -> str:
    value = table.get(key, "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError(f"--kubeconfig {path}: {key} is no text")
    return value


def _endpoint(cluster: dict[str, Any], path: Path) -> Endpoint:
    if cluster.get("insecure-skip-tls-verify"):
        raise ConfigError(
            f"--kubeconfig {path}: insecure-skip-tls-verify is not supported: give certificate-authority-data"
        )
    if cluster.get("proxy-url"):
        raise ConfigError(
            f"--kubeconfig {path}: proxy-url is not supported: run the agent where it reaches the API server"
        )
    return Endpoint.from_url(_text(cluster, "server", path), server_name=_text(cluster, "tls-server-name", path))


def _trust(cluster: dict[str, Any], user: dict[str, Any], path: Path, *, allow_legacy_ca: bool) -> KubeTrust:
    ca_data = _data(cluster, "certificate-authority-data", path)
    ca_file = None if ca_data else _file(cluster, "certificate-authority", path)
    pair = _client_certificate(user, path)
    trust = KubeTrust(
        ca_file=ca_file, ca_data=ca_data or None, client_certificate=pair, allow_legacy_ca=allow_legacy_ca
    )
    if pair is not None:
        _load_now(trust, path)
    return trust


def _load_now(trust: KubeTrust, path: Path) -> None:
    """Say at once what cannot be used."""
    try:
        trust.context()
    except OSError as exc:
        raise ConfigError(f"--kubeconfig {path}: CA or client certificate unusable: {exc}") from exc


def _client_certificate(user: dict[str, Any], path: Path) -> tuple[Part, Part] | None:
    """Certificate and key; data wins over a file, as for client-go."""
    certificate = _data(user, "client-certificate-data", path) or _file(user, "client-certificate", path)
    key = _data(user, "client-key-data", path) or _file(user, "client-key", path)
    if not certificate:
        return None
    if not key:
        raise ConfigError(f"--kubeconfig {path}: a client certificate needs its key")
    return certificate, key


def _credential(user: dict[str, Any], path: Path) -> KubeCredential:
    for key, cure in _UNUSABLE.items():
        if user.get(key):
            raise ConfigError(f"--kubeconfig {path}: {cure}")
    try:
        if user.get("exec"):
            return ExecPlugin.from_kubeconfig(user["exec"], path.parent)
        if token_file := _file(user, "tokenFile", path):
            return TokenFile(token_file)
        if token := _text(user, "token", path):
            return FixedToken(token)
    except TokenUnavailable as exc:
        raise ConfigError(f"--kubeconfig {path}: {exc}") from exc
    if user.get("client-certificate") or user.get("client-certificate-data"):
        return CertificateOnly()
    raise ConfigError(f"--kubeconfig {path}: the user has no token, client certificate or exec plugin")


def _data(table: dict[str, Any], key: str, path: Path) -> bytes:
    try:
        return kubeconfig.decoded(_text(table, key, path))
    except ValueError as exc:
        raise ConfigError(f"--kubeconfig {path}: {key} is not base64") from exc


def _file(table: dict[str, Any], key: str, path: Path) -> Path | None:
    """A path beside the kubeconfig, as clientcmd resolves it."""
    value = _text(table, key, path)
    return path.parent / value if value else None
