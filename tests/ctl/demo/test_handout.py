"""What the demo gives out."""

import dataclasses
import json
import pathlib
import shutil
import stat

import pytest
import yaml

from ctl import reference
from ctl.demo import handout, running
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
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
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
    for line in (
        f"export KUBECONFIG={tmp_path}/k",
        'export PATH="$PATH:/cache/bin"',
        "kubectl --context riata-alpha exec -it deploy/hello -- sh",
        "kubectl --context riata-alpha logs -f deploy/hello",
        "kubectl --context riata-alpha port-forward deploy/hello 8080:8080",
        "kubectl --context riata-beta get pods -o wide --watch",
        "kubectl --context riata-mine get nodes",
    ):
        assert line in text
    assert "riata-beta exec" not in text


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
