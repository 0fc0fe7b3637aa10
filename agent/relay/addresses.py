"""Addresses of one API server: its Service, and the control plane's own endpoints for when the Service is no way.

The endpoints come from a file that the cluster agent has written (a ConfigMap in the pod): nobody at the hub can add to
it. Whichever address answers, its certificate must be the cluster's, for the same name as the Service's.
"""

import ipaddress
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.relay.endpoint import Endpoint, mark_of, may_pass

logger = logging.getLogger(__name__)

Address = tuple[str, int]

FILE_BYTES_MAX: Final = 4096
ENDPOINTS_MAX: Final = 16
LOOK_INTERVAL_S: Final = 5.0
AGAIN_S: Final = 15.0
"""Seconds after a failure of the Service before it is tried again, beside what works."""
_LINE: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[0-9.]{7,15}):([0-9]{1,5})")


class Addresses:
    """What to dial, in order. Used by one event loop."""

    def __init__(self, endpoint: Endpoint, file: Path | None, *, clock: Callable[[], float]) -> None:
        """`file`: one `ADDRESS:PORT` a line; it may be missing or empty for as long as nobody has written it."""
        self.service: Address = (endpoint.host, endpoint.port)
        self._file = file
        self._clock = clock
        self._mark: object = None
        self._looked_at = float("-inf")
        self._endpoints: list[Address] = []
        self._failed_at: float | None = None

    @property
    def is_around_service(self) -> bool:
        """The Service failed lately: the endpoints come first."""
        return self._failed_at is not None

    def candidates(self) -> list[Address]:
        """The Service first, unless it failed and there is something else. Never empty."""
        self._look()
        if self._failed_at is not None and self._endpoints:
            return [*self._endpoints, self.service]
        return [self.service, *self._endpoints]

    def has(self, host: str) -> bool:
        """Whether an API server is at this IP address."""
        self._look()
        return any(host == each for each, _ in (*self._endpoints, self.service))

    def is_probe_due(self) -> bool:
        """Whether to try the Service again; true once in AGAIN_S while it is avoided."""
        now = self._clock()
        if self._failed_at is None or now - self._failed_at < AGAIN_S:
            return False
        self._failed_at = now
        return True

    def worked(self, address: Address) -> None:
        """A connection was made to `address`: it is the first to try."""
        if address == self.service:
            if self._failed_at is not None:
                logger.info("the API server's Service works again")
            self._failed_at = None
        else:
            if self._failed_at is None:
                logger.warning("the API server's Service is no way to it: using an endpoint", extra={"to": address})
                self._failed_at = self._clock()
            self._endpoints.sort(key=lambda each: each != address)

    def _look(self) -> None:
        now = self._clock()
        if self._file is None or now - self._looked_at < LOOK_INTERVAL_S:
            return
        self._looked_at = now
        mark = mark_of(self._file)
        if mark == self._mark:
            return
        try:
            found = parse(self._file.read_bytes()[: FILE_BYTES_MAX + 1])
        except FileNotFoundError:
            found = []
        except (OSError, ValueError) as exc:
            logger.error("the file of the control plane's endpoints is not used", extra={"error": str(exc)})
            if not may_pass(exc):
                self._mark = mark
            return
        self._mark = mark
        self._endpoints = [address for address in found if address != self.service]


def parse(content: bytes) -> list[Address]:
    """Raises ValueError for anything but a few `ADDRESS:PORT` lines: names would need the DNS that may be gone."""
    if len(content) > FILE_BYTES_MAX:
        raise ValueError("it is too long")
    found: list[Address] = []
    for line in content.decode("ascii").split():
        match = _LINE.fullmatch(line)
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError(f"{line!r} is no ADDRESS:PORT")
        address = ipaddress.ip_address(match[1].strip("[]"))
        if address.is_unspecified or address.is_multicast:
            raise ValueError(f"{line!r} is no address of a server")
        found.append((str(address), int(match[2])))
    if len(found) > ENDPOINTS_MAX:
        raise ValueError(f"more than {ENDPOINTS_MAX} endpoints")
    return list(dict.fromkeys(found))
