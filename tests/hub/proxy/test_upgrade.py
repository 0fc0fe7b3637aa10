"""hub/proxy/upgrade.py: what the client of an upgraded connection is told at an end that is ours."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.proxy.upgrade import HELD_BYTES_MAX, UpgradeExchange
from proto.errors import Code
from tests.hub.proxy.test_exchange import EXEC, WATCH, Talk, body, head

WEBSOCKET = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
)  # fmt: skip
FRAME = b"\x82\x03\x01hi"
EVENT = b"\x81\x02{}"


def talk(raw: str = EXEC) -> Talk:
    made = Talk(raw, *WEBSOCKET)
    assert isinstance(made.exchange, UpgradeExchange)
    made.exchange.head(head(101))
    return made


def closed(talk: Talk, before: bytes) -> tuple[int, str]:
    """Code and reason of the Close frame that came behind `before`, with which the connection ended."""
    raw = body(talk.front)
    assert raw.startswith(before + b"\x88")
    assert raw[len(before) + 1] == len(raw) - len(before) - 2
    assert talk.front.finished is False
    assert not talk.front.is_aborted
    return int.from_bytes(raw[len(before) + 2 :][:2], "big"), raw[len(before) + 4 :].decode()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (Code.SESSION_LOST, "riata: the connection to the cluster's agent was lost"),
        (Code.UPSTREAM, "riata: the agent's connection to the API server was lost"),
    ],
)
def test_what_was_lost(code: Code, reason: str) -> None:
    it = talk()
    it.exchange.data(memoryview(FRAME))
    it.exchange.reset(code, "a text of the agent's")
    assert closed(it, FRAME) == (1011, reason)
    assert it.exchange.outcome == "lost"


def test_an_agent_that_left_in_order() -> None:
    it = talk()
    it.exchange.cut_soon()
    it.exchange.data(memoryview(FRAME))
    assert body(it.front) == FRAME  # it has its grace
    it.exchange.reset(Code.SESSION_LOST, "")
    assert closed(it, FRAME) == (1011, "riata: the cluster's agent was shut down")


def test_a_session_that_the_hub_cuts() -> None:
    it = talk()
    it.exchange.cut()
    assert closed(it, b"") == (1001, "riata: the hub ended the connection")
    assert it.stream.code is Code.CANCELLED


@pytest.mark.parametrize("code", [Code.PROTOCOL, Code.INTERNAL, Code.CANCELLED])
def test_an_agent_that_breaks_off_gets_no_words(code: Code) -> None:
    it = talk()
    it.exchange.reset(code, "")
    assert it.front.is_aborted
    assert body(it.front) == b""


def test_a_frame_waits_until_it_is_whole_and_is_not_credited_before() -> None:
    it = talk()
    for at in range(len(FRAME) - 1):
        it.exchange.data(memoryview(FRAME[at : at + 1]))
        assert (body(it.front), it.stream.credit) == (b"", 0)
    it.exchange.data(memoryview(FRAME[-1:] + FRAME + FRAME[:1]))
    assert (body(it.front), it.stream.credit) == (2 * FRAME, 2 * len(FRAME))


def test_what_has_come_of_a_frame_is_lost_with_its_rest() -> None:
    it = talk()
    it.exchange.data(memoryview(FRAME + FRAME[:-1]))
    it.exchange.reset(Code.SESSION_LOST, "")
    assert closed(it, FRAME)[0] == 1011


def test_what_the_cluster_ends_in_the_middle_of_a_frame_is_passed_on() -> None:
    it = talk()
    it.exchange.data(memoryview(FRAME + FRAME[:-1]))
    it.exchange.end()
    assert body(it.front) == FRAME + FRAME[:-1]
    assert it.front.finished is False


LARGE = b"\x82\x7e\xff\xff" + bytes(65_535)


def test_a_large_frame_does_not_wait_and_in_its_middle_there_is_a_reset() -> None:
    it = talk()
    it.exchange.data(memoryview(LARGE[:3]))
    assert body(it.front) == b""
    it.exchange.data(memoryview(LARGE[3:50_000]))
    assert body(it.front) == LARGE[:50_000]
    assert it.stream.credit == 50_000
    it.exchange.reset(Code.SESSION_LOST, "")
    assert it.front.is_aborted
    assert body(it.front) == LARGE[:50_000]


@given(st.lists(st.sampled_from([FRAME, LARGE, b"\x89\x00", b"\x02\x02ab", b"\x82\xff?"]), max_size=6), st.data())
def test_every_byte_arrives_in_order(parts: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(parts)
    it = talk()
    edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8))), len(raw)]
    for start, stop in itertools.pairwise(edges):
        it.exchange.data(memoryview(raw)[start:stop])
        assert raw.startswith(body(it.front))
        assert stop - len(body(it.front)) <= HELD_BYTES_MAX
        assert it.stream.credit == len(body(it.front))
    it.exchange.end()
    assert body(it.front) == raw


def test_a_client_that_does_not_read_is_waited_for_when_the_agent_is_lost_but_not_when_it_is_cut() -> None:
    it = talk()
    it.exchange.data(memoryview(FRAME))
    it.front.is_writable = False
    it.exchange.reset(Code.SESSION_LOST, "")
    assert closed(it, FRAME)[0] == 1011
    it = talk()
    it.front.is_writable = False
    it.exchange.cut()
    assert it.front.is_aborted


def test_a_client_that_has_ended_its_half_gets_a_reset() -> None:
    it = talk()
    it.exchange._has_ended_input = True
    it.exchange.cut()
    assert it.front.is_aborted


def test_a_refused_upgrade_is_an_answer_like_others() -> None:
    it = Talk(EXEC, *WEBSOCKET)
    it.exchange.head(head(403, (b"content-length", b"2")))
    it.exchange.data(memoryview(b"no"))
    it.exchange.end()
    assert body(it.front) == b"no"
    it = Talk(EXEC, *WEBSOCKET)
    it.exchange.head(head(403, (b"content-length", b"2")))
    it.exchange.reset(Code.SESSION_LOST, "")
    assert it.front.is_aborted


def test_a_watch_ends_as_the_api_servers_own_does() -> None:
    it = talk(WATCH)
    it.exchange.data(memoryview(EVENT))
    it.exchange.reset(Code.SESSION_LOST, "")
    assert closed(it, EVENT) == (1000, "")


async def test_a_watch_whose_agent_leaves_finishes_its_event_first() -> None:
    it = talk(WATCH)
    it.exchange.data(memoryview(EVENT[:3]))
    it.exchange.cut_soon()
    assert it.front.finished is None
    it.exchange.data(memoryview(EVENT[3:]))
    assert closed(it, EVENT) == (1000, "")
    assert it.stream.code is Code.CANCELLED


def test_a_watch_that_is_lost_within_an_event_is_no_end_of_its_own() -> None:
    it = talk(WATCH)
    it.exchange.data(memoryview(b"\x01\x02{}"))
    it.exchange.reset(Code.SESSION_LOST, "")
    assert closed(it, b"\x01\x02{}")[0] == 1011


def test_a_frame_that_comes_byte_by_byte_is_held_in_its_own_size() -> None:
    """A cluster may send single bytes, each in a frame of the tunnel of its own."""
    frame = b"\x82\x7e\x80\x00" + bytes(32 * 1024)
    it = talk()
    tracemalloc.start()
    try:
        for at in range(len(frame) - 1):
            it.exchange.data(memoryview(frame)[at : at + 1])
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert body(it.front) == b""
    assert held < 2 * len(frame)
    it.exchange.data(memoryview(frame)[-1:])
    assert body(it.front) == frame
    assert it.stream.credit == len(frame)
