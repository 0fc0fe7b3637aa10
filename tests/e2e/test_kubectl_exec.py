"""kubectl exec through the line into a real pod, over WebSocket and over SPDY."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.e2e.entry import Entry
from tests.e2e.kubectl import MODES, Kubectl
from tests.e2e.pods import BOX
from tests.e2e.terminal import on_terminal
from tests.e2e.upgrades import COMMAND, upgrades

pytestmark = [
    pytest.mark.full,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
    pytest.mark.parametrize("mode", MODES),
]

PIPE_BYTES = 100 * 1024 * 1024


@pytest.fixture
def kubectl(full: Entry, mode: str) -> Kubectl:
    """kubectl in the pods' namespace, speaking `mode`."""
    return full.kubectl.over(mode)


async def test_output_and_exit_code(kubectl: Kubectl, mode: str) -> None:
    result = await kubectl("exec", BOX, "-v=8", "--", "sh", "-c", "echo out; echo err >&2; exit 3", rc=3)
    assert result.stdout == "out\n"
    assert "\nerr\n" in f"\n{result.stderr}"
    assert "command terminated with exit code 3" in result.stderr
    assert upgrades(result.stderr) == [COMMAND[mode]]


async def test_half_closed_input_leaves_the_output_open(kubectl: Kubectl) -> None:
    result = await kubectl("exec", "-i", BOX, "--", "sh", "-c", "cat; sleep 0.5; echo END", stdin=b"abc")
    assert result.stdout == "abcEND\n"


async def test_input_reaches_the_program_line_by_line(kubectl: Kubectl) -> None:
    async with kubectl.running(
        "exec", "-i", BOX, "--", "sh", "-c", "while read l; do echo got:$l; done; exit 4"
    ) as shell:
        for word in ("one", "two", "three"):
            await shell.send(f"{word}\n".encode())
            assert await shell.line() == f"got:{word}"
        assert shell.process.stdin is not None
        shell.process.stdin.close()
        assert (await shell.end()).rc == 4


async def test_terminal_has_a_size_that_changes(kubectl: Kubectl) -> None:
    async with on_terminal(kubectl, "exec", "-it", BOX, "--", "sh", rows=31, columns=97) as terminal:
        await terminal.shows(b"# ")
        terminal.type(b"tty; stty size\r")
        assert b"/dev/pts/" in await terminal.shows(b"31 97")
        terminal.resize(42, 111)
        terminal.type(b"sleep 0.5; stty size; exit 5\r")
        await terminal.shows(b"42 111")
        await terminal.shows(b"exit code 5")
        assert await terminal.process.wait() == 5


async def test_interrupt_on_the_terminal_ends_the_program_in_the_pod(kubectl: Kubectl) -> None:
    async with on_terminal(kubectl, "exec", "-it", BOX, "--", "sh", rows=24, columns=80) as terminal:
        await terminal.shows(b"# ")
        terminal.type(b"sh -c 'echo run$((40+2)); sleep 60'\r")
        await terminal.shows(b"run42")
        terminal.type(b"\x03")
        await terminal.shows(b"# ")
        terminal.type(b"echo still $((40+2))\r")
        await terminal.shows(b"still 42")
        terminal.type(b"\x04")
        await terminal.process.wait()


async def test_100_mb_through_a_pipe_both_ways(kubectl: Kubectl, mode: str, tmp_path: Path) -> None:
    source = tmp_path / "random"
    source.write_bytes(os.urandom(PIPE_BYTES))
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    started = time.monotonic()
    result = await kubectl("exec", "-i", BOX, "--", "cat", stdin=source, within=120)
    took = time.monotonic() - started
    source.unlink()
    assert len(result.raw) == PIPE_BYTES
    assert hashlib.sha256(result.raw).hexdigest() == wanted
    print(f"\n{mode}: 100 MiB up and down in {took:.1f} s")


async def test_missing_program_and_missing_pod(kubectl: Kubectl) -> None:
    program = await kubectl("exec", BOX, "--", "/no/such/program", rc=None)
    assert program.rc in {1, 126, 127, 128}
    assert "no such file or directory" in program.stderr
    pod = await kubectl("exec", "no-such-pod", "--", "true", rc=1)
    assert pod.stderr == 'Error from server (NotFound): pods "no-such-pod" not found\n'
