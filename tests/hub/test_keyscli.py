"""`riata-hub keys`, as an operator uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub import cli
from hub.store import keyfile
from proto.aio import loop

loop.factory().close()
"""libuv keeps one pipe for the life of a process; made here, it is no leak of the first test."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    for name in ("RIATA_HUB_DATA", "RIATA_HUB_CONFIG", "RIATA_HUB_ENCRYPTION_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["init", "--data", str(tmp_path / "hub")]) == 0
    capsys.readouterr()
    return tmp_path / "hub"


def rows(data: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, int]]:
    assert cli.main(["keys", "list", "--data", str(data), "-o", "json"]) == 0
    return [(row["role"], row["values"]) for row in json.loads(capsys.readouterr().out)["keys"]]


def test_listed_rotated_and_not_retired_too_early(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(data, capsys) == [("encrypts", 2)]
    assert cli.main(["keys", "rotate", "--data", str(data)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "keep a copy" in shown.err
    assert rows(data, capsys) == [("encrypts", 0), ("decrypts", 2)]
    assert cli.main(["keys", "retire", "--data", str(data)]) == 1
    assert "still sealed with an older key" in capsys.readouterr().err
    assert cli.main(["keys", "list", "--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "ROLE", "VALUES"]
    keys = keyfile.parse((data / "encryption.key").read_bytes()).keys
    assert [line.split()[0] for line in lines[1:]] == [key.id for key in keys]


def test_a_key_that_is_missing_is_shown(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "encryption.key").write_bytes(keyfile.render([keyfile.EncryptionKey.new()]))
    assert rows(data, capsys) == [("encrypts", 0), ("missing", 2)]


def test_one_key_is_none_too_many(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "retire", "--data", str(data)]) == 0
    assert "nothing to remove" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "rotate", "retire"])
def test_an_empty_file_and_a_directory_without_a_hub(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (data / "encryption.key").write_bytes(b"")
    assert cli.main(["keys", command, "--data", str(data)]) == 1
    assert "is empty" in capsys.readouterr().err
    assert cli.main(["keys", command, "--data", str(tmp_path / "none")]) == 1
    assert "holds no hub" in capsys.readouterr().err


def test_init_refuses_a_bad_key_file_before_it_makes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RIATA_HUB_ENCRYPTION_KEY_FILE", str(tmp_path / "keys"))
    (tmp_path / "keys").write_bytes(b"short")
    assert cli.main(["init", "--data", str(tmp_path / "hub")]) == 1
    assert "openssl rand" in capsys.readouterr().err
    assert not (tmp_path / "hub").exists()
    (tmp_path / "keys").write_bytes(keyfile.render([keyfile.EncryptionKey.new()]))
    assert cli.main(["init", "--data", str(tmp_path / "hub")]) == 0
    assert not (tmp_path / "hub" / "encryption.key").exists()
