"""agent/relay/exchange.py: answers that leave compressed."""

from proto.compression import Histories
from proto.decompressor import Decompressor
from proto.errors import Code
from tests.agent.relay.stream import Conversation
from tests.proto import bodies


def compressing(path=b"/api/v1/pods?watch=1", *, room=10**9, limit=1 << 20):
    talk = Conversation(path=path, room=room, histories=Histories(limit))
    talk.stream.compresses = True
    talk.exchange.end()
    return talk


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


WATCH_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_watch_is_compressed_and_no_event_waits():
    talk = compressing()
    talk.answer(WATCH_HEAD)
    assert talk.stream.ext == {"zstd": 1}
    assert talk.histories.bodies == 1
    decompressor, events = Decompressor(), [bodies.event(number) for number in range(5)]
    for event in events:
        before = len(talk.stream.body)
        talk.answer(chunk(event))
        decompressor.feed(talk.stream.body[before:])
        assert decompressor.next().data == event
    talk.answer(b"0\r\n\r\n")
    assert talk.stream.log == [("head", 200, False), "end"]
    assert talk.histories.bodies == 0
    assert talk.counts.compressed_plain_bytes == sum(map(len, events))
    assert talk.counts.compressed_wire_bytes == len(talk.stream.body) < talk.counts.compressed_plain_bytes / 4


async def test_a_watch_goes_as_it_is_to_a_hub_that_is_near():
    for is_near, expected in ((True, {}), (False, {"zstd": 1})):
        talk = compressing()
        talk.stream.is_near = is_near
        talk.answer(WATCH_HEAD)
        assert talk.stream.ext == expected


async def test_a_list_is_packed_lightly_to_a_hub_that_is_near():
    body, wire = bodies.pod_list(300_000)[:300_000], {}
    for is_near in (False, True):
        talk = compressing(b"/api/v1/pods")
        talk.stream.is_near = is_near
        talk.answer(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 300000\r\n\r\n" + body)
        wire[is_near] = len(talk.stream.body)
    assert 1.2 * wire[False] < wire[True] < 300_000 / 3


async def test_a_list_keeps_its_length_and_ends_with_its_last_block():
    body = bodies.pod_list(300_000)
    talk = compressing(b"/api/v1/pods")
    talk.answer(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    assert (b"content-length", b"%d" % len(body)) in talk.stream.headers
    decompressor = Decompressor()
    decompressor.feed(talk.stream.body)
    assert b"".join(iter_pieces(decompressor)) == body
    assert talk.stream.log[-1] == "end"
    assert talk.pool.idle


def iter_pieces(decompressor):
    while (piece := decompressor.next()) is not None:
        yield piece.data


async def test_answers_that_go_as_they_are():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4096\r\n\r\n"
    for path, limit, agreed in (
        (b"/api/v1/namespaces/d/services/s/proxy/x", 1 << 20, True),
        (b"/api/v1/pods", 0, True),
        (b"/api/v1/pods", 1 << 20, False),
    ):
        talk = Conversation(path=path, histories=Histories(limit))
        talk.stream.compresses = agreed
        talk.exchange.end()
        talk.answer(head + b"x" * 4096)
        assert talk.stream.ext == {}
        assert talk.stream.body == b"x" * 4096
        assert talk.histories.bodies == 0


async def test_a_full_stream_pauses_a_compressed_answer_too():
    talk = compressing(room=100)
    talk.answer(WATCH_HEAD + chunk(bodies.event(1)))
    assert not talk.transport.is_reading_now
    talk.exchange.writable()
    assert talk.transport.is_reading_now


async def test_a_watch_that_is_reset_gives_its_history_back():
    talk = compressing()
    talk.answer(WATCH_HEAD + chunk(bodies.event(1)))
    talk.exchange.reset(Code.CANCELLED, "")
    assert talk.histories.bodies == 0
    lost = compressing()
    lost.answer(WATCH_HEAD)
    lost.lose(OSError())
    assert lost.stream.log[-1] == ("reset", "UPSTREAM")
    assert lost.histories.bodies == 0
