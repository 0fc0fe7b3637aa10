"""Container images without a registry: OCI archives made from the machine's static busybox.

Two images: `PAUSE` (the pod sandbox) and `BOX` (a shell with the usual small programs; sleeps until told otherwise).
"""

from pathlib import Path
from typing import Final

from deploy.images import oci
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
    layer = oci.Layer.of(_tar(), compressed=False)
    found = []
    for name, reference in (("pause", PAUSE), ("box", BOX)):
        path = directory / f"{name}.tar"
        path.write_bytes(oci.archive(reference, [layer], {"Cmd": ["sh", "-c", _SLEEP], "Env": ["PATH=/bin"]}))
        found.append(path)
    return found


def _tar() -> bytes:
    program, obstacle = busybox.find(), busybox.obstacle()
    if program is None or obstacle:
        raise MissingTool(str(obstacle))
    return oci.tar(
        [
            *(oci.Entry(name, mode=0o755, is_directory=True) for name in ("bin", *_DIRECTORIES)),
            oci.Entry("tmp", mode=0o1777, is_directory=True),
            oci.Entry("bin/busybox", program.read_bytes(), mode=0o755),
            oci.Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
            oci.Entry("etc/group", b"root:x:0:\n"),
            *(oci.Entry(f"bin/{applet}", target="busybox") for applet in _APPLETS),
        ]
    )
