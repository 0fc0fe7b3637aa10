"""What is made from the charts is what is checked in."""

import subprocess
import sys
from pathlib import Path

import yaml

from deploy import render
from deploy.helm import ROOT

KINDS = [
    ("00-namespace.yaml", "Namespace"),
    ("10-rbac.yaml", "ServiceAccount"),
    ("10-rbac.yaml", "ServiceAccount"),
    ("10-rbac.yaml", "ServiceAccount"),
    ("10-rbac.yaml", "ClusterRole"),
    ("10-rbac.yaml", "ClusterRole"),
    ("10-rbac.yaml", "Role"),
    ("10-rbac.yaml", "Role"),
    ("10-rbac.yaml", "ClusterRoleBinding"),
    ("10-rbac.yaml", "ClusterRoleBinding"),
    ("10-rbac.yaml", "RoleBinding"),
    ("10-rbac.yaml", "RoleBinding"),
    ("10-rbac.yaml", "ValidatingAdmissionPolicy"),
    ("10-rbac.yaml", "ValidatingAdmissionPolicyBinding"),
    ("20-cluster-admins.yaml", "ClusterRoleBinding"),
    ("30-settings.yaml", "ConfigMap"),
    ("30-settings.yaml", "Secret"),
    ("30-settings.yaml", "ConfigMap"),
    ("30-settings.yaml", "Lease"),
    ("40-agents.yaml", "DaemonSet"),
    ("40-agents.yaml", "DaemonSet"),
    ("40-agents.yaml", "Deployment"),
    ("40-agents.yaml", "PodDisruptionBudget"),
    ("40-agents.yaml", "NetworkPolicy"),
]


def test_everything_made_is_as_checked_in() -> None:
    for path, text in render.files().items():
        assert path.read_text() == text, f"{path}: make manifests"


def test_the_command_says_so() -> None:
    command = [sys.executable, "-m", "deploy.render", "--check"]
    done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_that_nothing_makes_is_found(tmp_path: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    stray = ROOT / "agent" / "99-stray.yaml"
    stray.write_text("")
    try:
        assert render.main(["--check"]) == 1
    finally:
        stray.unlink()
    assert "99-stray.yaml" in capsys.readouterr().err


def test_the_agents_files_hold_what_is_expected() -> None:
    files = sorted((ROOT / "agent").iterdir())
    found = [(path.name, each["kind"]) for path in files for each in yaml.safe_load_all(path.read_text())]
    assert found == KINDS


def test_nothing_says_that_helm_keeps_it() -> None:
    for path in [*(ROOT / "agent").iterdir(), *(ROOT / "hub").iterdir()]:
        assert "Helm" not in path.read_text()


def test_the_example_pin_is_refused_by_no_accident() -> None:
    """It is well-formed, so that the manifest parses, and matches no key."""
    assert render.EXAMPLE_PIN == "sha256:" + "0" * 64
    assert render.EXAMPLE_PIN in (ROOT / "agent" / "40-agents.yaml").read_text()
