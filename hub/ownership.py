"""Whose the hub's files are. Commands beside the hub are often run by root, and the hub by a user of its own: what root
writes for the hub is the hub's to read."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


def open_private(path: Path) -> int:
    """A descriptor for reading and writing; a file that is not there is made, for its owner only. Raises OSError.

    Only one that was made here is given away: whoever owns the directory could have put another's in its place.
    """
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    try:
        give(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_directory(path: Path) -> None:
    """Make a directory for its owner only, if it is not there. Raises OSError."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give(descriptor, path)
    finally:
        os.close(descriptor)


def give(descriptor: int, path: Path) -> None:
    """As root, give what was just made, and is or will be at `path`, to the user and group that its place belongs to.
    Does nothing for other users, who could not. Raises OSError."""
    if os.geteuid() != 0:
        return
    user, group = _owner(path)
    made = os.fstat(descriptor)
    if (made.st_uid, made.st_gid) != (user, group):
        os.fchown(descriptor, user, group)


def give_group(descriptor: int, path: Path) -> None:
    """Give what takes the place of the file at `path` away as `give` does; a file that its group may use stays that
    user's and group's with the rights of the group, since somebody has set it up so. Others have none, and where the
    group cannot be kept it has none either. Raises OSError."""
    replaced = path.stat()
    shared = replaced.st_mode & (stat.S_IRGRP | stat.S_IWGRP)
    if not shared or (replaced.st_uid, replaced.st_gid) == (0, 0):
        give(descriptor, path)
    elif os.geteuid() == 0:
        os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
    else:
        with contextlib.suppress(PermissionError):  # a group that this user is not in
            os.fchown(descriptor, -1, replaced.st_gid)
    if os.fstat(descriptor).st_gid == replaced.st_gid:
        os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR | shared)


def _owner(path: Path) -> tuple[int, int]:
    """Those of the file that is replaced, where it is some user's; of the directory otherwise. A file of root's does
    not count: it may be what an earlier version left for a hub that cannot read it."""
    try:
        replaced = path.lstat()
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISREG(replaced.st_mode) and replaced.st_uid != 0:
            return replaced.st_uid, replaced.st_gid
    directory = path.parent.stat()
    return directory.st_uid, directory.st_gid


def closed(path: Path, tree: Path | None = None) -> str:
    """Who may not open a file, and the cure: for everything in `tree` where it is given, since what root has written
    seldom is one file."""
    user, group = os.geteuid(), os.getegid()
    chown = f"if the hub is to run as user {user}: chown "
    cure = f"{chown}-R {user}:{group} {tree}" if tree is not None else f"{chown}{user}:{group} {path}"
    try:
        found = path.stat()
        whose = f"it belongs to user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"
    except OSError:
        whose = "its directory is closed"
        cure = cure if tree is not None else f"let that user into {path.parent}"
    return f"user {user} may not open it ({whose}); {cure}"
