"""What test_link does not reach: owners that fail while they are told that they failed, and streams without one."""

import pytest

from proto.errors import Code
from proto.messages import HttpHead
from tests.proto.aio.fakes import GET, OK, POST, Owner, Wire, handle


async def test_an_owner_whose_reset_fails_too(caplog: pytest.LogCaptureFixture) -> None:
    async with Wire() as wire:
        bad = wire.open(owner=Owner(raises=("head", "reset")))
        await wire.rest()
        handle(wire.taken[0]).head(OK)
        await wire.rest()
        assert bad.log == ["head", "reset"]
        assert [record.message for record in caplog.records] == ["stream owner failed"] * 2
        assert wire.hub.is_open
        assert wire.taken[0].fate == (Code.INTERNAL, "internal error")


@pytest.mark.parametrize("is_paused", [False, True])
async def test_events_behind_a_reset_in_the_same_message_are_dropped(is_paused: bool) -> None:
    """The owner resets while a batch is delivered; what the batch still holds for it goes nowhere."""

    class Leaving(Owner):
        def accepted(self, message: object) -> None:
            self.log.append("accepted")
            handle(self).reset(Code.CANCELLED)

    async with Wire() as wire:
        asked = wire.open(POST, owner=Leaving(), end=False)
        if is_paused:
            handle(asked).send(b"x" * 300_000)
        await wire.rest()
        answer = handle(wire.taken[0])
        answer.accept()
        answer.head(OK)
        answer.send(b"data")
        answer.trailers(((b"a", b"b"),))
        await wire.rest()
        assert asked.log[-1] == "accepted"
        assert wire.hub.streams == wire.agent.streams == 0


async def test_on_open_may_reset_at_once() -> None:
    async with Wire() as wire:
        wire.agent._delivery._on_open = lambda stream, *_: stream.reset(Code.FORBIDDEN, "policy")
        asked = wire.open()
        await wire.rest()
        assert asked.fate == (Code.FORBIDDEN, "policy")
        assert wire.agent.streams == 0


async def test_an_owner_that_answers_inside_on_open_and_end() -> None:
    class Quick(Owner):
        def end(self) -> None:
            super().end()
            handle(self).head(HttpHead(status=204, headers=()), end=True)

    async with Wire() as wire:
        wire.owner = Quick
        asked = wire.open(GET)
        await wire.rest()
        assert asked.log == ["head", "end"]
        assert asked.status == 204


async def test_a_drain_callback_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Wire() as wire:

        def broken(*_: object) -> None:
            raise RuntimeError("broken")

        wire.hub._delivery._on_drain = broken
        wire.agent.send_drain(1.0)
        await wire.rest()
        assert "delivery failed" in caplog.text
        assert wire.hub.is_draining
