"""hub/workers/worker.py: settings on their way to a worker, and one that cannot start."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import socket
import threading
from pathlib import Path

import pytest
from cryptography import x509

from hub import certificate, config, tls
from hub.app import Hub, Shared, make_registry
from hub.metrics import Metrics
from hub.store.sqlite import FILE_NAME, SqliteStore
from hub.workers import messages, worker
from hub.workers import metrics as summing
from hub.workers.channel import Channel
from hub.workers.messages import Done, Question, Reply
from hub.workers.packets import pair
from hub.workers.worker import settings_from, settings_text
from proto.compression import HISTORY_BYTES
from proto.limits import Limits
from proto.window import Budget
from tests.hub.workers.fakes import threads_of

MIB = 1024 * 1024
NOW = datetime.datetime.now(datetime.UTC)
ROOM = Budget(MIB)


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
    found = settings_from(settings_text(given))
    shared = {"buffer_bytes": 16 * MIB, "compression_bytes": given.compression_bytes // 4}
    assert found == dataclasses.replace(given, **shared, proxy=found.proxy)
    assert found.proxy.per_user == 7
    assert settings_from(settings_text(given)).tls_cert == Path("/c")


def test_buffers_are_shared_out() -> None:
    whole = settings_from(settings_text(settings(workers=1))).buffer_bytes
    assert whole > 0
    assert settings_from(settings_text(settings(workers=4))).buffer_bytes == whole // 4
    assert settings_from(settings_text(settings(workers=64, buffer_bytes=MIB))).buffer_bytes == MIB


def test_memory_for_decoding_is_shared_out() -> None:
    def share(workers: int, whole: int) -> int:
        return settings_from(settings_text(settings(workers=workers, compression_bytes=whole))).compression_bytes

    assert (share(4, 256 * MIB), share(4, 0)) == (64 * MIB, 0)
    assert share(64, 64 * 1024) == HISTORY_BYTES, "too small a share is not none"


def test_what_one_agent_can_hold_is_shared_out() -> None:
    """Its pool has 3,072 connections, from how many workers soever they are asked for."""
    for workers in (1, 2, 4, 16):
        share = settings_from(settings_text(settings(workers=workers))).proxy
        assert 2_500 <= workers * share.long_per_cluster < 3_072
        assert 1_000 <= workers * share.long_per_user_and_cluster <= 1_300
        assert 1_000 <= workers * share.per_cluster <= 1_300
        assert 400 <= workers * share.per_user_and_cluster <= 500
        assert share.per_user_and_cluster * 2 < share.per_cluster
        assert (share.per_user, share.long_per_user) == (1_600, 2_000)


def test_what_one_agent_forgives_is_shared_out() -> None:
    """4,096 streams that were cut in a burst, and 400 a second: one user must not use that up for all others."""
    for workers in (1, 2, 4, 16):
        share = settings_from(settings_text(settings(workers=workers))).proxy
        assert 2_500 <= workers * share.cancelled_burst < Limits().reset_burst
        assert share.cancelled_burst > share.long_per_user_and_cluster  # a controller may restart
        assert 50.0 <= workers * share.cancelled_per_s <= 60.1
    slow = settings_from(settings_text(settings(workers=16, **{"proxy.cancelled_per_s": 1}))).proxy
    assert 1.0 <= 16 * slow.cancelled_per_s <= 1.3  # a rate need not be whole


async def why_it_failed(caplog: pytest.LogCaptureFixture, start: messages.Start, *sockets: socket.socket) -> str:
    """What the log has when its channel ends: the main process kills it then."""
    ours, theirs = pair()
    said: list[str] = []
    lost = asyncio.Event()

    async def answer(_: Question) -> Reply:
        return Done()

    def lose() -> None:
        said.extend(str(record.exc_info[1]) for record in caplog.records if record.exc_info)
        lost.set()

    main = Channel(ours, "worker 1", on_question=answer, on_news=lambda news, sockets: None, on_lost=lose)
    main.tell(start, *sockets)
    assert await worker.run(theirs.detach()) == worker.FAILED
    await lost.wait()
    await main.aclose()
    (why,) = said
    return why


async def test_a_worker_that_cannot_start_says_why_before_its_channel_ends(caplog: pytest.LogCaptureFixture) -> None:
    assert "needs a finite number above 0" in await why_it_failed(caplog, messages.Start(1, "hub-1", '{"workers": 0}'))


async def test_a_worker_whose_sockets_were_lost_on_the_way_serves_nothing_in_silence(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel drops what the receiver's limit of open files does not take. It fails, and is started again."""
    monkeypatch.setattr(worker, "logs", NoLogs)
    start = messages.Start(1, "hub-1", settings_text(settings()), sockets=2)
    one, other = socket.socketpair()
    with other:
        assert "1 of 2 listening sockets arrived" in await why_it_failed(caplog, start, one)


class NoLogs:
    """The log stays the test's."""

    @staticmethod
    def configure(**_: object) -> None:
        pass

    @staticmethod
    def log_uncaught() -> None:
        pass


class NoVisibility:
    """Nothing is written."""

    async def reached(self, revision: int) -> None: ...


async def test_a_replaced_certificate_is_counted_once_and_so_is_its_end(tmp_path: Path) -> None:
    """Every worker takes it, or refuses it, and their metrics are summed."""
    given = settings(data=str(tmp_path))
    tls.make_ca(tmp_path / tls.DIRECTORY, "hub-1", NOW)
    certificate.ensure(given)
    store = await SqliteStore.open(tmp_path / FILE_NAME)
    counted, ends = [], []
    for is_first in (None, True, False):  # one process does everything; the workers of a hub that has two
        registry = make_registry(given)
        shared = None if is_first is None else Shared(Metrics(), registry, NoVisibility(), [], ROOM, is_first)
        hub = Hub(given, store, "hub-1", shared)
        (tmp_path / tls.DIRECTORY / tls.LEAF_CERT).touch()
        hub.reload_certificate(is_asked=False)
        page = hub._metrics.registry
        counted.append(page.get_sample_value("riata_hub_certificate_reloads_total", {"result": "taken"}))
        ends.append(page.get_sample_value("riata_hub_certificate_end_timestamp_seconds", {"of": "hub"}))
    await store.close()
    assert counted == [1, 1, 0]
    leaf = x509.load_pem_x509_certificate((tmp_path / tls.DIRECTORY / tls.LEAF_CERT).read_bytes())
    assert ends == [leaf.not_valid_after_utc.timestamp()] * 2 + [None]


async def test_a_worker_writes_its_metrics_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5,000 clusters that takes 40 ms, in which its loop would answer nobody."""
    writers = threads_of(monkeypatch, summing, "_encode")
    ours, theirs = pair()
    with ours:
        made = worker.Worker(theirs)
        said = await made._answer(messages.Measure())
        await made.aclose()
    assert isinstance(said, messages.Measured)
    assert len(writers) == len(said.pieces) > 0
    assert threading.get_ident() not in writers


async def test_a_hop_whose_socket_was_lost_on_the_way_costs_only_that_hop(caplog: pytest.LogCaptureFixture) -> None:
    registry = Visited()
    kept, given = socket.socketpair()
    with kept, given:
        worker._tell(registry, messages.Hop(1, "s1"), [])  # type: ignore[arg-type]
        worker._tell(registry, messages.Hop(1, "s2"), [given])  # type: ignore[arg-type]
    assert registry.sessions == ["s2"]
    (said,) = caplog.records
    assert (said.message, said.__dict__["session"]) == ("hop lost its socket on the way, too many open files?", "s1")


class Visited:
    """A registry, as far as hops go."""

    def __init__(self) -> None:
        self.sessions: list[str] = []

    def visited(self, session_id: str, sock: socket.socket) -> None:
        self.sessions.append(session_id)
