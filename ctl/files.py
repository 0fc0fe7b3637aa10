"""Files that hold secrets: read with a bound, written whole or not at all, and never readable by others."""

import contextlib
import errno
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

from ctl import errors, terminal
from proto import pins

MAX_BYTES = 16 * 1024 * 1024
"""Largest file we read. A kubeconfig of a thousand clusters is about 3 MB."""

LOCK_WAIT_S = 5.0
"""How long a writer waits for another one's lock file before it gives up."""


def is_there(path: pathlib.Path, *, what: str) -> bool:
    """Whether there is something to read at `path`. UsageError when a directory on the way does not let us look."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise _unreadable(str(path), what, exc) from exc
    return True


def read_text(path: str, *, what: str) -> str:
    """Text of the file `path` (`-` is standard input). UsageError when it cannot be read or is not UTF-8."""
    try:
        return _read(path, what=what).decode()
    except UnicodeDecodeError as exc:
        raise errors.UsageError(f"the {what} {path} is not UTF-8 text") from exc


def _read(path: str, *, what: str) -> bytes:
    """Raises UsageError."""
    try:
        if path == "-":
            data = _standard_input(what)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise _unreadable(path, what, exc) from exc
    if len(data) > MAX_BYTES:
        raise errors.UsageError(f"the {what} {path} is larger than {MAX_BYTES} bytes")
    return data


def _standard_input(what: str) -> bytes:
    if sys.stdin is None:  # started with `<&-`
        raise errors.UsageError(f"there is no standard input to read the {what} from")
    with terminal.interruptible():
        return sys.stdin.buffer.read(MAX_BYTES + 1)


def _unreadable(path: str, what: str, exc: OSError) -> errors.UsageError:
    return errors.UsageError(
        f"cannot read the {what} {path}: {exc.strerror}", cure="check the path and its permissions"
    )


def check_size(text: str) -> None:
    """Raises ValueError for what could not be read again."""
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(
            f"it would be larger than {MAX_BYTES} bytes: name fewer clusters, or a smaller CA file at login"
        )


def read_ca(path: str) -> str:
    """The certificates of the CA file `path`, as PEM. One without any must never come to mean "the system's CAs".

    Nothing else of it: what is around them may be notes in any encoding, which OpenSSL refuses in a text, or the
    private key, and what is returned goes into kubeconfigs for others.
    """
    content = _read(path, what="CA file")
    try:
        return pins.pem_of(pins.certificates_of_pem(content, bytes_max=MAX_BYTES)).decode("ascii")
    except pins.PinError as exc:
        raise errors.UsageError(
            f"the CA file {path} cannot be used: {exc}",
            cure="use the hub's ca.crt (GET /v1/ca gives it too)",
        ) from exc


def read_token(path: str) -> str:
    """The token in the file `path`: one line of printable ASCII, white space around it dropped."""
    token = read_text(path, what="token file").strip()
    if not token or not is_token(token):
        raise errors.UsageError(f"the token file {path} does not hold one token", cure="it must hold the token alone")
    return token


def is_token(text: str) -> bool:
    """Whether a header can carry it: printable ASCII in one line without white space."""
    return text.isascii() and text.isprintable() and " " not in text


def write_secret(path: pathlib.Path, data: str) -> None:
    """Replace `path` by `data` with mode 0600: readers see the old file or the new one, never a part.

    A symbolic link stays one, and its target is replaced. The owner of an existing file is kept where we may
    (a root shell with somebody else's HOME). Missing directories are made with 0700. OSError when it fails, and
    then nothing has changed; so when `path` is there and no file (root would put one in the place of /dev/null).
    """
    target = pathlib.Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(target))
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # made 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(file.fileno())
            _keep_owner(file.fileno(), target)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    _sync_directory(target.parent)


def create_secret(path: pathlib.Path, data: str) -> None:
    """Make `path` with mode 0600, ours: in a directory of everybody's, what is there already may be somebody's trap,
    so no link is followed and no file taken over. FileExistsError then; after any OSError nothing is left of ours.
    Missing directories are made with 0700.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(file.fileno())
        _sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise


def _keep_owner(descriptor: int, target: pathlib.Path) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        old = target.stat()
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, old.st_uid, old.st_gid)


def _sync_directory(directory: pathlib.Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: pathlib.Path, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold `path`.lock, exactly as client-go does (tools/clientcmd/config.go lockFile), so that kubectl keeps out.

    client-go fails at once when the lock exists; we wait `wait_s` seconds first, because both hold it for milliseconds.
    """
    lock = path.with_name(path.name + ".lock")
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0))
            break
        except FileExistsError as exc:
            if time.monotonic() >= deadline:
                raise errors.CommandError(
                    f"{path} is locked: {lock} exists",
                    means="kubectl or another riata is writing it, or was killed while it did",
                    cure=f"if none is running, remove {lock} and repeat the command",
                ) from exc
            time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)
