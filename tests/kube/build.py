"""`make kube`: build the Kubernetes tools into the per-user cache, one at a time, with progress. Standard library only.

Run from the top of the checkout as `python -m tests.kube.build`. A tool that is there is skipped; each one appears
under its name only when it is whole (rename), and a lock lets a second run wait instead of building the same again.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.kube import layout
from tests.kube.toolchain import ToolchainError, find

_TAIL_LINES: Final = 30


class BuildError(Exception):
    """A tool did not build; the text shows the compiler's last lines and the cure."""


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  another run is building them: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(go: str, tool: layout.Tool, target: Path) -> None:
    partial = target.with_name(f".{tool.name}.{os.getpid()}")
    # GOTOOLCHAIN=local: never fetch another toolchain; GOFLAGS of the user could change what is built.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
    command = [go, "build", "-trimpath", "-ldflags", layout.ldflags(), "-o", str(partial), tool.package]
    done = subprocess.run(
        command, cwd=layout.HERE / tool.module, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        partial.unlink(missing_ok=True)
        tail = "\n".join(done.stderr.splitlines()[-_TAIL_LINES:])
        raise BuildError(
            f"{tool.name} did not build:\n{tail}\n"
            "Cure: the Go module proxy must be reachable and 3 GB of disk free; then run "
            "`make kube` again, it goes on where it was."
        )
    partial.rename(target)


def build_all() -> None:
    """Build what is missing. Raises BuildError, ToolchainError."""
    directory = layout.cached_bin()
    if not layout.missing():
        return
    with _locked(directory.parent):
        todo = [tool for tool in layout.TOOLS if tool.name in layout.missing()]
        if not todo:
            return
        go = find()
        minutes = sum(tool.cold_minutes for tool in todo)
        print(
            f"Kubernetes tools: {len(todo)} to build with {go} (about {minutes:.0f} min on 2 cores, once)", flush=True
        )
        directory.mkdir(parents=True, exist_ok=True)
        for number, tool in enumerate(todo, 1):
            print(f"  [{number}/{len(todo)}] {tool.name} (cold: {tool.cold_minutes:g} min) …", end="", flush=True)
            started = time.monotonic()
            _build(go, tool, directory / tool.name)
            print(f" {time.monotonic() - started:.0f} s", flush=True)


def main() -> int:
    if os.environ.get("KUBEBUILDER_ASSETS"):
        print(f"Kubernetes tools: taken from KUBEBUILDER_ASSETS={layout.bin_dir()}; nothing is built")
        obstacle = layout.obstacle()
        if obstacle:
            print(f"  what needs more than is there will not run: {obstacle}", file=sys.stderr)
        return 0
    try:
        build_all()
    except (BuildError, ToolchainError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    print(f"Kubernetes tools: {layout.bin_dir()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
