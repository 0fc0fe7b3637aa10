"""Reconnecting: when, how often, and never twice."""

import asyncio
import contextlib
import logging
import random

import pytest

from agent.counts import Counts
from agent.uplink.connect import LOOK_INTERVAL, STABLE, Uplink
from agent.uplink.credentials import Claims, Proven
from agent.uplink.diagnose import ConnectFailed, Diagnosis, Step
from agent.uplink.session import Opened
from proto import limits
from proto.aio.link import Link
from proto.aio.tasks import TaskGroup
from proto.aio.transport import pipe
from proto.errors import Code
from proto.handshake import Negotiated
from proto.messages import HubHello, Welcome
from proto.session import Role, Session
from tests.agent.waiting import until


class Clock:
    """Time that passes only in `sleep`."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Full(random.Random):
    """Full jitter at its ceiling."""

    def random(self):
        return 1.0

    def uniform(self, a, b):
        return b


class Credential:
    def __init__(self):
        self.value = 1

    def mark(self):
        return self.value

    def handlers(self, link, proven):
        return {}

    async def tend(self, link, proven):
        await asyncio.Event().wait()


class Admission:
    def on_open(self, stream, kind, cls, message):
        stream.reset(Code.FORBIDDEN)


class Opener:
    """Fails with what `plan` holds; an empty plan opens sessions with a hub's link at the far end."""

    def __init__(self, group):
        self.plan = []
        self.group = group
        self.attempts = 0
        self.hubs = []
        self.opened = asyncio.Event()

    async def open(self):
        self.attempts += 1
        await asyncio.sleep(0)
        if self.plan:
            step = self.plan.pop(0)
            if isinstance(step, Diagnosis):
                raise ConnectFailed(step)
            if isinstance(step, Exception):
                raise step
            await step
        agreed = Negotiated(1, limits.Limits().offer())
        ours, theirs = pipe()
        hub = Link(Session(Role.HUB, agreed), theirs, on_open=lambda *_: None, name="hub")
        self.group.spawn(hub.run(), name="hub")
        self.hubs.append(hub)
        self.opened.set()
        welcome = Welcome(session_id=f"s-{len(self.hubs)}", version=1, limits=agreed.limits, cluster="alpha")
        hello = HubHello(hub_id="hub-1", nonce=b"n" * 32, versions=(1, 1), limits=agreed.limits)
        return Opened(
            Session(Role.AGENT, agreed), ours, welcome, Proven(hello, Claims("cluster", b"i" * 16, 1, ("pin",)))
        )


class Scene:
    def __init__(self, group):
        self.clock = Clock()
        self.opener = Opener(group)
        self.counts = Counts()
        self.credential = Credential()
        self.uplink = Uplink(
            self.opener,
            self.credential,
            Admission(),
            self.counts,
            jitter=Full(),
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        self.running = group.spawn(self.uplink.run(), name="uplink")

    async def sessions(self, count):
        await until(lambda: len(self.opener.hubs) >= count and self.counts.sessions >= count)
        return self.opener.hubs[-1]


@contextlib.asynccontextmanager
async def scene(*plan):
    async with TaskGroup("test") as group:
        it = Scene(group)
        it.opener.plan.extend(plan)
        yield it
        it.running.cancel()


DOWN = Diagnosis(Step.TCP, "refused", "start it")
SLOW = Diagnosis(Step.CREDENTIAL, "revoked", "new token", is_slow=True)


async def test_delays_follow_the_outage():
    async with scene(*[DOWN] * 12) as it:
        await it.sessions(1)
        assert it.clock.slept[0] == 0.5
        assert it.clock.slept == sorted(it.clock.slept)
        assert max(it.clock.slept) <= 30
        assert it.counts.by_failed_step["tcp"] == 12
        assert it.uplink.state.is_connected
        assert it.counts.is_connected


async def test_long_outages_end_with_attempts_every_half_minute():
    async with scene(*[DOWN] * 60) as it:
        await it.sessions(1)
        assert it.clock.slept[-1] == 30.0


async def test_the_hubs_wish_is_honoured():
    async with scene(Diagnosis(Step.HTTP, "busy", "wait", retry_s=17.0)) as it:
        await it.sessions(1)
        assert it.clock.slept == [17.5]


async def test_a_refused_credential_is_tried_slowly():
    async with scene(SLOW, SLOW) as it:
        await it.sessions(1)
        assert sum(it.clock.slept) == 120
        assert max(it.clock.slept) == LOOK_INTERVAL


async def test_a_new_credential_ends_the_slow_wait():
    async with scene(SLOW) as it:
        await until(lambda: it.clock.slept, turns=0)
        it.credential.value = 2
        await it.sessions(1)
        assert sum(it.clock.slept) <= 2 * LOOK_INTERVAL


async def test_a_hub_that_accepts_and_drops_is_not_hammered():
    async with scene() as it:
        for number in range(1, 40):
            hub = await it.sessions(number)
            hub.close(Code.NONE)
        await it.sessions(40)
        assert it.clock.slept[-1] > 5 * it.clock.slept[0]


async def test_after_a_stable_session_the_delays_are_short_again():
    async with scene(*[DOWN] * 20) as it:
        hub = await it.sessions(1)
        it.clock.now += STABLE
        it.clock.slept.clear()
        hub.close(Code.NONE)
        await it.sessions(2)
        assert it.clock.slept == [0.5]


async def test_a_hub_that_went_away_in_order_is_soon_tried_again_however_short_the_session_was():
    async with scene(*[DOWN] * 20) as it:
        hub = await it.sessions(1)
        it.clock.slept.clear()
        hub.send_drain(30.0)
        await it.sessions(2)
        assert it.clock.slept == [0.5]


async def test_a_drain_with_a_wish():
    async with scene() as it:
        old = await it.sessions(1)
        old.send_drain(30.0, retry_s=12.0)
        await it.sessions(2)
        assert it.clock.slept == [12.5]
        assert it.opener.attempts == 2
        assert old.is_open  # and goes on beside the new one


async def test_a_hub_that_drains_and_ends_at_once_is_dialled_again_when_it_asked_for():
    async with scene() as it:
        old = await it.sessions(1)
        old.send_drain(0.0, retry_s=12.0)  # as hub.tunnel.registry does when the hub ends
        await it.sessions(2)
        assert it.clock.slept == [12.5]


async def test_a_goodbye_with_a_wish():
    async with scene() as it:
        hub = await it.sessions(1)
        hub.close(Code.CLOSED, retry_s=12.0)
        await it.sessions(2)
        assert it.clock.slept == [12.5]


async def test_a_drain_opens_the_replacement_while_the_old_session_goes_on():
    async with scene() as it:
        old = await it.sessions(1)
        old.send_drain(30.0)
        new = await it.sessions(2)
        assert new is not old
        assert old.is_open
        assert it.counts.is_connected
        old.close(Code.DRAINING)
        await until(lambda: len(it.uplink._links) == 1)
        assert it.counts.is_connected
        assert it.opener.attempts == 2


async def test_readiness_follows_the_session():
    async with scene() as it:
        hub = await it.sessions(1)
        assert it.uplink.state.text == "connected"
        it.opener.plan.extend([DOWN, asyncio.Event().wait()])
        hub.close(Code.NONE)
        await until(lambda: not it.uplink.state.is_connected and not it.opener.plan)
        assert not it.counts.is_connected
        assert it.uplink.state.text == "refused. start it"


async def test_an_unchanged_diagnosis_is_logged_once_a_minute(caplog):
    caplog.set_level(logging.WARNING)
    async with scene(*[DOWN] * 10) as it:
        await it.sessions(1)
    said = [record for record in caplog.records if record.message == "cannot connect to the hub"]
    assert len(said) == 1
    assert said[0].cure == "start it"


async def test_what_nobody_foresaw_is_told_and_tried_again(caplog):
    """The agent's end would be a crash loop that says nothing at the hub."""
    unforeseen = LookupError("with a s3cret")
    async with scene(unforeseen, unforeseen) as it:
        await it.sessions(1)
        assert (it.opener.attempts, it.counts.by_failed_step["session"]) == (3, 2)
        assert all(delay > 0 for delay in it.clock.slept)
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert [record.exc_info[1] for record in tracebacks] == [unforeseen]  # not with each attempt, for hours
    said = [record.what for record in caplog.records if record.message == "cannot connect to the hub"]
    assert ["LookupError" in what and "s3cret" not in what for what in said] == [True]


async def test_draining_says_goodbye_to_the_hub():
    async with scene() as it:
        hub = await it.sessions(1)
        await it.uplink.drain(1.0)
        await until(lambda: not hub.is_open)
        assert hub.end_reason.code is Code.CLOSED


@pytest.mark.parametrize("is_dialling", [False, True])
async def test_who_leaves_opens_no_session_more(is_dialling):
    """Hub and agents are rolled out at once: the hub would send requests over the new session, and they be cut."""
    async with scene() as it:
        old = await it.sessions(1)
        answered = asyncio.Event()
        it.opener.plan.append(answered.wait())
        if is_dialling:
            old.send_drain(30.0)
            await until(lambda: it.opener.attempts == 2)
        await it.uplink.drain(1.0)
        await until(lambda: not old.is_open)
        answered.set()
        await until(lambda: len(it.opener.hubs) == 1 + is_dialling)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (it.opener.attempts, it.counts.sessions) == (1 + is_dialling, 1)
        assert not any(hub.is_open for hub in it.opener.hubs)
        assert not it.running.done()
        for left in it.opener.plan:
            left.close()


async def test_who_leaves_tries_no_more():
    """The hub is away while it is rolled out; once it is back it would take the attempt for an agent that serves."""
    async with scene() as it:
        old = await it.sessions(1)
        away, told = asyncio.Event(), asyncio.Event()

        async def fails():
            told.set()
            await away.wait()
            raise ConnectFailed(DOWN)

        it.opener.plan.append(fails())
        old.send_drain(30.0)
        await told.wait()
        await it.uplink.drain(1.0)
        away.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (it.opener.attempts, len(it.opener.hubs)) == (2, 1)
        assert not it.running.done()


async def test_cancelling_leaves_nothing():
    async with TaskGroup("test") as group:
        it = Scene(group)
        hub = await it.sessions(1)
        it.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await it.running
        await until(lambda: not hub.is_open)
