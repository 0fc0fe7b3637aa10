"""The attack list is run on both loops: uvloop is what hubs run on, asyncio's own is what they fall back to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop

uvloop.new_event_loop().close()  # the first one opens a pipe that the process keeps


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
