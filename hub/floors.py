"""Refuse to start on libraries with known holes, or without the parser that was tested (facts/security.md §5)."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from typing import Final

FLOORS: Final = {"aiohttp": (3, 14, 5), "msgpack": (1, 2, 3), "websockets": (17, 0)}
"""Distribution → lowest version. Below: request smuggling, decoder crashes and unbounded decompression were found."""


class TooOld(Exception):
    """A library must be upgraded first. The text names it and the cure."""


def check(version_of: Callable[[str], str] = importlib.metadata.version) -> None:
    """Raises TooOld."""
    for name, floor in FLOORS.items():
        found = version_of(name)
        if _numbers(found) < floor:
            wanted = ".".join(str(part) for part in floor)
            raise TooOld(f"{name} {found} is too old, {wanted} is needed: pip install '{name}>={wanted}'")
    check_parser()


def check_parser() -> None:
    """aiohttp falls back to a parser in Python when its compiled one is absent; it is laxer and slower."""
    from aiohttp import http_parser

    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise TooOld(
            "aiohttp runs without its compiled parser: reinstall the aiohttp wheel, unset AIOHTTP_NO_EXTENSIONS"
        )


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
