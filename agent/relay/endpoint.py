"""Where the kube-apiserver is and how to know that it is the right one."""

import errno
import logging
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.errors import ConfigError
from agent.relay import resumption
from proto.aio.transport import address_text
from proto.kubeconfig import ca_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API server's address, taken from its URL once."""

    host: str
    """Name or address to connect to, without brackets."""
    port: int
    server_name: str
    """Name the certificate must carry; the host unless a kubeconfig's tls-server-name says otherwise."""
    authority: bytes
    """Value of the Host header."""
    base_path: bytes
    """Path in front of every request target, without a slash at its end; empty for an API server of its own."""

    @classmethod
    def from_url(cls, url: str, server_name: str = "") -> "Endpoint":
        """Raises ConfigError; plain HTTP is not offered, because the agent's token would cross it."""
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError as exc:
            raise ConfigError(f"--kube-url {url!r} is not a URL: give https://HOST:PORT") from exc
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ConfigError(f"--kube-url {url!r}: give https://HOST:PORT, nothing else")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ConfigError(f"--kube-url {url!r} has characters that a URL may not have")
        host = parts.hostname
        return cls(
            host=host,
            port=port,
            server_name=server_name or host,
            authority=address_text((host, port)).encode(),
            base_path=parts.path.rstrip("/").encode(),
        )


Part = Path | bytes
"""A file that may be replaced, or what stands in a kubeconfig."""


class KubeTrust:
    """The TLS context for the API server; made anew when the CA file changes (a context cannot forget a CA), or the
    client certificate."""

    def __init__(
        self,
        *,
        ca_file: Path | None,
        ca_data: bytes | None = None,
        client_certificate: tuple[Part, Part] | None = None,
        allow_legacy_ca: bool = False,
    ) -> None:
        """`ca_file` wins over `ca_data` (PEM); with neither, the system's store is used. `client_certificate`: with its
        chain, and its key, in PEM."""
        self._ca_file = ca_file
        self._ca_data = ca_data
        self._client_certificate = client_certificate
        self._allow_legacy_ca = allow_legacy_ca
        self._files = (ca_file, *(part for part in client_certificate or () if isinstance(part, Path)))
        self._mark: list[Mark] = []
        self._content: list[bytes | None] = []
        """What the files held when the context was made."""
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The context to dial with: another object once the CA has changed.

        Reads files; called once for each dial. Raises OSError or ssl.SSLError when there is no context at all; a
        changed file that cannot be used is reported and the former context stays. So it does where only the file is
        another: the kubelet writes a projected volume anew with every token, 48 minutes after the last.
        """
        mark, former = [mark_of(each) for each in self._files], self._context
        if former is not None and mark == self._mark:
            return former
        try:
            content = self._read()
            if former is None or content != self._content:
                self._context, self._content = self._build(), content
        except (OSError, ssl.SSLError) as exc:
            if former is None:
                raise
            logger.error(
                "the API server's CA file or the client certificate changed and is unusable", extra={"error": str(exc)}
            )
            if may_pass(exc):
                return former
        self._mark = mark
        if former is not None and former is not self._context:
            resumption.retire(former)
        assert self._context is not None
        return self._context

    def _read(self) -> list[bytes | None]:
        """Raises OSError, but for a client certificate that is gone: it is being replaced."""
        content: list[bytes | None] = []
        for at, path in enumerate(self._files):
            try:
                content.append(None if path is None else path.read_bytes())
            except FileNotFoundError:
                if path is self._ca_file:
                    raise
                content.append(self._content[at] if self._content else None)
        return content

    def _build(self) -> ssl.SSLContext:
        ca = ca_text(self._ca_data) if self._ca_data is not None and self._ca_file is None else None
        context = ssl.create_default_context(cafile=self._ca_file, cadata=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._allow_legacy_ca:
            # Chain and name stay verified; only RFC 5280's form rules go (Python ≥ 3.13 switches them on).
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # Without ALPN an API server may still choose HTTP/1.1, but a load balancer in front need not.
        context.set_alpn_protocols(["http/1.1"])
        if self._client_certificate is not None:
            certificate, key = self._client_certificate
            with _as_file(certificate) as certificate_file, _as_file(key) as key_file:
                context.load_cert_chain(certificate_file, key_file)
        resumption.attach(context)
        return context


@contextmanager
def _as_file(part: Part) -> Iterator[Path]:
    """`ssl` reads from files only: data is one for a moment, in a private directory."""
    if isinstance(part, Path):
        yield part
        return
    with tempfile.TemporaryDirectory(prefix="riata-agent-") as directory:  # 0700
        path = Path(directory) / "pem"
        path.write_bytes(part)
        yield path


Mark = tuple[int, int, int] | None

_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENOSPC, errno.EDQUOT})


def mark_of(path: Path | None) -> Mark:
    """What changes when a file (or the symbolic link of a projected volume) is replaced."""
    if path is None:
        return None
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def may_pass(error: Exception) -> bool:
    """Whether a file that could not be read may be the next time, though it is the same: nobody is told then that it
    has changed again."""
    return isinstance(error, OSError) and error.errno in _PASSING
