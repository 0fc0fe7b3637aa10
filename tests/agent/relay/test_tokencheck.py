"""agent/relay/tokencheck.py: what the API server says of the agent's own token."""

import pytest

from agent.counts import Counts
from agent.relay import tokencheck
from agent.relay.tokencheck import TokenCheck
from proto.errors import Code
from tests.agent.relay.stream import FakeCredential, FakePool, context
from tests.agent.waiting import until


def begun(told, *, ready=1):
    pool = FakePool()
    pool.ready = ready
    return pool, TokenCheck(context(pool, Counts(), FakeCredential()), b"Bearer t0", told)


@pytest.mark.parametrize(("status", "is_good"), [(200, True), (403, True), (404, True), (500, True), (401, False)])
async def test_only_401_is_a_refusal(status, is_good):
    told = []
    pool, _ = begun(told.append)
    answer = b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n" % status
    room = pool.made[0].get_buffer(-1)
    room[: len(answer)] = answer
    pool.made[0].buffer_updated(len(answer))
    assert told == [is_good]
    assert pool.idle == pool.made


async def test_without_a_connection_nothing_is_known():
    told = []
    _, check = begun(told.append, ready=0)
    check.on_no_connection(Code.DIAL_REFUSED, "nobody listens")
    assert told == [None]


async def test_an_api_server_that_says_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(tokencheck, "ANSWER_S", 0.0)
    told = []
    pool, _ = begun(told.append)
    await until(lambda: told)
    assert told == [None]
    assert pool.made[0]._transport.state == "aborted"


async def test_a_cancelled_one_tells_nobody():
    told = []
    pool, check = begun(told.append, ready=0)
    check.cancel()
    assert (told, pool.waiters) == ([], [])


async def test_on_a_connection_that_was_kept_for_too_long_it_is_asked_once_more():
    told = []
    pool, check = begun(told.append)
    check.on_failure(Code.UPSTREAM, "closed", got_bytes=False, is_way_gone=True)
    assert (told, pool.waiters) == ([], [check])
    check.on_failure(Code.UPSTREAM, "closed", got_bytes=False, is_way_gone=True)
    assert told == [None]
