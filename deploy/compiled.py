"""`make compiled`: an environment beside .venv whose riata is compiled.

`python -m deploy.compiled DIRECTORY [--advisory]`. It runs with the images' Python, C library and OpenSSL
(deploy/runtime.py), of the wheel that is in them, and `make test` starts hub and agents from it; where no images can be
made, with this environment's. Compiling takes two minutes; the wheel stays in the user's cache under a hash of what it
is made of. With --advisory it is no error that nothing can be compiled here.
"""

import shlex
import shutil
import subprocess
import sys
import time
import venv
import zipfile
from importlib.metadata import Distribution
from pathlib import Path
from typing import Final

from deploy import runtime, stages
from deploy.hatch_build import compiler
from deploy.images import base, debian, wheels
from deploy.images.debian import BuildError
from deploy.runtime import Runtime

REPOSITORY: Final = base.REPOSITORY
HOOK: Final = "deploy/hatch_build.py"
PACKAGES: Final = ("hub", "agent", "proto", "ctl")
_LIMIT_S: Final = 300
_PROGRAM: Final = """\
#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
import sys

from {module} import {function}

sys.exit({function}())
"""
"""For the shell its second line, for Python all but that: a first line that names Python has no room for a long path,
nor for a space (as pip's own)."""


def wheel(cache: Path, by: Runtime) -> Path:
    """The wheel for this machine and that Python. Raises BuildError. Several at a time wait for each other."""

    def make(directory: Path) -> None:
        wheels.build_wheel(REPOSITORY, directory, is_compiled=True, python=by.python, environment=by.environment)
        if _parts(by) != parts:  # what is interpreted would be of other sources than what is compiled
            raise BuildError("the sources changed while they were compiled: run it again")

    with stages.locked(cache):
        parts = _parts(by)
        (made,) = stages.stage(cache, "wheel", parts, make).glob("*.whl")
    return made


def _parts(by: Runtime) -> list[bytes]:
    """All that the wheel depends on: sources, locked packages (mypy and setuptools among them), Python, compiler."""
    said = subprocess.run([*compiler(), "--version"], capture_output=True, check=True, timeout=60).stdout
    return [*stages.sources(REPOSITORY, PACKAGES, HOOK, "requirements/dev.txt"), *by.made_of, said]


def environment(directory: Path, compiled: Path, by: Runtime) -> None:
    """Make an environment of the wheel and of what it needs. One that is there stays as it is: somebody may be running
    it. Raises BuildError."""
    parts = (compiled, by.packages, by.root, _PROGRAM, runtime.LAUNCHER)
    mark, made_of = directory / ".made-of", "\n".join(map(str, parts))
    if mark.exists() and mark.read_text() == made_of:
        return
    site = _of_images(directory, by.root) if by.root else _of_here(directory)
    with zipfile.ZipFile(compiled) as opened:
        opened.extractall(site)
    (info,) = site.glob("*.dist-info")
    for entry in Distribution.at(info).entry_points:
        program = directory / "bin" / entry.name
        python = shlex.quote(str(directory.absolute() / "bin" / "python"))
        program.write_text(_PROGRAM.format(python=python, module=entry.module, function=entry.attr))
        program.chmod(0o755)
    # A path file adds a directory without reading the path files in it: of riata there is the compiled one only.
    (site / "packages.pth").write_text(f"{by.packages}\n")
    trees = [site, by.packages] if by.root else [site]  # pip has compiled this environment's packages
    command = [str(directory / "bin" / "python"), "-m", "compileall", "-q", *map(str, trees)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode != 0:
        raise BuildError(f"compileall: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    mark.write_text(made_of)


def _of_here(directory: Path) -> Path:
    venv.create(directory, clear=True, symlinks=True, with_pip=False)
    (site,) = directory.glob("lib/python3*/site-packages")
    return site


def _of_images(directory: Path, root: Path) -> Path:
    """As `venv` would, but for what runs it."""
    shutil.rmtree(directory, ignore_errors=True)  # all but what a program that runs from there is just writing
    site = directory / "lib" / f"python{debian.PYTHON}" / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    (directory / "pyvenv.cfg").write_text(f"home = {root / 'usr' / 'bin'}\ninclude-system-site-packages = false\n")
    python = directory.absolute() / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    runtime.write_launcher(python, root)
    return site


def main(arguments: list[str]) -> int:
    directory = Path(arguments[0])
    started = time.monotonic()
    try:
        by, why = runtime.choose(base.cache_root())
    except BuildError as error:
        shutil.rmtree(directory, ignore_errors=True)  # what an older state was compiled to is not what anybody wants
        is_error = "--advisory" not in arguments
        print(f"{'error' if is_error else 'Compiled'}: riata cannot be compiled here: {error}", file=sys.stderr)
        return int(is_error)
    cache = stages.cache_root("compiled")
    try:
        made = wheel(cache, by)
        with stages.locked(cache):  # of two that make one directory the second finds it made
            environment(directory, made, by)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    whose = f"this Python, not the images' ({why})" if why else "the images' Python"
    took = f"{time.monotonic() - started:.0f} s"
    print(f"Compiled: {directory}/bin has riata, riata-hub and riata-agent for {whose} ({took})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
