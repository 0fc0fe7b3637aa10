"""A node agent's token: read at each connect, presented when it is fresher, explained when it is missing."""

import asyncio

import pytest

from agent.uplink import nodetoken as module
from agent.uplink.credentials import Claims
from agent.uplink.diagnose import ConnectFailed
from agent.uplink.nodetoken import NodeTokenFile
from proto.aio.commands import CommandServer
from proto.aio.tasks import TaskGroup
from proto.commands import PRESENT_TOKEN, RENEW_TOKEN, Nothing
from proto.errors import Code, StreamReset
from proto.limits import Limits
from proto.messages import HubHello
from proto.tokenrenewal import renewed, signed_part
from tests.agent.waiting import until
from tests.proto.aio.fakes import Wire

HELLO = HubHello(hub_id="h", nonce=b"n" * 32, versions=(1, 1), limits=Limits().offer())
CLAIMS = Claims("node", b"i" * 16, 1, ("pin",))


async def test_what_is_in_the_file_is_shown(tmp_path):
    path = tmp_path / "token"
    credential = NodeTokenFile(path)
    await credential.prepare()
    for content in (None, b"", b"riataagent_abcdefghij_0", b"a.b.c.d", b"a.b." + b"c" * 20_000):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConnectFailed, match="--token-file"):
            credential.present(HELLO, CLAIMS)
    path.write_bytes(b"aa.bb.cc\n")
    shown = credential.present(HELLO, CLAIMS)
    assert (shown.scheme, shown.value) == ("service-account", b"aa.bb.cc")
    assert credential.mark() is not None
    assert not credential.refused(Code.REVOKED)


async def test_a_fresher_token_is_presented_over_the_session(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.005)
    path, presented, refuse = tmp_path / "token", [], [True]
    path.write_bytes(b"aa.bb.cc")
    credential = NodeTokenFile(path)
    credential.present(HELLO, CLAIMS)

    async def present(args):
        presented.append(args.token)
        if refuse.pop() if refuse else False:
            raise StreamReset("not now", Code.OVERLOADED)
        return Nothing()

    async with Wire() as wire, TaskGroup("node") as group:
        server = CommandServer({PRESENT_TOKEN: present}, group)
        wire.hub._delivery._on_open = lambda stream, kind, cls, message: server.on_open(stream, message)
        group.spawn(credential.tend(wire.agent, None), name="tend")
        await asyncio.sleep(0.03)
        assert presented == []
        path.write_bytes(b"dd.ee.ff")
        async with asyncio.timeout(30):
            while len(presented) < 2:  # noqa: ASYNC110 - refused once, then taken
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.03)
        assert presented == ["dd.ee.ff"] * 2
        path.unlink()
        await asyncio.sleep(0.03)
        assert len(presented) == 2
    assert credential.handlers(None, None) == {}


async def test_what_differs_is_said_and_the_whole_token_where_the_hub_does_not_take_that(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.005)
    tokens = [f"head.payload-{number:02}.signature-{number}" for number in range(4)]
    path, said, taken = tmp_path / "token", [], []
    path.write_text(tokens[0])
    credential = NodeTokenFile(path)
    shown = credential.present(HELLO, CLAIMS).value.decode()

    async def renew(args):
        nonlocal shown
        said.append("renew")
        if len(taken) == 1:
            raise StreamReset("no such command", Code.FORBIDDEN)
        shown = renewed(signed_part(shown), args)
        taken.append(shown)
        return Nothing()

    async def present(args):
        nonlocal shown
        said.append("present")
        shown = args.token
        taken.append(shown)
        return Nothing()

    async with Wire() as wire, TaskGroup("node") as group:
        server = CommandServer({PRESENT_TOKEN: present, RENEW_TOKEN: renew}, group)
        wire.hub._delivery._on_open = lambda stream, kind, cls, message: server.on_open(stream, message)
        group.spawn(credential.tend(wire.agent, None), name="tend")
        for number, token in enumerate(tokens[1:]):
            path.write_text(token)
            await until(lambda number=number: len(taken) == number + 1)
    assert taken == tokens[1:]
    assert said == ["renew", "renew", "present", "renew"]
