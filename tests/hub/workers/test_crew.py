"""hub/workers/crew.py: the main process's rules, with workers that are played by the test."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from hub.metrics import Metrics
from hub.tunnel.lastseen import LastSeen
from hub.workers import crew as crews
from hub.workers import messages
from hub.workers.messages import News, Opened
from hub.workers.packets import pair
from tests.hub.workers.crewrig import Rig
from tests.hub.workers.fakes import until


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    made = Rig(monkeypatch)
    yield made
    for worker in made.started:
        worker.kill()
    await made.crew.aclose()
    for worker in made.started:
        await worker.channel.aclose()


def readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def opened(session: str, worker: int = 1) -> Opened:
    return Opened(worker, session, "uid", "alpha", "cluster", b"i" * 16, 1, "a:1", "v", "k", 1.0, True)


async def test_workers_are_let_in_one_by_one(rig: Rig) -> None:
    one, two = await rig.serving()
    await until(lambda: one.heard(messages.Serve) and two.heard(messages.Serve))
    start = one.heard(messages.Start)[0]
    assert isinstance(start, messages.Start)
    assert (start.number, start.hub_id, start.sockets) == (1, "hub-1", 0)
    assert rig.metrics.workers.collect()[0].samples[0].value == 2  # type: ignore[index]


async def test_news_of_a_worker_reach_the_others_and_the_later_ones(rig: Rig) -> None:
    one, two = await rig.serving()
    one.channel.tell(opened("s1"))
    one.channel.tell(opened("s2"))
    one.channel.tell(messages.Closed("s1"))
    await until(lambda: len(two.heard(messages.Closed)) == 1)
    assert [type(news) for news in two.news[-3:]] == [Opened, Opened, messages.Closed]
    assert not one.heard(Opened)
    two.kill()
    await until(lambda: len(rig.started) == 3 and one.heard(messages.Gone))
    assert one.heard(messages.Gone) == [messages.Gone(2)]
    rig.started[2].hello()
    await until(lambda: rig.started[2].heard(Opened))
    assert rig.started[2].heard(Opened) == [opened("s2")]


async def test_a_cluster_is_connected_while_a_worker_has_an_agent_that_takes_requests(rig: Rig) -> None:
    one, two = await rig.serving()
    serves = msgspec.structs.replace(opened("s1"), is_eligible=True)

    async def after(*news: News) -> set[str]:
        for each in news:
            one.channel.tell(each)
        await one.channel.ask(messages.Look(""))  # answered behind them
        return rig.crew.connected()

    assert await after(msgspec.structs.replace(opened("s0"), role="node")) == set()
    assert await after(serves) == {"uid"}
    two.channel.tell(msgspec.structs.replace(serves, session_id="s2"))
    await two.channel.ask(messages.Look(""))
    assert await after(messages.Draining("s1")) == {"uid"}
    two.kill()
    await until(lambda: len(rig.started) == 3)
    assert await after() == set()


def served(requests: int) -> Metrics:
    metrics = Metrics()
    for _ in range(requests):
        metrics.answered("alpha", "get", 200, 0.02)
    return metrics


async def requests_shown(rig: Rig) -> str:
    page = (await (await rig.crew.measure()).render(rig.metrics.registry)).decode()
    return next(line for line in page.splitlines() if line.startswith("riata_hub_requests_total{")).split()[-1]


async def test_a_worker_that_does_not_say_its_metrics_in_time_is_counted_and_what_it_had_said_holds(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await rig.serving()
    one.metrics, two.metrics = served(3), served(4)
    assert await requests_shown(rig) == "7.0"
    one.metrics, two.measuring = served(5), asyncio.Event()
    monkeypatch.setattr(crews, "ANSWER_S", 0.1)
    assert [await requests_shown(rig) for _ in range(3)] == ["9.0"] * 3
    assert rig.metrics.registry.get_sample_value("riata_hub_worker_scrapes_missed_total") == 3
    (said,) = caplog.records  # not one for each scrape
    assert (said.message, said.__dict__["worker"]) == ("worker did not say its metrics in time", 2)


async def test_what_a_worker_said_that_ended_while_others_were_asked_counts_once(rig: Rig) -> None:
    one, two = await rig.serving()
    one.metrics = served(3)
    assert await requests_shown(rig) == "3.0"
    two.measuring = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        shown = group.create_task(requests_shown(rig))
        await until(lambda: one.questions.count(messages.Measure()) == 2)
        await one.channel.ask(messages.Look(""))  # answered behind it
        one.kill()
        await until(lambda: len(rig.started) == 3)
        rig.started[2].hello()
        rig.started[2].channel.tell(messages.Loaded())
        await until(lambda: rig.started[2].heard(messages.Serve))
        two.measuring.set()
    assert shown.result() == "3.0"


async def test_a_worker_that_crashes_while_it_is_asked_is_not_late(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    one, two = await rig.serving()
    one.metrics, two.metrics = served(3), served(4)
    assert await requests_shown(rig) == "7.0"
    two.measuring, two.lingers = asyncio.Event(), True
    async with asyncio.TaskGroup() as group:
        shown = group.create_task(requests_shown(rig))
        await until(lambda: two.questions.count(messages.Measure()) == 2)
        await two.channel.aclose()
    assert shown.result() == "7.0"
    two.lingers = False
    two.kill()
    await until(lambda: len(rig.started) == 3)
    assert await requests_shown(rig) == "7.0"
    assert rig.metrics.registry.get_sample_value("riata_hub_worker_scrapes_missed_total") == 0
    assert "in time" not in caplog.text


async def test_a_worker_hears_of_each_tunnel_once(rig: Rig) -> None:
    """An agent comes while the worker's process starts: the greeting tells of it, and nothing before."""
    one, two = await rig.serving()
    two.kill()
    await until(lambda: len(rig.started) == 3)
    again = rig.started[2]
    one.channel.tell(opened("s1"))
    await one.channel.ask(messages.Look(""))
    again.hello()
    await until(lambda: again.heard(Opened))
    one.channel.tell(messages.Closed("s1"))
    await until(lambda: again.heard(messages.Closed))
    assert [type(news) for news in again.news] == [messages.Start, Opened, messages.Closed]


async def test_a_new_worker_hears_which_tunnels_drain(rig: Rig) -> None:
    one, two = await rig.serving()
    two.kill()
    await until(lambda: len(rig.started) == 3)
    for session in ("s1", "s2", "s3"):
        one.channel.tell(opened(session))
    for session in ("s1", "s3"):
        one.channel.tell(messages.Draining(session))
    one.channel.tell(messages.Closed("s1"))
    await one.channel.ask(messages.Look(""))
    again = rig.started[2]
    again.hello()
    await until(lambda: again.heard(messages.Draining))
    assert again.heard(Opened) == [opened("s2"), opened("s3")]
    assert again.heard(messages.Draining) == [messages.Draining("s3")]


async def test_a_new_worker_hears_what_was_lost_lately(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients are to wait for those agents as the others' are, which come back from the same failure."""
    monkeypatch.setattr(rig.crew, "_lost", LastSeen(2))
    one, two = await rig.serving()

    def serves(session: str, uid: str) -> Opened:
        return msgspec.structs.replace(opened(session), cluster_uid=uid, is_eligible=True)

    for each in (serves("s0", "a"), serves("s1", "b")):
        one.channel.tell(each)
        one.channel.tell(messages.Closed(each.session_id))
    two.channel.tell(serves("s2", "c"))
    await one.channel.ask(messages.Look(""))
    await two.channel.ask(messages.Look(""))
    two.kill()
    await until(lambda: len(rig.started) == 3)
    again = rig.started[2]
    again.hello()
    await until(lambda: len(again.heard(messages.Closed)) == 2)
    assert again.news[1:] == [
        serves("s1", "b"), messages.Closed("s1"), serves("s2", "c"), messages.Closed("s2"),
    ]  # fmt: skip
    monkeypatch.setattr(crews, "RECENTLY_LOST_S", -1.0)
    again.kill()
    await until(lambda: len(rig.started) == 4)
    rig.started[3].hello()
    await until(lambda: rig.started[3].heard(messages.Start))
    await one.channel.ask(messages.Look(""))
    assert not rig.started[3].heard(messages.Closed)


async def test_a_visitor_of_a_process_that_has_ended_does_not_wait_for_the_next(rig: Rig) -> None:
    one, two = await rig.serving()
    two.kill()
    await until(lambda: len(rig.started) == 3)
    ours, theirs = pair()
    with ours:
        one.channel.tell(messages.Hop(2, "s1"), theirs)
        await until(lambda: readable(ours))
        assert ours.recv(1000)  # the goodbye, not just the end
    rig.started[2].hello()
    await until(lambda: rig.started[2].heard(messages.Start))
    assert not rig.started[2].heard(messages.Hop)


async def test_a_hop_whose_socket_was_lost_on_the_way_is_not_passed_on(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await rig.serving()
    one.channel.tell(messages.Hop(2, "s1"))
    await one.channel.ask(messages.Look(""))  # answered after it
    await two.channel.ask(messages.Look(""))
    assert not two.heard(messages.Hop)
    assert "hop lost its socket on the way, too many open files?" in caplog.messages


async def test_a_change_is_answered_when_every_worker_has_it(rig: Rig) -> None:
    one, two = await rig.serving()
    two.hold = asyncio.Event()
    reaching = asyncio.ensure_future(rig.crew.reached(7))  # noqa: TID251
    await until(lambda: messages.Reached(7) in one.questions and messages.Reached(7) in two.questions)
    assert not reaching.done()
    two.hold.set()
    await reaching


async def test_a_worker_that_does_not_get_it_is_killed_and_the_change_answered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "APPLY_S", 0.01)
    _, two = await rig.serving()
    two.hold = asyncio.Event()
    await rig.crew.reached(7)
    assert two.returncode == -9


async def test_a_new_worker_serves_only_with_everything_that_was_answered(rig: Rig) -> None:
    _, two = await rig.serving()
    await rig.crew.reached(7)
    new = await rig.held_at(two, messages.Reached(7))
    await rig.crew.reached(9)  # not waited for: it does not serve
    assert not new.heard(messages.Serve)
    new.hold.set()
    await until(lambda: new.heard(messages.Serve))
    assert messages.Reached(9) in new.questions


async def test_nobody_waits_at_a_worker_that_keeps_failing(rig: Rig) -> None:
    await rig.serving()
    rig.started[1].kill()
    await until(lambda: len(rig.started) == 3)
    assert rig.listens == 0  # the next process takes over what waits
    rig.started[2].kill()
    await until(lambda: len(rig.started) == 4)
    assert rig.listens == 1
    assert rig.metrics.worker_restarts._value.get() == 2


async def test_a_drain_while_a_worker_rests_opens_no_door(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.serving()
    monkeypatch.setattr(crews, "BACKOFF_S", (0.01,))
    rig.started[1].kill()
    await until(lambda: len(rig.started) == 3)
    rig.started[2].kill()
    await until(lambda: rig.started[2].returncode is not None and rig.metrics.worker_restarts._value.get() == 2)
    await rig.crew.drain(0.0)
    await asyncio.sleep(0.05)
    assert (rig.listens, len(rig.started)) == (0, 3)


async def test_nobody_waits_at_a_worker_that_hangs_before_it_serves(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, two = await rig.serving()
    monkeypatch.setattr(crews, "PULSE_S", 0.0)
    monkeypatch.setattr(crews, "START_S", 0.0)
    monkeypatch.setattr(crews, "STEADY_S", 0.0)  # it lived for long, and did nothing
    two.kill()
    await until(lambda: len(rig.started) == 5)
    assert [worker.returncode for worker in rig.started[2:4]] == [-9, -9]
    assert rig.listens == 1  # after the second one
    said, *_ = (record for record in caplog.records if "begin to serve" in record.message)
    assert said.__dict__["worker"] == 2


async def test_one_that_hangs_when_it_is_to_be_let_in_is_killed_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    _, two = await rig.serving()
    await rig.crew.reached(7)
    monkeypatch.setattr(crews, "PULSE_S", 0.0)
    new = await rig.held_at(two, messages.Reached(7))
    assert new.returncode is None
    monkeypatch.setattr(crews, "START_S", 0.0)
    await until(lambda: new.returncode)
    assert not new.heard(messages.Serve)


async def test_a_hub_whose_workers_hang_does_not_start(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "PULSE_S", 0.0)
    monkeypatch.setattr(crews, "START_S", 0.0)
    await rig.crew.start()
    assert "did not start" in rig.crew.failure.result()


async def test_a_hub_whose_workers_do_not_start_does_not_start(rig: Rig) -> None:
    starting = asyncio.ensure_future(rig.crew.start())  # noqa: TID251
    await until(lambda: len(rig.started) == 2)
    rig.started[0].end(1)
    await starting
    assert "did not start" in rig.crew.failure.result()


async def test_other_code_on_the_disk_is_not_mixed_in(rig: Rig) -> None:
    await rig.serving()
    rig.started[1].kill()
    await until(lambda: len(rig.started) == 3)
    rig.started[2].hello("9.9.9")
    assert "9.9.9" in await rig.crew.failed()
    assert not rig.started[2].heard(messages.Start)


async def test_a_drain_waits_for_all_and_replaces_nobody(rig: Rig) -> None:
    one, two = await rig.serving()
    await rig.crew.drain(0.0)
    assert messages.Drain() in one.questions
    assert messages.Drain() in two.questions
    await rig.crew.stop()
    assert (one.returncode, two.returncode) == (0, 0)
    await asyncio.sleep(0.01)
    assert len(rig.started) == 2


async def test_a_worker_that_only_starts_delays_no_end(rig: Rig) -> None:
    """It waits for word to serve, which does not come any more; the hub's end would wait as long as for one that
    hangs."""
    one, two = await rig.serving()
    two.end(-9)
    await until(lambda: len(rig.started) == 3)
    again = rig.started[2]
    again.is_starting = True
    again.hello()
    await until(lambda: bool(again.heard(messages.Start)))
    await rig.crew.drain(0.0)
    await rig.crew.stop()
    assert (one.returncode, again.returncode) == (0, -9)


def announced(worker: int, agent: str) -> Opened:
    return Opened(worker, f"s-{worker}-{agent}", "uid-a", "a", "cluster", b"i" * 16, 1, "x", "v", "", 0.0, False, agent)


async def test_a_key_is_replaced_by_the_worker_that_has_the_agent(rig: Rig) -> None:
    one, two = await rig.serving()
    two.channel.tell(announced(2, "agent"))
    asked = messages.RotateKey("agent")
    await until(lambda: bool(one.heard(Opened)))
    assert await one.channel.ask(asked) == messages.Outcome("")
    assert two.questions.count(asked) == 1
    two.why = "the last rotation is not over yet"
    assert await one.channel.ask(asked) == messages.Outcome(two.why)
    two.why = None  # its session has ended meanwhile
    assert await one.channel.ask(asked) == messages.Outcome(None)
    assert await one.channel.ask(messages.RotateKey("stranger")) == messages.Outcome(None)
    assert messages.RotateKey("stranger") not in two.questions


async def test_a_worker_that_replaces_no_key_in_time_is_told_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crews, "ROTATE_S", 0.05)
    one, two = await rig.serving()
    two.channel.tell(announced(2, "agent"))
    await until(lambda: bool(one.heard(Opened)))
    two.hold = asyncio.Event()
    reply = await one.channel.ask(messages.RotateKey("agent"))
    assert isinstance(reply, messages.Outcome)
    assert "in time" in str(reply.why)
    two.hold.set()
