"""hub/proxy/relay.py: the path of a request, and the books about it. No socket, no sleep."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from hub import errors
from hub.auth.bearer import Bearer
from hub.auth.grants import Access
from hub.auth.principal import Principal
from hub.edge.framing import Request
from hub.metrics import Metrics
from hub.proxy.exchange import Exchange
from hub.proxy.limits import ProxyLimits
from hub.proxy.relay import Authorizer, Relay, Routes
from proto import errors as wire
from proto.aio.busypoll import Leg
from proto.compression import Histories
from proto.errors import Code
from proto.messages import HttpHead, StreamClass
from proto.window import CROWDED_BYTES, Budget
from tests.harness.heard import Heard
from tests.harness.records import captured
from tests.hub.proxy.fakes import FakeFront, FakeLink, FakeRoutes, request

OK = HttpHead(status=200, headers=((b"content-length", b"2"),))


class World:
    """A relay between fakes. `alice` (token `good`) may use c1."""

    def __init__(
        self,
        *links: FakeLink,
        limits: ProxyLimits | None = None,
        budget: Budget | None = None,
        histories: Histories | None = None,
        clients: Leg | None = None,
    ) -> None:
        self.now = 1000.0
        self.routes = FakeRoutes(*links)
        self.metrics = Metrics()
        self.access_given: Access | None = Access("uid-c1", "c1", False, (), ())
        self.decisions = 0
        self.relay = Relay(
            authenticator=self,
            authorizer=cast(Authorizer, self),
            routes=cast(Routes, self.routes),
            metrics=self.metrics,
            now=lambda: self.now,
            limits=limits,
            budget=budget,
            histories=histories,
            clients=clients,
        )

    def authenticate(self, bearer: Bearer) -> Principal:
        if bearer.text == b"crash":
            raise RuntimeError("CANARY")
        if bearer.text != b"good":
            raise errors.Unauthenticated
        return Principal("alice", ("dev",), "tok", False, None)

    def access(self, principal: Principal, cluster_name: str) -> Access | None:
        self.decisions += 1
        return self.access_given if cluster_name == "c1" else None

    def begin(self, asked: Request | None = None) -> tuple[FakeFront, Exchange | None]:
        front = FakeFront()
        asked = asked or request()
        asked.received_at = self.now
        return front, self.relay.begin(front, asked)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"riata_hub_{name}", labels) or 0.0

    @property
    def routed(self) -> dict[tuple[str, str], float]:
        """Requests that were sent to an agent, by its role and why it; no zeros."""
        counted = self.metrics.registry.collect()
        samples = [each for family in counted for each in family.samples if each.name == "riata_hub_routed_total"]
        return {(each.labels["role"], each.labels["reason"]): each.value for each in samples if each.value}


def test_an_open_carries_what_the_cluster_needs_and_nothing_else() -> None:
    link = FakeLink()
    world = World(link)
    _, exchange = world.begin(request("POST /k8s/clusters/c1/api/v1/pods?x=1 HTTP/1.1", "Content-Length: 3", "X-A: b"))
    assert exchange is not None
    (message, owner, stream, cls, end) = link.opened[0]
    assert owner is exchange
    assert (message.method, message.path, message.upgrade) == ("POST", b"/api/v1/pods?x=1", "")
    assert dict(message.headers) == {
        b"impersonate-user": b"riata:alice",
        b"impersonate-group": b"riata:dev",
        b"impersonate-extra-riata.io%2frequest-id": exchange.request_id.encode(),
        b"content-length": b"3",
    }
    assert not end
    assert cls is StreamClass.NORMAL
    exchange.body(b"abc")
    exchange.body_complete()
    assert (stream.sent, stream.is_ended) == (b"abc", True)


def test_request_ids_are_unique() -> None:
    world = World(FakeLink())
    ids = {cast(Exchange, world.begin()[1]).request_id for _ in range(10)}
    assert len(ids) == 10


def finish(exchange: Exchange | None) -> None:
    assert exchange is not None
    exchange.head(OK)
    exchange.data(memoryview(b"ok"))
    exchange.end()


def test_one_line_and_one_count_a_request() -> None:
    with captured() as lines:
        world = World(FakeLink("c1/abc"))
        front, exchange = world.begin()
        assert world.count("requests_in_flight") == 1
        world.now += 0.5
        finish(exchange)
        assert exchange is not None
        exchange.gone()
    assert front.status == 200
    assert front.finished is True
    assert world.relay.live == 0
    assert world.count("requests_in_flight") == 0
    assert world.count("requests_total", cluster="c1", verb="list", code="200") == 1
    assert world.count("request_seconds_sum", verb="list") == 0.5
    (entry,) = lines
    assert entry["event"] == "request"
    expected = {
        "user": "alice", "cluster": "c1", "verb": "list", "method": "GET", "status": 200, "outcome": "ok",
        "path": "/k8s/clusters/c1/api/v1/pods", "bytes_in": 0, "bytes_out": 2, "seconds": 0.5, "route": "c1/abc",
        "token_id": "tok", "request_id": exchange.request_id, "route_reason": "only", "attempts": 1,
    }  # fmt: skip
    assert {name: entry[name] for name in expected} == expected


def test_a_line_says_as_whom_it_was() -> None:
    """The rights of a request that impersonates come from the groups; that one was refused is to be seen as well."""
    asked = ("Impersonate-User: bob", "Impersonate-Group: ops", "Impersonate-Group: dev", "Impersonate-Group: ops")
    with captured() as lines:
        world = World(FakeLink())
        world.access_given = Access("uid-c1", "c1", False, ("bob",), ("ops", "dev"))
        finish(world.begin(request("GET /k8s/clusters/c1/api HTTP/1.1", *asked))[1])
        world.begin(request("GET /k8s/clusters/c1/api HTTP/1.1", "Impersonate-User: root"))
        finish(world.begin()[1])
    seen = [{name: line.get(name) for name in ("impersonates", "as_user", "as_groups")} for line in lines]
    assert seen == [
        {"impersonates": True, "as_user": "riata:bob", "as_groups": ["riata:ops", "riata:dev"]},
        {"impersonates": True, "as_user": None, "as_groups": None},
        {"impersonates": None, "as_user": None, "as_groups": None},
    ]


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        (request(auth="bad"), 401, "unauthenticated"),
        (request("GET /k8s/clusters/c2/api HTTP/1.1"), 403, "forbidden"),
        (request("GET /k8s/clusters/C1/api HTTP/1.1"), 400, "malformed"),
        (request("GET /k8s/elsewhere HTTP/1.1"), 404, "not-found"),
        (request("POST /k8s/clusters/c1/api HTTP/1.1", "Content-Length: 99999999"), 413, "too-large"),
    ],
)
def test_refusals_end_at_once_and_are_counted(asked: Request, status: int, reason: str) -> None:
    link = FakeLink()
    world = World(link)
    front, exchange = world.begin(asked)
    assert exchange is None
    assert front.status == status
    assert front.finished is False
    assert link.opened == []
    assert world.count("refusals_total", reason=reason) == 1
    assert world.relay.live == 0


def test_a_bug_is_a_500_with_the_request_id_and_no_detail(caplog: pytest.LogCaptureFixture) -> None:
    world = World(FakeLink())
    front, exchange = world.begin(request(auth="crash"))
    assert exchange is None
    assert front.status == 500
    assert b"CANARY" not in front.written
    assert world.relay.live == 0
    assert "request failed" in caplog.text


def test_no_tunnel() -> None:
    world = World()
    front, _ = world.begin()
    assert front.status == 503
    assert b"retry-after" not in front.written
    assert front.finished is True
    world.routes.lost = world.now - 29
    front, _ = world.begin()
    assert b"retry-after: 1\r\n" in front.written
    world.routes.lost = world.now - 30
    front, _ = world.begin()
    assert b"retry-after" not in front.written


@pytest.mark.parametrize("error", [wire.SessionDraining(), wire.SessionLost()])
def test_a_link_that_takes_nothing_is_passed_over(error: Exception) -> None:
    first, second = FakeLink(), FakeLink()
    first.error = error
    world = World(first, second)
    _, exchange = world.begin()
    assert exchange is not None
    assert len(second.opened) == 1
    assert world.routed == {("cluster", "retry"): 1}


def test_each_request_that_is_sent_is_counted_with_its_role_and_why() -> None:
    agent, node = FakeLink(), FakeLink()
    world = World(agent, node)
    world.routes.nodes.add(node)
    for _ in range(2):
        finish(world.begin()[1])
    assert world.routed == {("cluster", "only"): 2}
    _, exchange = world.begin()
    assert exchange is not None
    exchange.reset(Code.SESSION_LOST, "gone")  # asked again elsewhere: the second time it is sent
    finish(exchange)
    assert world.routed == {("cluster", "only"): 3, ("node", "fallback-retry"): 1}
    agent.is_open = False
    finish(world.begin()[1])
    assert world.routed == {
        ("cluster", "only"): 3,
        ("node", "fallback-retry"): 1,
        ("node", "fallback-no-cluster-agent"): 1,
    }


def test_what_is_sent_nowhere_counts_as_no_route() -> None:
    world = World()
    world.begin()
    assert world.routed == {}


@pytest.mark.parametrize(("error", "status"), [(wire.TooManyStreams(), 429), (wire.MessageTooBig(), 431)])
def test_what_a_link_cannot_take(error: Exception, status: int) -> None:
    link = FakeLink()
    link.error = error
    front, _ = World(link).begin()
    assert front.status == status


def test_limits_are_released_whatever_the_end() -> None:
    world = World(FakeLink(), limits=ProxyLimits(per_user=1))
    for end in ("finish", "gone", "reset", "cut"):
        _front, exchange = world.begin()
        assert exchange is not None, end
        assert world.begin()[0].status == 429
        if end == "finish":
            finish(exchange)
        elif end == "gone":
            exchange.gone()
        elif end == "reset":
            exchange.reset(Code.UPSTREAM, "")
        else:
            assert world.relay.cut(token_id="tok") == 1
    assert world.relay.live == 0


def test_an_answer_that_nobody_reads_keeps_its_place() -> None:
    """Or a user could make the hub hold any number of finished answers."""
    world = World(FakeLink(), limits=ProxyLimits(per_user=1))
    front, exchange = world.begin()
    front.is_writable = False
    finish(exchange)
    assert front.finished
    assert world.relay.live == 0
    assert world.begin()[0].status == 429
    (told,) = front.drained
    told()
    assert world.begin()[1] is not None


def test_in_a_crowded_process_the_clients_connection_holds_little() -> None:
    budget = Budget(1 << 30)
    world = World(FakeLink(), budget=budget)
    assert not world.begin()[0].is_frugal
    budget.promised = CROWDED_BYTES
    assert world.begin()[0].is_frugal


def test_a_proxied_body_is_not_hurried_and_not_limited() -> None:
    world = World(FakeLink(), limits=ProxyLimits(body_bytes_max=10))
    line = "POST /k8s/clusters/c1/api/v1/namespaces/n/services/s/proxy/x HTTP/1.1"
    front, exchange = world.begin(request(line, "Content-Length: 1000"))
    assert exchange is not None
    assert front.is_unhurried
    front, _ = world.begin(request("POST /k8s/clusters/c1/api/v1/pods HTTP/1.1", "Content-Length: 10"))
    assert not front.is_unhurried


def test_no_agent_invents_a_label() -> None:
    world = World(FakeLink())
    _, exchange = world.begin()
    assert exchange is not None
    exchange.head(HttpHead(status=299, headers=((b"content-length", b"0"),)))
    exchange.end()
    assert world.count("requests_total", cluster="c1", verb="list", code="2xx") == 1


def test_what_the_cluster_did_not_answer_is_counted_apart_from_its_own_503() -> None:
    def unanswered() -> float:
        return world.count("requests_unanswered_total", cluster="c1")

    def asked(line: str = "GET /k8s/clusters/c1/api/v1/pods HTTP/1.1", *fields: str) -> Exchange:
        _, exchange = world.begin(request(line, *fields))
        assert exchange is not None
        return exchange

    world = World(FakeLink())
    of_a_pod = asked("GET /k8s/clusters/c1/api/v1/namespaces/n/pods/p/proxy/ HTTP/1.1")
    of_a_pod.head(HttpHead(status=503, headers=((b"content-length", b"0"),)))
    of_a_pod.end()
    upgrade = (
        "POST /k8s/clusters/c1/api/v1/namespaces/n/pods/p/exec HTTP/1.1",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
    )
    redirected = asked(*upgrade)
    redirected.head(HttpHead(status=302, headers=((b"content-length", b"0"),)))
    asked().reset(Code.FORBIDDEN, "")
    assert (redirected.code, unanswered()) == (503, 0)
    asked().reset(Code.DIAL_REFUSED, "")
    assert unanswered() == 1
    asked().give_up(Code.IDLE)
    assert unanswered() == 2
    world.routes.links.clear()
    world.begin()
    assert unanswered() == 3
    world.begin(request("GET /k8s/clusters/c2/api HTTP/1.1"))
    assert world.metrics.render().count(b"riata_hub_requests_unanswered_total{") == 1


def test_who_leaves_too_many_requests_is_told_to_wait() -> None:
    world = World(FakeLink(), limits=ProxyLimits(cancelled_burst=2, cancelled_per_s=1.0))
    for _ in range(2):
        exchange = world.begin()[1]
        assert exchange is not None
        exchange.gone()
    front, exchange = world.begin()
    assert exchange is None
    assert front.status == 429
    assert b"retry-after: " in front.written
    world.now += 1.0
    finish(world.begin()[1])


def test_a_body_that_ends_its_request_early_counts_like_a_client_that_left() -> None:
    """The agent hears a RESET all the same, and bears only so many for all users."""
    link = FakeLink()
    limits = ProxyLimits(cancelled_burst=3, cancelled_per_s=1e-9, body_bytes_max=4)
    world = World(link, limits=limits)
    post = "POST /k8s/clusters/c1/api/v1/pods HTTP/1.1", "Transfer-Encoding: chunked"

    def begin() -> Exchange:
        exchange = world.begin(request(*post))[1]
        assert exchange is not None
        return exchange

    begin().body_failed(errors.BadRequest("a chunk size is malformed"))
    begin().body(b"12345")
    answered = begin()
    answered.head(HttpHead(status=403, headers=()))
    answered.end()
    assert [stream.code for _, _, stream, _, _ in link.opened] == [Code.CANCELLED] * 3
    front, exchange = world.begin(request(*post))
    assert (front.status, exchange) == (429, None)


def test_a_refused_upgrade_breaks_nothing_off() -> None:
    link = FakeLink()
    world = World(link, limits=ProxyLimits(cancelled_burst=1, cancelled_per_s=1e-9))
    exec_ = "POST /k8s/clusters/c1/api/v1/namespaces/d/pods/p/exec HTTP/1.1", "Connection: Upgrade", "Upgrade: SPDY/3.1"
    for _ in range(3):
        front, exchange = world.begin(request(*exec_))
        assert exchange is not None
        exchange.head(HttpHead(status=403, headers=((b"content-length", b"0"),)))
        exchange.end()
        assert (front.status, front.finished) == (403, False)
    assert [(stream.code, stream.is_ended) for _, _, stream, _, _ in link.opened] == [(None, True)] * 3


def test_the_clients_leg_hears_of_requests_and_answers() -> None:
    clients = Heard()
    finish(World(FakeLink(), clients=clients).begin()[1])
    assert clients.log == [("arrived", 0), ("sent", 2)]


def test_a_cut_mutation_that_may_have_arrived_is_not_called_undelivered() -> None:
    """P2: its client must not take it for one that had no effect."""
    link = FakeLink()
    world = World(link)
    front, _ = world.begin(request("DELETE /k8s/clusters/c1/api/v1/namespaces/n/pods/p HTTP/1.1"))
    world.relay.cut(token_id="tok")
    assert front.status == 504
    assert b"outcome unknown" in front.written
    assert b"retry-after" not in front.written
    front, _ = world.begin(request("DELETE /k8s/clusters/c1/api/v1/namespaces/n/pods/p HTTP/1.1"))
    link.opened[-1][2].was_sent = False
    world.relay.cut(token_id="tok")
    assert front.status == 401


def test_an_upgrade_is_not_repeated_though_it_is_a_get() -> None:
    first, second = FakeLink(), FakeLink()
    world = World(first, second)
    exec_line = "GET /k8s/clusters/c1/api/v1/namespaces/d/pods/p/%65xec?command=ls HTTP/1.1"
    front, exchange = world.begin(request(exec_line, "Connection: Upgrade", "Upgrade: SPDY/3.1"))
    assert exchange is not None
    exchange.reset(Code.SESSION_LOST, "")
    assert second.opened == []
    assert front.status == 504


def test_cut_by_token_cluster_and_user() -> None:
    """It is told which right has ended, not that a cluster was lost that is there."""
    world = World(FakeLink())
    for key, answered in (({"token_id": "tok"}, 401), ({"cluster_uid": "uid-c1"}, 403), ({"user": "alice"}, 403)):
        front, _ = world.begin()
        assert world.relay.cut(token_id="other", cluster_uid="other", user="other") == 0
        assert world.relay.cut(**key) == 1
        assert front.status == answered
        assert b"lost" not in front.written
        assert b"retry-after" not in front.written
    assert world.count("refusals_total", reason="forbidden") == 2  # the hub has said so
    assert world.relay.cut() == 0


def test_recheck_compares_with_the_rights_it_was_begun_with() -> None:
    world = World(FakeLink())
    world.access_given = Access("uid-c1", "c1", True, ("bob",), ())
    world.begin()
    world.begin(request("GET /k8s/clusters/c1/api HTTP/1.1", "Impersonate-User: bob"))
    assert world.relay.recheck() == 0
    world.access_given = Access("uid-c1", "c1", False, ("bob",), ())
    assert world.relay.recheck() == 1
    world.access_given = Access("uid-c1", "c1", False, (), ())
    assert world.relay.recheck() == 1
    world.begin()
    world.access_given = Access("uid-of-a-new-c1", "c1", False, (), ())
    assert world.relay.recheck() == 1
    assert world.relay.live == 0


def test_recheck_decides_anew_about_the_cluster_of_the_grant_alone() -> None:
    """A deleted cluster has a hundred grants, its hub ten thousand exchanges."""
    world = World(FakeLink())
    fronts = [world.begin()[0] for _ in range(3)]
    world.access_given = None
    world.decisions = 0
    assert world.relay.recheck("uid-other") == 0
    assert world.decisions == 0
    assert world.relay.recheck("uid-c1") == world.decisions == 3
    assert {front.status for front in fronts} == {403}


async def test_a_silent_session_is_probed() -> None:
    link = FakeLink()
    world = World(link, limits=ProxyLimits(sweep_interval_s=0.0))
    world.relay.start()
    try:
        _, exchange = world.begin()
        link.last_received_at = world.now
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert link.probes == 0
        world.now += 1.1
        for _ in range(3):
            await asyncio.sleep(0)
        assert link.probes >= 1
        link.unanswered_ping_at = world.now
        probes = link.probes
        await asyncio.sleep(0)
        assert link.probes == probes
        finish(exchange)
    finally:
        await world.relay.aclose()


def test_edge_refusals_are_counted_too() -> None:
    world = World()
    assert world.relay.refused("1.2.3.4:5", errors.BadRequest(), None)
    world.relay.refused("1.2.3.4:5", errors.RequestTimeout(), None)
    assert world.count("refusals_total", reason="malformed") == 1
    assert world.count("refusals_total", reason="slow") == 1
