"""`make images`: riata-hub and riata-agent as OCI archives. `python -m deploy.images.build [--out DIR] [--tag TAG]`.

Three layers: Debian's Python, the locked packages, the project. Each is kept in the user's cache under a hash of what
it is made of, so that a change of the code costs seconds; delete the cache to take in what Debian has mended since.
"""

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy import compiled, runtime, stages
from deploy.images import base, debian, oci, wheels
from deploy.images.debian import UID, BuildError
from proto.versions import PRODUCT_VERSION

REPOSITORY: Final = base.REPOSITORY
SITE: Final = f"usr/local/lib/python{debian.PYTHON}/dist-packages"
BYTES_MAX: Final = 120 * 1024 * 1024


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


def build(image: Image, cache: Path, *, tag: str = PRODUCT_VERSION) -> bytes:
    """The archive of `image`. Raises BuildError. Several at a time wait for each other."""
    with stages.locked(cache):
        lowest = base.base(cache)
        packages = _packages(cache, lowest, image)
        product = _product(cache, lowest, image)
        layers = [oci.Layer.read(stage) for stage in (lowest, packages, product)]
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


def _packages(cache: Path, lowest: Path, image: Image) -> Path:
    downloaded = base.downloaded(cache)
    names = wheels.needed(downloaded / "site", [REPOSITORY / package for package in image.packages])

    def make(directory: Path) -> None:
        tree = directory / "tree"
        target = tree / SITE
        target.mkdir(parents=True)
        wheels.copy(downloaded / "site", target, names)
        debian.compile_all(lowest / "root", target, f"/{SITE}")
        _write_layer(directory, tree)
        (directory / "packages.txt").write_text("\n".join(names) + "\n")

    parts = [lowest.name.encode(), downloaded.name.encode(), "\n".join(names).encode()]
    return stages.stage(cache, f"packages-{image.name}", parts, make)


def _product(cache: Path, lowest: Path, image: Image) -> Path:
    is_compiled = runtime.images_obstacle() is None
    ready = compiled.wheel(cache.parent / "compiled", runtime.of_images(cache)) if is_compiled else None

    def make(directory: Path) -> None:
        tree = directory / "tree"
        target = tree / SITE
        target.mkdir(parents=True)
        wheels.install_wheel(ready or wheels.build_wheel(REPOSITORY, directory), target, image.packages)
        debian.compile_all(lowest / "root", target, f"/{SITE}")
        program = tree / image.program.lstrip("/")
        program.parent.mkdir(parents=True)
        program.write_text(
            f"#!/usr/bin/python3 -I\nimport sys\n\nfrom {image.packages[0]}.__main__ import main\n\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        _write_layer(directory, tree)

    parts = [
        lowest.name.encode(),
        Path(__file__).read_bytes(),
        (ready.parent.name if ready else "").encode(),
    ]
    parts += stages.sources(REPOSITORY, image.packages, compiled.HOOK)
    return stages.stage(cache, f"product-{image.name}", parts, make)


def _write_layer(directory: Path, tree: Path) -> None:
    oci.Layer.of(oci.tar(oci.tree(tree))).write(directory)
    shutil.rmtree(tree)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make images")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist", help="directory of the archives")
    parser.add_argument("--tag", default=PRODUCT_VERSION, help="tag of both images")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    if why_not := runtime.images_obstacle():
        print(f"  not compiled, which costs half more CPU: {why_not}", flush=True)
    try:
        for image in IMAGES:
            started = time.monotonic()
            archive = build(image, base.cache_root(), tag=given.tag)
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
