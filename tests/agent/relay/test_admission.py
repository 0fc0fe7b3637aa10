"""Openings: what is refused costs one stream and never the session."""

import pytest

from agent.counts import Counts
from agent.relay.admission import Admission, SessionStreams
from agent.relay.exchange import Exchange
from agent.relay.upgrade import UpgradeExchange
from proto.messages import Command, HttpRequest, StreamClass, StreamKind, Subscription, TcpTarget
from tests.agent.relay.stream import IDENTITY, FakeCredential, FakePool, FakeStream, context

NORMAL = StreamClass.NORMAL


@pytest.fixture
def stream():
    return FakeStream()


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def admission(counts):
    return Admission(context(FakePool(), counts, FakeCredential()))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (StreamKind.TCP, TcpTarget(host="127.0.0.1", port=2379)),
        (StreamKind.TCP, TcpTarget(host="169.254.169.254", port=80)),
        (StreamKind.TCP, TcpTarget(host="kube.test", port=6443)),
        (StreamKind.CMD, Command(verb="etcd.restore")),
        (StreamKind.SUB, Subscription(topics=("events",))),
    ],
)
async def test_only_http_is_served(admission, stream, counts, kind, message):
    assert admission.on_open(stream, kind, NORMAL, message) is None
    assert stream.log == [("reset", "FORBIDDEN")]
    assert counts.by_refusal["kind"] == 1


async def test_what_the_policy_refuses_is_forbidden(admission, stream, counts):
    request = HttpRequest(method="GET", path=b"/api", headers=())
    assert admission.on_open(stream, StreamKind.HTTP, NORMAL, request) is None
    assert stream.log == [("reset", "FORBIDDEN")]
    assert counts.by_refusal["identity"] == 1
    assert counts.active == counts.requests == 0


async def test_a_bug_ends_the_stream_and_not_the_session(admission, stream, caplog):
    assert admission.on_open(stream, StreamKind.HTTP, NORMAL, HttpRequest(method="GET", path=None, headers=())) is None
    assert stream.log == [("reset", "INTERNAL")]
    assert "opening failed" in caplog.text


@pytest.mark.parametrize(("upgrade", "expected"), [("", Exchange), ("websocket", UpgradeExchange)])
async def test_what_passes_becomes_an_exchange(admission, stream, counts, upgrade, expected):
    request = HttpRequest(method="GET", path=b"/api", headers=IDENTITY, upgrade=upgrade)
    assert type(admission.on_open(stream, StreamKind.HTTP, NORMAL, request)) is expected
    assert counts.active == counts.requests == 1


async def test_a_node_agent_that_is_no_fallback_takes_nothing_whatever_the_hub_believes(stream, counts):
    admission = Admission(context(FakePool(), counts, FakeCredential()), serves=False)
    request = HttpRequest(method="GET", path=b"/api", headers=IDENTITY)
    assert admission.on_open(stream, StreamKind.HTTP, NORMAL, request) is None
    assert stream.log == [("reset", "REFUSED")]  # nothing was done: the hub may ask elsewhere
    assert counts.by_refusal["not-fallback"] == 1
    assert counts.active == counts.requests == 0


async def test_commands_of_a_session_have_their_own_server(admission, stream, counts):
    class Commands:
        def on_open(self, stream, message):
            stream.log.append(("command", message.verb))

    streams = SessionStreams(admission)
    streams.commands = Commands()
    assert streams.on_open(stream, StreamKind.CMD, NORMAL, Command(verb="prove")) is None
    assert streams.on_open(stream, StreamKind.TCP, NORMAL, TcpTarget(host="h", port=1)) is None
    assert stream.log == [("command", "prove"), ("reset", "FORBIDDEN")]
    assert counts.by_refusal["kind"] == 1
