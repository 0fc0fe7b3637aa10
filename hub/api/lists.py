"""Long lists, made in slices: everybody's keystrokes would wait for one administrator's list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import pydantic

from hub.api.routes import Reply

R = TypeVar("R")

SLICE: Final = 200
"""Records that are made in one turn of the loop: a millisecond and a half."""


async def listed(records: Iterable[R], shown: Callable[[R], pydantic.BaseModel]) -> Reply:
    """As a model whose one field is `items`, of what `shown` makes of each record."""
    items = []
    for number, record in enumerate(records):
        if number % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        items.append(shown(record).model_dump_json(by_alias=True))
    return Reply(f'{{"items":[{",".join(items)}]}}\n'.encode())
