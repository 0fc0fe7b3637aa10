"""Port and network numbers that two harness runs side by side never share.

Kubernetes' programs cannot be handed a bound socket, so a number is chosen first. Below the kernel's ephemeral range,
so that no outgoing connection takes it; a lock file per number keeps another run of this user off it until we end.
"""

import fcntl
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.harness.failures import HarnessError

_FIRST: Final = 12_000
_LAST: Final = 31_999
_TRIES: Final = 500
_SUBNETS: Final = 16_384


class Lease:
    """Numbers of one kind, leased to one run; `close()` gives them back."""

    def __init__(self, directory: Path, first: int, last: int, is_free: Callable[[int], bool]) -> None:
        self._directory = directory
        self._range = (first, last)
        self._is_free = is_free
        self._locks: list[int] = []
        self._random = random.Random(os.urandom(8))
        directory.mkdir(parents=True, exist_ok=True)

    def take(self) -> int:
        """A number that nobody has now. Raises HarnessError."""
        for _ in range(_TRIES):
            number = self._random.randint(*self._range)
            descriptor = os.open(self._directory / str(number), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            if self._is_free(number):
                self._locks.append(descriptor)
                return number
            os.close(descriptor)
        raise HarnessError(f"nothing free in {self._directory.name} {self._range} in {_TRIES} tries")

    def close(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def ports(directory: Path) -> Lease:
    """TCP ports that are free on every address."""
    return Lease(directory, _FIRST, _LAST, _is_free)


def subnets(directory: Path) -> Lease:
    """Numbers of /30 networks for the uplinks of full clusters."""
    return Lease(directory, 0, _SUBNETS - 1, lambda _: True)


def keep(host: str) -> socket.socket:
    """A socket bound to a number of the kernel's choice at this IPv4 address, which does not listen: who connects is
    refused, nobody is given the number while it is open, and a program that sets SO_REUSEADDR may listen there. One
    that is ended and started again would find its number taken otherwise, once in some thousand times."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, 0))
    except OSError:
        sock.close()
        raise
    return sock


def address(sock: socket.socket) -> str:
    """HOST:PORT."""
    host, port = sock.getsockname()
    return f"{host}:{port}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
