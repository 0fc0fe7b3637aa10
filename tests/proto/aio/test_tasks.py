import asyncio

import pytest

from proto.aio import tasks
from proto.aio.tasks import TaskGroup


async def forever() -> None:
    await asyncio.Event().wait()


async def test_tasks_have_names_and_end_with_their_group() -> None:
    async with TaskGroup("hub") as group:
        task = tasks.spawn(forever(), name="reader", group=group)
        assert task.get_name() == "hub/reader"
        await asyncio.sleep(0)
        assert len(group) == 1
    assert task.cancelled()
    assert len(group) == 0


async def test_a_failure_is_logged_once_and_spares_the_siblings(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("broken")

    async with TaskGroup("hub") as group:
        sibling = group.spawn(forever(), name="sibling")
        failed = group.spawn(fails(), name="fails")
        await asyncio.wait({failed})
        assert not sibling.done()
    assert [record.getMessage() for record in caplog.records] == ["task hub/fails failed"]


async def test_an_ended_group_takes_nothing() -> None:
    group = TaskGroup("hub")
    await group.aclose()
    await group.aclose()
    with pytest.raises(RuntimeError, match="hub has ended"):
        group.spawn(forever(), name="late")


async def test_wait_returns_when_all_are_done() -> None:
    group = TaskGroup("hub")
    event = asyncio.Event()
    group.spawn(event.wait(), name="one")
    group.spawn(event.wait(), name="two")
    asyncio.get_running_loop().call_soon(event.set)
    await group.wait()
    assert not len(group)


async def test_a_task_may_close_its_own_group() -> None:
    group = TaskGroup("hub")
    other = group.spawn(forever(), name="other")
    closer = group.spawn(group.aclose(), name="closer")
    await closer
    assert other.cancelled()


async def test_a_stubborn_task_is_waited_for_even_when_cancelled() -> None:
    order: list[str] = []

    async def stubborn() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append("ended")

    group = TaskGroup("hub")
    group.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    async with TaskGroup("test") as outer:
        closing = outer.spawn(group.aclose(), name="closing")
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert order == ["ended"]


async def test_cancel_asks_without_waiting() -> None:
    group = TaskGroup("hub")
    task = group.spawn(forever(), name="one")
    await asyncio.sleep(0)
    group.cancel()
    await group.wait()
    assert task.cancelled()


async def test_what_is_unbroken_comes_to_its_end_though_its_waiter_is_cancelled() -> None:
    may_end = asyncio.Event()
    ended: list[str] = []

    async def work() -> None:
        await may_end.wait()
        ended.append("work")

    async with TaskGroup("hub") as group:
        waiter = group.spawn(group.unbroken(work(), (), name="write"), name="waiter")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait({waiter})
        assert waiter.cancelled()
        assert ended == []
        may_end.set()
        await group.wait()
    assert ended == ["work"]


async def test_what_is_unbroken_gives_its_result_or_what_it_raised(caplog: pytest.LogCaptureFixture) -> None:
    async def work(raised: Exception | None) -> int:
        if raised is not None:
            raise raised
        return 7

    async with TaskGroup("hub") as group:
        assert await group.unbroken(work(None), (), name="work") == 7
        with pytest.raises(KeyError):
            await group.unbroken(work(KeyError()), (KeyError,), name="refused")
        assert not caplog.records
        with pytest.raises(ValueError, match="ours"):
            await group.unbroken(work(ValueError("ours")), (KeyError,), name="failed")
    assert [record.getMessage() for record in caplog.records] == ["task hub/failed failed"]
    with pytest.raises(RuntimeError, match="hub has ended"):
        await group.unbroken(work(None), (), name="late")
