"""When the pool is asked for a connection that nobody waits for."""

import asyncio

import pytest

from agent.relay.spare import PROVEN_S, TAKEN_S, Spare
from proto.backoff import FLOOR_S, Backoff


class Clock:
    """The loop's timers, run by hand: what was asked for, and when."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        self.timers = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", self.call_later, raising=False)
        monkeypatch.setattr("agent.relay.spare.time.monotonic", lambda: self.now)

    def call_later(self, delay, callback):
        handle = asyncio.TimerHandle(self.now + delay, callback, (), asyncio.get_running_loop())
        self.timers.append((delay, callback, handle))
        return handle

    def run(self):
        """The delay of the next timer, after it ran; None when there is none."""
        while self.timers:
            delay, callback, handle = self.timers.pop(0)
            if not handle.cancelled():
                self.now += delay
                callback()
                return delay
        return None


@pytest.fixture
async def clock(monkeypatch):
    return Clock(monkeypatch)


def spare_of(dials):
    return Spare(lambda: dials.append(True), Backoff(lambda: 1.0))


async def test_the_first_one_is_dialed_at_once(clock):
    dials = []
    spare = spare_of(dials)
    spare.begin()
    assert spare.is_due
    assert clock.run() == 0.0
    assert (dials, spare.is_due) == ([True], False)


async def test_a_request_has_a_second_to_give_its_connection_back_and_however_many_ask_for_one(clock):
    dials = []
    spare = spare_of(dials)
    for _ in range(3):
        spare.taken()
    assert clock.run() == TAKEN_S
    assert clock.run() is None
    assert dials == [True]


async def test_who_closes_what_is_idle_is_asked_less_and_less_often(clock):
    spare = spare_of([])
    delays = []
    for _ in range(40):
        spare.lost(0.1)
        delays.append(clock.run())
    assert delays[0] == FLOOR_S
    assert delays == sorted(delays)
    assert delays[-1] == 30.0


async def test_a_connection_that_lived_ends_the_distrust_and_one_that_was_used_does_not(clock):
    spare = spare_of([])
    for _ in range(40):
        spare.failed()
        clock.run()
    spare.lost(PROVEN_S)
    assert clock.run() == FLOOR_S
    for _ in range(40):
        spare.failed()
        clock.run()
    spare.taken()
    clock.run()
    spare.lost(0.1)
    assert clock.run() == 30.0


async def test_behind_a_request_the_pause_of_an_outage_is_over(clock):
    dials = []
    spare = spare_of(dials)
    for _ in range(40):
        spare.failed()
        clock.run()
    dials.clear()
    spare.failed()
    spare.taken()
    spare.failed()
    assert clock.run() == TAKEN_S
    assert clock.run() is None
    assert dials == [True]


async def test_closed_it_asks_for_nothing(clock):
    dials = []
    spare = spare_of(dials)
    spare.taken()
    spare.close()
    spare.lost(0.1)
    assert clock.run() is None
    assert dials == []
