import asyncio
import os
import signal

from proto.aio.shutdown import Shutdown


async def test_the_first_signal_asks_and_the_second_leaves() -> None:
    left: list[int] = []
    shutdown = Shutdown(leave=left.append)
    shutdown.receive(signal.SIGTERM)
    await shutdown.wait()
    assert shutdown.is_requested
    assert shutdown.signal == signal.SIGTERM
    assert left == []
    shutdown.receive(signal.SIGINT)
    assert left == [130]


async def test_real_signals_are_taken_over_and_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    shutdown = Shutdown(leave=lambda status: None)
    shutdown.install()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await shutdown.wait()
    finally:
        shutdown.close()
        shutdown.close()
    assert signal.getsignal(signal.SIGTERM) == before


async def test_the_process_may_ask_itself() -> None:
    shutdown = Shutdown()
    assert not shutdown.is_requested
    shutdown.request()
    await shutdown.wait()
    assert shutdown.signal is None
