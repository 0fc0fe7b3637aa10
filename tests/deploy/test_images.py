"""What is in the images: the same each time, small, no shell, and of the packages only those that the program needs."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from deploy import compiled, runtime
from deploy.images import base, build, debian, oci, wheels
from tests.deploy.conftest import Archives
from tests.deploy.test_oci import files

HUB, AGENT = build.IMAGES
CACHE_TAG = f"cpython-{debian.PYTHON.replace('.', '')}"


def layers(archive: bytes) -> list[tarfile.TarFile]:
    found = files(archive)
    (top,) = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(found[f"blobs/{top['digest'].replace(':', '/')}"])
    blobs = [found[f"blobs/{each['digest'].replace(':', '/')}"] for each in manifest["layers"]]
    return [tarfile.open(fileobj=io.BytesIO(blob)) for blob in blobs]


def config(archive: bytes) -> dict[str, object]:
    found = files(archive)
    (top,) = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(found[f"blobs/{top['digest'].replace(':', '/')}"])
    said: dict[str, object] = json.loads(found[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])["config"]
    return said


@pytest.mark.full
@pytest.mark.parametrize("image", build.IMAGES, ids=lambda image: image.name)
def test_what_is_in_it(archives: Archives, image: build.Image) -> None:
    archive = archives[image.name].read_bytes()
    assert len(archive) < build.BYTES_MAX
    assert config(archive)["User"] == "65532:65532"
    assert config(archive)["Entrypoint"] == [f"/usr/local/bin/{image.name}"]
    names: set[str] = set()
    for layer in layers(archive):
        with layer:
            for member in layer:
                names.add(member.name)
                assert not member.mode & 0o6022 or member.issym(), f"{member.name}: {member.mode:o}"
                assert (member.uid, member.gid, member.mtime) == (0, 0, 0)
    programs = {name for name in names if name.startswith(("bin/", "sbin/", "usr/bin/", "usr/sbin/", "usr/local/bin/"))}
    assert programs == {"usr/bin/python3", f"usr/bin/python{debian.PYTHON}", f"usr/local/bin/{image.name}"}
    tops = {name.removeprefix(f"{build.SITE}/").partition("/")[0] for name in names if name.startswith(build.SITE)}
    assert set(image.packages) <= tops
    assert not ({"hub", "agent", "ctl", "tests", "deploy"} - set(image.packages)) & tops
    assert "usr/share/doc/libssl3t64/copyright" in names
    assert (f"{build.SITE}/hub/clusters/manifest.json" in names) is (image is HUB)
    libraries = {name.removeprefix(f"{build.SITE}/").partition(".")[0] for name in names if "__mypyc." in name}
    is_compiled = runtime.images_obstacle() is None
    assert libraries == ({f"riata_{package}__mypyc" for package in image.packages} if is_compiled else set())
    sources = [name for name in names if name.endswith(".py") and name.startswith(f"{build.SITE}/proto/")]
    assert sources
    for name in sources:  # on a read-only disk nothing is compiled later
        directory, _, file = name.rpartition("/")
        assert f"{directory}/__pycache__/{file.removesuffix('.py')}.{CACHE_TAG}.pyc" in names


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("archives")
def test_made_anew_it_is_the_same(tmp_path: Path) -> None:
    """From Debian's packages on, and compiled again the second time. What pip downloads is shared. The images that the
    user's cache has do not say: Debian may have mended a package since their base was made."""
    downloaded = max(base.cache_root().glob("downloaded-*"), key=lambda each: each.stat().st_mtime)
    caches = [tmp_path / name / "images" for name in ("one", "other")]
    for cache in caches:
        shutil.copytree(downloaded, cache / downloaded.name)
    if runtime.images_obstacle() is None:
        ready = compiled.wheel(base.cache_root().parent / "compiled", runtime.choose(base.cache_root())[0]).parent
        shutil.copytree(ready, caches[0].parent / "compiled" / ready.name)
    one, other = (oci.image_digest(build.build(AGENT, cache)) for cache in caches)
    assert one == other


@pytest.mark.full
def test_another_tag_is_another_image_of_the_same_layers(archives: Archives) -> None:
    one, other = (archives[name].read_bytes() for name in ("riata-agent", "riata-agent:next"))
    assert oci.image_digest(one) != oci.image_digest(other)
    assert {name for name in files(one) if name.startswith("blobs/")} & set(files(other))


def test_without_mmdebstrap_the_cure_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.main(["--out", str(tmp_path / "out")]) == 1
    assert "mmdebstrap is missing: apt-get install mmdebstrap" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("bin/sh", False),
        ("usr/bin/openssl", False),
        ("usr/bin/dpkg", False),
        ("usr/bin/python3.13", True),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", True),
        ("usr/lib/x86_64-linux-gnu/libssl.so.3", True),
        ("usr/lib/x86_64-linux-gnu/gconv/UTF-7.so", False),
        ("usr/lib/python3.13/asyncio/base_events.py", True),
        ("usr/lib/python3.13/asyncio/__pycache__/base_events.cpython-313.pyc", False),
        ("usr/lib/python3.13/test/support/__init__.py", False),
        ("usr/share/doc/libc6/copyright", True),
        ("usr/share/doc/libc6/changelog.gz", False),
        ("var/lib/dpkg/status", False),
    ],
)
def test_of_debian_only_what_is_needed(name: str, kept: bool) -> None:
    assert debian._is_kept(name) is kept


def _installed(site: Path, name: str, module: str, *requires: str) -> None:
    (site / module).mkdir(parents=True)
    (site / module / "__init__.py").write_text("")
    info = site / f"{name}-1.dist-info"
    info.mkdir()
    lines = "".join(f"Requires-Dist: {each}\n" for each in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{lines}")
    (info / "RECORD").write_text(f"{module}/__init__.py,,\n{name}-1.dist-info/METADATA,,\n../../bin/{name},,\n")


def test_only_what_is_imported_and_what_that_needs_is_copied(tmp_path: Path) -> None:
    site = tmp_path / "site"
    _installed(site, "py-one", "one", "two[fast]", 'other; sys_platform == "win32"')
    _installed(site, "two", "two", 'three; extra == "fast"', 'four; extra == "slow"')
    for name in ("three", "four", "other", "dynamic", "unused"):
        _installed(site, name, name)
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("def f():\n    from one.x import y\n\nimportlib.import_module('dynamic')\n")
    names = wheels.needed(site, [package])
    assert names == ["dynamic", "py-one", "three", "two"]
    wheels.copy(site, tmp_path / "target", names)
    assert {each.name for each in (tmp_path / "target").iterdir()} == {
        *("one", "two", "three", "dynamic"),
        *(f"{name}-1.dist-info" for name in names),
    }
    assert not list((tmp_path / "target").rglob("RECORD"))
