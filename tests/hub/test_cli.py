"""The command line: data on stdout, the rest on stderr, and exit statuses that scripts can rely on."""

from __future__ import annotations

import base64
import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hub import cli
from hub.store.model import Resource, StoreError
from hub.store.sqlite import SqliteStore
from proto.aio import loop
from proto.versions import PRODUCT_VERSION

loop.factory().close()
"""libuv keeps one pipe for the life of a process; made here, it is no leak of the first test."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RIATA_HUB_DATA", "RIATA_HUB_CONFIG", "RIATA_HUB_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)


def test_init_shows_the_token_on_stdout_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "--data", str(tmp_path / "hub")]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("riata_")
    assert shown.out.count("\n") == 1
    assert "riata_" not in shown.err
    assert "sha256:" in shown.err
    assert cli.main(["init", "--data", str(tmp_path / "hub")]) == 1
    assert "initialised already" in capsys.readouterr().err


def test_init_if_needed_is_for_every_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, token = tmp_path / "hub", tmp_path / "token"
    arguments = ["init", "--if-needed", "--data", str(data), "--admin-token-file", str(token)]
    assert cli.main(arguments) == 0
    first = token.read_text()
    token.unlink()  # taken away, as it should be
    assert cli.main(arguments) == 0
    assert "initialised already" in capsys.readouterr().err
    assert not token.exists()
    assert first.startswith("riata_")


def test_init_if_needed_goes_on_where_an_attempt_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, token = tmp_path / "hub", tmp_path / "token"
    arguments = ["init", "--if-needed", "--data", str(data), "--admin-token-file", str(token)]
    put = SqliteStore.put

    async def fails_at_the_end(store: SqliteStore, resource: Resource) -> Resource:
        if resource.status.get("phase") == "ready":
            raise StoreError("the disk is full")
        return await put(store, resource)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "put", fails_at_the_end)
        assert cli.main(arguments) == 1
    interrupted = token.read_text()
    assert cli.main(arguments) == 0
    assert token.read_text() != interrupted


def test_init_if_needed_removes_no_file_of_another_hub(tmp_path: Path) -> None:
    """A wrong `--data`, and the only copy of a token would be gone."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    token = tmp_path / "token"
    token.write_text("precious")
    for data in ("other", "new"):
        arguments = ["init", "--if-needed", "--data", str(tmp_path / data), "--admin-token-file", str(token)]
        assert cli.main(arguments) == 1
        assert token.read_text() == "precious"
    assert not (tmp_path / "new").exists()


def test_init_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["init", "--data", str(tmp_path / "hub"), "-o", "json", "--admin-token-file", str(tmp_path / "t")]
    assert cli.main(arguments) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"hub_id", "data", "ca_file", "ca_pin", "admin_token_file"}
    assert (tmp_path / "t").read_text().startswith("riata_")


def test_a_further_admin_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["admin-token", "--data", str(tmp_path)]) == 1
    assert "holds no hub" in capsys.readouterr().err
    cli.main(["init", "--data", str(tmp_path / "hub")])
    first = capsys.readouterr().out
    assert cli.main(["admin-token", "--data", str(tmp_path / "hub"), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["admin_token"] != first.strip()
    assert cli.main(["admin-token", "--data", str(tmp_path / "hub"), "--admin-token-file", str(tmp_path)]) == 1


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_named_settings_file_holds_from_the_first_command_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    data, key = tmp_path / "hub", tmp_path / "key"
    key.write_text(base64.b64encode(bytes(range(32))).decode() + "\n")
    key.chmod(0o600)
    named = tmp_path / "hub.toml"
    named.write_text(f'data = "{data}"\nencryption_key_file = "{key}"\n')
    given = ["--config", str(named)] if how == "flag" else []
    if how == "variable":
        monkeypatch.setenv("RIATA_HUB_CONFIG", str(named))
    assert cli.main(["init", *given]) == 0
    assert not (data / "encryption.key").exists()  # the hub would not open what was sealed with it
    for command in (["admin-token"], ["backup", str(tmp_path / "copy")], ["keys", "list"]):
        assert cli.main([*command, *given]) == 0, capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert PRODUCT_VERSION in capsys.readouterr().out
    assert cli.main(["version", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": PRODUCT_VERSION, "wireVersion": 1}


def test_config_show_merges_flag_environment_and_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text('log_format = "console"')
    monkeypatch.setenv("RIATA_HUB_CONFIG", str(tmp_path / "mine.toml"))
    monkeypatch.setenv("RIATA_HUB_LOG_LEVEL", "debug")
    assert cli.main(["config", "show", "--data", str(tmp_path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["log_format"], shown["log_level"], shown["data"]) == ("console", "debug", str(tmp_path))


@pytest.mark.parametrize(
    "arguments",
    [["serve"], ["serve", "--bogus"], ["bogus"], ["serve", "--data", "x", "--listen", "nonsense"],
     ["serve", "--data", "x", "--plain-http", "--listen", "0.0.0.0:1"], ["init"]],
)  # fmt: skip
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err
    assert "Traceback" not in shown.err


def test_what_cannot_be_done_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["init", "--data", str(tmp_path / "file" / "hub")]) == 1
    assert "riata-hub: " in capsys.readouterr().err


def test_a_backup_is_a_new_file_or_goes_to_stdout(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    data, copy = str(tmp_path / "hub"), tmp_path / "hub.backup"
    assert cli.main(["backup", str(copy), "--data", data]) == 1
    assert cli.main(["init", "--data", data]) == 0
    capsysbinary.readouterr()
    assert cli.main(["backup", str(copy), "--data", data]) == 0
    shown = capsysbinary.readouterr()
    assert shown.out == b""
    assert b"the encryption key file" in shown.err
    assert copy.stat().st_mode & 0o777 == 0o600
    assert cli.main(["backup", str(copy), "--data", data]) == 1
    assert b"exists already" in capsysbinary.readouterr().err
    assert cli.main(["backup", "-", "--data", data]) == 0
    assert capsysbinary.readouterr().out == copy.read_bytes()


def test_init_makes_no_hub_whose_token_nobody_would_see(tmp_path: Path) -> None:
    command = f"exec {shlex.quote(sys.executable)} -m hub init --data made >&-"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
    assert b"standard output is closed" in done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("command", [["admin-token"], ["admin-token", "-o", "json"], ["backup", "-"], ["ca", "rotate"]])
def test_without_stdout_nothing_is_made_that_only_it_would_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    data = tmp_path / "hub"
    assert cli.main(["init", "--data", str(data)]) == 0
    before = _files(data)
    capsys.readouterr()
    monkeypatch.setattr("sys.stdout", None)
    assert cli.main([*command, "--data", str(data)]) == 1
    assert capsys.readouterr().err.startswith("riata-hub: standard output is closed")
    assert _files(data) == before
    assert cli.main(["admin-token", "--data", str(data), "--admin-token-file", str(tmp_path / "token")]) == 0


def _files(directory: Path) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in directory.rglob("*") if each.is_file()}


def test_without_stderr_a_command_does_its_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert cli.main(["init", "--data", str(tmp_path / "hub")]) == 0
    assert capsys.readouterr().out.startswith("riata_")


def test_a_file_that_may_not_be_opened_is_said_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hub that root has set up, started by its own user."""
    data = tmp_path / "hub"
    assert cli.main(["init", "--data", str(data)]) == 0
    opened, closed = os.open, {"hub.db.lock"}

    def opens(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", opens)
    capsys.readouterr()
    assert cli.main(["serve", "--data", str(data)]) == 1
    assert f"{data / 'hub.db.lock'}: user {os.geteuid()} may not open it (it belongs to" in (
        said := capsys.readouterr().err
    )
    assert said.rstrip().endswith(f"{os.getegid()} {data}")  # everything in it
    closed = {"hub.db"}
    assert cli.main(["serve", "--data", str(data)]) == 1
    assert f"{data / 'hub.db'}: user {os.geteuid()} may not open it" in capsys.readouterr().err
    (data / "tls" / ".rotation.lock").touch()
    closed = {".rotation.lock"}
    assert cli.main(["ca", "rotate", "--data", str(data)]) == 1
    assert f".rotation.lock: user {os.geteuid()} may not open it" in capsys.readouterr().err
