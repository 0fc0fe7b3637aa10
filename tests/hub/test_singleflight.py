"""Calls that several share: one is made, and none hangs on the patience of another."""

from __future__ import annotations

import asyncio

import pytest

from hub.singleflight import SingleFlight
from hub.store.model import StoreUnavailable
from proto.aio.tasks import TaskGroup


class Source:
    """Gives how often it was asked, once `is_open`."""

    def __init__(self, *, is_broken: bool = False) -> None:
        self.is_open, self.is_broken, self.asked = asyncio.Event(), is_broken, 0

    async def read(self) -> int:
        self.asked += 1
        await self.is_open.wait()
        if self.is_broken:
            raise StoreUnavailable("no disk")
        return self.asked


async def test_one_call_for_each_key_at_a_time() -> None:
    async with TaskGroup("test") as tasks:
        calls, one, other = SingleFlight[int](tasks), Source(), Source()
        same = [tasks.spawn(calls.do("one", one.read), name="same") for _ in range(3)]
        tasks.spawn(calls.do("other", other.read), name="other")  # ends with the group
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (one.asked, other.asked) == (1, 1)
        one.is_open.set()
        assert await asyncio.gather(*same) == [1, 1, 1]
        assert await calls.do("one", one.read) == 2


async def test_who_leaves_ends_nobody_elses_call() -> None:
    async with TaskGroup("test") as tasks:
        calls, source = SingleFlight[int](tasks), Source()
        impatient, patient = (tasks.spawn(calls.do("k", source.read), name="caller") for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait([impatient])
        source.is_open.set()
        assert await patient == 1


async def test_a_failing_store_is_told_to_everybody_who_waits(caplog: pytest.LogCaptureFixture) -> None:
    async with TaskGroup("test") as tasks:
        calls, source = SingleFlight[int](tasks), Source(is_broken=True)
        source.is_open.set()
        failed = await asyncio.gather(*(calls.do("k", source.read) for _ in range(2)), return_exceptions=True)
        assert [str(each) for each in failed] == ["no disk", "no disk"]
        assert not caplog.records
