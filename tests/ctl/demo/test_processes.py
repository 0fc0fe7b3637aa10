"""Whether a process runs, and whether it is the same one."""

import os
import subprocess
import sys

import pytest

from ctl.demo import processes

GONE = 2**22 + 1
"""A process id above the kernel's largest."""


def test_a_process_that_runs_has_one_start() -> None:
    assert processes.started(os.getpid()) == processes.started(os.getpid())
    assert processes.started(os.getpid()) is not None
    assert processes.started(GONE) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to see zombies")
def test_a_zombie_does_not_run() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.read()  # until it has ended
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.started(child.pid) is None
    child.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_process_ids_belong_to_a_namespace() -> None:
    assert processes.namespace().startswith("pid:[")
