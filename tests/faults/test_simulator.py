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
from tests.faults.simulator import figures_of, play_many
from tests.harness import tools

SECONDS = figures.number("SIMULATOR_SECONDS", 8)

pytestmark = [pytest.mark.timeout(180 + SECONDS)]


def test_no_seed_breaks_a_promise() -> None:
    first = figures.seed()
    played = play_many(first, 1_000_000, SECONDS)
    fates = played.fates
    figures.show("simulator", first, **figures_of(played))
    assert not played.failed, [(outcome.seed, outcome.broken) for outcome in played.failed]
    assert fates["GET whole"] > played.count
    assert fates["sessions superseded"] > 0, "no session was ever fenced: the faults are too mild"
    assert fates["POST 504"] + fates["PUT 504"] > 0, "no change was ever lost: the faults are too mild"
    assert fates["watch ended"] > 0, "no watch ever met a fault"
    assert fates["exec whole"] > fates["exec cut"] > 0


def test_a_seed_repeats_itself() -> None:
    assert play(7) == play(7)


ORDERED = (29, 54, 92, 95, 120, 128, 202)
"""Seeds in which several things happen at once: they went otherwise where a set of objects said in which order."""


def test_what_comes_of_a_superseded_session_is_dropped_and_counted() -> None:
    """One seed in twenty has some; that none has an effect is what every seed looks for."""
    assert any(play(seed).fates["late frames"] for seed in range(60, 300))


def fresh(*options: object, **environment: str) -> str:
    """What another process prints."""
    command = [sys.executable, "-m", "tests.faults.simulator", *map(str, options)]
    done = subprocess.run(
        command, cwd=tools.REPOSITORY, env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_seed_repeats_itself_in_another_process() -> None:
    """Behind other seeds, with other hashes, and one, the last, behind nothing."""
    seeds = (*range(13), *ORDERED)
    here = {str(seed): play(seed).trace for seed in seeds}
    printed = fresh("--seed", *reversed(seeds), PYTHONHASHSEED="1")
    assert dict(re.findall(r"^seed (\d+):.*?^  trace (\w+)$", printed, re.M | re.S)) == here


def test_seeds_in_several_processes_are_the_same_seeds() -> None:
    alone = play_many(3, 13, 60).fates
    printed = fresh("--seeds", 13, "--processes", 2, RIATA_FAULTS_SEED="3")
    assert "processes 2, seeds 13, failed 0, seeds per minute" in printed
    assert printed.rstrip().endswith(", ".join(f"{fate} {count}" for fate, count in sorted(alone.items())))


def is_caught(breach: str, seeds: int) -> bool:
    """Whether one of so many seeds finds this breach."""
    return any(breach in said for seed in range(seeds) for said in play(seed).broken)


def test_a_timer_that_is_left_behind_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    aclose = Relay.aclose

    async def close(self: Relay) -> None:
        await aclose(self)
        asyncio.get_running_loop().call_later(60, print)

    monkeypatch.setattr(Relay, "aclose", close)
    assert "timers left behind" in str(play(5).broken)


def test_a_hub_that_repeats_changes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "may_repeat", lambda *args, **kwargs: kwargs["attempts"] < 3)
    assert is_caught("was executed 2 times", 60)


def test_a_hub_that_takes_the_dead_for_alive_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liveness, "is_dead", lambda self, now, has_streams=False: False)
    assert is_caught("silent for", 10)


def test_a_hub_that_keeps_superseded_sessions_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    close = Link.close

    def keep(self: Link, code: Code, text: str = "", *, retry_s: float = 0.0) -> None:
        if code is not Code.SUPERSEDED:
            close(self, code, text, retry_s=retry_s)

    monkeypatch.setattr(Link, "close", keep)
    played = play_many(0, 24, 30)
    assert played.fates["sessions superseded"]
    assert any("was superseded" in text for outcome in played.failed for text in outcome.broken)


def test_a_hub_that_ends_a_watch_within_an_event_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonBoundary, "feed", lambda self, chunk: None)
    assert is_caught("a clean end within event", 60)


def test_a_hub_that_lets_a_cut_session_seem_ended_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Exchange._break

    def finish(self: Exchange, code: Code | None, reason: str, text: str) -> None:
        if self.is_opaque:
            self._finish("ok", is_reusable=False)
        else:
            broken(self, code, reason, text)

    monkeypatch.setattr(Exchange, "_break", finish)
    assert is_caught("and seems to have ended", 24)


def test_a_hub_that_forgets_deadlines_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Relay, "expire", lambda self, exchange: None)
    assert is_caught(" s of ", 100)  # one in twelve shows it


def test_a_hub_that_sends_bodies_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    add = replay.KeptBody.add

    def twice(self: replay.KeptBody, piece: bytes, *, was_sent: bool) -> None:
        add(self, piece, was_sent=was_sent)
        add(self, piece, was_sent=was_sent)

    monkeypatch.setattr(replay.KeptBody, "add", twice)
    assert is_caught("executed with a wrong body", 24)
