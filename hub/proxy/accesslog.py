"""One line for every request, when it has ended. No header, no query, no body: nothing in it can be a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import structlog

from hub import errors
from hub.edge.framing import Request

PATH_BYTES_MAX: Final = 512

_UNSAFE: Final = re.compile(r"[^!-~]|\\")


class AccessLog:
    """Writes to the logger `riata.access`. Lines for requests that were not even understood are rationed (K8)."""

    def __init__(self, now: Callable[[], float], lines_per_s: float) -> None:
        self._log = structlog.get_logger("riata.access")
        self._now = now
        self._rate = lines_per_s
        self._tokens = lines_per_s
        self._filled_at = now()
        self._suppressed = 0

    def request(self, **fields: object) -> None:
        """A request that reached the relay."""
        self._log.info("request", **fields)

    def malformed(self, peer: str, error: errors.HubError) -> None:
        """A request that ended at the edge. What the client sent is not repeated."""
        if not self._take():
            self._suppressed += 1
            return
        suppressed, self._suppressed = self._suppressed, 0
        extra = {"suppressed": suppressed} if suppressed else {}
        self._log.info("request refused", peer=peer, status=error.http_status, reason=error.message, **extra)

    def _take(self) -> bool:
        now = self._now()
        self._tokens = min(self._rate, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def safe_path(request: Request) -> str:
    """The path without its query, cut and in printable ASCII: one line whatever the client sent (C5, F10).

    The query is left out because it may carry secrets (`?token=…`, arguments of a command).
    """
    path = request.target.partition(b"?")[0][: PATH_BYTES_MAX + 1].decode("latin-1")
    if len(path) > PATH_BYTES_MAX:
        path = path[:PATH_BYTES_MAX] + "..."
    return path if path.isascii() and _UNSAFE.search(path) is None else _escape(path)


def _escape(path: str) -> str:
    return path.encode("unicode_escape").decode("ascii")
