"""Container images without a registry: OCI archives made from the machine's static busybox.

Two images: `PAUSE` (the pod sandbox) and `BOX` (a shell with the usual small programs; sleeps until told otherwise).
"""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any, Final

from tests.harness.failures import MissingTool
from tests.kube import busybox

PAUSE: Final = "docker.io/local/pause:1"
BOX: Final = "docker.io/local/box:1"

_APPLETS: Final = [
    "sh",
    "cat",
    "sleep",
    "echo",
    "ls",
    "nc",
    "httpd",
    "wget",
    "tar",
    "dd",
    "sha256sum",
    "md5sum",
    "head",
    "tail",
    "wc",
    "tr",
    "cut",
    "sort",
    "grep",
    "sed",
    "awk",
    "printf",
    "true",
    "false",
    "kill",
    "ps",
    "stty",
    "tty",
    "mkdir",
    "rm",
    "cp",
    "mv",
    "ln",
    "touch",
    "seq",
    "date",
    "env",
    "id",
    "hostname",
    "ip",
    "base64",
    "yes",
    "tee",
    "test",
    "stat",
    "du",
    "df",
    "find",
    "xargs",
    "vi",
    "top",
    "expr",
]
_SLEEP: Final = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
_DIRECTORIES: Final = ("etc", "proc", "sys", "dev", "var", "root", "run")


def write_archives(directory: Path) -> list[Path]:
    """Make both archives in `directory`. Raises MissingTool without a static busybox."""
    layer = _layer()
    found = []
    for name, reference in (("pause", PAUSE), ("box", BOX)):
        path = directory / f"{name}.tar"
        path.write_bytes(_archive(reference, layer, ["sh", "-c", _SLEEP]))
        found.append(path)
    return found


def _layer() -> bytes:
    program, obstacle = busybox.find(), busybox.obstacle()
    if program is None or obstacle:
        raise MissingTool(str(obstacle))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("bin", *_DIRECTORIES):
            _add(archive, name, kind=tarfile.DIRTYPE, mode=0o755)
        _add(archive, "tmp", kind=tarfile.DIRTYPE, mode=0o1777)
        _add(archive, "bin/busybox", program.read_bytes(), mode=0o755)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644)
        _add(archive, "etc/group", b"root:x:0:\n", mode=0o644)
        for applet in _APPLETS:
            _add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, target="busybox")
    return buffer.getvalue()


def _add(
    archive: tarfile.TarFile,
    name: str,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    target: str = "",
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), target
    archive.addfile(entry, io.BytesIO(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{_digest(data)}", "size": len(data)}


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _archive(reference: str, layer: bytes, command: list[str]) -> bytes:
    """An OCI image layout as a tar: oci-layout, index.json, and the blobs config, manifest, layer."""
    config = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("config.v1+json", config),
            "layers": [_descriptor("layer.v1.tar", layer)],
        }
    ).encode()
    entry = {
        **_descriptor("manifest.v1+json", manifest),
        "annotations": {"io.containerd.image.name": reference},
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        for blob in (config, manifest, layer):
            _add(archive, f"blobs/sha256/{_digest(blob)}", blob)
    return buffer.getvalue()
