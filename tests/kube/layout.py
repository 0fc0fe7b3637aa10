"""Which Kubernetes tools there are, and where they live.

Standard library only: building needs none of the project's packages. The harness asks it for the directory.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KUBE_VERSION: Final = "1.37.2"
HERE: Final = Path(__file__).resolve().parent

# Clients print and compare these; without them an API server calls itself v0.0.0-master.
_STAMPS: Final = {
    "gitVersion": f"v{KUBE_VERSION}",
    "gitMajor": KUBE_VERSION.split(".")[0],
    "gitMinor": KUBE_VERSION.split(".")[1],
    "gitTreeState": "clean",
    "gitCommit": "0" * 40,
    "buildDate": "2026-11-01T00:00:00Z",
}


@dataclass(frozen=True)
class Tool:
    """One binary: its name, the module directory that pins it, its package, minutes of a cold build on 2 cores."""

    name: str
    module: str
    package: str
    cold_minutes: float


TOOLS: Final = (
    Tool("etcd", "cluster", "go.etcd.io/etcd/server/v3", 0.5),
    Tool("kubectl", "cluster", "k8s.io/kubernetes/cmd/kubectl", 1),
    Tool("kube-apiserver", "cluster", "k8s.io/kubernetes/cmd/kube-apiserver", 6),
    Tool("kube-controller-manager", "cluster", "k8s.io/kubernetes/cmd/kube-controller-manager", 2.5),
    Tool("kube-scheduler", "cluster", "k8s.io/kubernetes/cmd/kube-scheduler", 0.7),
    Tool("kubelet", "cluster", "k8s.io/kubernetes/cmd/kubelet", 1.3),
    Tool("etcdctl", "cluster", "go.etcd.io/etcd/etcdctl/v3", 0.3),
    Tool("etcdutl", "cluster", "go.etcd.io/etcd/etcdutl/v3", 0.1),
    Tool("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", 3),
)


def ldflags() -> str:
    """Linker flags: stripped, stamped in both packages that Kubernetes' own build stamps."""
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stamps = [f"-X {package}.{name}={value}" for package in packages for name, value in _STAMPS.items()]
    return " ".join(["-s", "-w", *stamps])


def cache_root() -> Path:
    """The per-user cache of this project's tools."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "riata" / "kube"


def key() -> str:
    """Name of one set of tools: changes with any module sum, flag or tool."""
    digest = hashlib.sha256()
    for module in ("cluster", "kwok"):
        for name in ("go.mod", "go.sum"):
            digest.update((HERE / module / name).read_bytes())
    digest.update(repr((ldflags(), TOOLS)).encode())
    return digest.hexdigest()[:16]


def cached_bin() -> Path:
    """Where `make kube` puts the tools of this checkout."""
    return cache_root() / key() / "bin"


def bin_dir() -> Path:
    """Where the tools are taken from: KUBEBUILDER_ASSETS when set (as envtest does), else the cache."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(assets) if assets else cached_bin()


def missing(names: tuple[str, ...] | None = None) -> list[str]:
    """The tools among `names` (all when None) that are not in `bin_dir()` as executables."""
    directory = bin_dir()
    names = names or tuple(tool.name for tool in TOOLS)
    return [name for name in names if not os.access(directory / name, os.X_OK)]


def obstacle(names: tuple[str, ...] | None = None) -> str | None:
    """Which of `names` (all when None) are missing and what to do about it; None when all are there."""
    absent = missing(names)
    if not absent:
        return None
    if os.environ.get("KUBEBUILDER_ASSETS"):
        # `make kube` builds nothing then: what the variable names is somebody else's directory.
        cure = "unset it, then `make kube` builds them all; or put them there"
        return f"{', '.join(absent)} not in KUBEBUILDER_ASSETS={bin_dir()}: {cure}"
    return f"{', '.join(absent)} not in {bin_dir()}: run `make kube`"
