"""hub/proxy/silence.py: what becomes of a request when its session says nothing. No socket, no sleep."""

from __future__ import annotations

import pytest

from hub.proxy.limits import ProxyLimits
from proto.errors import Code
from tests.hub.proxy.fakes import FakeLink, request
from tests.hub.proxy.test_relay import World, finish

POST = "POST /k8s/clusters/c1/api/v1/pods HTTP/1.1"


def look(world: World, seconds: float) -> None:
    world.now += seconds
    world.relay._silence.look()


def quiet(name: str = "quiet") -> FakeLink:
    link = FakeLink(name)
    link.last_received_at = 990.0
    return link


def test_a_change_waits_for_a_sign_of_life_and_keeps_its_body() -> None:
    link = quiet()
    front, exchange = (world := World(link)).begin(request(POST, "Content-Length: 6"))
    assert exchange is not None
    exchange.body(b"abc")
    assert (link.opened, link.probes, front.is_paused) == ([], 1, True)
    exchange.body(b"def")
    exchange.body_complete()
    link.last_received_at = world.now
    link.answer_probes()
    (opened,) = link.opened
    assert (opened[2].sent, opened[2].is_ended, front.is_paused) == (b"abcdef", True, False)
    assert not opened[4]


def test_a_change_without_a_body_is_whole_when_it_leaves() -> None:
    link = quiet()
    world = World(link)
    world.begin(request("DELETE /k8s/clusters/c1/api/v1/namespaces/n/pods/p HTTP/1.1"))
    link.last_received_at = world.now
    link.answer_probes()
    assert link.opened[0][4]


def test_a_change_on_a_dead_tunnel_was_not_delivered() -> None:
    """P3: it may go to another tunnel, and without one its client hears 503 instead of 'outcome unknown'."""
    first, second = quiet(), FakeLink()
    front, exchange = World(first, second).begin(request(POST, "Content-Length: 3"))
    assert exchange is not None
    exchange.body(b"abc")
    first.answer_probes(is_alive=False)
    assert first.opened == []
    assert second.opened[0][2].sent == b"abc"
    alone = quiet()
    front, _ = World(alone).begin(request(POST, "Content-Length: 3"))
    alone.answer_probes(is_alive=False)
    assert front.status == 503
    assert alone.opened == []


def test_a_change_takes_the_next_route_after_a_second() -> None:
    first, second = quiet(), FakeLink()
    world = World(first, second)
    world.begin(request(POST, "Content-Length: 3"))
    look(world, 0.9)
    assert second.opened == []
    look(world, 0.2)
    assert len(second.opened) == 1
    first.answer_probes()
    assert first.opened == []


def test_a_change_on_a_lively_tunnel_and_a_question_on_any_leave_at_once() -> None:
    lively, still = FakeLink(), quiet()
    World(lively).begin(request(POST, "Content-Length: 3"))
    World(still).begin()
    assert (len(lively.opened), len(still.opened)) == (1, 1)


def test_who_leaves_while_its_change_waits_is_forgotten() -> None:
    link = quiet()
    world = World(link)
    _, exchange = world.begin(request(POST, "Content-Length: 3"))
    assert exchange is not None
    exchange.gone()
    link.answer_probes()
    assert link.opened == []
    assert world.relay.live == 0


def test_a_question_is_asked_elsewhere_when_its_session_is_silent() -> None:
    first, second = FakeLink(), FakeLink()
    second.last_received_at = 2000.0
    world = World(first, second)
    _, exchange = world.begin()
    look(world, 0.45)
    assert (first.probes, first.opened[0][2].code) == (1, None)  # a slow answer is no silence: ask for a sign of life
    first.unanswered_ping_at = world.now
    look(world, 0.5)
    assert first.opened[0][2].code is None
    look(world, 0.15)
    assert first.opened[0][2].code is Code.CANCELLED
    assert len(second.opened) == 1
    finish(exchange)


def test_a_session_that_is_far_away_gets_two_round_trips() -> None:
    first, second = FakeLink(), FakeLink()
    first.rtt_s, second.last_received_at = 0.8, 2000.0
    world = World(first, second)
    _, exchange = world.begin()
    look(world, 0.45)
    first.unanswered_ping_at = world.now
    look(world, 1.5)
    assert first.opened[0][2].code is None
    look(world, 0.2)
    assert first.opened[0][2].code is Code.CANCELLED
    finish(exchange)


def test_a_slow_answer_on_a_session_that_lives_is_asked_for_once() -> None:
    first, second = FakeLink(), FakeLink()
    second.last_received_at = 2000.0
    world = World(first, second)
    _, exchange = world.begin()
    for _ in range(20):
        look(world, 1.1)
        first.last_received_at = world.now  # the pong
    assert second.opened == []
    finish(exchange)


def test_a_question_is_asked_elsewhere_when_only_the_way_to_the_agent_is_dead() -> None:
    """Its own pings and events still come."""
    first, second = FakeLink(), FakeLink()
    second.last_received_at = 2000.0
    world = World(first, second)
    _, exchange = world.begin()

    def hear(seconds: float) -> None:
        first.last_received_at = world.now + seconds
        look(world, seconds)

    hear(0.45)
    assert first.probes == 1
    first.unanswered_ping_at = world.now
    hear(1.1)
    assert (first.probes, first.opened[0][2].code) == (1, None)
    hear(0.2)
    assert first.opened[0][2].code is Code.CANCELLED
    assert len(second.opened) == 1
    finish(exchange)


def test_a_slow_answer_brings_one_ping_while_its_session_is_heard() -> None:
    link = FakeLink()
    world = World(link)
    _, exchange = world.begin()
    for _ in range(20):
        link.last_received_at = world.now + 0.5
        look(world, 0.5)
    assert link.probes == 1
    finish(exchange)


def test_the_answer_to_a_ping_from_before_the_open_proves_nothing() -> None:
    link = FakeLink()
    world = World(link)
    link.unanswered_ping_at = world.now - 0.1
    _, exchange = world.begin()

    def hear(seconds: float) -> None:
        link.last_received_at = world.now + seconds
        look(world, seconds)

    hear(0.45)
    assert link.probes == 0, "that ping may still be answered"
    link.unanswered_ping_at = None
    hear(0.1)
    hear(0.5)
    assert link.probes == 1
    finish(exchange)


@pytest.mark.parametrize(
    ("line", "more", "body"),
    [(POST, "Content-Length: 3", b""), (POST, "Content-Length: 3", b"abc")],
    ids=["mutation", "mutation with a body"],
)
def test_what_may_have_been_executed_stays(line: str, more: str, body: bytes) -> None:
    first, second = FakeLink(), FakeLink()
    second.last_received_at = 2000.0
    world = World(first, second)
    _, exchange = world.begin(request(line, more))
    assert exchange is not None
    if body:
        exchange.body(body)
    look(world, 1.1)
    first.unanswered_ping_at = world.now
    look(world, 1.1)
    assert second.opened == []
    assert first.opened[0][2].code is None
    assert first.probes == 1


def test_a_question_without_another_route_waits() -> None:
    link = FakeLink()
    world = World(link)
    _, exchange = world.begin()
    link.unanswered_ping_at = world.now
    look(world, 1.1)
    assert (len(link.opened), link.opened[0][2].code) == (1, None)
    finish(exchange)


@pytest.mark.parametrize(
    ("line", "text"),
    [("GET /k8s/clusters/c1/api/v1/pods HTTP/1.1", b"did not answer in time"), (POST, b"outcome unknown")],
)
def test_an_answer_that_never_begins_is_504(line: str, text: bytes) -> None:
    link = FakeLink()
    world = World(link, limits=ProxyLimits(answer_timeout_s=60.0))
    front, exchange = world.begin(request(line))
    assert exchange is not None
    for _ in range(60):
        look(world, 1.0)
        link.last_received_at = world.now
    assert front.status == 0
    look(world, 0.5)
    assert front.status == 504
    assert text in front.written
    assert b"retry-after" not in front.written
    assert link.opened[0][2].code is Code.CANCELLED


def test_an_answer_is_late_only_behind_a_whole_request() -> None:
    link = FakeLink()
    world = World(link, limits=ProxyLimits(answer_timeout_s=60.0))
    front, exchange = world.begin(request(POST, "Content-Length: 3"))
    assert exchange is not None
    look(world, 500.0)
    exchange.body(b"abc")
    exchange.body_complete()
    look(world, 59.0)
    assert front.status == 0
    look(world, 2.0)
    assert front.status == 504


def test_a_body_of_which_the_cluster_takes_nothing_is_given_up() -> None:
    """An API server, or what stands before it, that reads no byte: nothing else would end it."""
    link = FakeLink()
    world = World(link, limits=ProxyLimits(answer_timeout_s=60.0))
    front, exchange = world.begin(request(POST, "Content-Length: 900"))
    assert exchange is not None
    exchange.body(bytes(600))
    stream = link.opened[0][2]
    for waiting in (600, 599, 598):  # a very slow way is one all the same
        stream.queued_bytes = waiting
        look(world, 0.1)
        look(world, 59.0)
    assert front.status == 0
    exchange.body(bytes(100))
    stream.queued_bytes += 100  # what the client adds to it moves nothing
    look(world, 2.0)
    assert front.status == 504
    assert b"outcome unknown" in front.written
    assert (front.finished, stream.code) == (False, Code.CANCELLED)


def test_each_part_of_a_body_has_the_whole_time() -> None:
    link = FakeLink()
    world = World(link, limits=ProxyLimits(answer_timeout_s=60.0))
    front, exchange = world.begin(request(POST, "Content-Length: 900"))
    assert exchange is not None
    for _ in range(3):
        exchange.body(bytes(300))
        link.opened[0][2].queued_bytes = 300
        look(world, 0.1)
        look(world, 59.0)
        link.opened[0][2].queued_bytes = 0
        look(world, 0.1)
        look(world, 500.0)  # for its client
    exchange.body_complete()
    look(world, 59.0)
    assert front.status == 0


def test_a_program_may_read_its_body_when_it_likes() -> None:
    link = FakeLink()
    world = World(link, limits=ProxyLimits(answer_timeout_s=60.0))
    front, exchange = world.begin(request(POST.replace("pods", "namespaces/n/pods/p/proxy/x"), "Content-Length: 900"))
    assert exchange is not None
    exchange.body(bytes(600))
    link.opened[0][2].queued_bytes = 600
    for _ in range(3):
        look(world, 5_000.0)
    assert front.status == 0


def test_a_long_request_may_wait_for_ever() -> None:
    link = FakeLink()
    world = World(link, limits=ProxyLimits(answer_timeout_s=60.0))
    front, _ = world.begin(request("GET /k8s/clusters/c1/api/v1/pods?watch=1 HTTP/1.1"))
    link.last_received_at = 100_000.0
    look(world, 50_000.0)
    assert front.status == 0


def test_asking_on_another_route_does_not_begin_the_time_anew() -> None:
    first, second = FakeLink(), FakeLink()
    world = World(first, second, limits=ProxyLimits(answer_timeout_s=60.0))
    front, exchange = world.begin()
    assert exchange is not None
    for _ in range(40):
        look(world, 1.0)
        first.last_received_at = second.last_received_at = world.now
    exchange.reset(Code.UPSTREAM, "")
    assert len(second.opened) == 1
    for _ in range(20):
        second.last_received_at = world.now
        look(world, 1.0)
    assert front.status == 0
    second.last_received_at = world.now
    look(world, 0.5)
    assert front.status == 504


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_change_that_was_refused_waits_for_a_sign_of_life_of_the_next_route_too(is_alive: bool) -> None:
    """A node agent's tunnel is idle until it is needed."""
    first, second, third = FakeLink(), quiet(), FakeLink()
    world = World(first, second, third)
    _, exchange = world.begin(request(POST, "Content-Length: 6"))
    assert exchange is not None
    exchange.body(b"abc")
    exchange.reset(Code.REFUSED, "")
    assert (second.opened, second.probes) == ([], 1)
    exchange.body(b"def")
    exchange.body_complete()
    second.last_received_at = world.now if is_alive else 990.0
    second.answer_probes(is_alive=is_alive)
    taken = second if is_alive else third
    assert (taken.opened[0][2].sent, taken.opened[0][2].is_ended) == (b"abcdef", True)
    assert world.count("reroutes_total", reason="held") == (0 if is_alive else 1)
    finish(exchange)
    assert world.relay.kept.used == 0


def late() -> tuple[World, FakeLink]:
    """A cluster whose only session owes the answer to a ping: TCP repeats what a long way has lost."""
    link = FakeLink("late")
    world = World(link)
    world.routes.late.add(link)
    return world, link


def test_where_the_only_session_is_late_a_request_waits_for_it() -> None:
    world, link = late()
    front, exchange = world.begin(request(POST, "Content-Length: 6"))
    assert exchange is not None
    exchange.body(b"abc")
    look(world, 1.0)
    exchange.body(b"def")
    exchange.body_complete()
    assert (link.opened, front.status) == ([], 0)
    world.routes.late.clear()
    look(world, 0.1)
    assert link.opened[0][2].sent == b"abcdef"
    look(world, 0.1)
    assert len(link.opened) == 1


def test_it_takes_another_one_that_comes() -> None:
    world, link = late()
    world.begin()
    world.routes.links.append(other := FakeLink("other"))
    look(world, 0.1)
    assert (len(link.opened), len(other.opened)) == (0, 1)


@pytest.mark.parametrize("what", ["it ended", "it is late for ever"])
def test_a_late_session_that_never_answers_is_none(what: str) -> None:
    world, link = late()
    front, _ = world.begin()
    look(world, 9.9)
    assert front.status == 0
    if what == "it ended":
        link.is_open = False
    look(world, 0.1)
    assert (front.status, link.opened) == (503, [])


def test_who_waits_for_a_late_session_keeps_its_deadline_and_may_leave() -> None:
    world, link = late()
    front, _ = world.begin(request("GET /k8s/clusters/c1/api?timeout=2s HTTP/1.1"))
    _, leaving = world.begin()
    assert leaving is not None
    leaving.gone()
    world.routes.late.clear()
    look(world, 2.0)
    assert (front.status, link.opened) == (504, [])
