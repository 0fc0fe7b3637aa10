"""The base of both images: Debian's Python and the libraries it needs. No shell, no package manager, nothing setuid.

mmdebstrap downloads, verifies and unpacks; no maintainer script runs, so it needs neither root nor a chroot.
"""

import fnmatch
import os
import shutil
import subprocess
import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

SUITE: Final = "trixie"
PYTHON: Final = "3.13"
"""Debian's, which PGO makes a third faster than what most others build."""
GLIBC: Final = "2.41"
PACKAGES: Final = ("python3-minimal", "libpython3-stdlib", "ca-certificates")
UID: Final = 65532
_LIMIT_S: Final = 300
_CURE: Final = (
    "a Debian mirror must be reachable; its keys must be here (apt-get install debian-archive-keyring);"
    " whoever is not root needs uidmap"
)
_HEADERS: Final = ("", "*-linux-gnu/")
"""Where Python's are, below usr/include: Debian's one for all architectures leads to that of this one."""

_KEPT: Final = (
    "usr/bin/python3",
    f"usr/bin/python{PYTHON}",
    "usr/lib64/*",
    "usr/lib/ld-linux-*",
    "usr/lib/*-linux-gnu/*.so*",
    f"usr/lib/python{PYTHON}/*",
    "usr/share/ca-certificates/mozilla/*.crt",
    "usr/share/doc/*/copyright",
    "etc/ssl/openssl.cnf",
    "usr/lib/ssl/*",
)
_LEFT_OUT: Final = (
    "usr/lib/*-linux-gnu/gconv/*",
    "usr/lib/*-linux-gnu/perl*",
    f"usr/lib/python{PYTHON}/*/__pycache__/*",
    f"usr/lib/python{PYTHON}/__pycache__/*",
    *(
        f"usr/lib/python{PYTHON}/{name}/*"
        for name in ("test", "idlelib", "tkinter", "lib2to3", "pydoc_data", "turtledemo", "ensurepip", "distutils")
    ),
    "usr/lib/ssl/misc/*",
)
_PASSWD: Final = f"root:x:0:0:root:/root:/sbin/nologin\nriata:x:{UID}:{UID}:riata:/:/sbin/nologin\n"
_GROUP: Final = f"root:x:0:\nriata:x:{UID}:\n"


class BuildError(Exception):
    """An image cannot be made. The text has the cure."""


def obstacle() -> str | None:
    """Why no image can be made here; None when one can."""
    return None if shutil.which("mmdebstrap") else "mmdebstrap is missing: apt-get install mmdebstrap (Debian)"


def unpack(archive: Path, *more: str) -> None:
    """Debian's packages and `more`, unpacked, as a tar at `archive`. Raises BuildError."""
    if reason := obstacle():
        raise BuildError(reason)
    packages = ",".join((*PACKAGES, *more))
    command = ["mmdebstrap", "--variant=extract", f"--include={packages}", SUITE, str(archive)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode != 0:
        raise BuildError(f"mmdebstrap: {done.stderr[-2000:]}\nCure: {_CURE}")


def reduce(archive: Path, root: Path) -> None:
    """Put what an image needs of `archive` into the directory `root`."""
    with tarfile.open(archive) as opened:
        for member in opened:
            name = str(PurePosixPath(member.name))
            if member.isdir() or not _is_kept(name):
                continue
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                path.symlink_to(member.linkname)
            elif content := opened.extractfile(member):  # a hard link's is that of its target
                path.write_bytes(content.read())
                path.chmod(0o755 if member.mode & 0o100 else 0o644)
    for name in ("lib", "lib64"):
        if (root / "usr" / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    _bundle(root)
    for name, text in (("etc/passwd", _PASSWD), ("etc/group", _GROUP)):
        (root / name).write_text(text)
    (root / "etc" / "nsswitch.conf").write_text("hosts: files dns\n")
    (root / "tmp").mkdir()


def _is_kept(name: str) -> bool:
    # The loaders of other word sizes and the like do not exist in these packages; the patterns are by place only.
    return any(fnmatch.fnmatchcase(name, each) for each in _KEPT) and not any(
        fnmatch.fnmatchcase(name, each) for each in _LEFT_OUT
    )


def _bundle(root: Path) -> None:
    """What ca-certificates' own script would make: one file with every CA."""
    source = root / "usr" / "share" / "ca-certificates"
    certificates = sorted((source / "mozilla").glob("*.crt"))
    target = root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    target.parent.mkdir(parents=True)
    target.write_text("".join(path.read_text() for path in certificates))
    shutil.rmtree(source)


def unpack_headers(directory: Path) -> None:
    """Python's headers as `directory`/pythonVERSION and what those include. Not the C library's, which belong to its
    compiler. Raises BuildError."""
    archive = directory / "debian.tar"
    unpack(archive, f"libpython{PYTHON}-dev")
    wanted = [f"usr/include/{place}python{PYTHON}/*" for place in _HEADERS]
    with tarfile.open(archive) as opened:
        for member in opened:
            name = str(PurePosixPath(member.name))
            if member.isfile() and any(fnmatch.fnmatchcase(name, each) for each in wanted):
                path = directory / PurePosixPath(name).relative_to("usr/include")
                path.parent.mkdir(parents=True, exist_ok=True)
                content = opened.extractfile(member)
                assert content is not None
                path.write_bytes(content.read())
    archive.unlink()


def python(root: Path, *, name: Path | None = None) -> list[str]:
    """The command that runs the Python of `root`, with its C library, outside of it. It takes itself for `name`."""
    loader = next(path for top in ("usr/lib64", "usr/lib") for path in sorted((root / top).glob("ld-linux-*")))
    libraries = [str(path) for path in (root / "usr/lib").glob("*-linux-gnu")]
    named = ["--argv0", str(name)] if name is not None else []
    return [str(loader), *named, "--library-path", ":".join(libraries), str(root / "usr" / "bin" / f"python{PYTHON}")]


def compile_all(root: Path, directory: Path, shown_as: str) -> None:
    """Compile every module below `directory` with the Python of `root`, as if it were at `shown_as`. Raises BuildError.

    Hash-based and unchecked: such files hold no time, and nobody looks at a source again on a read-only disk.
    """
    command = [*python(root), "-s", "-m", "compileall", "-q", "-f"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(directory), "-p", shown_as, str(directory)]
    environment = {"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode != 0:
        raise BuildError(f"compileall: {done.stdout[-2000:]}{done.stderr[-2000:]}")
