"""The Python packages of an image: what its own modules import and what that needs, from the lock file; the wheel."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.images.debian import PYTHON, BuildError

PLATFORMS: Final = {
    "amd64": ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64"),
    "arm64": ("manylinux_2_34_aarch64", "manylinux_2_28_aarch64", "manylinux2014_aarch64"),
}
"""Debian 13 has glibc 2.41, for which nobody builds yet."""
_UNWANTED: Final = ("RECORD", "REQUESTED", "direct_url.json", "__pycache__")
_MARKERS: Final = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
"""What a requirement may ask of the images' Python; the rest is this machine's."""
_LIMIT_S: Final = 600
_COMPILE_S: Final = 1500


def download(target: Path, lock: Path, architecture: str) -> None:
    """Everything of the lock file into `target`, checked against its hashes. Raises BuildError."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--root-user-action=ignore", "--target", str(target), "--no-deps", "--require-hashes", "-r", str(lock)]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    command += [f"--platform={name}" for name in PLATFORMS[architecture]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode != 0:
        raise BuildError(f"pip: {done.stderr[-2000:]}\nCure: the package index must be reachable")


def needed(site: Path, packages: Iterable[Path]) -> list[str]:
    """Names of the distributions in `site` that `packages` need, themselves or through others."""
    return sorted(set(_closure(_known(site), imported(packages))))


def copy(site: Path, target: Path, names: Iterable[str]) -> None:
    """Copy these distributions, without what pip writes for itself."""
    known = _known(site)
    for name in names:
        for top in _tops_as_written(known[name]):
            source = site / top
            if source.is_dir():
                shutil.copytree(source, target / top, ignore=shutil.ignore_patterns(*_UNWANTED), dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target / top)


def _known(site: Path) -> dict[str, Distribution]:
    return {str(canonicalize_name(each.name)): each for each in distributions(path=[str(site)])}


def imported(packages: Iterable[Path]) -> set[str]:
    """Top-level names that the modules of `packages` import, anywhere, or name in a text: importlib's way."""
    names: set[str] = set()
    for path in (file for package in packages for file in package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                names.add(node.value)
    return names


def _closure(known: dict[str, Distribution], names: set[str]) -> Iterator[str]:
    waiting = [(name, "") for name, each in known.items() if _tops(each) & names]
    seen = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name not in known:
            continue
        seen.add((name, extra))
        yield name
        for text in known[name].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({**_MARKERS, "extra": extra}):
                other = str(canonicalize_name(requirement.name))
                waiting += [(other, each) for each in ("", *requirement.extras)]


def _tops_as_written(found: Distribution) -> set[str]:
    return {file.parts[0] for file in found.files or []} - {"..", "bin"}


def _tops(found: Distribution) -> set[str]:
    return {name.partition(".")[0] for name in _tops_as_written(found)}


def install_wheel(wheel: Path, target: Path, packages: Iterable[str]) -> None:
    """Unpack `packages`, what they are compiled to, and the metadata of the project's own wheel."""
    wanted = tuple(start for package in packages for start in (f"{package}/", f"riata_{package}__mypyc."))
    with zipfile.ZipFile(wheel) as opened:
        for name in sorted(opened.namelist()):
            if name.startswith(wanted) or (".dist-info/" in name and not name.endswith("/RECORD")):
                opened.extract(name, target)


def build_wheel(
    repository: Path,
    directory: Path,
    *,
    is_compiled: bool = False,
    python: Sequence[str] = (sys.executable,),
    environment: Mapping[str, str] | None = None,
) -> Path:
    """The project's wheel, made in `directory` by the command `python` with more in its environment; `is_compiled`:
    with deploy/hatch_build.py. Raises BuildError."""
    command = [*python, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    more = {"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1" if is_compiled else "0", **(environment or {})}
    done = subprocess.run(
        command, cwd=repository, env=os.environ | more, capture_output=True, text=True, timeout=_COMPILE_S, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"hatchling: {done.stderr[-2000:]}")
    (wheel,) = directory.glob("*.whl")
    return wheel
