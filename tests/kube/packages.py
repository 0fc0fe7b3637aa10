"""`make node-packages`: what a full cluster needs from the system, installed when missing and root.

A machine that has the programs from elsewhere keeps them. Where no full cluster can be made anyway nothing is installed
and nothing fails: its tests are skipped with that reason, and the demo makes light clusters only. An installation that
fails ends the target; with `--advisory` (what the demo asks for) it only says so. Standard library only.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.kube import busybox, namespaces

_CNI: Final = Path("/usr/lib/cni/bridge")
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_TAIL_LINES: Final = 3

# What must be there, and the Debian package that has it. mmdebstrap makes the images that run there, haproxy stands in
# front of hubs, prometheus reads their metrics.
_PROGRAMS: Final = {
    "containerd": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "mmdebstrap": "mmdebstrap",
    "haproxy": "haproxy",
    "prometheus": "prometheus",
}
_DEBIAN_KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Ubuntu has none, and the images are of Debian."""


def missing() -> list[str]:
    """Debian packages whose programs are not here."""
    found = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if not _DEBIAN_KEYS.exists():
        found.append("debian-archive-keyring")
    if busybox.obstacle():
        found.append(busybox.PACKAGE)
    if shutil.which(_compiler()) is None:
        found += ["gcc", "libc6-dev"]
    if sys.base_prefix == "/usr" and not _header().exists():  # Debian's own Python; others have it, or are none of ours
        found.append("python3-dev")
    return found if _CNI.exists() else [*found, "containernetworking-plugins"]


def _compiler() -> str:
    """As deploy.hatch_build.compiler, which needs more than the standard library."""
    return (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


def _header() -> Path:
    """Without it nothing is compiled, and the tests prove less than what is shipped."""
    return Path(sysconfig.get_path("include")) / "Python.h"


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


def install(packages: list[str]) -> str | None:
    """Install them with apt-get. Returns the end of its complaint when that fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", *command], env=environment, capture_output=True, text=True, errors="replace", check=False
            )
            if done.returncode != 0:
                lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
                return f"apt-get {command[0]}: {' '.join(lines[-_TAIL_LINES:])}"
    return None


def _unwanted(absent: list[str]) -> str | None:
    """Why nothing is installed here, None when `absent` shall be."""
    obstacle = namespaces.obstacle()
    if obstacle:
        return f"none installed, for no full cluster can be made here: {obstacle}; light ones work"
    if shutil.which("apt-get") is None:
        return f"no apt-get here; install these yourself for full clusters: {', '.join(absent)}"
    return None


def provide(absent: list[str]) -> bool:
    """Install `absent`; says what it does, and what failed with its cure. Returns whether all of it is there now."""
    print(f"Node packages: installing {', '.join(absent)} with apt-get (about half a minute)", flush=True)
    started = time.monotonic()
    complaint = install(absent)
    left = missing()
    if complaint is None and not left:
        print(f"Node packages: installed in {time.monotonic() - started:.0f} s")
        return True
    print(f"error: node packages are still missing: {', '.join(left or absent)}", file=sys.stderr)
    if complaint:
        print(f"  {complaint}", file=sys.stderr)
    print(f"Cure: apt-get update && apt-get install {' '.join(left or absent)}; then again", file=sys.stderr)
    return False


def main(arguments: list[str]) -> int:
    absent = missing()
    if not absent:
        print("Node packages: all there")
        return 0
    unwanted = _unwanted(absent)
    if unwanted:
        print(f"Node packages: {unwanted}")
        return 0
    if provide(absent):
        return 0
    if "--advisory" not in arguments:
        return 1
    print("Node packages: going on without them, with light clusters only", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
