"""What images are made on: Debian's Python, the locked packages for it, what compiles for it. Stages of the cache."""

from pathlib import Path
from typing import Final

from deploy import stages
from deploy.images import debian, oci, wheels

REPOSITORY: Final = Path(__file__).parents[2]
_LOCK: Final = REPOSITORY / "requirements" / "runtime.txt"
_LEFT_OUT: Final = "frozenlist/_frozenlist.*.so"
"""It alone needs libstdc++, which takes 2 MiB of each agent; its package has the same in Python, and the way of
requests has none of it."""
_BUILD_LOCK: Final = REPOSITORY / "requirements" / "build.txt"


def cache_root() -> Path:
    """The user's cache of layers and images."""
    return stages.cache_root("images")


def base(cache: Path) -> Path:
    """The lowest layer as a tree in `root`. Raises BuildError; hold the cache."""

    def make(directory: Path) -> None:
        archive = directory / "debian.tar"
        debian.unpack(archive)
        debian.reduce(archive, directory / "root")
        archive.unlink()
        library = directory / "root" / "usr" / "lib" / f"python{debian.PYTHON}"
        debian.compile_all(directory / "root", library, f"/usr/lib/python{debian.PYTHON}")
        oci.Layer.of(oci.tar(oci.tree(directory / "root"))).write(directory)

    return stages.stage(cache, "base", [_file(debian.__file__), oci.architecture().encode()], make)


def downloaded(cache: Path) -> Path:
    """The packages that riata needs, for that Python, in `site`. Raises BuildError; hold the cache."""
    return _downloaded(cache, "downloaded", _LOCK)


def tools(cache: Path) -> Path:
    """What compiles riata for that Python, in `site`: mypyc, hatchling, and what gives them their types. Raises
    BuildError; hold the cache."""
    return _downloaded(cache, "tools", _BUILD_LOCK)


def headers(cache: Path) -> Path:
    """That Python's headers, below this directory. Raises BuildError; hold the cache."""
    parts = [_file(debian.__file__), oci.architecture().encode()]
    return stages.stage(cache, "headers", parts, debian.unpack_headers)


def _downloaded(cache: Path, name: str, lock: Path) -> Path:
    def make(directory: Path) -> None:
        wheels.download(directory / "site", lock, oci.architecture())
        for left_out in (directory / "site").glob(_LEFT_OUT):
            left_out.unlink()

    parts = [_file(__file__), _file(wheels.__file__), _file(lock), oci.architecture().encode()]
    return stages.stage(cache, name, parts, make)


def _file(path: str | Path | None) -> bytes:
    assert path is not None
    return Path(path).read_bytes()
