"""agent/relay/renewal.py: how long a credential that is being renewed is waited for, and by an exchange."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from agent.relay import renewal as module
from agent.relay.renewal import Renewal, renewed
from proto.errors import Code
from tests.agent.relay.stream import Conversation, FakeCredential
from tests.agent.relay.test_exchange_refused import OK, UNAUTHORIZED
from tests.agent.waiting import until


@pytest.fixture
def credential():
    """One whose newer value takes its time."""
    it = FakeCredential()
    it.renewal = Future()
    return it


def begun(credential, told):
    it = Renewal(lambda: told.append(threading.current_thread()))
    it.begin(credential)
    return it


async def test_where_there_is_nothing_to_wait_for_it_is_told_at_once():
    told = []
    begun(FakeCredential(), told)
    assert len(told) == 1


async def test_it_is_told_by_the_event_loop_when_the_new_one_is_here(credential):
    told = []
    begun(credential, told)
    assert (told, credential.reads) == ([], 1)
    thread = threading.Thread(target=credential.renewal.set_result, args=(None,))
    thread.start()
    thread.join()
    assert told == []
    await until(lambda: told)
    assert told == [threading.main_thread()]


async def test_it_waits_no_longer_than_its_time(credential, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    told = []
    begun(credential, told)
    await until(lambda: told)
    credential.renewal.set_result(None)
    await asyncio.sleep(0)
    assert len(told) == 1


async def test_a_cancelled_one_tells_nobody(credential):
    told = []
    begun(credential, told).cancel()
    credential.renewal.set_result(None)
    await asyncio.sleep(0)
    assert told == []


def test_a_plugin_may_outlive_the_event_loop(credential, caplog):
    async def begin():
        begun(credential, [])

    asyncio.run(begin())
    credential.renewal.set_result(None)
    assert caplog.text == ""


async def test_who_can_wait_waits(credential):
    asyncio.get_running_loop().call_soon(credential.renewal.set_result, None)
    await renewed(credential)
    assert credential.renewal.done()
    await renewed(FakeCredential())


async def test_the_repeat_waits_for_a_token_that_is_being_fetched():
    talk = Conversation("DELETE")
    talk.credential.renewal = Future()
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    assert (len(talk.pool.asked), talk.stream.log) == (1, ["accept"])
    talk.credential.renewal.set_result(None)
    await until(lambda: len(talk.pool.asked) == 2)
    assert b"authorization: Bearer t1\r\n" in talk.written
    talk.answer(OK)
    assert talk.stream.log == ["accept", ("head", 200, False), "end"]


async def test_who_goes_meanwhile_is_not_repeated():
    talk = Conversation()
    talk.credential.renewal = Future()
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    talk.exchange.reset(Code.CANCELLED, "")
    talk.credential.renewal.set_result(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert (len(talk.pool.asked), talk.counts.active) == (1, 0)
