"""The agent's own credential at the kube-apiserver: re-read when its file changes and after a 401 (design P10)."""

import logging
import os
import re
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Protocol

from agent.errors import TokenUnavailable

logger = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 1.0
"""Seconds between two looks at the file: a projected token is renewed minutes before it expires."""
TOKEN_BYTES_MAX: Final = 16 * 1024
_TOKEN: Final = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 §2.1 b64token


class KubeCredential(Protocol):
    """What goes into a request's Authorization header. Synchronous: it is asked once for each request."""

    def authorization(self, now: float) -> bytes:
        """The header's value, or nothing when another means (a client certificate) proves who we are.

        Raises TokenUnavailable.
        """

    def refresh(self) -> Future[None] | None:
        """The API server refused the last value: look for a newer one at the next request. Where that takes longer:
        what ends, in another thread, when the newer one is here or will not come (agent.relay.renewal waits for it)."""


class CertificateOnly:
    """The TLS client certificate is the credential."""

    def authorization(self, now: float) -> bytes:
        """Nothing."""
        return b""

    def refresh(self) -> None:
        """Nothing to look for; a changed certificate needs a restart."""


class FixedToken:
    """A token that stands in a kubeconfig."""

    def __init__(self, token: str) -> None:
        self._value = _bearer(token.encode())

    def authorization(self, now: float) -> bytes:
        """`Bearer <token>`."""
        return self._value

    def refresh(self) -> None:
        """A fixed token has no newer value."""


class TokenFile:
    """A token in a file that somebody renews: the kubelet, or the test harness in its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value = b""
        self._mark: tuple[int, int, int] | None = None
        self._checked_at = float("-inf")

    def authorization(self, now: float) -> bytes:
        """`Bearer <token>`; looks at the file at most once in CHECK_INTERVAL. `now`: the loop's time."""
        if now - self._checked_at >= CHECK_INTERVAL:
            self._read()
            self._checked_at = now
        if not self._value:
            raise TokenUnavailable("the agent's ServiceAccount token cannot be read")
        return self._value

    def refresh(self) -> None:
        """Look at the file at the next request, whatever its time stamp says."""
        self._checked_at = float("-inf")
        self._mark = None

    def _read(self) -> None:
        """A file that is missing for a moment (being replaced) leaves the last token in use."""
        try:
            stat = os.stat(self._path)
            mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if mark == self._mark:
                return
            with self._path.open("rb") as file:
                value = _bearer(file.read(TOKEN_BYTES_MAX + 1))
        except (OSError, TokenUnavailable) as exc:
            logger.error("ServiceAccount token unreadable", extra={"path": str(self._path), "error": str(exc)})
            return
        if self._value and value != self._value:
            logger.info("ServiceAccount token renewed")
        self._value, self._mark = value, mark


def _bearer(raw: bytes) -> bytes:
    """The header value; raises TokenUnavailable for anything that is no token (a line feed at the end is usual)."""
    token = raw.strip()
    if len(raw) > TOKEN_BYTES_MAX or not _TOKEN.fullmatch(token):
        raise TokenUnavailable("the file does not hold a bearer token")
    return b"Bearer " + token
