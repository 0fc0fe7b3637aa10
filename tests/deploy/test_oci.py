"""OCI archives: digests are right, and nothing of the machine gets in."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

from deploy.images import oci


def files(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {each.name: opened.extractfile(each).read() for each in opened if each.isfile()}  # type: ignore[union-attr]


def tree(directory: Path, stamp: int) -> Path:
    """The same tree, made in another order, at another time."""
    names = ["b/program", "a.txt"] if stamp % 2 else ["a.txt", "b/program"]
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(0o750 if "program" in name else 0o640)
        os.utime(path, (stamp, stamp))
    (directory / "link").symlink_to("a.txt")
    return directory


def test_every_digest_is_right(tmp_path: Path) -> None:
    layers = [oci.Layer.of(oci.tar(oci.tree(tree(tmp_path, 1)))), oci.Layer.of(oci.tar([]), compressed=False)]
    archive = oci.archive("docker.io/library/x:1", layers, {"User": "65532"})
    found = files(archive)
    blobs = {name.removeprefix("blobs/sha256/"): data for name, data in found.items() if name.startswith("blobs/")}
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in blobs.items())
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/x:1"
    assert oci.image_digest(archive) == entry["digest"]
    manifest = json.loads(blobs[entry["digest"].removeprefix("sha256:")])
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    assert config["config"] == {"User": "65532"}
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in layers]
    assert [each["mediaType"].rpartition(".")[2] for each in manifest["layers"]] == ["tar+gzip", "tar"]


def test_the_same_contents_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = (oci.Layer.of(oci.tar(oci.tree(tree(tmp_path / str(n), n)))) for n in (1, 2))
    assert first == second


def test_owner_time_and_mode_are_not_the_machines(tmp_path: Path) -> None:
    tar = oci.tar(oci.tree(tree(tmp_path, 1_700_000_000)))
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        found = {each.name: (each.mode, each.mtime, each.uid, each.gid, each.linkname) for each in opened}
    assert found == {
        "a.txt": (0o644, 0, 0, 0, ""),
        "b": (0o755, 0, 0, 0, ""),
        "b/program": (0o755, 0, 0, 0, ""),
        "link": (0o777, 0, 0, 0, "a.txt"),
    }
