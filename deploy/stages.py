"""What is made once and kept in the user's cache, each in a directory named after a hash of what it is made of."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_KEPT: Final = 4
"""Of each stage, the ones used last: several checkouts share the cache."""
_IN_USE_S: Final = 86_400
"""What was used within this time stays: a test of hours may run from it."""


def cache_root(kind: str) -> Path:
    """The user's cache of one kind of product. A relative path says nothing (XDG Base Directory Specification)."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "riata" / kind


def stage(cache: Path, name: str, parts: list[bytes], make: Callable[[Path], None]) -> Path:
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
        if place.stat().st_mtime - old.stat().st_mtime > _IN_USE_S:
            shutil.rmtree(old)
    return place


def sources(repository: Path, packages: tuple[str, ...], *more: str) -> list[bytes]:
    """Names and contents of what a wheel of `packages` is made of, as parts of a stage; `more`: other files."""
    paths = [repository / name for name in ("pyproject.toml", "README.md", "LICENSE", *more)]
    for package in packages:
        paths += sorted(
            path for path in (repository / package).rglob("*") if path.is_file() and path.suffix not in {".pyc", ".so"}
        )
    return [part for path in paths for part in (str(path.relative_to(repository)).encode(), path.read_bytes())]


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Hold the cache; others wait."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
