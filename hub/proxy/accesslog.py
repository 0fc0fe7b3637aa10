"""One line for every request, when it has ended. No header, no query, no body: nothing in it can be a secret."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Final

from hub import errors
from hub.auth.impersonate import GROUP, PREFIX, Pair
from hub.edge.framing import Request
from proto.directlog import DirectLog
from proto.rationing import RationedLog
from proto.redaction import redact_text

NAME: Final = "riata.access"
PATH_BYTES_MAX: Final = 512
GROUPS_MAX: Final = 32
"""Of whose names a line says: a head has room for 50 KiB of them."""


class AccessLog:
    """Writes to the logger `riata.access`. Lines for requests that were not even understood are rationed (K8).

    Lines of requests take the short way where there is one (proto.directlog): all that end in one turn of the loop are
    written together, before the loop waits again.
    """

    def __init__(self, now: Callable[[], float], lines_per_s: float, direct: DirectLog | None = None) -> None:
        self._log = logging.getLogger(NAME)
        self._rationed = RationedLog(self._log, now, burst=lines_per_s, per_s=lines_per_s)
        self._direct = direct
        self._loop: asyncio.AbstractEventLoop | None = None
        """Whose turns they are: asking for it anew asks the kernel for the process id (Python 3.11)."""

    def request(self, fields: dict[str, object]) -> None:
        """A request that reached the relay. Texts are printable ASCII without credentials: see `safe_path`."""
        direct = self._direct
        if direct is None:
            self._log.info("request", extra=fields)
            return
        is_scheduled = direct.has_records
        if not direct.record(NAME, "request", fields):
            self._log.info("request", extra=fields)
        elif not is_scheduled:
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(direct.flush)

    def flush(self) -> None:
        """Write what waits for the end of this turn; for the last turn of all."""
        if self._direct is not None:
            self._direct.flush()

    def malformed(self, request_id: str, peer: str, error: errors.HubError) -> None:
        """A request that ended at the edge. What the client sent is not repeated."""
        self._rationed.log(
            logging.INFO,
            "request refused",
            "malformed",
            request_id=request_id,
            peer=peer,
            status=error.http_status,
            reason=error.message,
        )


def acting(claims: Sequence[Pair], as_user: str) -> dict[str, object]:
    """Of a request that impersonates: as whom, with which groups. Without `as_user` no grant covered it, and the names
    that it asked for are left out: anybody could write lines with them."""
    if not as_user:
        return {"impersonates": True}
    groups = [
        PREFIX + value.decode("ascii") for value in dict.fromkeys(value for name, value in claims if name == GROUP)
    ]
    if len(groups) > GROUPS_MAX:
        groups[GROUPS_MAX:] = [f"and {len(groups) - GROUPS_MAX} more"]
    return {"impersonates": True, "as_user": as_user, "as_groups": groups}


def safe_path(request: Request) -> str:
    """The path without its query, cut, redacted and in printable ASCII: one line whatever was sent (C5, F10).

    The query is left out because it may carry secrets (`?token=…`, arguments of a command).
    """
    return _shown(request.target.partition(b"?")[0][: PATH_BYTES_MAX + 1])


@functools.lru_cache(maxsize=1024)
def _shown(path: bytes) -> str:
    """Remembered, since clients ask for the same paths again and redaction costs as much as parsing the request."""
    text = path.decode("latin-1")
    if len(text) > PATH_BYTES_MAX:
        text = text[:PATH_BYTES_MAX] + "..."
    if not text.isascii() or not text.isprintable() or "\\" in text:
        text = text.encode("unicode_escape").decode("ascii")
    return redact_text(text)
