"""Long lists, as the API answers with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TypeVar

import pydantic

from hub.api.routes import Reply
from hub.slices import in_slices

R = TypeVar("R")


async def listed(records: Iterable[R], shown: Callable[[R], pydantic.BaseModel]) -> Reply:
    """As a model whose one field is `items`, of what `shown` makes of each record."""
    return joined([shown(record).model_dump_json(by_alias=True) async for record in in_slices(records)])


def joined(items: Iterable[str], more: str = "") -> Reply:
    """As a model whose one field is `items`, of these, each JSON. `more`: where the next page begins, as `continue`;
    empty behind the last one."""
    rest = f',"continue":{json.dumps(more)}' if more else ""
    return Reply(f'{{"items":[{",".join(items)}]{rest}}}\n'.encode())
