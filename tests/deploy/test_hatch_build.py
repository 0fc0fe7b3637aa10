"""The build hook: what goes into the wheel, and what is said when a compiler refuses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy import hatch_build, runtime
from deploy.hatch_build import CompilingHook

SOURCE = "def double(number: int) -> int:\n    return number * 2\n"


def hook(root: Path, modules: list[str]) -> CompilingHook:
    config: Any = SimpleNamespace(packages=["proto"])
    return CompilingHook(str(root), {"modules": modules}, config, SimpleNamespace(), str(root), "wheel")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    why_not = runtime.here_obstacle()
    if why_not is not None:
        pytest.skip(f"needs a C compiler and Python's headers: {why_not}")
    (tmp_path / "proto").mkdir()
    (tmp_path / "proto" / "__init__.py").write_text("")
    (tmp_path / "proto" / "small.py").write_text(SOURCE)
    return tmp_path


def test_the_wheel_gets_the_library_and_a_door_for_each_module_and_the_tree_gets_nothing(project: Path) -> None:
    before = sorted(project.rglob("*"))
    building = hook(project, ["proto/small.py"])
    data: dict[str, Any] = {"force_include": {}}
    building.initialize("standard", data)
    targets = sorted(name.partition(".")[0] for name in data["force_include"].values())
    assert targets == ["proto/small", "riata_proto__mypyc"]
    assert all(Path(source).is_file() for source in data["force_include"])
    assert (data["pure_python"], data["infer_tag"]) == (False, True)
    assert sorted(project.rglob("*")) == before
    building.finalize("standard", data, "")
    assert not any(Path(source).exists() for source in data["force_include"])


def test_the_same_sources_give_the_same_bytes(project: Path) -> None:
    made = []
    for _ in range(2):
        building, data = hook(project, ["proto/small.py"]), {"force_include": {}}
        building.initialize("standard", data)
        made.append({name: Path(source).read_bytes() for source, name in data["force_include"].items()})
        building.finalize("standard", data, "")
    assert made[0] == made[1]


def test_what_does_not_compile_is_said_and_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "proto" / "small.py").write_text(SOURCE.replace("number * 2", "'two'"))
    places = []
    make = hatch_build.tempfile.mkdtemp
    monkeypatch.setattr(hatch_build.tempfile, "mkdtemp", lambda **more: places.append(make(**more)) or places[-1])
    with pytest.raises(RuntimeError, match="Incompatible return value type"):
        hook(project, ["proto/small.py"]).initialize("standard", {"force_include": {}})
    assert places
    assert not Path(places[0]).exists()
