"""`sudo make demo`: the files that are meant for a person go to the person, who is not root.

The demo's own directory stays root's, for its processes write there. Copies go into a second one. Until its last step
nobody but root is inside; after that root follows no path through it and only unlinks the names it knows.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping

import msgspec

from ctl import terminal
from ctl.demo import records, running

_NAMES = ("kubeconfig", "ca.crt", "admin.token", "kubectl")


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """Who typed `sudo`."""

    uid: int
    gid: int


def person(environ: Mapping[str, str]) -> Person | None:
    """The user whom sudo made root for; None when we are not root, or root is who asked."""
    uid, gid = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (uid.isdecimal() and gid.isdecimal()) or int(uid) == 0:
        return None
    return Person(int(uid), int(gid))


@contextlib.contextmanager
def handed(
    demo: running.Running, kubeconfig: pathlib.Path, *, keep: bool
) -> Iterator[tuple[running.Running, pathlib.Path]]:
    """`demo` and `kubeconfig` as the person at the terminal can use them, until the block ends or for `keep`."""
    to = person(os.environ)
    if to is None:
        yield demo, kubeconfig
        return
    directory = pathlib.Path(tempfile.mkdtemp(prefix=records.PREFIX))
    records.change(demo.directory, lambda own: msgspec.structs.replace(own, handed=str(directory), handed_uid=to.uid))
    sources = {"kubeconfig": kubeconfig, "ca.crt": demo.ca_file, "admin.token": demo.admin_token_file}
    if demo.kubectl is not None:
        sources["kubectl"] = demo.kubectl  # a copy: root's cache may be closed to others, and a link would give it away
    try:
        _fill(directory, sources, to)
        yield (
            dataclasses.replace(
                demo,
                ca_file=directory / "ca.crt",
                admin_token_file=directory / "admin.token",
                kubectl=directory / "kubectl" if demo.kubectl else None,
            ),
            directory / "kubeconfig",
        )
    finally:
        if keep:
            terminal.say(f"kept for you: {directory}")
        else:
            take_back(directory, to.uid)


def _fill(directory: pathlib.Path, sources: Mapping[str, pathlib.Path], to: Person) -> None:
    """Copies of `sources` in `directory`, everything the person's and nobody else's; the directory itself last."""
    inside = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name, source in sources.items():
            mode = 0o700 if name == "kubectl" else 0o600
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with source.open("rb") as data, open(os.open(name, flags, mode, dir_fd=inside), "wb") as copy:
                shutil.copyfileobj(data, copy, 1 << 20)
                os.fchown(copy.fileno(), to.uid, to.gid)
        os.fchown(inside, to.uid, to.gid)
    finally:
        os.close(inside)


def take_back(directory: pathlib.Path, uid: int) -> None:
    """Remove what `handed` made. What the person put there stays, with the directory; so does what is not theirs."""
    try:
        inside = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if os.fstat(inside).st_uid not in {uid, os.geteuid()}:  # ours: killed before it was handed over
            return
        for name in _NAMES:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=inside)
    finally:
        os.close(inside)
    with contextlib.suppress(OSError):
        os.rmdir(directory)
