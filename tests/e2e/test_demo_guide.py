"""The README's way: `make demo` in one terminal, and in a second one every line that it prints, as printed."""

import asyncio
import contextlib
import os
import pathlib
import re
import signal
import time
import urllib.request
from collections.abc import AsyncIterator

import pytest

from tests import harness
from tests.e2e.demos import environment
from tests.e2e.waiting import until
from tests.harness import tools
from tests.harness.children import launched
from tests.harness.runs import Run

_READY = "ready; Ctrl-C ends it"
_MAKE_S = 240.0
"""With warm caches the targets in front of the demo do nothing; a changed lock file may cost a minute."""
_LINE_S = 30.0

_SHOWS = (
    (r"get nodes$", "Ready"),
    (r"exec -i deploy/hello -- sh$", "hello from riata"),
    (r"logs -f deploy/hello$", "hello 1"),
    (r"port-forward deploy/hello \d+:8080$", "Forwarding from 127.0.0.1"),
    (r"get pods -o wide --watch$", "hello-"),
    (r"scale deploy/hello --replicas=30$", "scaled"),
    (r"/riata login ", "admin"),
    (r"/riata clusters list ", "alpha"),
)
"""Every command of the guide, and what it shows."""
_STAYS = re.compile(r" logs -f | port-forward | --watch$")


def _programs_without_kubectl(directory: pathlib.Path) -> str:
    """A PATH with all programs of this machine but kubectl and ours: the user's who has none."""
    directory.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        if not pathlib.Path(place).is_dir() or tools.REPOSITORY in pathlib.Path(place).parents:
            continue
        for program in pathlib.Path(place).iterdir():
            if program.name != "kubectl" and not program.name.startswith("riata"):
                with contextlib.suppress(FileExistsError):  # the first on the PATH wins
                    (directory / program.name).symlink_to(program)
    return str(directory)


@contextlib.asynccontextmanager
async def _in_terminal(
    command: list[str], output: pathlib.Path, errors: pathlib.Path, env: dict[str, str], *, stdin: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`command` in a process group of its own, as a shell would start it; the group is killed at the end."""
    with output.open("wb") as out, errors.open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *launched(command),
            stdin=stdin,
            stdout=out,
            stderr=err,
            cwd=tools.REPOSITORY,
            env=env,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _guide(output: pathlib.Path, errors: pathlib.Path, make: asyncio.subprocess.Process) -> list[str]:
    """The lines of the guide, once the demo is ready."""

    async def ready() -> bool:
        assert make.returncode is None, errors.read_text() + output.read_text()
        return _READY in errors.read_text()

    await until(ready, what=f"{_READY!r} of make demo", within=_MAKE_S, every=0.2)
    return output.read_text().splitlines()


async def _show(line: str, exports: list[str], directory: pathlib.Path, env: dict[str, str]) -> str:
    """Run `line` in a shell as it is, but with no terminal, and see that it shows what it should. Its output."""
    line = line.replace("exec -it ", "exec -i ")
    if "port-forward" in line:
        line = line.replace("8080:8080", f"{Run.current().ports.take()}:8080")  # this machine's 8080 may be taken
    (wanted,) = [shows for pattern, shows in _SHOWS if re.search(pattern, line)]
    output, errors = directory / "line.out", directory / "line.err"
    command = ["/bin/sh", "-euc", "\n".join([*exports, line])]
    async with _in_terminal(command, output, errors, env, stdin=asyncio.subprocess.PIPE) as shell:
        assert shell.stdin is not None
        shell.stdin.write(b"cat /tmp/www/index.html\n")
        shell.stdin.close()

        async def shown() -> bool:
            ended = shell.returncode is not None
            assert not ended or wanted in output.read_text(), f"{line}\n{output.read_text()}{errors.read_text()}"
            return wanted in output.read_text()

        await until(shown, what=f"{wanted!r} of: {line}", within=_LINE_S)
        if "port-forward" in line:
            await _forwarded(int(line.rpartition(" ")[2].partition(":")[0]))
        if _STAYS.search(line):
            assert shell.returncode is None, f"{line}\n{errors.read_text()}"
        else:
            assert await asyncio.wait_for(shell.wait(), _LINE_S) == 0, f"{line}\n{errors.read_text()}"
    return output.read_text()


async def _forwarded(port: int) -> None:
    def fetch() -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    assert await asyncio.get_running_loop().run_in_executor(None, fetch) == "hello from riata\n"


@pytest.mark.alone
@pytest.mark.light
@pytest.mark.timeout(500)
async def test_every_line_that_make_demo_prints_works_in_a_second_terminal(tmp_path: pathlib.Path) -> None:
    Run.current()  # marks what is started from here on, so that a later run ends it should this one be killed
    home = tmp_path / "home"
    home.mkdir()
    path = _programs_without_kubectl(tmp_path / "programs")
    first = {n: v for n, v in environment().items() if n != "KUBECONFIG"} | {"PATH": path}
    second = {"PATH": path, "HOME": str(home)}
    output, errors = tmp_path / "make.out", tmp_path / "make.err"
    began = time.monotonic()
    async with _in_terminal(["make", "demo"], output, errors, first, stdin=asyncio.subprocess.DEVNULL) as make:
        lines = await _guide(output, errors, make)
        print(f"make demo was ready after {time.monotonic() - began:.1f} s")
        assert any(line.startswith("#") and "second one" in line for line in lines)
        exports = [line for line in lines if line.startswith("export ")]
        assert [line.partition("=")[0] for line in exports] == ["export KUBECONFIG", "export PATH"]
        commands = [line for line in lines if re.match(r"(kubectl|/\S*/riata) ", line)]
        for line in commands:
            print(line)
            await _show(line, exports, tmp_path, second)
        full = harness.full_obstacle() is None
        assert len(commands) == (10 if full else 8)
        assert any(" exec " in line for line in commands) is full
        _same_as_the_readme(commands)
        os.killpg(make.pid, signal.SIGINT)  # Ctrl-C reaches make and the demo alike
        await asyncio.wait_for(make.wait(), 60)
        assert "the demo has ended" in errors.read_text()
        kubeconfig = exports[0].partition("=")[2]
        assert not pathlib.Path(kubeconfig).exists()


def _same_as_the_readme(commands: list[str]) -> None:
    """The README's example is what the first cluster gets, where that is a full one."""
    if harness.full_obstacle() is None:
        readme = (tools.REPOSITORY / "README.md").read_text()
        shown = [line for line in readme.splitlines() if line.startswith("kubectl ")]
        assert shown
        assert [line for line in commands if line in shown] == shown
