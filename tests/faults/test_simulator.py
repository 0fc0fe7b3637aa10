"""Below the sockets: no seed breaks a promise, a seed repeats itself, and a hub that is wrong is caught."""

import asyncio
import os
import re
import subprocess
import sys

import pytest

from hub.proxy import replay
from hub.proxy.events import JsonBoundary
from hub.proxy.exchange import Exchange
from hub.proxy.relay import Relay
from proto.aio.link import Link
from proto.errors import Code
from proto.liveness import Liveness
from tests.faults import figures
from tests.faults.sim.seeds import play
from tests.faults.simulator import play_many
from tests.harness import tools

SECONDS = figures.number("SIMULATOR_SECONDS", 8)

pytestmark = [pytest.mark.timeout(180 + SECONDS)]


def test_no_seed_breaks_a_promise() -> None:
    first = figures.seed()
    played, fates, failed = play_many(first, 1_000_000, SECONDS)
    figures.show("simulator", first, seeds=played, failed=len(failed), **fates)
    assert not failed, [(outcome.seed, outcome.broken) for outcome in failed]
    assert fates["GET whole"] > played
    assert fates["sessions superseded"] > 0, "no session was ever fenced: the faults are too mild"
    assert fates["POST 504"] + fates["PUT 504"] > 0, "no change was ever lost: the faults are too mild"
    assert fates["watch ended"] > 0, "no watch ever met a fault"
    assert fates["exec whole"] > fates["exec cut"] > 0


def test_a_seed_repeats_itself() -> None:
    assert play(7) == play(7)


ORDERED = (29, 54, 92, 95, 120, 128, 202)
"""Seeds in which several things happen at once: they went otherwise where a set of objects said in which order."""


def fresh(*seeds: int, hashes: int) -> dict[int, str]:
    """The traces that another process prints."""
    command = [sys.executable, "-m", "tests.faults.simulator", "--seed", *map(str, seeds)]
    environment = os.environ | {"PYTHONHASHSEED": str(hashes)}
    done = subprocess.run(
        command, cwd=tools.REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    return {int(seed): trace for seed, trace in re.findall(r"^seed (\d+):.*?^  trace (\w+)$", done.stdout, re.M | re.S)}


def test_a_seed_repeats_itself_in_another_process() -> None:
    seeds = (*range(13), *ORDERED)
    here = {seed: play(seed).trace for seed in seeds}
    assert fresh(*reversed(seeds), hashes=1) == here
    assert fresh(92, hashes=2) == {92: here[92]}


def test_a_timer_that_is_left_behind_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    aclose = Relay.aclose

    async def close(self: Relay) -> None:
        await aclose(self)
        asyncio.get_running_loop().call_later(60, print)

    monkeypatch.setattr(Relay, "aclose", close)
    _, _, failed = play_many(5, 1, 30)
    assert [outcome.seed for outcome in failed if "timers left behind" in str(outcome.broken)] == [5]


def test_a_hub_that_repeats_changes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "may_repeat", lambda *args, **kwargs: kwargs["attempts"] < 3)
    _, _, failed = play_many(0, 60, 30)
    assert any("was executed 2 times" in text for outcome in failed for text in outcome.broken)


def test_a_hub_that_takes_the_dead_for_alive_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liveness, "is_dead", lambda self, now, has_streams=False: False)
    _, _, failed = play_many(0, 10, 30)
    assert any("silent for" in text for outcome in failed for text in outcome.broken)


def test_a_hub_that_keeps_superseded_sessions_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    close = Link.close

    def keep(self: Link, code: Code, text: str = "", *, retry_s: float = 0.0) -> None:
        if code is not Code.SUPERSEDED:
            close(self, code, text, retry_s=retry_s)

    monkeypatch.setattr(Link, "close", keep)
    _, fates, failed = play_many(0, 24, 30)
    assert fates["sessions superseded"]
    assert any("was superseded" in text for outcome in failed for text in outcome.broken)


def test_a_hub_that_ends_a_watch_within_an_event_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonBoundary, "feed", lambda self, chunk: None)
    _, _, failed = play_many(0, 60, 30)
    assert any("a clean end within event" in text for outcome in failed for text in outcome.broken)


def test_a_hub_that_lets_a_cut_session_seem_ended_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Exchange._break

    def finish(self: Exchange, code: Code | None, reason: str, text: str) -> None:
        if self.is_opaque:
            self._finish("ok", is_reusable=False)
        else:
            broken(self, code, reason, text)

    monkeypatch.setattr(Exchange, "_break", finish)
    _, _, failed = play_many(0, 24, 30)
    assert any("and seems to have ended" in text for outcome in failed for text in outcome.broken)


def test_a_hub_that_forgets_deadlines_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Relay, "expire", lambda self, exchange: None)
    _, _, failed = play_many(0, 100, 60)  # one in twelve shows it
    assert any(" s of " in text for outcome in failed for text in outcome.broken)


def test_a_hub_that_sends_bodies_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    add = replay.KeptBody.add

    def twice(self: replay.KeptBody, piece: bytes, *, was_sent: bool) -> None:
        add(self, piece, was_sent=was_sent)
        add(self, piece, was_sent=was_sent)

    monkeypatch.setattr(replay.KeptBody, "add", twice)
    _, _, failed = play_many(0, 24, 30)
    assert any("executed with a wrong body" in text for outcome in failed for text in outcome.broken)
