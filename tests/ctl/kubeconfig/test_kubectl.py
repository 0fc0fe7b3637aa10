"""What riata merges, kubectl reads the same; and kubectl's own writes go on working in the file."""

import json
import os
import pathlib
import subprocess

import pytest

from ctl.kubeconfig import entries, store
from tests.ctl.kubeconfig.test_merge import MIXED
from tests.kube import layout

OURS = entries.build("https://hub:8443", "", "riata_new0000000_" + "1" * 64, ["a", "b"], "riata")
OLD_SERVER = "https://old"

_OBSTACLE = layout.obstacle(("kubectl",))
pytestmark = pytest.mark.skipif(_OBSTACLE is not None, reason=str(_OBSTACLE))


def _kubectl(env: dict[str, str], *arguments: str) -> str:
    command = [str(layout.bin_dir() / "kubectl"), "config", *arguments]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _view(env: dict[str, str]) -> dict[str, dict[str, object]]:
    """What kubectl sees, by section and name."""
    seen = json.loads(_kubectl(env, "view", "--raw", "-o", "json"))
    return {s: {e["name"]: e[key] for e in seen.get(s) or []} for s, key in entries.SECTIONS.items()}


@pytest.mark.parametrize("text", ["", MIXED, '{"apiVersion": "v1", "kind": "Config", "clusters": []}'])
def test_kubectl_sees_ours_and_everything_it_saw_before(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    env = {"KUBECONFIG": str(path), "HOME": str(tmp_path)}
    before = _view(env)
    store.merge_into_files(OURS, env, hub="https://hub:8443", use="riata-b", replace=True)
    after = _view(env)
    for entry in OURS:
        assert entry.body.items() <= after[entry.section].pop(entry.name).items()  # type: ignore[attr-defined]
        before[entry.section].pop(entry.name, None)
    assert after == before
    assert _kubectl(env, "current-context") == "riata-b\n"


def test_new_entries_go_to_the_file_that_kubectl_itself_would_write(tmp_path: pathlib.Path) -> None:
    for existing in ([], ["2"], ["3"], ["2", "3"]):
        for writer in ("kubectl", "riata"):
            directory = tmp_path / f"{writer}-{'-'.join(existing)}"
            directory.mkdir()
            for name in existing:
                (directory / name).write_text("apiVersion: v1\nkind: Config\n")
            paths = ":".join(str(directory / name) for name in "123")
            env = {"KUBECONFIG": paths, "HOME": str(tmp_path)}
            if writer == "kubectl":
                _kubectl(env, "set-cluster", "riata-a", "--server=https://hub:8443")
                chosen = {p.name for p in directory.iterdir() if "riata-a" in p.read_text()}
            else:
                store.merge_into_files(OURS, env, hub="https://hub:8443", use=None, replace=False)
                assert {p.name for p in directory.iterdir() if "riata-a" in p.read_text()} == chosen


def test_kubectl_can_go_on_writing(tmp_path: pathlib.Path) -> None:
    env = {"KUBECONFIG": str(tmp_path / "config"), "HOME": str(tmp_path)}
    store.merge_into_files(OURS, env, hub="https://hub:8443", use=None, replace=False)
    _kubectl(env, "set-context", "riata-a", "--namespace=kept")
    store.merge_into_files(OURS, env, hub="https://hub:8443", use=None, replace=False)
    assert _view(env)["contexts"]["riata-a"] == {"cluster": "riata-a", "user": "riata-a", "namespace": "kept"}
    _kubectl(env, "delete-context", "riata-a")
