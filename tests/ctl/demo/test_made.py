"""Where the demo's clusters come from."""

import pathlib
import subprocess
import sys

import pytest

from ctl import errors
from ctl.demo import made


def test_without_a_checkout_it_offers_the_users_own_clusters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(made, "_CHECKOUT", tmp_path)
    with pytest.raises(errors.CommandError) as caught:
        made.harness()
    assert "riata demo --kubeconfig FILE" in caught.value.cure


def test_without_tools_it_names_the_target(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(errors.CommandError, match="no cluster can be made: etcd"):
        made.harness()


def test_assets_without_what_the_demo_needs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):  # what envtest brings
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    missing = "kube-controller-manager, kube-scheduler, kwok not in KUBEBUILDER_ASSETS="
    with pytest.raises(errors.CommandError, match=f"no cluster can be made: {missing}.*: unset it"):
        made.harness()


def test_the_command_line_loads_no_harness() -> None:
    code = "import sys; from ctl import cli; cli.build(); print([m for m in sys.modules if m.startswith('tests')])"
    root = str(pathlib.Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("real", [True, False])
def test_the_workload_fits_the_cluster(real: bool) -> None:
    pod = made._deployment(real=real)["spec"]["template"]["spec"]
    assert ("tolerations" in pod) is not real
    assert pod["containers"][0]["image"].startswith("docker.io/local/box" if real else "local/simulated")
