"""hub/workers/metrics.py: one page for several processes."""

from __future__ import annotations

from hub.metrics import Metrics
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
