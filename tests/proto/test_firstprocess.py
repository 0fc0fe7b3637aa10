"""A container's first process ends when it is told to, however early that is."""

import signal
import subprocess
import sys
import textwrap

import pytest

from tests.kube.namespaces import obstacle

FIRST = ("unshare", "--pid", "--fork", "--kill-child=SIGKILL")
needs_namespaces = pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))


def run(package, *before):
    """A program that is told to end before it has handlers of its own: stands in for a start that takes long."""
    code = f"""
        import os, signal, sys, types

        def main(*_):
            os.kill(os.getpid(), signal.SIGTERM)
            print("goes on")

        sys.modules["{package}.cli"] = types.ModuleType("{package}.cli")
        sys.modules["{package}.cli"].main = main
        from {package}.__main__ import main
        main()
    """
    command = (*before, sys.executable, "-c", textwrap.dedent(code))
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_namespaces
@pytest.mark.parametrize("package", ["agent", "hub"])
def test_told_to_end_while_it_starts(package):
    done = run(package, *FIRST)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")


@pytest.mark.parametrize("package", ["agent", "hub"])
def test_any_other_process_is_ended_by_the_kernel(package):
    assert run(package).returncode == -signal.SIGTERM
