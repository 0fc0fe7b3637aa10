"""The manifest's other forms: text for a shell, run here by real shells with a curl and a kubectl of ours, and values
for the chart."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.helm import plain, render
from hub.clusters import forms
from hub.clusters.manifest import ManifestError, documents
from tests.deploy.hostile import HOSTILE
from tests.hub.clusters.test_manifest import ca, values

__all__ = ["ca"]

SHELLS = [shell for shell in ("dash", "bash", "ksh", "zsh", "busybox sh") if shutil.which(shell.split()[0])]

CURL = """#!/bin/sh
# Keeps what it was given; answers as it is told.
for word; do printf '%s\\n' "$word"; done >"$KEPT/curl"
while [ $# -gt 0 ]; do
  case $1 in
    --cacert) cp "$2" "$KEPT/ca" ;;
    -H) cp "${2#@}" "$KEPT/header"; stat -c %a "${2#@}" "$(dirname "${2#@}")" >"$KEPT/modes" ;;
    --output) echo "$ANSWER" >"$2"; dirname "$2" >"$KEPT/directory" ;;
  esac
  shift
done
printf %s "$STATUS"
"""
KUBECTL = """#!/bin/sh
echo "$@" >"$KEPT/kubectl"
cat >"$KEPT/applied"
exit "${KUBECTL_STATUS:-0}"
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has curl and kubectl."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "kept").mkdir()
    for name, text in (("curl", CURL), ("kubectl", KUBECTL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "KEPT": str(tmp_path / "kept"), "STATUS": "200", "ANSWER": "kind: X", "HOME": str(tmp_path)}


def paste(text: str, machine: dict[str, str], shell: str = "sh") -> "subprocess.CompletedProcess[str]":
    """As from a clipboard: standard input of a shell that reads commands."""
    return subprocess.run(
        shell.split(), input=text, env=machine, text=True, capture_output=True, timeout=20, check=False
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_pasted_it_fetches_and_applies(ca: str, machine: dict[str, str], shell: str) -> None:
    text = forms.shell(values(ca))
    done = paste(text + "echo still here\n", machine, shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "still here\n", "")
    kept = {each.name: each.read_text() for each in Path(machine["KEPT"]).iterdir()}
    assert (kept["kubectl"], kept["applied"]) == ("apply -f -\n", "kind: X\n")
    assert kept["header"] == "Authorization: Bearer riata-join.abc_DEF-1\n"
    assert kept["ca"] == ca
    assert kept["modes"] == "600\n700\n"
    assert not Path(kept["directory"].strip()).exists()
    words = kept["curl"].splitlines()
    assert words[0] == "-q"
    assert words[-1] == "https://hub.example.org/prefix/v1/manifest"
    assert not {"--insecure", "-k", "--location", "-L"} & set(words)
    assert "riata-join" not in kept["curl"] + kept["kubectl"]


def test_what_the_hub_refuses_is_told_and_nothing_applied(ca: str, machine: dict[str, str]) -> None:
    done = paste(forms.shell(values(ca)), machine | {"STATUS": "401", "ANSWER": "the join token expired"})
    assert (done.returncode, done.stderr) == (1, "the join token expired\n")
    assert not (Path(machine["KEPT"]) / "applied").exists()
    failed = paste(forms.shell(values(ca)), machine | {"KUBECTL_STATUS": "3"})
    assert failed.returncode == 3
    assert not Path((Path(machine["KEPT"]) / "directory").read_text().strip()).exists()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_are_refused_or_stay_one_word(ca: str, machine: dict[str, str], text: str) -> None:
    url = f"https://hub.example.org/{text}"
    try:
        made = forms.shell(values(ca, hub_url=url))
    except ManifestError:
        return
    assert paste(made, machine).returncode == 0
    assert (Path(machine["KEPT"]) / "curl").read_text().splitlines()[-1] == f"{url.rstrip('/')}/v1/manifest"


def test_an_interactive_shell_finds_no_history_in_it(ca: str) -> None:
    assert "!" not in forms.shell(values(ca))
    assert "\t" not in forms.shell(values(ca))


def test_without_a_ca_there_is_none(ca: str) -> None:
    with pytest.raises(ManifestError, match="ca_pem"):
        forms.shell(values(ca, ca_pem=""))


@pytest.mark.parametrize(
    "image",
    [
        "riata-agent:1.0", "registry.example:5000/riata/riata-agent:1.0", "localhost/riata-agent:1.0",
        "library/riata-agent:1.0", f"registry.example/riata-agent:1.0@sha256:{'a' * 64}",
    ],
)  # fmt: skip
def test_the_values_make_the_same_manifest(ca: str, image: str) -> None:
    given = values(ca, image=image, profile="read-only", node_agents=True, cluster_admins=False)
    found = yaml.safe_load(forms.helm(given))
    assert plain(render("riata-agent", {**found, "namespace": {"create": True}})) == documents(given)


@pytest.mark.parametrize("tag", ["1234e12", "1_2e3", "12.e3", "0o17", "1.10", "7"])
def test_a_tag_that_some_yaml_takes_for_a_number_is_text_to_all(ca: str, tag: str) -> None:
    """The short name of a commit is one in a hundred times: Helm read the number, and refused it as no string."""
    assert f"tag: '{tag}'\n" in forms.helm(values(ca, image=f"registry.example.org/riata-agent:{tag}"))
