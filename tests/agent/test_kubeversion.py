"""The API server's version."""

import asyncio

from agent.kubeconfig import KubeAccess
from agent.kubeversion import REFRESH_INTERVAL, KubeVersion
from agent.relay.credential import FixedToken
from agent.relay.endpoint import Endpoint, KubeTrust
from proto.aio.commands import CommandServer
from proto.aio.tasks import TaskGroup
from proto.commands import TELL_VERSION, Nothing
from proto.errors import Code, StreamReset
from tests.agent.apiserver import Pki, api_server, json_answer
from tests.proto.aio.fakes import Wire


async def version(tmp_path, answer):
    pki = Pki(tmp_path)

    async def script(head, reader, writer):
        writer.write(answer)
        writer.close()

    async with api_server(pki, script) as (server, port):
        access = KubeAccess(
            Endpoint.from_url(f"https://localhost:{port}/base"), KubeTrust(ca_file=pki.ca_file), FixedToken("t")
        )
        asked = KubeVersion(access)
        first = await asked.get()
        again = await asked.get()
        assert first == again
        return first, server


async def test_it_is_asked_once_with_the_agents_token(tmp_path):
    text, server = await version(tmp_path, json_answer(b'{"gitVersion":"v1.37.2"}'))
    assert text == "v1.37.2"
    assert server.connections == 1
    assert server.heads[0].startswith(b"GET /base/version HTTP/1.1\r\n")
    assert b"authorization: Bearer t\r\n" in server.heads[0]


async def test_whatever_goes_wrong_it_is_only_unknown(tmp_path):
    for answer in (
        b"",
        b"junk\r\n\r\n",
        json_answer(b"{}"),
        json_answer(b"[]"),
        json_answer(b'{"gitVersion":"a\\nb"}'),
    ):
        assert (await version(tmp_path, answer))[0] == ""
    assert (await version(tmp_path, json_answer(b"{}", b"403 Forbidden")))[0] == ""


async def test_a_session_that_began_without_it_tells_it():
    """The API server did not answer in time, or not yet."""
    version = Version("", "v1.37.2", "v1.37.2")
    assert await version.begin() == ""
    version.left.pop(0)
    assert await told(version) == ["v1.37.2"]


class Version(KubeVersion):
    """What the API server says, at one look after the other; the last look ends the session."""

    def __init__(self, *seen):
        super().__init__(None, self.look_again)
        self.left = list(seen)
        self.done = asyncio.Event()

    async def get(self):
        return self.left[0]

    async def look_again(self, seconds):
        assert seconds == REFRESH_INTERVAL
        self.left.pop(0)
        if not self.left:
            self.done.set()
            await asyncio.Event().wait()


async def tell(*seen, refusals=()):
    """What the hub was asked to take, while the version is seen so; `refusals` its answers, then it agrees."""
    version = Version(*seen)
    assert await version.begin() == seen[0]
    return await told(version, refusals)


async def told(version, refusals=()):
    asked, answers = [], list(refusals)

    async def take(args):
        asked.append(args.kubernetes)
        if answers:
            raise StreamReset("no", answers.pop(0))
        return Nothing()

    async with Wire() as wire, TaskGroup("agent") as group:
        server = CommandServer({TELL_VERSION: take}, group)
        wire.hub._delivery._on_open = lambda stream, kind, cls, message: server.on_open(stream, message)
        duty = group.spawn(version.tend(wire.agent, None), name="tend")
        done = group.spawn(version.done.wait(), name="done")
        await asyncio.wait({duty, done}, return_when=asyncio.FIRST_COMPLETED)
    return asked


async def test_a_cluster_that_is_upgraded_tells_its_new_version_once():
    assert await tell("v1.37.2", "v1.37.2", "v1.38.0", "v1.38.0") == ["v1.38.0"]
    assert await tell("", "v1.37.2", "v1.37.2") == ["v1.37.2"]


async def test_what_the_hub_did_not_take_is_told_again_and_not_to_an_older_hub():
    assert await tell("v1", "v2", "v2", "v2", refusals=[Code.OVERLOADED]) == ["v2", "v2"]
    assert await tell("v1", "v2", "v3", refusals=[Code.FORBIDDEN]) == ["v2"]
