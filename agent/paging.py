"""Long lists of the API server, read a page at a time: of what is not declared no object is made."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Generic, TypeVar

import msgspec

from agent.kube import KubeApi

PAUSE_S: Final = 0.05
"""Between two pages: requests go first."""

Item = TypeVar("Item")


class Metadata(msgspec.Struct, rename={"more": "continue"}):
    """Of a list (meta/v1 ListMeta)."""

    more: str = ""


class Page(msgspec.Struct, Generic[Item]):
    """What is read of a page; the rest, ten times as much, is skipped."""

    metadata: Metadata
    items: list[Item] | None = None


async def pages(
    api: KubeApi,
    path: str,
    decoder: msgspec.json.Decoder[Page[Item]],
    *,
    limit: int,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[list[Item]]:
    """The items at `path`, at most `limit` at a time. Raises KubeError, TokenUnavailable."""
    more = ""
    while True:
        page: Page[Item] = await api.get(f"{path}?limit={limit}{more}", decoder.decode)
        yield page.items or []
        if not page.metadata.more:
            return
        more = f"&continue={page.metadata.more}"
        await sleep(PAUSE_S)
