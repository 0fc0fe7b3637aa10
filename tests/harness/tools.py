"""Which programs the harness runs, and what to do when one is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.harness import cgroups
from tests.harness.failures import MissingTool
from tests.kube import busybox, layout, namespaces

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CNI_BIN: Final = Path("/usr/lib/cni")

_LIGHT: Final = ("etcd", "kube-apiserver", "kubectl")
_FULL: Final = (*_LIGHT, "kube-controller-manager", "kube-scheduler", "kubelet")
_PROGRAMS: Final = ("containerd", "ctr", "runc", "ip", "nft", "nsenter", "unshare")


def kube(name: str) -> str:
    """Path of a tool of `make kube`. Raises MissingTool."""
    obstacle = layout.obstacle((name,))
    if obstacle:
        raise MissingTool(obstacle)
    return str(layout.bin_dir() / name)


def programs() -> Path:
    """The directory with the hub and the agent under test: RIATA_PROGRAMS (`make test` names the compiled ones), else
    this environment's, which are interpreted."""
    return Path(os.environ.get("RIATA_PROGRAMS") or Path(sys.executable).parent)


def interpreter() -> str:
    """The Python that hub and agent run with. Its OpenSSL is what a simulated agent has to have: what a TLS connection
    takes depends on both ends (ADR 27)."""
    beside = programs() / "python"
    return str(beside) if os.access(beside, os.X_OK) else sys.executable


def python() -> str:
    """Which Python and OpenSSL that is, in words."""
    ask = "import platform, ssl; print('Python', platform.python_version(), 'with', *ssl.OPENSSL_VERSION.split()[:2])"
    return subprocess.run(
        [interpreter(), "-c", ask], capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()


def console_script(name: str, package: str) -> list[str]:
    """The command `name`; the package by itself where the project is not installed. `riata` is this environment's, for
    its demo needs the checkout. Raises MissingTool where RIATA_PROGRAMS names a directory without it: what is measured
    or proven would be another program."""
    script = (Path(sys.executable).parent if package == "ctl" else programs()) / name
    if os.access(script, os.X_OK):
        return [str(script)]
    if package != "ctl" and os.environ.get("RIATA_PROGRAMS"):
        raise MissingTool(f"RIATA_PROGRAMS has no {script}: run `make compiled`, or unset it for this environment's")
    return [sys.executable, "-m", package]


def light_obstacle(*, controller_manager: bool = False, scheduler: bool = False, kwok: bool = False) -> str | None:
    """Why no light cluster with these parts can be made here, None when one can; names the cure."""
    wanted = {"kube-controller-manager": controller_manager, "kube-scheduler": scheduler, "kwok": kwok}
    return layout.obstacle((*_LIGHT, *(name for name, is_wanted in wanted.items() if is_wanted)))


def full_obstacle(*, kwok: bool = False) -> str | None:
    """Why no full cluster can be made here, None when one can; names the cure."""
    return (
        namespaces.obstacle()
        or layout.obstacle((*_FULL, "kwok") if kwok else _FULL)
        or _absent()
        or busybox.obstacle()
        or cgroups.obstacle()
    )


def _absent() -> str | None:
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not (CNI_BIN / "bridge").exists():
        absent.append("CNI plug-ins")
    return f"{', '.join(absent)} missing: run `make node-packages`" if absent else None
