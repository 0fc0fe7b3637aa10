"""One run of the harness: a unique name, a private directory, and a lock that tells the living from the dead.

Everything that a run makes outside its own processes (directories, cgroups) lies under its directory or is written
down there, so that the janitor of a later run can remove what a SIGKILLed one left.
"""

import atexit
import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar, Final, Self

from tests.harness import janitor
from tests.harness.children import RUN_VARIABLE
from tests.harness.ports import ports, subnets

LOCK: Final = "lock"


def state_root() -> Path:
    """Where all runs of this user live. Short: a socket's path has 108 bytes at most."""
    return Path(tempfile.gettempdir()) / f"riata-{os.geteuid()}"


class Run:
    """The run of this process: `name` (7 characters), `directory` (0700), `ports`."""

    _current: ClassVar["Run | None"] = None

    def __init__(self, name: str, directory: Path, lock: int) -> None:
        self.name = name
        self.directory = directory
        self.ports = ports(state_root() / "ports")
        self.subnets = subnets(state_root() / "subnets")
        self.keep_logs = False
        self._lock = lock
        self._owner = os.getpid()
        self._numbers: dict[str, int] = {}
        self._counter = 0

    @classmethod
    def current(cls) -> "Run":
        """The one run of this process; the first call makes it and cleans up behind dead ones."""
        if cls._current is None or cls._current._owner != os.getpid():
            root = state_root()
            root.mkdir(mode=0o700, exist_ok=True)
            if root.stat().st_uid != os.geteuid() or root.is_symlink():
                raise PermissionError(f"{root} belongs to somebody else")
            janitor.sweep(root)
            cls._current = cls._create(root)
            atexit.register(cls._current.close)
        return cls._current

    @classmethod
    def existing(cls) -> "Run | None":
        """The run of this process, None when there is none."""
        return cls._current

    @classmethod
    def _create(cls, root: Path) -> Self:
        name = f"r{secrets.token_hex(3)}"
        # Locked before it has its name: the janitor of another run must never see it unlocked.
        staging = root / f".{name}"
        staging.mkdir(mode=0o700)
        lock = os.open(staging / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory = staging.rename(root / name)
        os.environ[RUN_VARIABLE] = name
        return cls(name, directory, lock)

    def subdirectory(self, label: str) -> Path:
        """A new directory named after `label` and a number of its own."""
        self._numbers[label] = self._numbers.get(label, 0) + 1
        number = self._numbers[label]
        directory = self.directory / (label if number == 1 else f"{label}-{number}")
        directory.mkdir(mode=0o700)
        return directory

    def next_number(self) -> int:
        """1, 2, 3 … for names that must be short."""
        self._counter += 1
        return self._counter

    def close(self) -> None:
        """Remove the directory (logs move beside it when `keep_logs`), give back lock and ports. Idempotent."""
        if self._owner != os.getpid() or Run._current is not self:
            return
        Run._current = None
        os.environ.pop(RUN_VARIABLE, None)
        self.ports.close()
        self.subnets.close()
        if self.keep_logs:
            janitor.keep_logs(self.directory)
        janitor.remove_leftovers(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)
