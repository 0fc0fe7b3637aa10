import pytest

from proto import errors
from proto.errors import Code
from proto.limits import Limits
from proto.messages import HttpHead, StreamClass, StreamKind
from tests.proto.aio.fakes import OK, POST, Wire, handle


async def test_what_a_handle_tells() -> None:
    async with Wire(limits=Limits(open_backlog=1)) as wire:
        first, held = wire.open(POST, end=False), wire.open(POST, end=False)
        await wire.rest()
        stream = handle(first)
        assert (stream.id, stream.kind, stream.cls) == (2, StreamKind.HTTP, StreamClass.NORMAL)
        assert repr(stream) == "<LinkStream hub 2>"
        assert stream.was_sent
        assert stream.accepted_by_peer  # by the agent's link, to make room
        assert not stream.peer_ended
        assert handle(held).was_sent
        third = wire.open(POST, end=False)
        assert not handle(third).was_sent
        handle(wire.taken[0]).head(OK, end=True)
        await wire.rest()
        assert stream.peer_ended
        assert not stream.is_closed
        assert not stream.has_ended
        stream.end()
        assert stream.has_ended
        stream.end()
        await wire.rest()
        assert stream.is_closed
        stream.reset(Code.CANCELLED)
        assert stream.accepted_by_peer


async def test_a_handle_tells_whether_the_peer_is_in_the_same_place() -> None:
    async with Wire() as wire:
        stream = handle(wire.open(POST, end=False))
        liveness = stream.link.session.liveness
        liveness.shortest_rtt_s = None
        assert not stream.is_near  # nobody knows yet
        liveness.shortest_rtt_s, liveness.best_rtt_s = 0.0005, 0.012  # recent answers have waited behind bulk
        assert stream.is_near


async def test_send_takes_any_buffer_and_keeps_order() -> None:
    async with Wire() as wire:
        asked = wire.open(POST, end=False)
        handle(asked).send(b"one ")
        handle(asked).send(bytearray(b"two "))
        handle(asked).send(memoryview(b"three"), end=True)
        assert handle(asked).queued_bytes == 13
        await wire.rest()
        assert wire.taken[0].body == b"one two three"
        assert wire.taken[0].log[-1] == "end"


async def test_missteps_of_our_own_side_raise_and_send_nothing() -> None:
    async with Wire() as wire:
        asked = wire.open(POST, end=False)
        await wire.rest()
        answer = handle(wire.taken[0])
        with pytest.raises(errors.UsageError):
            answer.send(b"before the head")
        with pytest.raises(errors.MessageTooBig):
            answer.head(HttpHead(status=200, headers=((b"a", bytes(range(0x30, 0x3A)) * 7000),)))
        with pytest.raises(errors.UsageError):
            handle(asked).accept()
        answer.head(OK, end=True)
        await wire.rest()
        assert asked.log[-2:] == ["head", "end"]


async def test_trailers_end_a_half() -> None:
    async with Wire() as wire:
        asked = wire.open()
        await wire.rest()
        answer = handle(wire.taken[0])
        answer.head(OK)
        answer.trailers(((b"x", b"y"),))
        answer.end()
        await wire.rest()
        assert asked.log == ["head", "trailers", "end"]
        assert handle(asked).is_closed
