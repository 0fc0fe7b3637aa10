"""How a test enters one cluster: an address, a CA, a token, and kubectl and HTTP clients made from them."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from tests.e2e.kubectl import Kubectl


@dataclass(frozen=True)
class Entry:
    """One identity's way into one cluster: through the hub, or straight to check a test's expectation."""

    url: str
    ca_file: Path
    token: str = field(repr=False)
    kubectl: Kubectl

    @property
    def prefix(self) -> str:
        """The path before `/api`: `/k8s/clusters/NAME` through the hub, empty without it."""
        return urlsplit(self.url).path.rstrip("/")

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    @property
    def context(self) -> ssl.SSLContext:
        """TLS that trusts this CA and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @contextlib.asynccontextmanager
    async def session(self, **options: object) -> AsyncIterator[aiohttp.ClientSession]:
        """An HTTP client with this identity. No body is decoded, nothing but the connection limited in time."""
        connector = aiohttp.TCPConnector(ssl=self.context, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        settings = {"auto_decompress": False, "headers": {**self.bearer, "Accept-Encoding": "identity"}, **options}
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, **settings) as session:  # type: ignore[arg-type]
            yield session

    def inside(self, namespace: str) -> "Entry":
        """The same way with kubectl bound to one namespace."""
        return replace(self, kubectl=self.kubectl.inside(namespace))

    def at(self, path: str) -> str:
        """The absolute URL of an API path."""
        return self.url.rstrip("/") + path


def kubeconfig_text(url: str, ca_file: Path, token: str) -> str:
    """A kubeconfig of one context; by hand, because the command that makes them is under test elsewhere."""
    return f"""apiVersion: v1
kind: Config
current-context: it
clusters: [{{name: it, cluster: {{server: "{url}", certificate-authority: "{ca_file}"}}}}]
users: [{{name: it, user: {{token: "{token}"}}}}]
contexts: [{{name: it, context: {{cluster: it, user: it}}}}]
"""
