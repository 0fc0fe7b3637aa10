"""Limits of the process, set in a child so that the test run keeps its own."""

import subprocess
import sys
from pathlib import Path

CODE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from hub import rlimits
rlimits.prepare()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
assert soft == hard > 64, (soft, hard)
assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
"""


def test_descriptors_up_core_dumps_off() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, cwd=Path(__file__).parents[2], timeout=30)
