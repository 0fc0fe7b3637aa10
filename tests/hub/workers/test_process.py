"""hub/workers/process.py: a worker's end with the main process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}, str(os.getpid())], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
CHILD = """
import sys, time
from hub.workers import process
process.leave_signals()
process.end_with(int(sys.argv[1]))
print("ready", flush=True)
while True:
    pass  # as a worker whose loop hangs
"""


def test_a_hanging_worker_dies_with_its_parent_however_that_ends() -> None:
    program = PARENT.format(child=CHILD)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert ran.returncode == -9
    pid = int(ran.stdout)
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.02)


def test_a_parent_that_has_ended_already_is_noticed() -> None:
    program = "from hub.workers import process; process.end_with(1 if __import__('os').getppid() != 1 else 2)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert "ProcessLookupError" in ran.stderr


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
