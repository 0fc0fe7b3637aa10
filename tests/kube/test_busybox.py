"""Only a static busybox makes an image: looked at in ELF files made by hand, and in the machine's own programs."""

import struct
import sys
from pathlib import Path

import pytest

from tests.kube import busybox
from tests.kube.programs import program

LOAD, DYNAMIC, INTERP = 1, 2, 3


def elf(*segments: int, bits: int = 64, order: str = "<") -> bytes:
    """An ELF file with program headers of these types and nothing else."""
    wide = bits == 64
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    start, size = (64, 56) if wide else (52, 32)
    word = "Q" if wide else "I"
    header = struct.pack(
        f"{order}HHI{word}{word}{word}IHHHHHH", 2, 62, 1, 0, start, 0, 0, start, size, len(segments), 0, 0, 0
    )
    return ident + header + b"".join(struct.pack(f"{order}I", kind).ljust(size, b"\0") for kind in segments)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_interpreter_makes_it_dynamic(tmp_path: Path, bits: int, order: str) -> None:
    file = tmp_path / "busybox"
    file.write_bytes(elf(LOAD, LOAD, bits=bits, order=order))
    assert busybox.is_static(file)
    file.write_bytes(elf(LOAD, DYNAMIC, bits=bits, order=order))  # a static program that may be loaded anywhere
    assert busybox.is_static(file)
    file.write_bytes(elf(LOAD, INTERP, DYNAMIC, bits=bits, order=order))
    assert not busybox.is_static(file)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x7fELF", b"#!/bin/sh\n", elf(), elf(LOAD)[:66], b"\x7fELF\x09\x09" + bytes(60)],
    ids=["empty", "only the magic", "a script", "nothing to load", "cut short", "unknown class"],
)
def test_what_is_no_elf_file_is_not_static(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "busybox"
    file.write_bytes(data)
    assert not busybox.is_static(file)


def test_the_machines_dynamic_loader_tells_them_apart() -> None:
    # Python is a dynamic program everywhere but in exotic builds; its loader asks for no other.
    maps = Path("/proc/self/maps").read_text()
    loader = next(Path(line.split()[-1]) for line in maps.splitlines() if "/ld-" in line)
    assert busybox.is_static(loader)
    assert not busybox.is_static(Path(sys.executable).resolve())


def test_each_obstacle_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cure = "run `make node-packages`, or install the package busybox-static"
    assert busybox.obstacle() == f"busybox missing: {cure}"
    file = program(tmp_path / "busybox", "true")
    assert busybox.obstacle() == f"{file} is not a static ELF program: {cure}"
    file.write_bytes(elf(LOAD))
    assert busybox.obstacle() is None
    assert busybox.find() == file
