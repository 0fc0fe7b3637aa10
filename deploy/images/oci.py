"""OCI image layouts as tar files: blobs named by their digests, the same bytes for the same contents. Standard library.

Times, owners and the order of entries never depend on the machine: mtime 0, root, sorted.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_MEDIA: Final = "application/vnd.oci.image."
_COMPRESSION: Final = 9


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its blob, and the digest of what is in it uncompressed."""

    blob: bytes
    diff_id: str
    media_type: str

    @classmethod
    def of(cls, tar: bytes, *, compressed: bool = True) -> "Layer":
        """A layer of an uncompressed tar."""
        blob = gzip.compress(tar, _COMPRESSION, mtime=0) if compressed else tar
        return cls(blob, f"sha256:{digest(tar)}", f"{_MEDIA}layer.v1.tar{'+gzip' if compressed else ''}")

    @classmethod
    def read(cls, directory: Path) -> "Layer":
        """What `write` has left there."""
        said = json.loads((directory / "layer.json").read_text())
        return cls((directory / "layer").read_bytes(), said["diff_id"], said["media_type"])

    def write(self, directory: Path) -> None:
        """Keep it in a directory."""
        (directory / "layer").write_bytes(self.blob)
        (directory / "layer.json").write_text(json.dumps({"diff_id": self.diff_id, "media_type": self.media_type}))


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symbolic link of a tar."""

    name: str
    data: bytes = b""
    mode: int = 0o644
    target: str = ""
    is_directory: bool = False


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def architecture() -> str:
    """This machine's, in Go's words."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def tar(entries: Iterable[Entry]) -> bytes:
    """An uncompressed tar of the entries, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.mode, info.linkname, info.size = entry.mode, entry.target, len(entry.data)
            info.type = tarfile.DIRTYPE if entry.is_directory else tarfile.SYMTYPE if entry.target else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(entry.data))
    return buffer.getvalue()


def tree(root: Path) -> list[Entry]:
    """Everything below `root`, sorted by name; modes become 0755 or 0644."""
    found = []
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory) / name
            place = str(path.relative_to(root))
            if path.is_symlink():
                found.append(Entry(place, mode=0o777, target=os.readlink(path)))
            elif path.is_dir():
                found.append(Entry(place, mode=0o755, is_directory=True))
            else:
                mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                found.append(Entry(place, path.read_bytes(), mode))
    return sorted(found, key=lambda entry: entry.name)


def archive(reference: str, layers: Sequence[Layer], config: dict[str, Any]) -> bytes:
    """The layout as a tar, with the name under which containerd imports it. `config`: the image's `config` object."""
    blobs: list[bytes] = []

    def descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
        blobs.append(blob)
        return {"mediaType": media_type, "digest": f"sha256:{digest(blob)}", "size": len(blob)}

    image = {
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}manifest.v1+json",
        "config": descriptor(f"{_MEDIA}config.v1+json", _json(image)),
        "layers": [descriptor(layer.media_type, layer.blob) for layer in layers],
    }
    top = descriptor(f"{_MEDIA}manifest.v1+json", _json(manifest))
    # Two clients, two annotations: containerd takes the first as it is, skopeo and podman the second.
    top["annotations"] = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": f"{_MEDIA}index.v1+json", "manifests": [top]}
    return tar(
        [
            Entry("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
            Entry("index.json", _json(index)),
            *(Entry(f"blobs/sha256/{digest(blob)}", blob) for blob in blobs),
        ]
    )


def image_digest(layout: bytes) -> str:
    """The digest by which a registry would name the image of a layout."""
    with tarfile.open(fileobj=io.BytesIO(layout)) as opened:
        index = opened.extractfile("index.json")
        assert index is not None
        return str(json.loads(index.read())["manifests"][0]["digest"])


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
