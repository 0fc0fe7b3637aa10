"""What goes on beside serving survives a store that fails for a while."""

from __future__ import annotations

import asyncio

import pytest

from hub import upkeep
from hub.store.model import StoreUnavailable


class Retention:
    """Fails the first time."""

    def __init__(self) -> None:
        self.calls = 0
        self.again = asyncio.Event()

    async def purge(self) -> int:
        self.calls += 1
        if self.calls == 1:
            raise StoreUnavailable("the disk is full")
        self.again.set()
        return 0


async def test_a_store_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "PURGE_S", 0.0)
    retention = Retention()
    task = asyncio.ensure_future(upkeep.purge(retention))  # type: ignore[arg-type] # noqa: TID251
    await retention.again.wait()
    task.cancel()
    assert "could not be removed" in caplog.text
