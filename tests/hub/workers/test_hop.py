"""hub/workers/hop.py: a tunnel of another worker, as the request path sees it."""

from __future__ import annotations

import asyncio
import errno

import pytest

from hub.workers import hop as hops
from proto import errors as wire
from proto.messages import HttpHead
from proto.window import CROWDED_BYTES
from tests.hub.workers.fakes import GET, POST, until
from tests.hub.workers.tworig import Rig


async def test_requests_share_one_session(rig: Rig) -> None:
    owner, stream = await rig.asked()
    assert rig.link.opened == [(GET, True)]
    assert stream.owner is not None
    stream.owner.head(HttpHead(status=200, headers=()))
    stream.owner.data(memoryview(b"x" * 300_000))
    stream.owner.end()
    await until(lambda: owner.told[-1:] == ["end"])
    assert owner.told[0] == 200
    assert b"".join(part for part in owner.told if isinstance(part, bytes)) == b"x" * 300_000
    await rig.asked(POST)
    assert rig.pairs == 1
    assert rig.hop.streams == 1
    assert len(rig.host) == 1


async def test_a_change_waits_for_a_sign_of_life_and_a_recent_one_will_do(rig: Rig) -> None:
    heard: list[bool] = []
    rig.time += 1.5
    rig.hop.probe(heard.append)
    await until(lambda: heard)
    assert heard == [True]
    assert not rig.link.probes  # heard 1.5 s ago
    assert rig.hop.last_received_at == pytest.approx(100.0, abs=0.01)
    assert rig.hop.rtt_s == 0.02
    rig.time += 1.5
    rig.hop.probe(heard.append)
    assert rig.hop.unanswered_ping_at == rig.time
    await until(lambda: rig.link.probes)
    await asyncio.sleep(0.02)
    assert heard == [True]  # not before the agent answered
    rig.link.last_received_at = rig.time
    rig.link.probes.pop()(True)
    await until(lambda: len(heard) == 2)
    assert heard == [True, True]
    assert rig.hop.unanswered_ping_at is None
    assert rig.hop.last_received_at == rig.time


async def test_who_waits_for_an_answer_wants_a_new_sign(rig: Rig) -> None:
    await rig.asked()
    rig.hop.probe()
    await until(lambda: rig.link.probes)
    assert rig.hop.unanswered_ping_at == rig.time


async def test_waiting_ends_with_the_tunnel(rig: Rig) -> None:
    heard: list[bool] = []
    rig.time += 10
    rig.hop.probe(heard.append)
    await until(lambda: rig.link.probes)
    rig.end_tunnel()
    await until(lambda: heard)
    assert heard == [False]
    rig.remote.is_open = False
    rig.hop.probe(heard.append)
    assert heard == [False, False]


async def test_the_owners_word_that_the_tunnel_has_ended_is_enough(rig: Rig) -> None:
    """The main process passes the news on later; until then requests would be sent to the owner in vain."""
    owner, _ = await rig.asked()
    rig.end_tunnel()
    await until(lambda: owner.told)
    await until(lambda: not rig.hop.is_open)
    with pytest.raises(wire.SessionLost):
        rig.ask()
    assert not rig.hop.may_open
    assert rig.pairs == 1


async def test_a_hop_that_breaks_says_nothing_of_the_tunnel(rig: Rig) -> None:
    owner, _ = await rig.asked()
    await rig.host.aclose()
    await until(lambda: owner.told)
    assert rig.remote.is_open


async def test_without_descriptors_a_request_goes_elsewhere_and_a_sign_of_life_is_not_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(hops, "pair", full)
    with pytest.raises(wire.SessionLost, match="Too many open files"):
        rig.ask()
    heard: list[bool] = []
    rig.hop.probe(heard.append)
    rig.hop.probe()
    assert heard == [False]
    assert rig.hop.unanswered_ping_at is None
    monkeypatch.undo()
    await rig.asked()
    assert rig.pairs == 1


async def test_an_idle_hop_is_closed_and_opened_again(rig: Rig) -> None:
    owner, stream = await rig.asked()
    rig.time += hops.IDLE_S + 1
    rig.hop.close_if_idle()
    await asyncio.sleep(0.01)
    assert len(rig.host) == 1  # a stream is open
    assert stream.owner is not None
    stream.owner.head(HttpHead(status=204, headers=()))
    stream.owner.end()
    await until(lambda: owner.told[-1:] == ["end"])
    rig.hop.close_if_idle()
    rig.time += hops.IDLE_S + 1
    rig.hop.close_if_idle()
    await until(lambda: not len(rig.host))
    assert rig.hop.is_open
    await rig.asked()
    assert rig.pairs == 2


async def test_a_crowded_workers_requests_get_little_credit_from_the_agent_too(rig: Rig) -> None:
    _, usual = await rig.asked()
    rig.budget.promised = CROWDED_BYTES
    _, crowded = await rig.asked()
    assert (usual.window, crowded.window) == (256 * 1024, 32 * 1024)
