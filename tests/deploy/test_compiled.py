"""What is compiled: which modules may be, and an environment of them."""

import abc
import ast
import asyncio
import dataclasses
import enum
import importlib
import inspect
import os
import subprocess
import sys
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest

from deploy import compiled, runtime
from deploy.hatch_build import groups
from deploy.images import base, debian, wheels
from proto.versions import PRODUCT_VERSION

PROJECT: dict[str, Any] = tomllib.loads((compiled.REPOSITORY / "pyproject.toml").read_text())
FILES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
MODULES = [file.removesuffix(".py").replace("/", ".") for file in FILES]

SOUND = {asyncio.BufferedProtocol, typing.Protocol, typing.NamedTuple, typing.Generic, abc.ABC}
"""Bases that mypyc knows, and such as add nothing to an object."""


def names(package: str) -> list[str]:
    """Its modules, but those that start a program."""
    paths = [path for path in (compiled.REPOSITORY / package).rglob("*.py") if path.name != "__main__.py"]
    parts = [path.relative_to(compiled.REPOSITORY).with_suffix("").parts for path in sorted(paths)]
    return [".".join(each).removesuffix(".__init__") for each in parts]


def is_sound(base: type) -> bool:
    if base.__module__ in MODULES or base in SOUND or base is object:
        return base.__module__ in MODULES or base.__basicsize__ == object.__basicsize__
    return issubclass(base, enum.Enum | BaseException | tuple) and base.__module__ in {"builtins", "enum"}


@pytest.mark.parametrize("name", MODULES)
def test_no_class_has_a_base_that_others_compile_or_interpret(name: str) -> None:
    """mypyc takes such a class, and what it makes of it ends in a crash of the garbage collector: it does not know the
    fields of the base, nor who else frees them (seen with a subclass of the websockets library's connection)."""
    module = importlib.import_module(name)
    for found in vars(module).values():
        if inspect.isclass(found) and found.__module__ == name:
            assert [base for base in found.__bases__ if not is_sound(base)] == [], found


def test_no_interpreted_class_has_a_compiled_base() -> None:
    """None of its objects could be made: TypeError."""
    for package in compiled.PACKAGES:
        for name in names(package):
            if name in MODULES:
                continue
            for found in vars(importlib.import_module(name)).values():
                if inspect.isclass(found) and found.__module__ == name:
                    assert [base for base in found.__mro__ if base.__module__ in MODULES and not is_plain(base)] == []


def unreadable(value: object) -> bool:
    """A tuple of which mypyc knows nothing but floats, however deep."""
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, float) or unreadable(v) for v in value)


def fixed_constants(place: ast.Module | ast.ClassDef) -> list[str]:
    """Names of the constants whose type, if it is a tuple, has a length: `X: Final`, `Final[tuple[float, float]]`."""
    lines = [line for line in place.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)]
    kinds = {ast.unparse(line.target): ast.unparse(line.annotation) for line in lines}
    return [name for name, kind in kinds.items() if kind.startswith("Final") and "..." not in kind]


@pytest.mark.parametrize("file", FILES)
def test_no_constant_is_a_tuple_of_floats_alone(file: str) -> None:
    """What mypyc 2.4.1 makes of it says that its value was not set, whenever it is read. `Final[tuple[float, ...]]` is
    read as everybody reads it."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    tree = ast.parse((compiled.REPOSITORY / file).read_text())
    places: list[tuple[object, ast.Module | ast.ClassDef]] = [(module, tree)]
    places += [(getattr(module, each.name), each) for each in tree.body if isinstance(each, ast.ClassDef)]
    assert [name for at, place in places for name in fixed_constants(place) if unreadable(getattr(at, name))] == []


def test_a_tuple_of_floats_is_seen() -> None:
    tree = ast.parse("A: Final = (0.5, 1.0)\nB: Final[tuple[float, ...]] = A\nC: Final[tuple[float, float]] = A\nD = A")
    assert fixed_constants(tree) == ["A", "C"]
    assert unreadable((0.5, (1.0, -2.0)))
    assert not any(unreadable(value) for value in ((0.5, 1), ("", 0.5), (), 0.5, [0.5]))


def is_plain(base: type) -> bool:
    """What interpreted classes may build on: an enumeration, a named tuple, an exception."""
    return issubclass(base, enum.Enum | BaseException | tuple)


def test_what_the_rule_is_about_is_refused() -> None:
    from agent.uplink import wsclient

    assert "agent.uplink.wsclient" not in MODULES
    assert not all(is_sound(base) for base in wsclient._Handshake.__bases__)


def test_each_file_is_there_once_and_has_its_package_for_a_library() -> None:
    assert sorted(set(FILES)) == FILES
    assert all((compiled.REPOSITORY / file).is_file() for file in FILES)
    made = groups(FILES)
    assert [name for _, name in made] == ["riata_agent", "riata_hub", "riata_proto"]
    assert sorted(file for files, _ in made for file in files) == FILES
    assert all(file.startswith(f"{name.removeprefix('riata_')}/") for files, name in made for file in files)


def test_where_nothing_can_be_compiled_the_old_goes_and_only_without_advisory_it_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def neither(_cache: Path) -> tuple[runtime.Runtime, str]:
        raise debian.BuildError("no C compiler (cc): apt-get install gcc libc6-dev")

    monkeypatch.setattr(runtime, "choose", neither)
    place = tmp_path / "environment"
    place.mkdir()
    assert compiled.main([str(place), "--advisory"]) == 0
    assert not place.exists()
    assert compiled.main([str(place)]) == 1
    assert "error: riata cannot be compiled here: no C compiler (cc): apt-get" in capsys.readouterr().err


@pytest.mark.timeout(900)
def test_the_environment_runs_what_is_compiled_and_carries_its_sources(tmp_path: Path) -> None:
    """Takes the wheel from the cache where `make compiled` has been; makes it where not."""
    if runtime.images_obstacle() and (why_not := runtime.here_obstacle()):
        pytest.skip(f"needs a C compiler and Python's headers: {why_not}")
    assert compiled.main([str(tmp_path / "it")]) == 0
    ask = f"import importlib; print(*[importlib.import_module(name).__file__ for name in {MODULES!r}], sep='\\n')"
    done = subprocess.run(
        [tmp_path / "it" / "bin" / "python", "-I", "-c", ask], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    files = [Path(line) for line in done.stdout.split()]
    assert len(files) == len(MODULES)
    for file, source in zip(files, FILES, strict=True):
        assert file.suffix == ".so"
        assert file.with_name(Path(source).name).is_file()
        assert file.is_relative_to(tmp_path)
    for program in ("riata", "riata-hub", "riata-agent"):
        said = subprocess.run(
            [tmp_path / "it" / "bin" / program, "--version"], capture_output=True, text=True, check=True
        )
        assert said.stdout.strip()


@pytest.mark.timeout(900)
def test_with_the_images_python_it_has_their_libraries_and_nothing_of_ours_around_it(tmp_path: Path) -> None:
    why_not = runtime.images_obstacle()
    if why_not is not None:
        pytest.skip(f"needs what images need: {why_not}")
    assert compiled.main([str(tmp_path / "it")]) == 0
    modules = [name for package in ("hub", "agent", "proto") for name in names(package)]
    ask = f"import importlib, sys; [importlib.import_module(each) for each in {modules}]; "
    ask += "print(*sys.version_info[:2], sys.prefix, sys.executable); input()"
    python = tmp_path / "it" / "bin" / "python"
    with subprocess.Popen(
        [python, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"ONE": "1"}
    ) as running:
        assert running.stdin
        assert running.stdout
        major, minor, prefix, executable = running.stdout.readline().split()
        around = Path(f"/proc/{running.pid}/environ").read_text()
        mapped = Path(f"/proc/{running.pid}/maps").read_text()
        running.stdin.write("\n")
    assert (f"{major}.{minor}", prefix, executable) == (debian.PYTHON, str(tmp_path / "it"), str(python))
    assert around == "ONE=1\0", "an agent's environment is looked at (tests/e2e/test_agent_surroundings.py)"
    libraries = {line.split()[-1] for line in mapped.splitlines() if ".so" in line}
    assert any("libssl" in path for path in libraries)
    made = (os.path.realpath(base.cache_root()), str(tmp_path))
    assert not [path for path in libraries if not path.startswith(made)], "what images have, and nothing of this system"


@pytest.mark.timeout(900)
def test_where_there_are_no_images_it_is_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of any wheel: to compile another one takes minutes, and test_hatch_build compiles with this Python."""
    monkeypatch.setattr(runtime, "choose", lambda _cache: (runtime.here(), "mmdebstrap: no mirror"))
    monkeypatch.setattr(compiled, "wheel", lambda _cache, _by: wheels.build_wheel(compiled.REPOSITORY, tmp_path))
    assert compiled.main([str(tmp_path / "it")]) == 0
    assert "for this Python, not the images' (mmdebstrap: no mirror)" in capsys.readouterr().out
    assert Path(os.path.realpath(tmp_path / "it" / "bin" / "python")) == Path(os.path.realpath(sys.executable))
    done = subprocess.run(
        [tmp_path / "it" / "bin" / "riata-hub", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()


@pytest.mark.parametrize("place", ["with a space", f"{'long' * 50}/{'er' * 50}", "it's"])
def test_programs_start_wherever_it_is(tmp_path: Path, place: str) -> None:
    wheel = wheels.build_wheel(compiled.REPOSITORY, tmp_path)
    compiled.environment(tmp_path / place, wheel, runtime.here())
    program = tmp_path / place / "bin" / "riata-hub"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"{PRODUCT_VERSION}\n"


def test_an_environment_that_is_there_stays_until_what_it_is_made_of_changes(tmp_path: Path) -> None:
    wheel = wheels.build_wheel(compiled.REPOSITORY, tmp_path)
    place, by = tmp_path / "it", runtime.here()
    compiled.environment(place, wheel, by)
    (place / "mine").write_text("")
    compiled.environment(place, wheel, by)
    assert (place / "mine").exists()
    compiled.environment(place, wheel, dataclasses.replace(by, packages=tmp_path))
    assert not (place / "mine").exists()
