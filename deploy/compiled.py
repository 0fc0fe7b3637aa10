"""`make compiled`: an environment beside .venv, with its packages, whose riata is compiled.

`python -m deploy.compiled DIRECTORY [--advisory]`. Images are made of the same wheel (deploy/images), and `make test`
runs it wherever it starts hub or agents. Compiling takes two minutes; the wheel stays in the user's cache under a hash
of what it is made of. With --advisory it is no error that nothing can be compiled here.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path
from typing import Final

from packaging.version import Version

from deploy import stages
from deploy.hatch_build import compiler
from deploy.images import wheels
from deploy.images.debian import BuildError

REPOSITORY: Final = Path(__file__).parents[1]
HOOK: Final = "deploy/hatch_build.py"
PACKAGES: Final = ("hub", "agent", "proto", "ctl")
_LIMIT_S: Final = 300


def obstacle(python: str = "", glibc: str = "") -> str | None:
    """Why nothing can be compiled here, None when it can; names the cure. `python`, `glibc`: versions of where it shall
    run, as "3.11" and "2.36"; empty for here."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python not in {"", here}:
        return f"this is Python {here}, and it has to be {python}: make PYTHON=/path/to/python{python}"
    ours = _glibc()
    if glibc and (not ours or Version(ours) > Version(glibc)):
        return f"this is glibc {ours}, and it must be no newer than {glibc}: build on an older system"
    if shutil.which(compiler()) is None:
        return f"no C compiler ({compiler()}): apt-get install gcc libc6-dev"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        return f"no {header}: apt-get install python3-dev"
    return None


def wheel(cache: Path) -> Path:
    """The wheel for this machine and this Python. Raises BuildError. Several at a time wait for each other."""

    def make(directory: Path) -> None:
        wheels.build_wheel(REPOSITORY, directory, is_compiled=True)
        if _parts() != parts:  # what is interpreted would be of other sources than what is compiled
            raise BuildError("the sources changed while they were compiled: run it again")

    with stages.locked(cache):
        parts = _parts()
        (made,) = stages.stage(cache, "wheel", parts, make).glob("*.whl")
    return made


def _parts() -> list[bytes]:
    """All that the wheel depends on: sources, locked packages (mypy and setuptools among them), Python, compiler."""
    said = subprocess.run([compiler(), "--version"], capture_output=True, check=True, timeout=60).stdout
    made_by = [sys.version.encode(), sysconfig.get_platform().encode(), _glibc().encode(), said]
    return [*stages.sources(REPOSITORY, PACKAGES, HOOK, "requirements/dev.txt"), *made_by]


def _glibc() -> str:
    """Its version, empty where another C library is (Alpine's knows no such name)."""
    name = "CS_GNU_LIBC_VERSION"
    return (os.confstr(name) or "").removeprefix("glibc ") if name in os.confstr_names else ""


def environment(directory: Path, compiled: Path) -> None:
    """Make a virtual environment of the wheel and of this environment's packages. One that is there stays as it is:
    somebody may be running it."""
    mark = directory / ".made-of"
    if mark.exists() and mark.read_text() == str(compiled):
        return
    venv.create(directory, clear=True, symlinks=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python"), "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--root-user-action=ignore", "--no-deps", str(compiled)]
    subprocess.run(pip, check=True, timeout=_LIMIT_S)
    # A path file adds a directory without reading the path files in it: of riata there is the compiled one only.
    (site,) = directory.glob("lib/python3*/site-packages")
    (site / "packages.pth").write_text(f"{sysconfig.get_path('platlib')}\n")
    mark.write_text(str(compiled))


def main(arguments: list[str]) -> int:
    directory = Path(arguments[0])
    why_not = obstacle()
    if why_not is not None:
        shutil.rmtree(directory, ignore_errors=True)  # what an older state was compiled to is not what anybody wants
        is_error = "--advisory" not in arguments
        print(f"{'error' if is_error else 'Compiled'}: riata cannot be compiled here: {why_not}", file=sys.stderr)
        return int(is_error)
    started = time.monotonic()
    cache = stages.cache_root("compiled")
    try:
        made = wheel(cache)
        with stages.locked(cache):  # of two that make one directory the second finds it made
            environment(directory, made)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Compiled: {directory}/bin has riata, riata-hub and riata-agent ({time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
