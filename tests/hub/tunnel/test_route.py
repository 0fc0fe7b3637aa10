"""hub/tunnel/route.py: which route serves, and why: tables, and properties over any set of tunnels."""

from __future__ import annotations

import dataclasses
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.route import Candidate, Reason, Route
from hub.tunnel.route import (
    ELSEWHERE_AFTER,
    NOWHERE,
    PING_UNANSWERED_S,
    QUESTION,
    Question,
    decide,
    is_dead,
    is_late,
    is_reachable,
    is_silent,
)
from proto.messages import StreamClass

NOW = 100.0
CHANGE = Question(is_mutation=True)


@dataclasses.dataclass(slots=True, eq=False)
class FakeLink:
    name: str
    is_open: bool = True
    may_open: bool = True
    is_draining: bool = False
    rtt_s: float | None = 0.01
    last_received_at: float = NOW
    streams: int = 0
    queued_bytes: int = 0
    unanswered_ping_at: float | None = None


def agent(name: str, *, remote: bool = False, **link: object) -> Candidate:
    """A cluster agent."""
    route = cast(Route, FakeLink(name, **link))  # type: ignore[arg-type]
    return Candidate(route, "cluster", name.encode(), is_eligible=True, is_remote=remote)


def node(name: str, *, eligible: bool = True, control: bool = False, **link: object) -> Candidate:
    route = cast(Route, FakeLink(name, **link))  # type: ignore[arg-type]
    return Candidate(route, "node", name.encode(), name, is_eligible=eligible, is_control_plane=control)


def dead(name: str = "dead") -> Candidate:
    return agent(name, unanswered_ping_at=95.0, last_received_at=94.0)


def silent(name: str = "silent") -> Candidate:
    return agent(name, unanswered_ping_at=97.5, last_received_at=97.0, rtt_s=0.001)


LEAVING = {"is_draining": True, "may_open": False}

TABLE = [
    # Nothing there, or nothing that may or can.
    ((), None, Reason.NONE_CONNECTED),
    ((node("n1", eligible=False), node("n2", eligible=False, control=True)), None, Reason.NONE_ELIGIBLE),
    ((agent("a", is_open=False, may_open=False), agent("b", **LEAVING)), None, Reason.NONE_ANSWERING),
    ((dead(), node("n1", eligible=False)), None, Reason.NONE_ANSWERING),
    ((node("n1", unanswered_ping_at=95.0),), None, Reason.NONE_ANSWERING),
    # Cluster agents.
    ((agent("a"),), "a", Reason.ONLY),
    ((agent("a"), node("n1", control=True)), "a", Reason.ONLY),
    ((agent("a", rtt_s=0.2), agent("b")), "b", Reason.HEALTHIEST),
    ((silent(), agent("b", rtt_s=0.2)), "b", Reason.OTHER_LATE),
    ((dead(), agent("b", rtt_s=0.2)), "b", Reason.OTHER_LATE),
    ((agent("a", rtt_s=0.001, **LEAVING), agent("b")), "b", Reason.OTHER_DRAINING),
    ((silent(),), "silent", Reason.ONLY),
    # One that we drain ourselves, since its ids run out, serves until its replacement is there.
    ((agent("old", is_draining=True), node("n1")), "old", Reason.ONLY),
    ((agent("old", is_draining=True), agent("new", rtt_s=0.3)), "new", Reason.OTHER_DRAINING),
    # Fallback.
    ((node("n2"), node("n1"), node("n0", eligible=False)), "n1", Reason.FALLBACK_ABSENT),
    ((node("n1"), node("n2", control=True)), "n2", Reason.FALLBACK_ABSENT),
    ((node("n1", unanswered_ping_at=97.0, last_received_at=96.0), node("n2")), "n2", Reason.FALLBACK_ABSENT),
    ((dead(), node("n1")), "n1", Reason.FALLBACK_SILENT),
    ((silent(), node("n1")), "n1", Reason.FALLBACK_SILENT),
    ((agent("a", **LEAVING), node("n1")), "n1", Reason.FALLBACK_DRAINING),
    # A late answer while bytes keep coming waits behind a download: that agent lives.
    ((agent("busy", unanswered_ping_at=97.5), node("n1")), "busy", Reason.ONLY),
    # Both silent: our own network, most likely.
    ((silent(), node("n1", unanswered_ping_at=97.5, last_received_at=97.0)), "silent", Reason.ONLY),
]  # fmt: skip


@pytest.mark.parametrize(("candidates", "chosen", "reason"), TABLE, ids=range(len(TABLE)))
def test_the_table(candidates: tuple[Candidate, ...], chosen: str | None, reason: Reason) -> None:
    decision = decide(candidates, QUESTION, NOW)
    assert (None if decision.route is None else decision.route.name, decision.reason) == (chosen, reason)
    assert is_reachable(candidates, NOW) == (chosen is not None)


@pytest.mark.parametrize(
    ("candidates", "may_come"),
    [
        ((), False),
        ((dead(),), True),
        ((dead(), node("n1", eligible=False)), True),
        ((node("n1", unanswered_ping_at=95.0),), True),
        ((node("n1", eligible=False, unanswered_ping_at=95.0),), False),
        ((agent("a", is_open=False, may_open=False), agent("b", **LEAVING)), False),
        ((dead(), node("n1")), False),  # there is a route
    ],
)
def test_where_only_the_answer_to_a_ping_is_missing_a_route_may_come(
    candidates: tuple[Candidate, ...], may_come: bool
) -> None:
    assert decide(candidates, QUESTION, NOW).may_come is may_come
    assert not decide(candidates, QUESTION, NOW, tuple(each.route for each in candidates)).may_come


def name_of(*candidates: Candidate, asked: Question = QUESTION, tried: tuple[Candidate, ...] = ()) -> str | None:
    route = decide(candidates, asked, NOW, tuple(each.route for each in tried)).route
    return None if route is None else route.name


def test_what_was_tried_is_not_tried_again() -> None:
    a, b, n1, n2 = agent("a"), agent("b", rtt_s=0.2), node("n1"), node("n2")
    everybody = (n2, n1, b, a)
    order, tried = [], []
    while (decision := decide(everybody, QUESTION, NOW, tried)).route is not None:
        order.append((decision.route.name, decision.reason))
        tried.append(decision.route)
    assert order == [
        ("a", Reason.HEALTHIEST),
        ("b", Reason.RETRY),
        ("n1", Reason.FALLBACK_RETRY),
        ("n2", Reason.FALLBACK_RETRY),
    ]
    assert decision is NOWHERE[Reason.NONE_LEFT]
    assert decide((), QUESTION, NOW, tried).reason is Reason.NONE_LEFT  # they have ended meanwhile


def test_the_third_attempt_takes_an_agent_that_was_not_tried() -> None:
    """An agent that loses its session again and again comes back as a new route each time."""
    first, second, third = (agent(name) for name in ("c1/a", "c1/a@2", "c1/a"))
    other, fallback = agent("c1/b", rtt_s=0.2), node("c1:n/x")
    assert name_of(second, fallback, tried=(first,)) == "c1/a@2"  # its next session, before a node agent
    assert name_of(third, fallback, tried=(first, second)) == "c1:n/x"
    assert name_of(third, other, tried=(first, second)) == "c1/b"
    assert name_of(third, fallback, tried=(first, other)) == "c1:n/x"
    assert name_of(third, tried=(first, second)) == "c1/a"  # better than nobody


def test_the_third_attempt_takes_a_node_agent_that_answers() -> None:
    """A process that was started anew has another instance, and looks like an agent that was not tried."""
    first, second, anew = agent("c1/a"), agent("c1/b"), agent("c1/c")
    assert name_of(second, node("n1"), tried=(first,)) == "c1/b"
    assert name_of(anew, node("n1"), tried=(first, second)) == "n1"
    assert name_of(anew, node("n1", unanswered_ping_at=97.0), tried=(first, second)) == "c1/c"
    assert name_of(anew, node("n1", eligible=False), tried=(first, second)) == "c1/c"


def test_a_session_with_an_old_unanswered_ping_is_never_chosen() -> None:
    assert name_of(agent("a", unanswered_ping_at=95.0)) is None
    assert is_dead(FakeLink("a", unanswered_ping_at=95.0), NOW)
    assert name_of(agent("a", unanswered_ping_at=95.1)) == "a"


def test_a_ping_that_is_late_for_a_near_agent_is_not_for_a_far_one() -> None:
    near = agent("near", unanswered_ping_at=99.4, rtt_s=0.05)
    assert name_of(near, agent("other", rtt_s=0.3)) == "other"
    assert name_of(agent("far", unanswered_ping_at=99.4, rtt_s=0.25), agent("other", rtt_s=0.3)) == "far"


def test_an_idle_tunnel_is_not_silent_but_a_change_takes_one_that_was_heard() -> None:
    idle, other = agent("idle", last_received_at=92.0, rtt_s=0.001), agent("other", rtt_s=0.2)
    assert name_of(idle, other) == "idle"
    assert name_of(idle, other, asked=CHANGE) == "other"
    assert name_of(idle, node("n1"), asked=CHANGE) == "idle"


def test_load_before_round_trip_and_the_way_before_company_for_keystrokes() -> None:
    assert name_of(agent("busy", queued_bytes=10**6, rtt_s=0.001), agent("free", rtt_s=0.2)) == "free"
    many, few = agent("many", streams=500, rtt_s=0.001), agent("few", streams=3, rtt_s=0.2)
    assert name_of(many, few) == "few"
    assert name_of(many, few, asked=Question(True, StreamClass.INTERACTIVE)) == "many"
    assert name_of(agent("far", rtt_s=0.2), agent("near"), agent("unknown", rtt_s=None)) == "near"


def test_a_hop_costs_more_than_company() -> None:
    own, other = agent("own", streams=100, rtt_s=0.2), agent("other", remote=True)
    assert name_of(own, other) == "own"
    assert name_of(other, agent("own", unanswered_ping_at=97.0)) == "other"


def test_one_decision_for_one_route_and_reason() -> None:
    only = agent("a")
    assert decide((only,), QUESTION, NOW) is only.only is decide((only,), CHANGE, NOW)
    assert only.only.field_line(1) == b"riata-route: cluster/61; reason=only\r\n"
    far = node("n1").chosen(Reason.FALLBACK_RETRY)
    assert far.field_line(2) == b"riata-route: node/n1; reason=fallback-retry; attempts=2\r\n"
    assert NOWHERE[Reason.NONE_LEFT].field_line(3) == b"riata-route: none; reason=none-left; attempts=3\r\n"


ages = st.one_of(st.none(), st.floats(0.0, 12.0))


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        is_node = draw(st.booleans())
        ping = draw(ages)
        link = FakeLink(
            f"r{number}",
            is_open=draw(st.booleans()) or draw(st.booleans()),
            may_open=draw(st.booleans()) or draw(st.booleans()),
            is_draining=draw(st.booleans()) and draw(st.booleans()),
            rtt_s=draw(st.one_of(st.none(), st.floats(0.0, 2.0))),
            last_received_at=NOW - draw(st.floats(0.0, 12.0)),
            streams=draw(st.integers(0, 200)),
            queued_bytes=draw(st.integers(0, 10**6)),
            unanswered_ping_at=None if ping is None else NOW - ping,
        )
        made.append(
            Candidate(
                cast(Route, link),
                "node" if is_node else "cluster",
                bytes([number]) * 16,
                f"n{number % 3}" if is_node else "",
                is_eligible=not is_node or draw(st.booleans()),
                is_control_plane=is_node and draw(st.booleans()),
                is_remote=draw(st.booleans()),
            )
        )
    return made


questions = st.builds(Question, st.booleans(), st.sampled_from(StreamClass))


def can(each: Candidate) -> bool:
    return each.is_eligible and each.route.may_open and not is_dead(each.route, NOW)


@given(candidates(), questions, st.sets(st.integers(0, 5)), st.randoms(use_true_random=False))
def test_whatever_there_is(everybody: list[Candidate], asked: Question, numbers: set[int], dice: object) -> None:
    tried = [each.route for number, each in enumerate(everybody) if number in numbers]
    decision = decide(everybody, asked, NOW, tried)
    left = [each for each in everybody if can(each) and each.route not in tried]
    if len(tried) >= ELSEWHERE_AFTER:
        names = {each.name for each in tried}
        left = [each for each in left if each.route.name not in names] or left
        left = [each for each in left if each.role == "node" and not is_late(each.route, NOW)] or left
    chosen = decision.candidate
    assert (chosen is None) == (not left)  # whoever can serve is found
    assert (decision.route is None) == (chosen is None)
    assert is_reachable(everybody, NOW) == (decide(everybody, asked, NOW).route is not None)
    assert decision.reason.role == (chosen.role if chosen is not None else "none")
    shuffled = list(everybody)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(shuffled, asked, NOW, tried) is decision
    if chosen is None:
        return
    assert chosen.is_eligible
    assert chosen.route not in tried
    ping = chosen.route.unanswered_ping_at
    assert ping is None or NOW - ping < PING_UNANSWERED_S
    if chosen.role == "node":  # never before a cluster agent that answers
        assert all(is_silent(each.route, NOW) for each in left if each.role == "cluster")
    if is_silent(chosen.route, NOW):  # never while anybody answers
        assert all(is_silent(each.route, NOW) for each in left)
    if any(each.role == "cluster" for each in left if not is_late(each.route, NOW) and not each.route.is_draining):
        assert not is_late(chosen.route, NOW)


@given(candidates(), questions, st.data())
def test_load_never_moves_the_fallback(everybody: list[Candidate], asked: Question, data: st.DataObject) -> None:
    before = decide(everybody, asked, NOW)
    for each in everybody:
        if each.role == "node":
            link = cast(FakeLink, each.route)
            link.streams, link.queued_bytes = data.draw(st.integers(0, 10**4)), data.draw(st.integers(0, 10**8))
    after = decide(everybody, asked, NOW)
    if before.reason.role == "node":
        assert after is before
