"""How a command line ends."""

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import yaml

from ctl import cli, errors
from tests.ctl.conftest import Riata
from tests.ctl.fakehub import ADMIN, FakeHub


@pytest.mark.parametrize(
    "arguments", [("nope",), ("clusters", "nope"), ("clusters", "list", "-o", "xml"), ("whoami", "x")]
)
async def test_a_wrong_command_line_is_a_usage_error_on_standard_error(
    riata: Riata, arguments: tuple[str, ...]
) -> None:
    result = await riata(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("riata: ")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("clusters",), ("kubeconfig", "--help")])
async def test_help_is_data(riata: Riata, arguments: tuple[str, ...]) -> None:
    result = await riata(*arguments)
    assert (result.code, result.err) == (0, "")
    assert "Usage: riata" in result.out


async def test_version_asks_the_hub_when_there_is_one(riata: Riata, hub: str) -> None:
    assert (await riata("version", "-o", "json")).out == '{\n  "riata": "0.1.0",\n  "hub": "0.1.0"\n}\n'


async def test_version_without_a_hub_is_an_answer_too(riata: Riata) -> None:
    result = await riata("version")
    assert (result.code, result.out) == (0, "PART    VERSION\nriata   0.1.0\n")
    assert "not logged in" in result.err
    assert (await riata("version", "--client")).err == ""


READING = (
    ("clusters", "list"),
    ("clusters", "show", "a"),
    ("agent-tokens", "list", "a"),
    ("grants", "list"),
    ("grants", "show", "g"),
    ("tokens", "list"),
    ("kubeconfig", "a"),
    ("whoami",),
    ("version",),
)


@pytest.mark.parametrize("command", READING, ids=" ".join)
async def test_what_reads_has_all_four_forms(
    riata: Riata, tls_hub: str, fake: FakeHub, command: tuple[str, ...]
) -> None:
    fake.clusters["a"] = {"name": "a"}
    fake.grants["g"] = {"name": "g", "user": "ann", "cluster": "a", "role": "use"}
    shown = {form: await riata(*command, "-o", form) for form in ("table", "json", "yaml", "name")}
    assert {form: result.code for form, result in shown.items()} == dict.fromkeys(shown, 0)
    headings = shown["table"].out.splitlines()[0].split()
    assert headings == [heading.upper() for heading in headings]
    assert json.loads(shown["json"].out).keys() == yaml.safe_load(shown["yaml"].out).keys()
    assert all(len(line.split()) == 1 for line in shown["name"].out.splitlines())


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -F"), ("zsh", "#compdef riata"), ("fish", "complete -c riata")]
)
async def test_completion_scripts(riata: Riata, shell: str, mark: str) -> None:
    result = await riata("completion", shell)
    assert mark in result.out
    assert "agent-tokens" in result.out


async def test_bash_takes_its_script(riata: Riata) -> None:
    script = (await riata("completion", "bash")).out
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_has_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(arguments: object) -> errors.Exit:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "execute", interrupted)
    assert cli.run(["x"]) == 130


async def test_errors_say_what_it_means_and_what_to_do(riata: Riata, hub: str, fake: FakeHub) -> None:
    result = await riata("clusters", "show", "a")
    lines = result.err.splitlines()
    assert lines[0] == 'riata: "a" not found'
    assert lines[1].startswith("  HTTP 404 for a GET at http://127.0.0.1")
    assert lines[2].startswith("  next: check the name")


_NO_RESOLVER = """
import signal, socket, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored by what it starts in the background
def silent(*asked, **how):
    print("asked", flush=True)
    time.sleep(60)
socket.getaddrinfo = silent
from ctl import cli
cli.leave(cli.run(["whoami"]))
"""


def test_ctrl_c_does_not_wait_for_a_resolver(home: pathlib.Path) -> None:
    (home / "token").write_text(ADMIN)
    asking = {**os.environ, "RIATA_HUB": "https://hub.test", "RIATA_TOKEN_FILE": str(home / "token")}
    with subprocess.Popen([sys.executable, "-c", _NO_RESOLVER], env=asking, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"asked\n"
        running.send_signal(signal.SIGINT)
        try:
            assert running.wait(timeout=20) == 130
        finally:
            running.kill()


_SLOW_MERGE = """
import asyncio, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # as above
from ctl import cli
from ctl.kubeconfig import store
merge, wait = store._merge_locked, asyncio.wait
def slow(*texts, **how):
    print("holds the lock", flush=True)
    time.sleep(1)
    return merge(*texts, **how)
def waits(*works, **how):
    print("waits for it", flush=True)
    return wait(*works, **how)
store._merge_locked, asyncio.wait = slow, waits
cli.leave(cli.run(["kubeconfig", "a", "--merge"]))
"""


async def test_a_second_ctrl_c_waits_for_a_merge_that_holds_kubectls_lock(
    tls_hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    """Left behind, the lock would fail each later write of kubectl's and of ours."""
    fake.clusters["a"] = {"name": "a"}
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", _SLOW_MERGE, stdout=subprocess.PIPE)
    assert running.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await running.stdout.readline() == b"holds the lock\n"
            running.send_signal(signal.SIGINT)
            assert await running.stdout.readline() == b"waits for it\n"
            running.send_signal(signal.SIGINT)
            assert await running.wait() == 130
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert [each.name for each in (home / ".kube").iterdir()] == ["config"]
