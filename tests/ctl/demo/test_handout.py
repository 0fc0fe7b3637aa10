"""What the demo gives out."""

import dataclasses
import json
import pathlib
import shlex
import shutil
import stat
import subprocess

import pytest
import yaml

from ctl import reference
from ctl.demo import children, handout, running
from tests.ctl.fakehub import ADMIN, FakeHub

GONE = 2**22 + 1
"""A process id above the kernel's largest."""

CLUSTERS = (
    running.DemoCluster("alpha", "full", "demo", "a real node", "/proc/7/ns/net"),
    running.DemoCluster("beta", "light", "demo", "20 simulated nodes"),
    running.DemoCluster("mine", "yours", "", "context mine"),
)


def demo_of(directory: pathlib.Path, hub: str = "http://127.0.0.1:1") -> running.Running:
    return running.Running(
        hub_url=hub,
        ca_file=directory / "ca.crt",
        ca_pin="sha256:" + "0" * 64,
        admin_token_file=directory / "admin.token",
        metrics_url="http://127.0.0.1:2/metrics",
        directory=directory,
        clusters=CLUSTERS,
        pids={"hub": 1, "alpha/agent": GONE},
        kubectl=pathlib.Path("/cache/bin/kubectl"),
    )


async def test_the_kubeconfig_is_private_and_contexts_are_in_the_namespace(
    hub: str, fake: FakeHub, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
    (tmp_path / "admin.token").write_text(ADMIN)
    demo = dataclasses.replace(demo_of(tmp_path, hub))
    path = await handout.kubeconfig(demo)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = yaml.safe_load(path.read_text())
    assert [c["context"].get("namespace") for c in loaded["contexts"]] == ["demo", "demo", None]
    assert loaded["current-context"] == "riata-alpha"
    assert fake.calls[-1][2]["clusters"] == ["alpha", "beta", "mine"]
    assert ADMIN not in path.read_text()


def test_the_guide_has_commands_that_fit_each_cluster(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    text = handout.guide(demo_of(tmp_path), tmp_path / "k")
    assert "second one" in text.splitlines()[6]
    for line in (
        f"export KUBECONFIG={tmp_path}/k",
        'export PATH="$PATH":/cache/bin',
        "kubectl --context riata-alpha exec -it deploy/hello -- sh",
        "kubectl --context riata-alpha logs -f deploy/hello",
        "kubectl --context riata-alpha port-forward deploy/hello 8080:8080",
        "kubectl --context riata-beta get pods -o wide --watch",
        "kubectl --context riata-mine get nodes",
    ):
        assert line in text
    assert "riata-beta exec" not in text


def test_programs_of_ours_are_named_so_that_a_shell_finds_them(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    place = tmp_path / "a place"
    place.mkdir()
    kubectl = place / "kubectl"
    kubectl.write_text("#!/bin/sh\necho ours\n")
    kubectl.chmod(0o700)
    lines = handout.guide(dataclasses.replace(demo_of(place), kubectl=kubectl), place / "k").splitlines()
    exports = [line for line in lines if line.startswith("export ")]
    shown = subprocess.run(
        ["/bin/sh", "-euc", "\n".join([*exports, 'echo "$KUBECONFIG"', "kubectl"])],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert shown.stdout == f"{place}/k\nours\n"
    (login,) = [shlex.split(line) for line in lines if " login " in line]
    assert login[: login.index("login")] == children.program("riata", "ctl")
    assert str(place / "ca.crt") in login


def test_where_there_is_no_kubectl_at_all_it_says_so(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = dataclasses.replace(demo_of(tmp_path), kubectl=None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "# there is no kubectl on your PATH: install one first" in handout.guide(demo, tmp_path / "k")
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/kubectl")
    assert "PATH" not in handout.guide(demo, tmp_path / "k")


def test_the_document_for_scripts(tmp_path: pathlib.Path) -> None:
    made = demo_of(tmp_path).document(tmp_path / "k")
    assert json.loads(json.dumps(made)) == made
    assert made["clusters"][0] == {
        **{"name": "alpha", "size": "full", "namespace": "demo"},
        **{"network_namespace": "/proc/7/ns/net", "note": "a real node", "context": "riata-alpha"},
    }
    assert [c["network_namespace"] for c in made["clusters"][1:]] == [None, None]
    assert made["pids"]["hub"] == 1
    keys = {key for key in made if key != "clusters"} | {f"clusters[].{key}" for key in made["clusters"][0]}
    assert keys == reference.DEMO.keys()
