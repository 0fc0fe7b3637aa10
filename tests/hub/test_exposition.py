"""The metrics listener, on loopback."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hub.bootstrap import SetupError
from hub.exposition import MetricsServer
from proto.aio.tasks import TaskGroup


async def get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_it_says_that_the_process_lives_also_while_metrics_take_their_time() -> None:
    going = asyncio.Event()

    async def render() -> bytes:
        await going.wait()
        return b"x 1\n"

    server = MetricsServer(render)
    _, port = await server.start("127.0.0.1:0")
    try:
        async with TaskGroup("test") as tasks:
            scraped = tasks.spawn(get(port, "/metrics"), name="scrape")
            answer = await get(port, "/livez")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\nok\n")
            assert not scraped.done()
            going.set()
            assert (await scraped).endswith(b"x 1\n")
    finally:
        await server.close()


async def test_every_address_is_of_both_families() -> None:
    server = MetricsServer(lambda: asyncio.sleep(0, b"x 1\n"))
    _, port = await server.start("*:0")  # one port: the ready file names one
    try:
        for host in ("127.0.0.1", "::1"):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    finally:
        await server.close()


async def test_metrics_are_rendered_off_the_loop_and_nothing_else_is_served() -> None:
    threads: list[str] = []

    def render() -> bytes:
        threads.append(threading.current_thread().name)
        return b"x 1\n"

    server = MetricsServer(lambda: asyncio.to_thread(render))
    _, port = await server.start("127.0.0.1:0")
    try:
        answers = await asyncio.gather(get(port, "/metrics"), get(port, "/metrics"))
        assert all(answer.endswith(b"\r\n\r\nx 1\n") for answer in answers)
        assert b"version=0.0.4" in answers[0]
        assert threading.main_thread().name not in threads
        assert (await get(port, "/")).startswith(b"HTTP/1.1 404")
        assert (await get(port, "/readyz")).startswith(b"HTTP/1.1 404")  # of that the main listener knows
        second = MetricsServer(lambda: asyncio.to_thread(render))
        with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1:{port} for metrics: .* in use"):
            await second.start(f"127.0.0.1:{port}")
        await second.close()
    finally:
        await server.close()
