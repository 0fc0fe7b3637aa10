"""hub/workers/metrics.py: one page for several processes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from hub.metrics import Metrics
from hub.workers import metrics as summing
from hub.workers.messages import Families, Family
from hub.workers.metrics import Sums, measure


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


REQUESTS = 'riata_hub_requests_total{cluster="alpha",code="200",verb="get"}'
SESSIONS = 'riata_hub_sessions{role="cluster"}'
BUCKET = 'riata_hub_request_seconds_bucket{le="0.025",verb="get"}'


def test_everything_is_summed() -> None:
    sums = Sums()
    sums.take(1, measure(worker(3, 1).registry))
    sums.take(2, measure(worker(4, 2).registry))
    page = sums.render(measure(Metrics().registry))
    found = rows(page)
    assert (found[REQUESTS], found[SESSIONS], found[BUCKET]) == (7, 3, 7)
    assert page.count(b"# TYPE riata_hub_requests_total counter") == 1


def test_a_page_of_one_is_the_page_of_one() -> None:
    metrics = worker(3, 1)
    sums = Sums()
    sums.take(1, measure(metrics.registry))
    assert rows(sums.render(measure(Metrics().registry))) == {**rows(Metrics().render()), **rows(metrics.render())}


def test_totals_never_fall_when_a_worker_ends() -> None:
    sums = Sums()
    sums.take(1, measure(worker(3, 1).registry))
    sums.take(2, measure(worker(4, 2).registry))
    sums.ended(2)
    sums.ended(2)
    found = rows(sums.render(measure(Metrics().registry)))
    assert (found[REQUESTS], found[SESSIONS], found[BUCKET]) == (7, 1, 7)  # what it held is gone, what it counted not
    sums.take(2, measure(worker(1, 0).registry))
    assert rows(sums.render(measure(Metrics().registry)))[REQUESTS] == 8
    sums.ended(2)
    assert rows(sums.render(measure(Metrics().registry)))[REQUESTS] == 8


def test_a_deleted_cluster_is_forgotten() -> None:
    sums = Sums()
    sums.take(1, measure(worker(3, 1).registry))
    sums.ended(1)
    sums.forget("alpha")
    found = rows(sums.render(measure(Metrics().registry)))
    assert REQUESTS not in found
    assert found[BUCKET] == 3


def test_a_deleted_cluster_does_not_come_back_with_a_worker_that_ends_before_it_is_asked_again() -> None:
    sums = Sums()
    sums.take(1, measure(worker(3, 1).registry))
    sums.forget("alpha")
    assert REQUESTS not in rows(sums.render(measure(Metrics().registry)))
    sums.ended(1)
    found = rows(sums.render(measure(Metrics().registry)))
    assert REQUESTS not in found
    assert found[BUCKET] == 3


def test_a_page_that_is_rendered_while_a_worker_ends_shows_no_less(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, own = Sums(), measure(Metrics().registry)
    sums.take(1, measure(worker(3, 1).registry))
    sums.take(2, measure(worker(4, 2).registry))
    add, seen = summing._summed, list[float]()

    def adds(parts: Iterable[Families]) -> Families:
        """What a scrape in another thread would show at this moment."""
        monkeypatch.setattr(summing, "_summed", add)
        seen.append(rows(sums.render(own))[REQUESTS])
        return add(parts)

    monkeypatch.setattr(summing, "_summed", adds)
    sums.ended(1)
    assert [*seen, rows(sums.render(own))[REQUESTS]] == [7, 7]


def test_of_the_moments_at_which_processes_began_the_first_is_shown_and_what_they_take_is_summed() -> None:
    both = [
        Families((Family("process_start_time_seconds", "gauge", "", (("process_start_time_seconds", (), began),)),))
        for began in (1_700_000_100.0, 1_700_000_000.0)
    ]
    sums = Sums()
    sums.take(1, both[0])
    sums.take(2, both[1])
    own = Metrics()
    own.add_process()
    page = rows(sums.render(measure(own.registry)))
    assert page["process_start_time_seconds"] == 1_700_000_000.0
    sums.take(3, measure(own.registry))
    assert rows(sums.render(measure(own.registry)))["process_open_fds"] > page["process_open_fds"]
