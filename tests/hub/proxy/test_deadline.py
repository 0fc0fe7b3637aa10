"""hub/proxy/deadline.py: what callers say of their deadline; and that nothing is sent after it. No socket, no sleep."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.proxy.classify import classify
from hub.proxy.deadline import duration_s, timeout_s, watch_timeout_s
from hub.proxy.silence import OVERTIME_S
from proto.errors import Code
from proto.messages import HttpHead
from tests.hub.proxy.fakes import FakeFront, FakeLink, request
from tests.hub.proxy.test_relay import World, finish

GET = "GET /k8s/clusters/c1/api/v1/pods?timeout=5s HTTP/1.1"
POST = "POST /k8s/clusters/c1/api/v1/pods?timeout=5s HTTP/1.1"
WATCH = "GET /k8s/clusters/c1/api/v1/pods?watch=1&timeoutSeconds=5 HTTP/1.1"

# What Go's time.ParseDuration makes of it (go 1.26), in seconds; None: it refuses.
DURATIONS = [
    ("30s", 30.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("300ms", 0.3), (".5s", 0.5), ("5.s", 5.0), ("0", 0.0),
    ("+0", 0.0), ("+5s", 5.0), ("-5s", -5.0), ("0s", 0.0), ("1h2m3s4ms5us6ns", 3723.004005006), ("2us", 2e-06),
    ("2\u00b5s", 2e-06), ("2\u03bcs", 2e-06), ("1s1s", 2.0), ("00003s", 3.0), ("9223372036s", 9223372036.0),
    ("", None), ("-", None), ("5", None), ("s", None), (".s", None), ("5S", None), ("5 s", None), (" 5s", None),
    ("5d", None), ("1m5", None), ("5msm", None), ("5sms", None), ("1..5s", None), ("9223372037s", None),
    ("9999999999999999999999s", None), ("forever", None), ("1e3s", None), ("\u0665s", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS, ids=[repr(text) for text, _ in DURATIONS])
def test_durations_are_gos(text: str, seconds: float | None) -> None:
    assert duration_s(text.encode()) == pytest.approx(max(seconds or 0.0, 0.0), rel=1e-12)


UNITS = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
PART = st.tuples(st.integers(0, 1000), st.text("0123456789", max_size=6), st.sampled_from(sorted(UNITS)))


@given(st.lists(PART, min_size=1, max_size=6))
def test_parts_add_up(parts: list[tuple[int, str, str]]) -> None:
    text = "".join(f"{whole}.{fraction}{unit}" if fraction else f"{whole}{unit}" for whole, fraction, unit in parts)
    exact = sum((Fraction(f"{whole}.{fraction or 0}") * UNITS[unit] for whole, fraction, unit in parts), Fraction(0))
    assert abs(Fraction(duration_s(text.encode())) * 10**9 - exact) < len(parts) + 1


@given(st.binary(max_size=80))
def test_nothing_that_a_caller_writes_is_an_error(query: bytes) -> None:
    for read in (timeout_s, watch_timeout_s):
        assert 0.0 <= read(b"timeout=" + query) < 10**19
        assert 0.0 <= read(b"timeoutSeconds=" + query) < 10**19


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("timeout=5s", 5.0), ("a=b&timeout=5s&c=d", 5.0), ("timeout=2%C2%B5s", 2e-06), ("timeout=%2B5s", 5.0),
        ("timeout=5s&timeout=1s", 5.0),  # the first counts
        ("timeout=&timeout=1s", 0.0), ("timeout&timeout=1s", 0.0), ("timeout=+5s", 0.0), ("timeout=5", 0.0),
        ("timeout=0s", 0.0), ("timeout=-5s", 0.0), ("mytimeout=5s", 0.0), ("Timeout=5s", 0.0), ("timeouts=5s", 0.0),
        ("timeoutSeconds=5", 0.0), ("", 0.0), ("timeout=" + "0" * 100 + "5s", 0.0),
    ],
)  # fmt: skip
def test_the_query(query: str, seconds: float) -> None:
    assert timeout_s(query.encode()) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("method", "rest", "seconds"),
    [
        ("GET", "/api/v1/pods?timeout=5s", 5.0),
        ("GET", "/api/v1/namespaces/x/pods/y?timeout=5s", 5.0),
        ("GET", "/version?timeout=5s", 5.0),
        ("GET", "/api?timeout=32s", 32.0),
        ("GET", "/apis/apps/v1?timeout=32s", 32.0),
        ("POST", "/api/v1/namespaces/x/pods?timeout=5s", 5.0),
        ("DELETE", "/api/v1/namespaces/x/pods?timeout=5s", 5.0),
        ("PATCH", "/apis/apps/v1/namespaces/x/deployments/y/scale?timeout=5s", 5.0),
        ("GET", "/api/v1/pods?watch=1&timeout=5s", 0.0),
        ("GET", "/api/v1/pods?watch=1&timeoutSeconds=7&timeout=5s", 7.0),
        ("GET", "/api/v1/watch/pods?timeoutSeconds=7", 7.0),
        ("GET", "/api/v1/pods?watch=1&timeoutSeconds=-7", 0.0),
        ("GET", "/api/v1/pods?watch=1&timeoutSeconds=x", 0.0),
        ("GET", "/api/v1/pods?timeoutSeconds=7", 0.0),
        # The API server gives these no deadline; in a proxied request the word is the program's.
        ("GET", "/api/v1/namespaces/x/pods/y/log?timeout=5s", 0.0),
        ("GET", "/api/v1/namespaces/x/pods/y/log?follow=1&timeout=5s", 0.0),
        ("GET", "/api/v1/namespaces/x/services/y/proxy/z?timeout=5s", 0.0),
        ("POST", "/api/v1/namespaces/x/pods/y/exec?timeout=5s", 0.0),
        ("GET", "/debug/pprof/profile?timeout=5s", 0.0),
    ],
)
def test_what_has_a_deadline(method: str, rest: str, seconds: float) -> None:
    assert classify(method.encode(), rest.encode()).timeout_s == seconds


def test_an_upgrade_has_none() -> None:
    assert classify(b"GET", b"/api/v1/pods?timeout=5s", is_upgrade=True).timeout_s == 0.0


def look(world: World, seconds: float) -> None:
    world.now += seconds
    for link in world.routes.links:
        link.last_received_at = world.now
    world.relay._silence.look()


def quiet(name: str = "quiet") -> FakeLink:
    link = FakeLink(name)
    link.last_received_at = 990.0
    return link


@pytest.mark.parametrize(
    ("line", "text"),
    [(GET, b'before the cluster answered"'), (POST, b"outcome unknown"), (WATCH, b'before the cluster answered"')],
    ids=["question", "change", "watch"],
)
def test_an_answer_that_does_not_begin_in_time_is_504(line: str, text: bytes) -> None:
    link = FakeLink()
    world = World(link)
    front, exchange = world.begin(request(line))
    assert exchange is not None
    look(world, 5.2)  # the API server's own 504, or its answer of the last moment, may be on its way
    assert front.status == 0
    look(world, OVERTIME_S)
    assert (front.status, link.opened[0][2].code, exchange.outcome) == (504, Code.CANCELLED, "deadline")
    assert text in front.written
    assert b'"reason":"Timeout"' in front.written
    assert b"retry-after" not in front.written
    assert world.relay.live == 0


def test_an_answer_that_has_begun_may_take_longer() -> None:
    world = World(FakeLink())
    for line in (GET, WATCH):
        front, exchange = world.begin(request(line))
        assert exchange is not None
        exchange.head(HttpHead(status=200, headers=()))
        look(world, 60.0)
        assert (front.status, front.finished, front.is_aborted) == (200, None, False)
        exchange.end()


@pytest.mark.parametrize("value", ["5", "-5s", "0s", "soon", ""])
def test_what_the_api_server_refuses_or_ignores_is_passed_on_untouched(value: str) -> None:
    link = FakeLink()
    world = World(link)
    front, exchange = world.begin(request(f"GET /k8s/clusters/c1/api/v1/pods?timeout={value} HTTP/1.1"))
    assert link.opened[0][0].path == f"/api/v1/pods?timeout={value}".encode()
    look(world, 60.0)
    assert front.status == 0
    finish(exchange)


def test_a_request_that_comes_too_late_is_not_sent() -> None:
    link, front, asked = FakeLink(), FakeFront(), request(POST)
    world = World(link)
    asked.received_at = world.now - 5.0
    assert world.relay.begin(front, asked) is None
    assert (front.status, link.opened) == (504, [])
    assert b"it was not executed" in front.written


@pytest.mark.parametrize("is_told_in_time", [True, False])
def test_a_change_that_waits_for_a_sign_of_life_is_not_sent_after_its_deadline(is_told_in_time: bool) -> None:
    link = quiet()
    world = World(link)
    front, exchange = world.begin(request(POST, "Content-Length: 3"))
    assert exchange is not None
    exchange.body(b"abc")
    world.now += 5.0
    if is_told_in_time:
        world.relay._silence.look()
    link.last_received_at = world.now
    link.answer_probes()
    assert (front.status, link.opened) == (504, [])
    assert b"it was not executed" in front.written
    assert b"retry-after" not in front.written
    assert world.relay.kept.used == 0


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        (GET, Code.SESSION_LOST, b'before the cluster answered"'),
        (GET, Code.REFUSED, b"it was not executed"),
        (POST, Code.REFUSED, b"it was not executed"),
        (POST, Code.DIAL_REFUSED, b"it was not executed"),
        (POST, Code.SESSION_LOST, b"outcome unknown"),
    ],
)
def test_no_other_route_is_tried_after_the_deadline(line: str, code: Code, text: bytes) -> None:
    first, second = FakeLink("first"), FakeLink("second")
    world = World(first, second)
    front, exchange = world.begin(request(line))
    assert exchange is not None
    world.now += 5.0
    exchange.reset(code, "")
    assert (front.status, second.opened) == (504, [])
    assert text in front.written
    assert b"retry-after" not in front.written


def test_the_agents_reason_stands_after_the_deadline_too() -> None:
    world = World(FakeLink())
    front, exchange = world.begin(request(GET))
    assert exchange is not None
    world.now += 5.0
    exchange.reset(Code.FORBIDDEN, "")
    assert front.status == 403


def test_a_question_does_not_move_from_a_silent_session_after_its_deadline() -> None:
    first, second = FakeLink("first"), FakeLink("second")
    world = World(first, second)
    front, _ = world.begin(request(GET))
    first.unanswered_ping_at = world.now + 4.0
    world.now += 5.1
    world.relay._silence.look()
    assert (first.opened[0][2].code, second.opened) == (None, [])
    world.now += OVERTIME_S
    world.relay._silence.look()
    assert front.status == 504


def test_an_open_that_never_left_is_told_as_not_executed() -> None:
    link = FakeLink()
    world = World(link)
    front, _ = world.begin(request(POST))
    link.opened[0][2].was_sent = False
    look(world, 5.5)
    assert front.status == 504
    assert b"it was not executed" in front.written


STEP = st.tuples(
    st.floats(0.0, 2.0), st.sampled_from(["wait", "pong", "dead", Code.REFUSED, Code.SESSION_LOST, Code.DIAL_DNS])
)


@given(st.sampled_from([GET, POST]), st.lists(st.booleans(), min_size=1, max_size=4), st.lists(STEP, max_size=12))
def test_whatever_happens_nothing_is_sent_late_and_everything_ends(
    line: str, quiet_ones: list[bool], steps: list[tuple[float, str | Code]]
) -> None:
    links = [quiet(f"l{n}") if is_quiet else FakeLink(f"l{n}") for n, is_quiet in enumerate(quiet_ones)]
    world = World(*links)
    began = world.now
    front, exchange = world.begin(request(line))
    for seconds, what in steps:
        if exchange is None or exchange.has_ended:
            break
        world.now += seconds
        sent = sum(len(link.opened) for link in links)
        if isinstance(what, Code):
            if exchange.stream is not None:
                exchange.reset(what, "")
        else:
            for link in links:
                if what != "wait":
                    link.answer_probes(is_alive=what == "pong")
        world.relay._silence.look()
        assert world.now < began + 5.0 or sum(len(link.opened) for link in links) == sent
    world.now = max(world.now, began + 5.0 + OVERTIME_S + 0.02)
    world.relay._silence.look()
    assert front.status in (503, 504, 429)
    assert world.relay.live == 0
