"""The Pythons that riata is compiled for and runs with: the images' own, outside of them, or this environment's.

The images' has its own C library and OpenSSL. Its loader runs it wherever Linux is, without root or a chroot, so that
what is proven and measured is what is shipped.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.version import Version

from deploy import stages
from deploy.hatch_build import compiler
from deploy.images import base, debian
from deploy.images.debian import BuildError

_GCC: Final = "apt-get install gcc libc6-dev"
LAUNCHER: Final = '#!/bin/sh\nexec env -u PWD -u OLDPWD -u SHLVL -u _ {command} "$@"\n'
"""Without what one or the other shell puts into the environment of what it runs."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """`root`: the images' system, None for this environment's Python."""

    python: tuple[str, ...]
    """The command that runs it where something is to be compiled."""
    environment: Mapping[str, str]
    """What that command needs beside what is set."""
    packages: Path
    """The directory with the packages that riata needs."""
    root: Path | None
    made_of: tuple[bytes, ...]
    """What else decides about what is compiled for it."""


def here() -> Runtime:
    """This environment's Python."""
    made_of = (sys.version.encode(), sysconfig.get_platform().encode(), glibc().encode())
    return Runtime((sys.executable,), {}, Path(sysconfig.get_path("platlib")), None, made_of)


def here_obstacle() -> str | None:
    """Why nothing can be compiled for this Python, None when it can; names the cure."""
    if why_not := _no_compiler():
        return why_not
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return None if header.exists() else f"no {header}: apt-get install python3-dev"


def of_images(cache: Path) -> Runtime:
    """The Python of the images. Raises BuildError; hold the cache."""
    lowest, tools, headers, packages = (make(cache) for make in (base.base, base.tools, base.headers, base.downloaded))
    root = lowest / "root"
    environment = {
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": str(tools / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "CPATH": f"{headers}:{headers}/python{debian.PYTHON}",
        "CC": shlex.join(compiler()),
    }
    launcher = lowest / "python"
    write_launcher(launcher, root)
    made_of = tuple(stage.name.encode() for stage in (lowest, tools, headers))
    return Runtime((str(launcher),), environment, packages / "site", root, made_of)


def write_launcher(path: Path, root: Path) -> None:
    """A file that runs the Python of `root` and takes itself for it, so that it is `sys.executable` and may be named
    in a script's first line."""
    text = LAUNCHER.format(command=shlex.join(debian.python(root, name=path)))
    if not path.exists() or path.read_text() != text:
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.replace(path)  # somebody may be starting it


def images_obstacle() -> str | None:
    """Why nothing can be compiled for the Python of the images, None when it can; names the cure."""
    ours = glibc()
    if not ours or Version(ours) > Version(debian.GLIBC):
        return (
            f"this is glibc {ours or '(none)'}, and it must be no newer than {debian.GLIBC}: build on an older system"
        )
    return debian.obstacle() or _no_compiler()


def glibc() -> str:
    """The version of this machine's, empty where another C library is (Alpine's knows no such name)."""
    name = "CS_GNU_LIBC_VERSION"
    return (os.confstr(name) or "").removeprefix("glibc ") if name in os.confstr_names else ""


def choose(cache: Path) -> tuple[Runtime, str]:
    """The images', or this environment's, and why. Raises BuildError where neither can be compiled for."""
    why_not = images_obstacle()
    try:
        if why_not is None:
            with stages.locked(cache):
                return of_images(cache), ""
    except (BuildError, OSError, subprocess.TimeoutExpired) as error:
        why_not = str(error)
    if nor_here := here_obstacle():
        raise BuildError(nor_here if nor_here == why_not else f"{why_not}; {nor_here}")
    return here(), why_not


def _no_compiler() -> str | None:
    command = compiler()
    if shutil.which(command[0]) is None:
        return f"no C compiler ({command[0]}): {_GCC}"
    asked = [*command, "-fsyntax-only", "-include", "stdio.h", "-x", "c", os.devnull]
    if subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode != 0:
        return f"the C compiler ({shlex.join(command)}) does not find stdio.h: {_GCC}"
    return None
