"""What a cluster agent registered ends with it: a stolen key lets node agents in, is revoked, and they are out within a
second; the honest agent's own word holds again (ADR 15). A real hub process, real agent code, no Kubernetes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.config import HubSettings
from agent.proof import wall_clock
from agent.uplink.diagnose import ConnectFailed
from agent.uplink.nodetoken import NodeTokenFile
from agent.uplink.session import Identity, Opener
from agent.uplink.trust import HubTrust
from proto.aio.commands import call
from proto.aio.link import Link
from proto.aio.tasks import TaskGroup
from proto.commands import REGISTER_ISSUER, RegisterIssuer
from tests.e2e.test_failpoints import Life, life
from tests.hub.auth.issuing import ISSUER, SUBJECT, Cluster
from tests.room import room

pytestmark = [pytest.mark.timeout(180)]


class Signer(Cluster):
    """A cluster's signing key, or a thief's."""

    def node_token(self, hub_id: str, node: str) -> bytes:
        bound = {"pod": {"uid": f"pod-of-{node}"}, "node": {"name": node}}
        return self.token(wall_clock(), aud=[f"riata:{hub_id}:{self.uid}"], **{"kubernetes.io": bound})


@contextlib.asynccontextmanager
async def node_agent(a_life: Life, token: bytes) -> AsyncIterator[Link]:
    """A node agent's session. Raises ConnectFailed."""
    file = a_life.directory / "node.token"
    await asyncio.to_thread(file.write_bytes, token)
    settings = HubSettings(
        url=a_life.ready["urls"][0],
        ca_pins=(a_life.ready["ca_pin"],),
        ca_file=Path(a_life.ready["ca_file"]),
        token_file=file,
    )

    async def version() -> str:
        return ""

    opener = Opener(
        settings, Identity(bytes.fromhex("cd" * 16), "node"), HubTrust(settings), NodeTokenFile(file),
        proxy_environment={}, kubernetes=version,
    )  # fmt: skip
    opened = await opener.open()
    async with TaskGroup("node agent") as group:
        link = Link(
            opened.session, opened.transport, name="node agent", on_open=lambda stream, kind, cls, message: None
        )
        group.spawn(link.run(), name="link")
        yield link


async def enrol(a_life: Life, key: str) -> Life:
    """Another agent process with a key of its own."""
    other = Life(a_life.directory / key, a_life.ready, instance=key.ljust(16)[:16].encode())
    await asyncio.to_thread(other.directory.mkdir)
    await asyncio.to_thread((other.directory / "join.token").write_text, await a_life.api.join_token("victim"))
    return other


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_with_a_stolen_key_go_the_node_agents_that_it_let_in(workers: str) -> None:
    async with life(f"vouching-{workers}") as a_life:
        await a_life.serve("0:", "--workers", workers)
        uid = (await a_life.api.create_cluster("victim"))["uid"]
        honest, thief = Signer(uid, "ES256"), Signer(uid, "ES256")
        hub_id = a_life.ready["hub_id"]
        owner, stolen = await enrol(a_life, "owner"), await enrol(a_life, "stolen")
        async with owner.agent() as (_, link, _), stolen.agent() as (_, stolen_link, _):
            for signer, through in ((honest, link), (thief, stolen_link)):
                args = RegisterIssuer(issuer=ISSUER, jwks=signer.jwks(), subjects=(SUBJECT,))
                await call(through, REGISTER_ISSUER, args)
                await asyncio.sleep(0.1)
            with pytest.raises(ConnectFailed):
                async with node_agent(a_life, honest.node_token(hub_id, "node-1")):
                    pass
            agents = (await a_life.api.call("GET", "/v1/agents"))["items"]
            (stolen_id,) = [
                each["id"] for each in agents if each["id"] in (stolen.directory / "join.token").read_text()
            ]
            async with node_agent(a_life, thief.node_token(hub_id, "node-9")) as evil:
                began = time.monotonic()
                await a_life.api.call("DELETE", f"/v1/agents/{stolen_id}")
                while evil.is_open:
                    assert time.monotonic() - began < 1.0 * room()
                    await asyncio.sleep(0.01)
            with pytest.raises(ConnectFailed):
                async with node_agent(a_life, thief.node_token(hub_id, "node-9")):
                    pass
            # Without a word of the honest agent, whose session was never cut:
            async with node_agent(a_life, honest.node_token(hub_id, "node-1")) as good:
                assert good.is_open
            assert link.is_open
            assert not stolen_link.is_open
