"""The hub does not start on libraries with known holes."""

import importlib.metadata

import pytest
from aiohttp import http_parser

from hub import floors


def test_the_installed_ones_are_good() -> None:
    floors.check()


@pytest.mark.parametrize("name", floors.FLOORS)
@pytest.mark.parametrize("version", ["0.1", "1", "", "1.2.2", "3.14.4", "16.9.9rc1"])
def test_an_old_one_is_named_with_the_cure(name: str, version: str) -> None:
    def version_of(asked: str) -> str:
        return version if asked == name else importlib.metadata.version(asked)

    if floors._numbers(version) >= floors.FLOORS[name]:
        floors.check(version_of)
        return
    with pytest.raises(floors.TooOld, match=f"{name} .*pip install"):
        floors.check(version_of)


def test_the_slow_parser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(floors.TooOld, match="compiled parser"):
        floors.check()
