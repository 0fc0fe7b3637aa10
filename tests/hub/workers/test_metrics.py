"""hub/workers/metrics.py: one page for several processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from hub.metrics import Metrics
from hub.workers import metrics as summing
from hub.workers.messages import Family, Measured
from hub.workers.metrics import PIECE_SAMPLES, Sums, measure, packed
from tests.hub.workers.fakes import threads_of


def rows(page: bytes) -> dict[str, float]:
    pairs = (line.rpartition(" ") for line in page.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def worker(requests: int, sessions: int) -> Metrics:
    metrics = Metrics()
    for _ in range(requests):
        metrics.answered("alpha", "get", 200, 0.02)
    for _ in range(sessions):
        metrics.session_opened("cluster")
    return metrics


def said(metrics: Metrics) -> Measured:
    return packed(measure(metrics.registry))


REQUESTS = 'riata_hub_requests_total{cluster="alpha",code="200",verb="get"}'
SESSIONS = 'riata_hub_sessions{role="cluster"}'
BUCKET = 'riata_hub_request_seconds_bucket{le="0.025",verb="get"}'


async def test_everything_is_summed() -> None:
    sums = Sums()
    sums.take(1, said(worker(3, 1)))
    sums.take(2, said(worker(4, 2)))
    page = await sums.render(Metrics().registry)
    found = rows(page)
    assert (found[REQUESTS], found[SESSIONS], found[BUCKET]) == (7, 3, 7)
    assert page.count(b"# TYPE riata_hub_requests_total counter") == 1


async def test_a_page_of_one_is_the_page_of_one() -> None:
    metrics = worker(3, 1)
    sums = Sums()
    sums.take(1, said(metrics))
    assert rows(await sums.render(Metrics().registry)) == {**rows(Metrics().render()), **rows(metrics.render())}


async def test_totals_never_fall_when_a_worker_ends() -> None:
    sums = Sums()
    sums.take(1, said(worker(3, 1)))
    sums.take(2, said(worker(4, 2)))
    sums.ended(2)
    sums.ended(2)
    found = rows(await sums.render(Metrics().registry))
    assert (found[REQUESTS], found[SESSIONS], found[BUCKET]) == (7, 1, 7)  # what it held is gone, what it counted not
    sums.take(2, said(worker(1, 0)))
    assert rows(await sums.render(Metrics().registry))[REQUESTS] == 8
    sums.ended(2)
    assert rows(await sums.render(Metrics().registry))[REQUESTS] == 8


async def test_a_deleted_cluster_is_forgotten() -> None:
    sums = Sums()
    sums.take(1, said(worker(3, 1)))
    sums.ended(1)
    sums.forget("alpha")
    found = rows(await sums.render(Metrics().registry))
    assert REQUESTS not in found
    assert found[BUCKET] == 3


async def test_a_deleted_cluster_does_not_come_back_with_a_worker_that_ends_before_it_is_asked_again() -> None:
    sums = Sums()
    sums.take(1, said(worker(3, 1)))
    sums.forget("alpha")
    assert REQUESTS not in rows(await sums.render(Metrics().registry))
    sums.ended(1)
    found = rows(await sums.render(Metrics().registry))
    assert REQUESTS not in found
    assert found[BUCKET] == 3


class Meanwhile:
    """Of a page that is being rendered: what the event loop does then."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self.registry = CollectorRegistry()
        self._happens = happens
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        self._happens()
        self._happens = lambda: None
        return ()


async def test_a_page_that_is_rendered_while_workers_end_and_clusters_go_shows_no_less_and_loses_nothing() -> None:
    sums = Sums()
    for number in (1, 2, 3):
        sums.take(number, said(worker(number, 1)))
    for number in (1, 2):
        sums.ended(number)
    meanwhile = Meanwhile(lambda: sums.ended(3))
    assert rows(await sums.render(meanwhile.registry))[REQUESTS] == 6
    assert rows(await sums.render(meanwhile.registry))[REQUESTS] == 6
    sums.take(1, said(worker(1, 1)))
    sums.ended(1)
    meanwhile = Meanwhile(lambda: sums.forget("alpha"))
    assert rows(await sums.render(meanwhile.registry))[REQUESTS] == 7
    found = rows(await sums.render(meanwhile.registry))
    assert REQUESTS not in found
    assert found[BUCKET] == 7


async def test_no_event_loop_reads_what_workers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some 300 ms for each worker of a hub with 5,000 clusters."""
    readers = threads_of(monkeypatch, summing, "_decode")
    sums = Sums()
    for number in (1, 2):
        sums.take(number, said(worker(1, 1)))
        sums.ended(number)
    sums.forget("alpha")
    await sums.render(Metrics().registry)
    assert readers
    assert threading.get_ident() not in readers


def test_what_a_worker_says_is_written_and_read_in_pieces() -> None:
    """Whoever works on one keeps all threads of the process waiting."""
    metrics = worker(1, 1)
    for number in range(2 * PIECE_SAMPLES + 1):
        metrics.answered(f"c{number}", "get", 200, None)
    pieces = [summing._decode(piece) for piece in said(metrics).pieces]
    assert max(len(piece.samples) for piece in pieces) == PIECE_SAMPLES
    whole = {family.name: family for family in measure(metrics.registry)}
    assert {piece.name for piece in pieces} == set(whole)
    for name, family in whole.items():
        assert [each for piece in pieces if piece.name == name for each in piece.samples] == list(family.samples)


async def test_what_workers_that_ended_had_counted_is_kept_once_and_clusters_are_not_remembered_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums = Sums()
    for _ in range(3):
        sums.take(1, said(worker(1, 1)))
        sums.ended(1)
    sums.forget("beta")
    await sums.render(Metrics().registry)
    assert [part.forgotten for part in sums._ended] == [frozenset()]
    monkeypatch.setattr(summing, "FORGOTTEN_MAX", 2)
    sums.take(1, said(worker(1, 1)))
    for name in "bcd":
        sums.forget(name)
    assert (sums._latest, sums._ended) == ({}, ())  # nobody has asked for so long


async def test_of_the_moments_at_which_processes_began_the_first_is_shown_and_what_they_take_is_summed() -> None:
    both = [
        packed([Family("process_start_time_seconds", "gauge", "", (("process_start_time_seconds", (), began),))])
        for began in (1_700_000_100.0, 1_700_000_000.0)
    ]
    sums = Sums()
    sums.take(1, both[0])
    sums.take(2, both[1])
    own = Metrics()
    own.add_process()
    page = rows(await sums.render(own.registry))
    assert page["process_start_time_seconds"] == 1_700_000_000.0
    sums.take(3, said(own))
    assert rows(await sums.render(own.registry))["process_open_fds"] > page["process_open_fds"]
