"""`make node-packages`: what a full cluster needs from the system, installed when missing and root.

A machine that has the programs from elsewhere keeps them. Without root nothing is installed and nothing fails: tests of
full clusters are skipped with that reason, and the demo makes light clusters only. Standard library only.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CNI: Final = Path("/usr/lib/cni/bridge")
_POLICY: Final = Path("/usr/sbin/policy-rc.d")

# What must be there, and the Debian package that has it.
_PROGRAMS: Final = {
    "containerd": "containerd",
    "runc": "runc",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
}


def missing() -> list[str]:
    """Debian packages whose programs are not here."""
    found = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    return found if _CNI.exists() else [*found, "containernetworking-plugins"]


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep freshly installed services (containerd) from starting: the harness runs its own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def install(packages: list[str]) -> int:
    """apt-get's exit code."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *command], env=environment, stdout=subprocess.DEVNULL, check=False)
            if done.returncode != 0:
                return done.returncode
    return 0


def main() -> int:
    absent = missing()
    if not absent:
        print("Node packages: all there")
        return 0
    if sys.platform != "linux" or os.geteuid() != 0:
        print(f"Node packages: not root, so no full clusters (missing: {', '.join(absent)}); light ones work")
        return 0
    if shutil.which("apt-get") is None:
        print(f"Node packages: no apt-get here; install these yourself for full clusters: {', '.join(absent)}")
        return 0
    print(f"Node packages: installing {', '.join(absent)} (about half a minute)", flush=True)
    started = time.monotonic()
    code = install(absent)
    if code != 0 or missing():
        print(f"error: still missing: {', '.join(missing())}. Cure: apt-get update; apt-get install", file=sys.stderr)
        return 1
    print(f"Node packages: installed in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
