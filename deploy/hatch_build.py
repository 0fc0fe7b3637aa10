"""Hatch's build hook: a wheel whose request path is machine code (mypyc), for this machine and this Python.

Off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM=1. The sources stay in the wheel, for tracebacks and for what is not compiled.
Nothing is written into the working tree. Which modules are compiled says pyproject.toml, why so docs/adr/0025.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_LIMIT_S: Final = 1200
_CFLAGS: Final = "-DNDEBUG -fwrapv -g0 -fvisibility=hidden -fno-semantic-interposition -fno-plt"
"""As Python itself is made: without the assertions of its headers, which also name the directory that those are in, and
with integers that wrap. No symbols; calls within a library go straight to what is called, not by way of a table that
others might change."""
_SETUP: Final = """
from mypyc.build import mypycify
from setuptools import setup

modules = {modules!r}
setup(
    name="riata",
    packages=[],
    ext_modules=mypycify(modules, opt_level="3", debug_level="0", separate={groups!r}),
)
"""


class CompilingHook(BuildHookInterface[Any]):
    """`modules` of the hook's own table: files, relative to the project."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and add what came of it to the wheel. Raises RuntimeError with the compiler's words."""
        self._place = Path(tempfile.mkdtemp(prefix="riata-compiled-"))
        try:
            self._compile(build_data)
        except BaseException:
            shutil.rmtree(self._place)
            raise

    def _compile(self, build_data: dict[str, Any]) -> None:
        tree = self._place / "tree"
        unwanted = shutil.ignore_patterns("__pycache__", "*.so")
        for package in self.build_config.packages:
            shutil.copytree(Path(self.root) / package, tree / package, ignore=unwanted)
        modules: list[str] = self.config["modules"]
        (tree / "setup.py").write_text(_SETUP.format(modules=modules, groups=groups(modules)))
        _run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], tree)
        made = [path.relative_to(tree) for path in tree.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}")]
        wanted = [path for path in made if path.parts[0] != "build"]
        build_data["force_include"].update({str(tree / path): str(path) for path in wanted})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Clear away."""
        shutil.rmtree(self._place)


def groups(modules: list[str]) -> list[tuple[list[str], str]]:
    """One shared library for each package, so that an agent carries nothing of the hub."""
    packages = sorted({path.partition("/")[0] for path in modules})
    return [([path for path in modules if path.startswith(f"{package}/")], f"riata_{package}") for package in packages]


def compiler() -> list[str]:
    """The environment's CC, as a command; else the program that this Python was compiled with."""
    return shlex.split(os.environ.get("CC", "")) or str(sysconfig.get_config_var("CC") or "cc").split()[:1]


def _run(command: list[str], directory: Path) -> None:
    # Python's own flags ask for debugging symbols, and those, and what the linker makes of them, name the temporary
    # directory: the same sources would not give the same library twice. Its own linker line may look for libraries
    # where Python is (pyenv's does), which is nowhere in an image.
    flags = {"CFLAGS": _CFLAGS, "LDFLAGS": "-s -Wl,--build-id=none", "LDSHARED": shlex.join([*compiler(), "-shared"])}
    environment = {**os.environ, **flags}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError("mypyc: " + (done.stdout + done.stderr)[-3000:])
