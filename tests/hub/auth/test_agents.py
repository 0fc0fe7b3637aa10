"""Agents: the cluster comes from the credential alone, and schemes can be added."""

from __future__ import annotations

import pytest

from hub.auth import bearer
from hub.auth.agents import (
    AgentAuthenticator,
    AgentIdentity,
    AgentToken,
    AgentTokenIndex,
    BearerScheme,
    Challenge,
)
from hub.errors import Unauthenticated
from hub.store.model import Event, Key, Resource
from proto.limits import Limits
from proto.messages import AgentAuth, Credential
from tests.hub.auth.records import agent_token, gone, made, stored
from tests.hub.store.conformance import SettableClock


class Names:
    def __init__(self) -> None:
        self.names = {"uid-a": "a"}

    def name_of(self, uid: str) -> str | None:
        return self.names.get(uid)


def auth(value: bytes, *, scheme: str = "bearer", role: str = "cluster") -> AgentAuth:
    return AgentAuth(
        role=role, instance=bytes(16), epoch=1, versions=(1, 1), limits=Limits().offer(),
        credential=Credential(scheme=scheme, value=value), node="", build="0.1.0", kubernetes="v1.37.2",
    )  # fmt: skip


CHALLENGE = Challenge("hub-1", b"n" * 32, "192.0.2.7:1")


class World:
    def __init__(self) -> None:
        self.clock, self.names, self.index = SettableClock(), Names(), AgentTokenIndex()
        self.authenticator = AgentAuthenticator({"bearer": BearerScheme(self.index, self.names, self.clock)})

    def mint(self, prefix: str = bearer.AGENT_PREFIX, **changes: object) -> tuple[bytes, AgentToken]:
        minted = bearer.mint(prefix)
        record = agent_token(minted.id, digest=minted.digest, **changes)
        self.index.apply(made(record))
        return minted.text.encode(), record


async def test_a_token_is_its_clusters() -> None:
    world = World()
    text, record = world.mint()
    proven = await world.authenticator.authenticate(auth(text), CHALLENGE)
    assert proven == AgentIdentity("uid-a", "a", record.id, "cluster")


async def test_one_refusal_for_everything() -> None:
    world = World()
    text, record = world.mint()
    texts = set()
    cases = [
        auth(b""),
        auth(b"\xff" * 90),
        auth(bearer.mint(bearer.AGENT_PREFIX).text.encode()),
        auth(text[:-1] + (b"0" if text[-1:] != b"0" else b"1")),
        auth(world.mint(bearer.USER_PREFIX)[0]),
        auth(world.mint(expires_at=world.clock.now)[0]),
        auth(world.mint(cluster_uid="uid-gone")[0]),
        auth(text, scheme="signature"),
        auth(text, role="node"),
    ]
    for case in cases:
        with pytest.raises(Unauthenticated) as caught:
            await world.authenticator.authenticate(case, CHALLENGE)
        texts.add(str(caught.value))
    world.index.apply(gone(record))
    with pytest.raises(Unauthenticated) as caught:
        await world.authenticator.authenticate(auth(text), CHALLENGE)
    assert texts == {str(caught.value)}


async def test_a_scheme_can_be_added() -> None:
    class Scheme:
        async def verify(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
            return AgentIdentity("uid-a", "a", "key-1", auth.role)

    authenticator = AgentAuthenticator({"signature": Scheme()})
    proven = await authenticator.authenticate(auth(b"x", scheme="signature"), CHALLENGE)
    assert proven.credential_id == "key-1"


def test_the_index_follows(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[str] = []
    index = AgentTokenIndex(lost.append)
    one, two = agent_token("one"), agent_token("two", cluster_uid="uid-b", expires_at=5.0)
    index.apply(made(one))
    index.apply(made(two))
    assert AgentToken.of(stored(two)) == two
    assert index.of_cluster("uid-a") == [one]
    index.apply(gone(one))
    assert lost == ["one"]
    # One that can no longer be read proves nothing, so what runs on it is cut too.
    index.apply(Event(Resource(Key("agent-token", "uid-b", "two"), {}), False))
    assert list(index) == index.of_cluster("uid-a") == index.of_cluster("uid-b") == []
    assert len(caplog.records) == 1
    index.reset([stored(one)])
    index.apply(made(one))
    assert index.of_cluster("uid-a") == [one]
    index.reset([])
    assert index.of_cluster("uid-a") == []
    assert lost == ["one", "two", "one"]
