"""docs/protocol.md and the code say the same."""

import re

from proto.frames import FrameType
from proto.limits import UNSAID_PINGS_PER_S, Limits
from proto.liveness import BULK_BYTES, BULK_GRACE, LISTEN_SHARE
from tests.docs import render_protocol
from tests.docs.render_protocol import PAGE, PARTS


def test_the_page_is_what_the_code_renders() -> None:
    page = PAGE.read_text()
    assert page == render_protocol.render(page), "run: python -m tests.docs.render_protocol"


def test_every_part_is_on_the_page_once() -> None:
    assert re.findall(r"<!-- begin ([a-z ]+) -->", PAGE.read_text()) == [
        name for name in re.findall(r"<!-- end ([a-z ]+) -->", PAGE.read_text())
    ]
    assert sorted(re.findall(r"<!-- begin ([a-z ]+) -->", PAGE.read_text())) == sorted(PARTS)


def test_every_frame_type_has_a_layout_and_is_explained() -> None:
    assert set(render_protocol.LAYOUTS) == set(FrameType)
    prose = re.sub(r"<!-- begin .*?<!-- end [a-z ]+ -->", "", PAGE.read_text(), flags=re.DOTALL)
    assert [kind.name for kind in FrameType if kind.name not in prose] == []


def test_the_prose_names_the_limits_as_they_are() -> None:
    """Numbers in sentences are easily forgotten: each of these is the default of a limit."""
    limits, prose = Limits(), " ".join(PAGE.read_text().split())
    for sentence in (
        f"pings every {limits.ping_active_s:.0f} s while a stream is open",
        f"every {limits.ping_idle_s:.0f} s otherwise",
        f"heard nothing for {limits.ping_idle_s * LISTEN_SHARE:.1f} s",
        f"for up to {limits.pong_timeout_s * BULK_GRACE:.0f} s while messages of {BULK_BYTES // 1024} KiB",
        f"`pings`, an integer; {UNSAID_PINGS_PER_S:.0f} where they do not",
        f"unanswered for {limits.pong_timeout_s:.0f} s ends",
        f"a silence of {limits.silent_s} s beside an unanswered ping",
        f"stood still for more than {limits.dead_s:.0f} s MUST",
        f"takes no bytes for {limits.progress_s:.0f} s",
        f"every {limits.sync_s:.0f} s while there are any",
        f"late frames of that id for {limits.swallow_s:.0f} s",
        f"After {limits.window_idle_s:.0f} s without data it shrinks",
        f"up to {limits.violations} in a minute",
        f"more than {limits.reset_burst:,} streams at once, or {limits.reset_per_s:.0f} a second",
        f"More than {limits.survey_burst} SYNC and GOAWAY at once, or one in {1 / limits.survey_per_s:.0f} seconds",
        f"More than {limits.ping_per_s:.0f} pings a second ({limits.ping_burst} at once)",
        f"moved {limits.demote_bytes // 1024} KiB without pausing for {limits.demote_pause_s * 1000:.0f} ms",
        f"more than {limits.control_queue_bytes // 2**20} MiB of unwritten control frames",
        f"keeps at most {limits.message_queue_bytes // 1024} KiB of them",
        f"doubles when its credit is returned, up to {limits.window_max_bytes // 2**20} MiB",
    ):
        assert sentence in prose, sentence
