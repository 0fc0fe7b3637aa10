"""Which programs the harness runs, and what to do when one is missing."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tests.harness.failures import MissingTool
from tests.kube import layout

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CNI_BIN: Final = Path("/usr/lib/cni")

_LIGHT: Final = ("etcd", "kube-apiserver", "kubectl")
_FULL: Final = (*_LIGHT, "kube-controller-manager", "kube-scheduler", "kubelet")
_PROGRAMS: Final = ("containerd", "ctr", "runc", "ip", "nft", "nsenter", "unshare", "busybox")


def kube(name: str) -> str:
    """Path of a tool of `make kube`. Raises MissingTool."""
    if layout.missing((name,)):
        raise MissingTool(f"{name} is not in {layout.bin_dir()}: run `make kube`")
    return str(layout.bin_dir() / name)


def console_script(name: str, package: str) -> list[str]:
    """The command `name` of this environment; the package by itself where the project is not installed."""
    script = Path(sys.executable).parent / name
    return [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", package]


def light_obstacle() -> str | None:
    """Why no light cluster can be made here, None when one can."""
    missing = layout.missing(_LIGHT)
    return f"{', '.join(missing)} not in {layout.bin_dir()}: run `make kube`" if missing else None


def full_obstacle() -> str | None:
    """Why no full cluster can be made here, None when one can."""
    if sys.platform != "linux":
        return "a full cluster needs Linux namespaces"
    if os.geteuid() != 0:
        return "a full cluster needs root (namespaces, containerd)"
    missing = layout.missing(_FULL)
    if missing:
        return f"{', '.join(missing)} not in {layout.bin_dir()}: run `make kube`"
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not (CNI_BIN / "bridge").exists():
        absent.append("CNI plug-ins")
    return f"{', '.join(absent)} missing: run `make node-packages`" if absent else None
