"""The static busybox that test images are made of. Standard library only.

An image holds that one file, so a busybox that wants a dynamic loader cannot start in it.
"""

import shutil
import struct
from pathlib import Path
from typing import Final

PACKAGE: Final = "busybox-static"
CURE: Final = f"run `make node-packages`, or install the package {PACKAGE}"

_PT_INTERP: Final = 3
_CLASS: Final = {1: ("I", 28, 42), 2: ("Q", 32, 54)}
"""By ELF class: format of the program headers' offset, where it stands, and where their size and number stand."""


def find() -> Path | None:
    """The busybox on PATH, static or not."""
    found = shutil.which("busybox")
    return Path(found) if found else None


def obstacle() -> str | None:
    """Why no image can be made of this machine's busybox, None when one can; names the cure."""
    found = find()
    if found is None:
        return f"busybox missing: {CURE}"
    return None if is_static(found) else f"{found} is not a static ELF program: {CURE}"


def is_static(program: Path) -> bool:
    """Whether the file is an ELF program that asks for no interpreter (PT_INTERP)."""
    data = program.read_bytes()
    if data[:4] != b"\x7fELF":
        return False
    try:
        segments = _segments(data)
    except (IndexError, KeyError, struct.error):
        return False
    return bool(segments) and _PT_INTERP not in segments


def _segments(data: bytes) -> list[int]:
    """The types of the program headers. IndexError, KeyError, struct.error: not what an ELF file looks like."""
    order = {1: "<", 2: ">"}[data[5]]
    form, place, sizes = _CLASS[data[4]]
    (start,) = struct.unpack_from(f"{order}{form}", data, place)
    size, count = struct.unpack_from(f"{order}HH", data, sizes)
    return [struct.unpack_from(f"{order}I", data, start + number * size)[0] for number in range(count)]
