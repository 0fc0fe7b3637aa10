"""The images: OCI archives of one static busybox."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.harness import images
from tests.harness.failures import MissingTool
from tests.kube.programs import program
from tests.kube.test_busybox import INTERP, LOAD, elf


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The PATH, with a stand-in for busybox."""
    directory = tmp_path / "path"
    program(directory / "busybox", "true").write_bytes(elf(LOAD))
    monkeypatch.setenv("PATH", str(directory))
    return directory


def _files(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = {member.name: opened.extractfile(member) for member in opened.getmembers() if member.isfile()}
        return {name: file.read() for name, file in found.items() if file}


def test_an_archive_holds_what_its_digests_say(path: Path, tmp_path: Path) -> None:
    archives = images.write_archives(tmp_path)
    assert [each.name for each in archives] == ["pause.tar", "box.tar"]
    for archive, reference in zip(archives, (images.PAUSE, images.BOX), strict=True):
        files = _files(archive.read_bytes())
        (entry,) = json.loads(files["index.json"])["manifests"]
        assert entry["annotations"]["io.containerd.image.name"] == reference
        blobs = {name.removeprefix("blobs/sha256/"): data for name, data in files.items() if "blobs/" in name}
        assert all(hashlib.sha256(data).hexdigest() == name for name, data in blobs.items())
        manifest = json.loads(blobs[entry["digest"].removeprefix("sha256:")])
        (layer,) = manifest["layers"]
        assert _files(blobs[layer["digest"].removeprefix("sha256:")])["bin/busybox"] == elf(LOAD)


def test_a_dynamic_busybox_is_refused_with_the_cure(path: Path, tmp_path: Path) -> None:
    (path / "busybox").write_bytes(elf(LOAD, INTERP))
    with pytest.raises(MissingTool, match="busybox is not a static ELF program: run `make node-packages`"):
        images.write_archives(tmp_path)


def test_no_busybox_is_said(path: Path, tmp_path: Path) -> None:
    (path / "busybox").unlink()
    with pytest.raises(MissingTool, match="busybox missing: run `make node-packages`"):
        images.write_archives(tmp_path)
