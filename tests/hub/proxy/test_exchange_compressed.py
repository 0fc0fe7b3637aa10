"""hub/proxy/exchange.py with bodies that come compressed: the client sees what it would see without."""

from __future__ import annotations

import pytest

from hub.proxy.exchange import Exchange
from proto.compression import BLOCK_MAX_BYTES, HISTORY_BYTES, Histories
from proto.compressor import Compressor
from proto.errors import Code
from proto.messages import Ext, HttpHead
from proto.window import Budget
from tests.hub.proxy.fakes import FakeFront, FakeLink, request
from tests.hub.proxy.test_relay import World
from tests.proto.bodies import block, event, pod_list, runs

JSON = (b"content-type", b"application/json")
LIST = "GET /k8s/clusters/c1/api/v1/pods HTTP/1.1"
WATCH = "GET /k8s/clusters/c1/api/v1/pods?watch=1 HTTP/1.1"
EXEC = "GET /k8s/clusters/c1/api/v1/namespaces/d/pods/p/exec HTTP/1.1"
BOMB = block(1, BLOCK_MAX_BYTES, runs(BLOCK_MAX_BYTES))


class Talk:
    """One exchange whose agent may compress, and does."""

    def __init__(self, raw: str = LIST, *lines: str, agreed: bool = True, budget: Budget | None = None) -> None:
        self.link = FakeLink()
        self.link.compresses = agreed
        self.budget = budget or Budget(1 << 30)
        self.histories = Histories(10 * HISTORY_BYTES)
        self.world = World(self.link, budget=self.budget, histories=self.histories)
        self.front: FakeFront
        self.front, exchange = self.world.begin(request(raw, *lines))
        assert exchange is not None
        self.exchange: Exchange = exchange
        self.opening, _, self.stream, _, _ = self.link.opened[0]
        self.compressor = Compressor(256 * 1024)

    def head(self, *fields: tuple[bytes, bytes], status: int = 200, ext: Ext | None = None) -> None:
        self.exchange.head(HttpHead(status=status, headers=(JSON, *fields), ext={"zstd": 1} if ext is None else ext))

    def send(self, *pieces: bytes) -> int:
        """What the API server said; how many bytes of DATA that became."""
        wire = b"".join(each for piece in pieces for each in self.compressor.encode(piece))
        self.exchange.data(memoryview(wire))
        return len(wire)

    def close(self) -> None:
        """The client's connection is lost."""
        self.exchange.gone()
        for call in self.front.drained:
            call()

    @property
    def body(self) -> bytes:
        return self.front.written.partition(b"\r\n\r\n")[2]

    @property
    def chunks(self) -> bytes:
        """The body out of its chunks."""
        rest, found = self.body, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            found, rest = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return found

    def scrape(self) -> str:
        return self.world.metrics.render().decode()


async def test_a_list_has_its_length_and_its_bytes() -> None:
    talk, body = Talk(), pod_list(300_000)
    talk.head((b"content-length", b"%d" % len(body)))
    wire = talk.send(*(body[at : at + 50_000] for at in range(0, len(body), 50_000)))
    talk.exchange.end()
    assert talk.body == body
    assert b"zstd" not in talk.front.written
    assert talk.front.finished is True
    assert talk.stream.credit == wire < len(body) / 4
    assert talk.histories.bodies == 0
    assert f'riata_hub_compressed_bytes_total{{form="wire"}} {wire:.1f}' in talk.scrape()
    assert f'riata_hub_compressed_bytes_total{{form="plain"}} {len(body):.1f}' in talk.scrape()


def test_a_watch_is_passed_on_event_by_event() -> None:
    talk = Talk(WATCH)
    talk.head()
    assert talk.histories.bodies == 1
    assert "riata_hub_compressed_bodies 1.0" in talk.scrape()
    for number in range(5):
        talk.send(event(number))
        assert talk.chunks == b"".join(map(event, range(number + 1)))
    talk.exchange.gone()
    assert talk.histories.bodies == 0


def test_credit_is_for_bytes_on_the_wire_and_waits_for_the_client() -> None:
    talk = Talk(WATCH)
    talk.head()
    first = talk.send(event(1))
    talk.front.is_writable = False
    second = talk.send(event(2))
    assert talk.stream.credit == first
    assert talk.chunks == event(1)
    talk.front.is_writable = True
    talk.exchange.drained()
    assert talk.stream.credit == first + second
    assert talk.chunks == event(1) + event(2)


@pytest.mark.parametrize("case", ["not agreed", "forbidden", "coded", "newer", "upgrade"])
def test_what_was_not_agreed_to_is_not_decoded(case: str) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: SPDY/3.1") if case == "upgrade" else ()
    talk = Talk(EXEC if upgrade else LIST, *upgrade, agreed=case != "not agreed")
    if case == "forbidden":
        full = Histories(0)
        talk.world.relay.histories = full
        talk.front, exchange = talk.world.begin(request(LIST))
        assert exchange is not None
        talk.exchange = exchange
        opening, _, talk.stream, _, _ = talk.link.opened[1]
        assert opening.ext == {"zstd": 0}
    coding = [(b"content-encoding", b"gzip")] if case == "coded" else []
    talk.head(*coding, ext={"zstd": 2} if case == "newer" else None)
    assert talk.front.status == (504 if upgrade else 500)
    assert talk.stream.code is Code.PROTOCOL


def test_there_is_room_again_when_one_has_ended() -> None:
    talk = Talk()
    assert talk.opening.ext == {}
    talk.histories.bodies = 10
    talk.world.begin(request(LIST))
    assert talk.link.opened[1][0].ext == {"zstd": 0}
    talk.histories.bodies = 9
    talk.world.begin(request(LIST))
    assert talk.link.opened[2][0].ext == {}


def test_a_broken_block_ends_its_own_stream_with_protocol() -> None:
    for junk in (b"\xff" * 8, block(1, 1000, b"junk"), block(1, 1000, runs(999))):
        talk = Talk()
        talk.head()
        talk.exchange.data(memoryview(junk))
        assert talk.front.is_aborted
        assert talk.stream.code is Code.PROTOCOL
        assert talk.histories.bodies == 0
        assert 'riata_hub_responses_broken_total{reason="protocol"} 1.0' in talk.scrape()


def test_an_answer_whose_head_makes_no_sense_was_never_broken_off() -> None:
    talk = Talk()
    talk.head((b"content-length", b"x"))
    assert not talk.front.is_aborted
    assert talk.front.written.startswith(b"HTTP/1.1 50")
    assert 'riata_hub_responses_broken_total{reason="protocol"}' not in talk.scrape()


def test_an_end_within_a_block_is_no_end() -> None:
    talk = Talk()
    talk.head()
    talk.exchange.data(memoryview(block(1, 1000, runs(1000))[:-1]))
    talk.exchange.end()
    assert talk.front.is_aborted
    assert talk.front.finished is None


def test_more_and_less_than_announced() -> None:
    for length, junk in ((b"999", True), (b"1001", False)):
        talk = Talk()
        talk.head((b"content-length", length))
        talk.exchange.data(memoryview(block(1, 1000, runs(1000))))
        if not junk:
            talk.exchange.end()
        assert talk.front.is_aborted


def test_a_bomb_waits_compressed_for_its_client_and_counts_against_the_budget() -> None:
    talk = Talk()
    talk.head()
    talk.front.is_writable = False
    talk.exchange.data(memoryview(BOMB * 1000))  # 131 MB
    written = len(talk.front.written)
    assert written < 1000
    talk.exchange.end()
    assert talk.front.finished is None
    assert talk.budget.used == 1000 * len(BOMB) + written  # no session counts it any more
    talk.close()
    assert talk.budget.used == 0
    assert talk.histories.bodies == 0


async def test_the_end_waits_for_what_is_still_compressed() -> None:
    talk = Talk()
    talk.head()
    talk.front.is_writable = False
    talk.send(event(1))
    talk.exchange.end()
    assert talk.front.finished is None
    assert talk.budget.used > 0
    talk.front.is_writable = True
    talk.exchange.drained()
    assert talk.chunks == event(1)
    assert talk.front.written.endswith(b"0\r\n\r\n")
    assert talk.front.finished is True
    assert talk.budget.used == 0


def test_who_does_not_read_the_end_is_cut_when_the_budget_is_short() -> None:
    talk = Talk(budget=Budget(10_000))
    talk.head()
    talk.front.is_writable = False
    talk.exchange.data(memoryview(BOMB * 1000))
    talk.exchange.end()
    assert talk.world.relay.relieve() == 1
    assert talk.front.is_aborted
    assert talk.exchange.has_ended
    assert talk.histories.bodies == 0


async def test_a_watch_is_cut_between_two_events_of_the_body_not_of_the_wire() -> None:
    talk = Talk(WATCH)
    talk.head()
    talk.send(event(1)[:100])
    talk.exchange.cut_soon()
    assert talk.front.finished is None
    talk.send(event(1)[100:])
    assert talk.front.written.endswith(b"0\r\n\r\n")
    assert talk.chunks == event(1)


def test_a_lost_watch_ends_behind_its_last_whole_event() -> None:
    talk = Talk(WATCH)
    talk.head()
    talk.front.is_writable = False
    talk.send(event(1)[:100], event(1)[100:], event(2))
    talk.front.is_writable = True
    talk.front.unwritable_after = 1
    talk.exchange.drained()
    assert not talk.front.written.endswith(b"\n\r\n")  # in the middle of an event
    talk.exchange.reset(Code.SESSION_LOST, "")
    assert not talk.front.is_aborted
    talk.front.is_writable, talk.front.unwritable_after = True, None
    talk.exchange.drained()
    assert talk.chunks == event(1) + event(2)
    assert talk.front.written.endswith(b"0\r\n\r\n")
    assert talk.budget.used == 0


def test_a_lost_watch_breaks_in_the_middle_of_an_event_and_a_lost_list_always() -> None:
    middle = Talk(WATCH)
    middle.head()
    middle.send(event(1)[:100])
    middle.exchange.reset(Code.SESSION_LOST, "")
    assert middle.front.is_aborted
    lost = Talk()
    lost.head()
    lost.front.is_writable = False
    lost.send(event(1))
    lost.exchange.reset(Code.SESSION_LOST, "")
    assert lost.front.is_aborted
    lost.close()
    assert lost.budget.used == 0


def test_apiserver_is_asked_for_no_coding_of_a_watch_but_for_that_of_a_list() -> None:
    """Behind gzip nobody could tell where an event ends; a list's gzip goes through to who asked for it."""
    for raw, expected in ((WATCH, False), (LIST, True)):
        talk = Talk(raw, "Accept-Encoding: gzip")
        assert ((b"accept-encoding", b"gzip") in talk.opening.headers) is expected
