"""Whether this process may make the namespaces of a full cluster. Standard library only.

Being root is not enough: in an ordinary container root lacks CAP_SYS_ADMIN, or a security profile forbids the mounts.
So it is tried.
"""

import functools
import os
import shutil
import subprocess
import sys
from typing import Final

OUTER: Final = ("--pid", "--mount", "--net", "--ipc", "--fork", "--mount-proc", "--kill-child=SIGKILL")
"""What unshare(1) makes for a full cluster at first; its cgroup namespace comes after it has entered its cgroups."""

_TRY: Final = ("unshare", *OUTER, "unshare", "--cgroup", "true")


@functools.cache
def obstacle() -> str | None:
    """Why no full cluster's namespaces can be made here, None when they can. Tried once, a few milliseconds."""
    if sys.platform != "linux":
        return "a full cluster needs Linux namespaces"
    if os.geteuid() != 0:
        return "a full cluster needs root (namespaces, containerd)"
    if shutil.which("unshare") is None:
        return "a full cluster needs unshare(1): install the package util-linux"
    try:
        done = subprocess.run(_TRY, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return _sentence(str(problem))
    return None if done.returncode == 0 else _sentence(done.stderr.strip() or f"exit code {done.returncode}")


def _sentence(reason: str) -> str:
    return (
        "root may not make namespaces here, as in a container without CAP_SYS_ADMIN "
        f"({reason}): use a machine, or a privileged container"
    )
