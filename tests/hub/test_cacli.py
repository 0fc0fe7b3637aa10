"""`riata-hub ca` on a directory: what it prints, and what it refuses. With a hub that runs: tests/e2e."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from hub import carotation, cawatch, cli, tls
from hub.carotation import Phase
from hub.clock import wall_clock
from proto.aio import loop

loop.factory().close()
"""libuv keeps one pipe for the life of a process; made here, it is no leak of the first test."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    for name in ("RIATA_HUB_DATA", "RIATA_HUB_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["init", "--data", str(tmp_path / "hub")]) == 0
    capsys.readouterr()
    return tmp_path / "hub"


def written(data: Path, phase: str, *agents: dict[str, object], age_s: float = 0.0) -> None:
    """What a hub that runs says."""
    document = {"at": wall_clock() - age_s, "phase": phase, "pin": "p", "accepted": [], "agents": list(agents)}
    (data / tls.DIRECTORY / cawatch.FILE).write_text(json.dumps(document))


def agent(*, knows: bool, keeps: bool) -> dict[str, object]:
    return {
        "agent": "k1", "cluster": "alpha", "role": "cluster", "node": "", "instance": "i", "is_connected": True,
        "knows": knows, "keeps": keeps, "problem": "",
    }  # fmt: skip


def test_three_steps(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = data / tls.DIRECTORY
    rotate = ["ca", "rotate", "--data", str(data)]
    assert cli.main(rotate) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("sha256:")
    assert "--finish" in shown.err
    written(data, "introduced", agent(knows=True, keeps=False))
    assert cli.main([*rotate, "--finish"]) == 0
    assert "--retire" in capsys.readouterr().err
    assert cli.main([*rotate, "--retire"]) == 1  # the file is of the phase before
    written(data, "switched", agent(knows=True, keeps=True))
    assert cli.main([*rotate, "--retire"]) == 0
    assert carotation.phase(directory) is Phase.STEADY
    assert cli.main(rotate) == 0
    assert cli.main([*rotate, "--abort"]) == 0


@pytest.mark.parametrize(("age_s", "says"), [(0.0, "k1 of alpha"), (3600.0, "does not run")])
def test_a_step_that_would_lose_an_agent_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str], age_s: float, says: str
) -> None:
    rotate = ["ca", "rotate", "--data", str(data)]
    cli.main(rotate)
    written(data, "introduced", agent(knows=False, keeps=False), age_s=age_s)
    assert cli.main([*rotate, "--finish"]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert "--force" in said
    assert carotation.phase(data / tls.DIRECTORY) is Phase.INTRODUCED
    assert cli.main([*rotate, "--finish", "--force"]) == 0


def test_a_ca_that_ends_soon_is_replaced_with_a_word_of_the_time_left(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = data / tls.DIRECTORY
    tls.make_ca(tmp_path / "old", "h", datetime.datetime.now(datetime.UTC) - tls.CA_LIFETIME + tls.LEAF_RENEWAL / 2)
    for name in (tls.CA_CERT, tls.CA_KEY):
        (directory / name).write_bytes((tmp_path / "old" / name).read_bytes())
    assert cli.main(["ca", "rotate", "--data", str(data)]) == 0
    said = capsys.readouterr().err
    assert "the CA of today ends at" in said
    assert "--finish before that" in said


def test_a_ca_that_has_ended_is_given_up_for_the_next_one_without_asking_and_that_one_is_not_taken_back(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was to be started first, which it refused."""
    directory, then = data / tls.DIRECTORY, datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    for name in (tls.CA_CERT, tls.CA_KEY):
        (directory / name).unlink()
    tls.make_ca(directory, "h", then - tls.CA_LIFETIME)
    carotation.begin(directory, then - datetime.timedelta(hours=1))
    assert cli.main(["ca", "rotate", "--abort", "--data", str(data)]) == 1
    assert "the CA of today has ended" in capsys.readouterr().err
    assert cli.main(["ca", "rotate", "--finish", "--data", str(data)]) == 0
    assert "the CA before it has ended" in capsys.readouterr().err
    assert carotation.phase(directory) is Phase.SWITCHED


def test_status(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = ["ca", "status", "--data", str(data)]
    assert cli.main(status) == 0
    shown = capsys.readouterr()
    assert "phase: steady" in shown.out
    assert "does not run" not in shown.err
    written(data, "steady")  # in which a hub that runs has just written it for once
    assert cli.main([*status, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["agents"] is None
    cli.main(["ca", "rotate", "--data", str(data)])
    capsys.readouterr()
    assert cli.main([*status, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["phase"], len(found["pins"]), found["agents"]) == ("introduced", 2, None)
    assert cli.main(status) == 0
    assert "does not run" in capsys.readouterr().err
    written(data, "introduced", agent(knows=False, keeps=False))
    assert cli.main(status) == 0
    assert "not ready for the next step: 1\n  k1 of alpha (it was not told yet)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--finish", "--abort"], 2, "exclude each other"),
        (["--force"], 2, "belongs to"),
        (["--abort", "--force"], 2, "belongs to"),
        (["--retire"], 1, "begin one"),
    ],
)
def test_wrong_use(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, says: str
) -> None:
    assert cli.main(["ca", "rotate", "--data", str(data), *arguments]) == status
    assert says in capsys.readouterr().err


def test_a_hub_with_certificates_of_its_own_says_how_they_rotate(
    data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    file.write_text('tls_cert = "/x"\ntls_key = "/y"\n')
    for command in ("rotate", "status"):
        assert cli.main(["ca", command, "--data", str(data), "--config", str(file)]) == 1
        assert "tls_ca" in capsys.readouterr().err
    assert cli.main(["ca", "rotate", "--data", str(tmp_path / "none")]) == 1
    assert "riata-hub init" in capsys.readouterr().err
