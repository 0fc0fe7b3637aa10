"""Under sudo, what is meant for the user is the user's; root follows no path of theirs."""

import dataclasses
import os
import pathlib
import stat
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from ctl.demo import handover, records, running
from tests.ctl.demo.test_handout import demo_of

NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")


@pytest.fixture
def demo(tmp_path: pathlib.Path) -> running.Running:
    for name in ("ca.crt", "admin.token", "kubeconfig"):
        (tmp_path / name).write_text(f"content of {name}")
    (tmp_path / "kubectl").write_text('#!/bin/sh\ncat "$KUBECONFIG"\n')
    records.write(tmp_path, records.own(keep=False))
    return dataclasses.replace(demo_of(tmp_path), kubectl=tmp_path / "kubectl")


@pytest.fixture
def sudo(monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A place for temporary files that everybody may enter, and sudo's variables."""
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    monkeypatch.setenv("SUDO_GID", str(NOBODY))
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o1777)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield pathlib.Path(name)


@pytest.mark.parametrize(
    "variables", [{}, {"SUDO_UID": "0", "SUDO_GID": "0"}, {"SUDO_UID": "-1", "SUDO_GID": "5"}, {"SUDO_UID": "7"}]
)
def test_without_a_person_behind_sudo_nothing_is_handed_over(variables: dict[str, str]) -> None:
    assert handover.person(variables) is None


@as_root
def test_the_person_can_use_the_files_and_nobody_else(demo: running.Running, sudo: pathlib.Path) -> None:
    with handover.handed(demo, demo.directory / "kubeconfig", keep=False) as (theirs, kubeconfig):
        assert theirs.kubectl is not None
        files = [kubeconfig, theirs.ca_file, theirs.admin_token_file, theirs.kubectl]
        assert {path.parent for path in files} == {kubeconfig.parent}
        for path in (kubeconfig.parent, *files):
            found = path.stat()
            assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode) & 0o077) == (NOBODY, NOBODY, 0)
        shown = subprocess.run(
            ["sh", "-c", f"cat {theirs.ca_file} {theirs.admin_token_file}; {theirs.kubectl}"],
            env={"PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig)},
            user=NOBODY,
            group=NOBODY,
            extra_groups=(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert shown.stdout == "content of ca.crtcontent of admin.tokencontent of kubeconfig"
        record = records.read(demo.directory)
        assert record is not None
        assert (record.handed, record.handed_uid) == (str(kubeconfig.parent), NOBODY)
    assert list(sudo.iterdir()) == []
    assert (demo.directory / "kubeconfig").stat().st_uid == 0


@as_root
def test_what_the_person_put_in_its_place_is_left_alone(demo: running.Running, sudo: pathlib.Path) -> None:
    precious = sudo / "precious"
    precious.mkdir()
    (precious / "kubeconfig").touch()
    with handover.handed(demo, demo.directory / "kubeconfig", keep=False) as (_, kubeconfig):
        kubeconfig.parent.rename(sudo / "moved")
        kubeconfig.parent.symlink_to(precious)
    assert (precious / "kubeconfig").exists()
    os.chown(precious, NOBODY - 1, NOBODY)
    handover.take_back(precious, NOBODY)
    assert (precious / "kubeconfig").exists()


@as_root
def test_what_is_to_be_kept_stays_theirs(
    demo: running.Running, sudo: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with handover.handed(demo, demo.directory / "kubeconfig", keep=True) as (_, kubeconfig):
        pass
    assert kubeconfig.stat().st_uid == NOBODY
    assert capsys.readouterr().err == f"kept for you: {kubeconfig.parent}\n"


def test_nobody_behind_it_means_no_copy(demo: running.Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    path = demo.directory / "kubeconfig"
    with handover.handed(demo, path, keep=False) as given:
        assert given == (demo, path)
    assert path.exists()
