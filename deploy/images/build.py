"""`make images`: riata-hub and riata-agent as OCI archives. `python -m deploy.images.build [--out DIR] [--tag TAG]`.

Three layers: Debian's Python, the locked packages, the project. Each is kept in the user's cache under a hash of what
it is made of, so that a change of the code costs seconds; delete the cache to take in what Debian has mended since.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.images import debian, oci, wheels
from deploy.images.debian import UID, BuildError
from proto.versions import PRODUCT_VERSION

REPOSITORY: Final = Path(__file__).parents[2]
LOCK: Final = REPOSITORY / "requirements" / "runtime.txt"
SITE: Final = f"usr/local/lib/python{debian.PYTHON}/dist-packages"
BYTES_MAX: Final = 120 * 1024 * 1024
_KEPT: Final = 4
"""Of each stage, the ones used last: several checkouts share the cache."""


@dataclass(frozen=True, slots=True)
class Image:
    """What is in one image. `packages`: top-level packages of the project; the first has its program."""

    name: str
    packages: tuple[str, ...]
    title: str

    @property
    def program(self) -> str:
        return f"/usr/local/bin/{self.name}"

    def reference(self, tag: str) -> str:
        """The name in full: a manifest that says `riata-hub:TAG` means this one."""
        return f"docker.io/library/{self.name}:{tag}"


IMAGES: Final = (
    Image("riata-hub", ("hub", "proto"), "The hub of a fleet of Kubernetes clusters"),
    Image("riata-agent", ("agent", "proto"), "Connects a Kubernetes cluster to a riata hub"),
)


def cache_root() -> Path:
    """The user's cache of layers and images."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "riata" / "images"


def build(image: Image, cache: Path, *, tag: str = PRODUCT_VERSION) -> bytes:
    """The archive of `image`. Raises BuildError. Several at a time wait for each other."""
    with _locked(cache):
        base = _base(cache)
        packages = _packages(cache, base, image)
        product = _product(cache, base, image)
        layers = [_layer(base), _layer(packages), _layer(product)]
    return oci.archive(image.reference(tag), layers, _config(image, tag))


def _config(image: Image, tag: str) -> dict[str, Any]:
    return {
        "User": f"{UID}:{UID}",
        "Entrypoint": [image.program],
        "Env": ["PATH=/usr/local/bin:/usr/bin"],
        "WorkingDir": "/",
        "Labels": {
            "org.opencontainers.image.title": image.title,
            "org.opencontainers.image.version": tag,
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.base.name": f"debian:{debian.SUITE}",
        },
    }


# --- layers, each kept under the hash of what it is made of ---------------------------------------------------------


def _base(cache: Path) -> Path:
    def make(directory: Path) -> None:
        archive = directory / "debian.tar"
        debian.unpack(archive)
        debian.reduce(archive, directory / "root")
        archive.unlink()
        library = directory / "root" / "usr" / "lib" / f"python{debian.PYTHON}"
        debian.compile_all(directory / "root", library, f"/usr/lib/python{debian.PYTHON}")
        _write_layer(directory, directory / "root")

    return _stage(cache, "base", [_file(debian.__file__), oci.architecture().encode()], make)


def _downloaded(cache: Path) -> Path:
    def make(directory: Path) -> None:
        wheels.download(directory / "site", LOCK, oci.architecture())

    return _stage(cache, "downloaded", [_file(wheels.__file__), _file(LOCK), oci.architecture().encode()], make)


def _packages(cache: Path, base: Path, image: Image) -> Path:
    downloaded = _downloaded(cache)
    names = wheels.needed(downloaded / "site", [REPOSITORY / package for package in image.packages])

    def make(directory: Path) -> None:
        tree = directory / "tree"
        target = tree / SITE
        target.mkdir(parents=True)
        wheels.copy(downloaded / "site", target, names)
        debian.compile_all(base / "root", target, f"/{SITE}")
        _write_layer(directory, tree)
        shutil.rmtree(tree)
        (directory / "packages.txt").write_text("\n".join(names) + "\n")

    parts = [base.name.encode(), downloaded.name.encode(), "\n".join(names).encode()]
    return _stage(cache, f"packages-{image.name}", parts, make)


def _product(cache: Path, base: Path, image: Image) -> Path:
    def make(directory: Path) -> None:
        tree = directory / "tree"
        target = tree / SITE
        target.mkdir(parents=True)
        wheels.install_wheel(wheels.build_wheel(REPOSITORY, directory), target, image.packages)
        debian.compile_all(base / "root", target, f"/{SITE}")
        program = tree / image.program.lstrip("/")
        program.parent.mkdir(parents=True)
        program.write_text(
            f"#!/usr/bin/python3 -I\nimport sys\n\nfrom {image.packages[0]}.__main__ import main\n\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        _write_layer(directory, tree)
        shutil.rmtree(tree)

    sources = [REPOSITORY / "pyproject.toml", REPOSITORY / "README.md", REPOSITORY / "LICENSE"]
    for package in image.packages:
        sources += sorted(
            path for path in (REPOSITORY / package).rglob("*") if path.is_file() and path.suffix != ".pyc"
        )
    parts = [part for path in sources for part in (str(path.relative_to(REPOSITORY)).encode(), _file(path))]
    return _stage(cache, f"product-{image.name}", [base.name.encode(), _file(__file__), *parts], make)


def _stage(cache: Path, name: str, parts: list[bytes], make: Callable[[Path], None]) -> Path:
    """The directory of a stage, made when it is not there yet; it appears under its name only when it is whole."""
    key = hashlib.sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).hexdigest()[:16]
    place = cache / f"{name}-{key}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as partial:
            make(Path(partial))
            Path(partial).rename(place)
            Path(partial).mkdir()  # for its own end
    os.utime(place)
    by_use = sorted(cache.glob(f"{name}-{'?' * len(key)}"), key=lambda path: path.stat().st_mtime_ns)
    for old in by_use[:-_KEPT]:
        shutil.rmtree(old)
    return place


def _write_layer(directory: Path, tree: Path) -> None:
    layer = oci.Layer.of(oci.tar(oci.tree(tree)))
    (directory / "layer").write_bytes(layer.blob)
    (directory / "layer.json").write_text(json.dumps({"diff_id": layer.diff_id, "media_type": layer.media_type}))


def _layer(stage: Path) -> oci.Layer:
    said = json.loads((stage / "layer.json").read_text())
    return oci.Layer((stage / "layer").read_bytes(), said["diff_id"], said["media_type"])


def _file(path: str | Path | None) -> bytes:
    assert path is not None
    return Path(path).read_bytes()


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make images")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist", help="directory of the archives")
    parser.add_argument("--tag", default=PRODUCT_VERSION, help="tag of both images")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        for image in IMAGES:
            started = time.monotonic()
            archive = build(image, cache_root(), tag=given.tag)
            path = given.out / f"{image.name}-{given.tag}.oci.tar"
            path.write_bytes(archive)
            seconds = time.monotonic() - started
            print(f"  {path}: {len(archive) / 1e6:.0f} MB, {oci.image_digest(archive)} ({seconds:.0f} s)", flush=True)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
