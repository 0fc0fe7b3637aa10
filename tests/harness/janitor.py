"""Removes what dead runs left behind. It knows them by their unique names and unlocked directories, nothing else."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.harness import cgroups
from tests.harness.children import RUN_VARIABLE

_STAGING_LIFE_S: Final = 60
_KILL_WAIT_S: Final = 5.0
_KEPT_RUNS: Final = 5


def sweep(root: Path) -> None:
    """Remove every dead run under `root`."""
    for directory in sorted(root.glob("r??????")):
        _sweep_one(directory)
    for staging in root.glob(".r??????"):
        with contextlib.suppress(FileNotFoundError):  # another run has just given it its name
            if staging.stat().st_mtime + _STAGING_LIFE_S < _wall_clock():
                shutil.rmtree(staging, ignore_errors=True)


def _wall_clock() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


def _sweep_one(directory: Path) -> None:
    try:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_leftovers(directory)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:
        return  # its run is alive
    finally:
        os.close(lock)


def remove_leftovers(directory: Path) -> None:
    """Processes, links, mounts and cgroups of the run whose directory this is."""
    name = directory.name
    _kill(processes(name))
    for link in links(name):
        subprocess.run(["ip", "link", "delete", link], capture_output=True, timeout=10, check=False)
    for mount in sorted(mounts(directory), reverse=True):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, timeout=10, check=False)
    cgroups.remove_recorded(directory)


def leftovers(directory: Path) -> list[str]:
    """What of a run is still there, in words; empty when all of it ended."""
    name = directory.name
    found = [f"process {pid}: {_command_line(pid)}" for pid in processes(name) if _runs(pid)]
    found += [f"network link {link}" for link in links(name)]
    found += [f"mount {mount}" for mount in mounts(directory)]
    return found + [f"cgroup {group}" for group in cgroups.recorded(directory) if group.is_dir()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"


def processes(name: str) -> list[int]:
    """Processes that carry the run's name in their environment, this one excepted."""
    wanted = f"{RUN_VARIABLE}={name}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def links(name: str) -> list[str]:
    """Network interfaces of this namespace that belong to the run."""
    directory = Path("/sys/class/net")
    return [each.name for each in directory.iterdir() if each.name.startswith(name)] if directory.is_dir() else []


def mounts(directory: Path) -> list[str]:
    """Mount points of this mount namespace below the run's directory."""
    table = Path("/proc/self/mountinfo")
    if not table.exists():
        return []
    points = [line.split()[4] for line in table.read_text().splitlines()]
    return [point for point in points if point.startswith(f"{directory}/")]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
    deadline = time.monotonic() + _KILL_WAIT_S
    while any(Path(f"/proc/{pid}/environ").exists() and _runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def keep_logs(directory: Path) -> Path:
    """Copy the run's logs beside it, keep those of the last few runs. Returns where they are."""
    root = directory.parent / "logs"
    target = root / directory.name
    for log in directory.rglob("*.log"):
        place = target / log.relative_to(directory)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, place)
    old = sorted((each for each in root.iterdir()), key=lambda each: each.stat().st_mtime) if root.is_dir() else []
    for each in old[:-_KEPT_RUNS]:
        shutil.rmtree(each, ignore_errors=True)
    return target
