"""What a demo writes about itself into its directory: enough for the next one to clean up behind a killed one."""

import os
import pathlib
import stat
from collections.abc import Callable
from typing import Final

import msgspec

from ctl import files
from ctl.demo import processes

PREFIX: Final = "riata-demo-"
"""Directories of demos, in the system's place for temporary files, begin with it."""

FILE: Final = "demo.json"
_BYTES_MAX: Final = 65_536


class Binding(msgspec.Struct, frozen=True):
    """A ClusterRoleBinding that was about to be made in a cluster of the user's."""

    name: str
    kubeconfig: str
    context: str


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose the directory is, and what lies outside of it."""

    pid: int
    started: int
    """As `processes.started`: a later process may have the same id."""
    namespace: str
    """As `processes.namespace`."""
    keep: bool = False
    """The user wants to keep the directory: it is never removed."""
    bindings: tuple[Binding, ...] = ()
    handed: str = ""
    """The directory that was handed to the user of sudo, if any."""
    handed_uid: int = 0

    def is_dead(self) -> bool:
        """Whether its process is gone for certain."""
        return self.namespace == processes.namespace() and processes.started(self.pid) != self.started


def own(*, keep: bool) -> Record:
    """The record of this process."""
    pid = os.getpid()
    return Record(pid, processes.started(pid) or 0, processes.namespace(), keep)


def write(directory: pathlib.Path, record: Record) -> None:
    files.write_secret(directory / FILE, msgspec.json.encode(record).decode())


def change(directory: pathlib.Path, changed: Callable[[Record], Record]) -> None:
    """Replace our own record in `directory` by what `changed` makes of it."""
    write(directory, changed(msgspec.json.decode((directory / FILE).read_bytes(), type=Record)))


def read(directory: pathlib.Path) -> Record | None:
    """The record of a demo of this user; None for whatever else `directory` is. No symbolic link is followed."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            return None
        file = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
        with open(file, "rb") as text:
            return msgspec.json.decode(text.read(_BYTES_MAX), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # one that starts just now has none yet
    finally:
        os.close(descriptor)
