"""Port numbers that two harness runs side by side never share.

Kubernetes' programs cannot be handed a bound socket, so a number is chosen first. Below the kernel's ephemeral range,
so that no outgoing connection takes it; a lock file per number keeps another run of this user off it until we end.
"""

import fcntl
import os
import random
import socket
from pathlib import Path
from typing import Final

from tests.harness.failures import HarnessError

_FIRST: Final = 12_000
_LAST: Final = 31_999
_TRIES: Final = 500


class PortLease:
    """Numbers leased to one owner; `close()` gives them back."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._locks: list[int] = []
        self._random = random.Random(os.urandom(8))
        directory.mkdir(parents=True, exist_ok=True)

    def take(self) -> int:
        """A TCP port that is free on every address now. Raises HarnessError."""
        for _ in range(_TRIES):
            port = self._random.randint(_FIRST, _LAST)
            descriptor = os.open(self._directory / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            if _is_free(port):
                self._locks.append(descriptor)
                return port
            os.close(descriptor)
        raise HarnessError(f"no free port between {_FIRST} and {_LAST} in {_TRIES} tries")

    def close(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
