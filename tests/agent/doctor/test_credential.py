"""A trial changes nothing: no key is made, no join token is used."""

import asyncio

import pytest

from agent.doctor.credential import Trial
from agent.keys import KeyPair, KeyState, KeyUnusable
from agent.uplink import enrolment
from agent.uplink.diagnose import ConnectFailed
from proto.errors import Code
from tests.agent.uplink.test_enrolment import CLAIMS, HELLO, TOKEN, WELCOME, Agent, Store

PAIR = KeyPair(b"k" * 32, 1.0)


async def shown(agent):
    trial = Trial(agent.enrolment)
    await trial.prepare()
    try:
        return trial, trial.present(HELLO, CLAIMS)
    finally:
        assert trial.hello is HELLO
        assert agent.store.saves == 0


async def test_an_enrolled_key_signs(tmp_path):
    agent = Agent(tmp_path)
    agent.store.state = KeyState(PAIR, "uid-a")
    trial, credential = await shown(agent)
    assert credential.scheme == "signature"
    await trial.welcomed(WELCOME)
    assert trial.refused(Code.UNAUTHENTICATED), "there is a join token yet"
    assert trial.handlers(None, None) == {}
    assert trial.mark() is not None
    assert agent.store.saves == 0


async def test_a_join_token_is_left_alone(tmp_path):
    agent = Agent(tmp_path)
    agent.store.state = KeyState(PAIR)
    with pytest.raises(ConnectFailed) as caught:
        await shown(agent)
    assert caught.value.diagnosis.cause == "credential-not-joined"
    assert agent.file.read_bytes().strip() == TOKEN


@pytest.mark.parametrize(("token", "cause"), [(TOKEN, "credential-not-joined"), (b"", "credential-none")])
async def test_no_key_is_made(tmp_path, token, cause):
    """Before the first start a join token is enough; without either there is nothing to show."""
    with pytest.raises(ConnectFailed) as caught:
        await shown(Agent(tmp_path, token=token))
    assert caught.value.diagnosis.cause == cause


async def test_a_place_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(enrolment, "LOOK_S", 0.01)
    store = Store()
    store.load = asyncio.Event().wait
    with pytest.raises(ConnectFailed, match="the store does not answer") as caught:
        await shown(Agent(tmp_path, store))
    assert caught.value.diagnosis.cause == "credential-unread"


async def test_a_place_that_cannot_be_read(tmp_path):
    store = Store()
    store.fail = KeyUnusable("the Role does not allow it")
    with pytest.raises(ConnectFailed, match="the Role does not allow it"):
        await shown(Agent(tmp_path, store))
