"""Commands over two links: asked, served, refused, taken back."""

import asyncio
from collections.abc import Mapping

import pytest

from proto.aio import commands as module
from proto.aio.commands import CommandServer, Handler, call
from proto.aio.tasks import TaskGroup
from proto.commands import PROVE_KEY, ROTATE_KEY, KeyProof, Nothing, ProveKey, Verb
from proto.errors import Code, SessionLost, StreamReset
from proto.messages import Command, StreamClass, StreamKind
from tests.proto.aio.fakes import Owner, Wire

PROOF = KeyProof(pins=("p",), signed_at=1, signature="a" * 128)


def serving(wire: Wire, handlers: Mapping[Verb, Handler], group: TaskGroup) -> CommandServer:
    server = CommandServer(handlers, group)
    wire.agent._delivery._on_open = lambda stream, kind, cls, message: server.on_open(stream, message)
    return server


async def test_a_command_and_its_result() -> None:
    asked = []

    async def prove(args: ProveKey) -> KeyProof:
        asked.append(args)
        await asyncio.sleep(0)
        return PROOF

    async with Wire() as wire, TaskGroup("served") as group:
        serving(wire, {PROVE_KEY: prove}, group)
        assert await call(wire.hub, PROVE_KEY, ProveKey(key="b" * 64)) == PROOF
        assert asked == [ProveKey(key="b" * 64)]
        await wire.rest()
        assert wire.hub.streams == wire.agent.streams == 0


async def test_a_refusal_keeps_its_code_and_a_bug_tells_nothing() -> None:
    async def refuse(args: ProveKey) -> KeyProof:
        raise StreamReset("not yet", Code.REFUSED)

    async def break_down(args: Nothing) -> Nothing:
        raise RuntimeError("secret")

    async with Wire() as wire, TaskGroup("served") as group:
        serving(wire, {PROVE_KEY: refuse, ROTATE_KEY: break_down}, group)
        with pytest.raises(StreamReset) as caught:
            await call(wire.hub, PROVE_KEY, ProveKey(key="b" * 64))
        assert (caught.value.code, caught.value.text) == (Code.REFUSED, "not yet")
        with pytest.raises(StreamReset) as caught:
            await call(wire.hub, ROTATE_KEY, Nothing())
        assert (caught.value.code, caught.value.text) == (Code.INTERNAL, "internal error")


async def test_unknown_verbs_and_wrong_arguments_reach_no_handler() -> None:
    async def never(args: ProveKey) -> KeyProof:
        raise AssertionError

    async with Wire() as wire, TaskGroup("served") as group:
        serving(wire, {PROVE_KEY: never}, group)
        with pytest.raises(StreamReset) as caught:
            await call(wire.hub, ROTATE_KEY, Nothing())
        assert caught.value.code is Code.FORBIDDEN
        owner = Owner()
        owner.stream = wire.hub.open(
            Command(verb="prove-key", args={"key": "b" * 64, "cluster": "other"}),
            owner, kind=StreamKind.CMD, cls=StreamClass.NORMAL, end=True,
        )  # fmt: skip
        await wire.rest()
        assert owner.fate == (Code.PROTOCOL, "malformed ProveKey")


async def test_only_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SERVED_MAX", 2)
    release = asyncio.Event()

    async def wait(args: Nothing) -> Nothing:
        await release.wait()
        return Nothing()

    async with Wire() as wire, TaskGroup("served") as group:
        serving(wire, {ROTATE_KEY: wait}, group)
        calls = [group.spawn(call(wire.hub, ROTATE_KEY, Nothing()), name=f"call-{number}") for number in range(3)]
        await wire.rest()
        outcome = (await asyncio.gather(*(task for task in calls if task.done()), return_exceptions=True))[0]
        assert isinstance(outcome, StreamReset)
        assert outcome.code is Code.OVERLOADED
        rest = [task for task in calls if not task.done()]
        release.set()
        assert [await task for task in rest] == [Nothing(), Nothing()]
        assert await call(wire.hub, ROTATE_KEY, Nothing()) == Nothing()


async def test_what_nobody_waits_for_is_stopped() -> None:
    stopped = asyncio.Event()

    async def forever(args: Nothing) -> Nothing:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return Nothing()

    async with Wire() as wire, TaskGroup("served") as group:
        serving(wire, {ROTATE_KEY: forever}, group)
        with pytest.raises(TimeoutError):
            await call(wire.hub, ROTATE_KEY, Nothing(), timeout_s=0.05)
        async with asyncio.timeout(30):
            await stopped.wait()


async def test_the_end_of_the_session_is_the_end_of_the_call() -> None:
    async def forever(args: Nothing) -> Nothing:
        await asyncio.Event().wait()
        return Nothing()

    async with Wire() as wire, TaskGroup("served") as group:
        serving(wire, {ROTATE_KEY: forever}, group)
        asked = group.spawn(call(wire.hub, ROTATE_KEY, Nothing()), name="call")
        await wire.rest()
        wire.agent.close(Code.CLOSED)
        async with asyncio.timeout(30):
            outcome = (await asyncio.gather(asked, return_exceptions=True))[0]
        assert isinstance(outcome, StreamReset)
        with pytest.raises(SessionLost):
            await call(wire.hub, ROTATE_KEY, Nothing())
    async with Wire() as wire, TaskGroup("over") as group:
        server = serving(wire, {ROTATE_KEY: forever}, group)
        await group.aclose()
        with pytest.raises(StreamReset) as caught:
            await call(wire.hub, ROTATE_KEY, Nothing())
        assert (caught.value.code, server._served) == (Code.CLOSED, 0)


async def test_a_command_has_no_body() -> None:
    """Bytes that nobody takes would be charged to the process for as long as the peer likes."""

    async def never(args: Nothing) -> Nothing:
        raise AssertionError

    async with Wire() as wire, TaskGroup("served") as group:
        serving(wire, {ROTATE_KEY: never}, group)
        owner = Owner()
        owner.stream = wire.hub.open(
            Command(verb="rotate-key", args={}), owner, kind=StreamKind.CMD, cls=StreamClass.NORMAL, end=False
        )
        await wire.rest()
        assert owner.fate == (Code.PROTOCOL, "a command ends with its OPEN")


async def test_commands_taken_back_at_once_keep_no_place() -> None:
    async def never_ends(args: Nothing) -> Nothing:
        await asyncio.Event().wait()
        return Nothing()

    async with Wire() as wire, TaskGroup("served") as group:
        server = serving(wire, {ROTATE_KEY: never_ends}, group)
        for _ in range(module.SERVED_MAX + 2):
            owner = Owner()
            owner.stream = wire.hub.open(
                Command(verb="rotate-key", args={}), owner, kind=StreamKind.CMD, cls=StreamClass.NORMAL, end=True
            )
            for _ in range(3):
                await asyncio.sleep(0)
            owner.stream.reset(Code.CANCELLED)
            await wire.rest()
        assert server._served == 0
