"""hub/tunnel/route.py: which tunnel serves."""

from __future__ import annotations

import dataclasses

from hub.tunnel.route import choose, is_dead


@dataclasses.dataclass(slots=True)
class FakeLink:
    name: str
    is_open: bool = True
    is_draining: bool = False
    rtt_s: float | None = 0.01
    last_received_at: float = 100.0
    streams: int = 0
    queued_bytes: int = 0
    unanswered_ping_at: float | None = None


def chosen(*links: FakeLink, now: float = 100.0) -> str | None:
    link = choose(links, now)
    return None if link is None else link.name


def test_nothing_to_choose_from() -> None:
    assert chosen() is None
    assert chosen(FakeLink("a", is_open=False), FakeLink("b", is_draining=True)) is None


def test_a_session_with_an_old_unanswered_ping_is_never_chosen() -> None:
    assert chosen(FakeLink("a", unanswered_ping_at=95.0)) is None
    assert is_dead(FakeLink("a", unanswered_ping_at=95.0), 100.0)
    assert chosen(FakeLink("a", unanswered_ping_at=95.1)) == "a"


def test_lively_before_silent() -> None:
    silent = FakeLink("silent", last_received_at=97.0, unanswered_ping_at=97.5, rtt_s=0.001)
    assert chosen(silent, FakeLink("lively", rtt_s=0.2)) == "lively"
    assert chosen(silent) == "silent"


def test_a_ping_that_is_late_for_a_near_agent_is_not_for_a_far_one() -> None:
    near = FakeLink("near", unanswered_ping_at=99.4, rtt_s=0.05)
    assert chosen(near, FakeLink("other", rtt_s=0.3)) == "other"
    assert chosen(FakeLink("far", unanswered_ping_at=99.4, rtt_s=0.25), FakeLink("other", rtt_s=0.3)) == "far"


def test_an_idle_tunnel_is_not_silent() -> None:
    assert chosen(FakeLink("idle", last_received_at=92.0, rtt_s=0.001), FakeLink("b", rtt_s=0.2)) == "idle"


def test_load_before_round_trip() -> None:
    assert chosen(FakeLink("busy", queued_bytes=10**6, rtt_s=0.001), FakeLink("free", rtt_s=0.2)) == "free"
    assert chosen(FakeLink("many", streams=500, rtt_s=0.001), FakeLink("few", streams=3, rtt_s=0.2)) == "few"
    assert chosen(FakeLink("far", rtt_s=0.2), FakeLink("near"), FakeLink("unknown", rtt_s=None)) == "near"
