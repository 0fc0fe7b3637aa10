import asyncio
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from proto.aio import loop

loop.factory().close()  # libuv's first loop opens a pipe for signals that lasts as long as the process


def test_a_coroutine_runs_to_its_result() -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__module__

    expected = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    assert loop.run(answer()).startswith(expected)


def test_it_works_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    async def module() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert loop.run(module()).startswith("asyncio")


@pytest.mark.parametrize(
    ("closed", "numbers"), [("<&-", [0]), (">&-", [1]), ("2>&-", [2]), ("<&- >&- 2>&-", [0, 1, 2])]
)
def test_a_program_whose_standard_streams_are_closed_ends_in_order(
    closed: str, numbers: list[int], tmp_path: Path
) -> None:
    code = """
import asyncio, os, pathlib
from proto.aio import loop
async def standard():
    return [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3)]
found = loop.run(standard())
pathlib.Path("found").write_text(" ".join(found))
"""
    (tmp_path / "program.py").write_text(code)
    command = f"exec {shlex.quote(sys.executable)} program.py {closed}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, b"")
    found = (tmp_path / "found").read_text().split()
    assert {found[number] for number in numbers} == {"/dev/null"}


def test_settling_changes_only_this_process_and_keeps_the_collector_on() -> None:
    code = (
        "import gc, sys; from proto.aio import loop; loop.settle(); "
        "print(gc.isenabled(), gc.get_threshold()[0] > 700, gc.get_freeze_count() > 1000, sys.getswitchinterval())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "True", "True", "0.0005"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt and mallinfo2 are glibc's")
def test_large_blocks_are_mapped_whatever_was_freed_before() -> None:
    """By default glibc takes blocks of a size that was freed once from its heap: see `_MMAP_THRESHOLD`."""
    code = """
import ctypes, sys
from proto.aio import loop
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc.mallinfo2.restype = Info
if "settle" in sys.argv:
    loop.settle()
libc.free(libc.malloc(1 << 20))
before = libc.mallinfo2().hblks
blocks = [libc.malloc(256 * 1024) for _ in range(8)]
print(libc.mallinfo2().hblks - before)
"""
    mapped = [
        int(subprocess.run([sys.executable, "-c", code, *how], capture_output=True, check=True, timeout=30).stdout)
        for how in ([], ["settle"])
    ]
    assert mapped[0] < 4
    assert mapped[1] >= 7
