"""hub/workers/worker.py: settings on their way to a worker, and one that cannot start."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from hub import config
from hub.workers import messages, worker
from hub.workers.channel import Channel
from hub.workers.messages import Done, Question, Reply
from hub.workers.packets import pair
from hub.workers.worker import settings_from, settings_text

MIB = 1024 * 1024


def settings(**values: object) -> config.Settings:
    return config.build({name: (value, "test") for name, value in {"data": "/d", "workers": 4, **values}.items()})


def test_a_worker_has_the_settings_of_its_hub() -> None:
    given = settings(
        listen=["127.0.0.1:1", "[::1]:2"],
        tls_cert="/c",
        tls_key="/k",
        buffer_bytes=64 * MIB,
        **{"edge.head_timeout_s": 3, "tunnel.streams": 100, "proxy.per_user": 7},
    )
    assert settings_from(settings_text(given)) == dataclasses.replace(given, buffer_bytes=16 * MIB)
    assert settings_from(settings_text(given)).tls_cert == Path("/c")


def test_buffers_are_shared_out() -> None:
    whole = settings_from(settings_text(settings(workers=1))).buffer_bytes
    assert whole > 0
    assert settings_from(settings_text(settings(workers=4))).buffer_bytes == whole // 4
    assert settings_from(settings_text(settings(workers=64, buffer_bytes=MIB))).buffer_bytes == MIB


async def test_a_worker_that_cannot_start_says_why_before_its_channel_ends(caplog: pytest.LogCaptureFixture) -> None:
    """The main process kills it then."""
    ours, theirs = pair()
    said: list[str] = []
    lost = asyncio.Event()

    async def answer(_: Question) -> Reply:
        return Done()

    def lose() -> None:
        said.extend(str(record.exc_info[1]) for record in caplog.records if record.exc_info)
        lost.set()

    main = Channel(ours, "worker 1", on_question=answer, on_news=lambda news, sockets: None, on_lost=lose)
    main.tell(messages.Start(1, "hub-1", '{"workers": 0}'))
    assert await worker.run(theirs.detach()) == worker.FAILED
    await lost.wait()
    await main.aclose()
    (why,) = said
    assert "needs a finite number above 0" in why
