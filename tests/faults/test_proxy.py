"""The fault proxy does what its weather says, and the same seed does the same again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import FaultProxy, Way, fault_proxy
from tests.faults.weather import SEGMENT_BYTES, Line, Weather


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A server that returns what it reads."""
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)


@contextlib.asynccontextmanager
async def through(seed: int = 1) -> AsyncIterator[tuple[FaultProxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    async with echo() as target, fault_proxy(target, seed=seed) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield proxy, reader, writer
        finally:
            writer.transport.abort()
            await asyncio.sleep(0.01)


async def test_bytes_and_the_end_pass() -> None:
    async with through() as (proxy, reader, writer):
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        assert await reader.read(-1) == b"x" * 1_000_000
        writer.close()
        await asyncio.sleep(0.05)
        assert proxy.connections == []


async def test_latency_is_of_each_direction() -> None:
    async with through() as (proxy, reader, writer):
        proxy.weather[Way.TO_HUB].latency_s = 0.1
        proxy.weather[Way.TO_AGENT].latency_s = 0.05
        started = asyncio.get_running_loop().time()
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        took = asyncio.get_running_loop().time() - started
        assert 0.15 <= took < 0.3


async def test_a_silence_is_heard_by_nobody_and_what_was_sent_comes_behind_it() -> None:
    async with through() as (proxy, reader, writer):
        writer.write(b"1")
        assert await reader.read(1) == b"1"
        proxy.silence(Way.TO_AGENT)
        writer.write(b"2")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        proxy.heal()
        assert await reader.read(1) == b"2"


async def test_a_reset_is_one() -> None:
    async with through() as (proxy, reader, writer):
        writer.write(b"1")
        assert await reader.read(1) == b"1"
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


async def test_a_half_open_connection_answers_nothing() -> None:
    async with through() as (proxy, reader, writer):
        writer.write(b"1")
        assert await reader.read(1) == b"1"
        assert proxy.half_open(Way.TO_HUB) == 1
        writer.write(b"2")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)


def weathered(weather: Weather, seed: str, sent: bytes) -> tuple[bytes, list[float]]:
    """What arrives of bytes sent at once, and when."""
    line = Line(weather, seed)
    line.send(sent, 0.0)
    got, times = b"", []
    while (at := line.next_at()) is not None:
        got += line.due(at)
        times.append(at)
    return got, times


def test_the_same_seed_does_the_same_again() -> None:
    storm = Weather(latency_s=0.1, jitter_s=0.05, rate=1e6, loss=0.1, repair_s=0.3, corrupt=0.05)
    sent = bytes(100 * SEGMENT_BYTES)
    assert weathered(storm, "7/1", sent) == weathered(storm, "7/1", sent)
    assert weathered(storm, "7/1", sent) != weathered(storm, "7/2", sent)


def test_a_rate_is_kept_and_order_too() -> None:
    got, times = weathered(Weather(rate=100_000, jitter_s=0.1), "1", bytes(range(250)) * 400)
    assert got == bytes(range(250)) * 400
    assert times == sorted(times)
    assert 1.0 <= times[-1] <= 1.1


def test_a_lost_segment_keeps_those_behind_it_waiting() -> None:
    got, times = weathered(Weather(loss=0.2, repair_s=1.0), "3", bytes(50 * SEGMENT_BYTES))
    assert len(got) == 50 * SEGMENT_BYTES
    assert set(times) == {0.0, 1.0}


def test_progress_ends_where_it_should() -> None:
    line = Line(Weather(progress_bytes=2000), "1")
    line.send(bytes(5000), 0.0)
    assert len(line.due(0.0)) == 2000
    assert line.next_at() is None
    line.weather.is_silent, line.weather.progress_bytes = False, None
    assert len(line.due(0.0)) == 3000


def test_damage_turns_over_one_bit() -> None:
    got, _ = weathered(Weather(corrupt=1.0), "1", bytes(SEGMENT_BYTES))
    assert sum(byte.bit_count() for byte in got) == 1
