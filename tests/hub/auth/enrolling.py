"""Agents that enrol, as the hub's schemes see them: real keys, a real store, an index that follows it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hub.auth.agentkeys import AgentKey, AgentKeyIndex, AgentKeys, PublicKey
from hub.auth.agents import AgentAuthenticator, AgentIdentity, AgentTokenIndex, Challenge
from hub.auth.enrol import JoinScheme, ProofCheck, SignatureScheme
from hub.auth.jointokens import JoinToken, JoinTokenIndex, JoinTokens
from hub.auth.nodes import NodeTokens
from hub.auth.recordindex import RecordIndex
from hub.auth.standing import Standing
from hub.store.index import Follower
from hub.store.sqlite import SqliteStore
from proto import codec, credentials
from proto.aio.tasks import TaskGroup
from proto.limits import Limits
from proto.messages import AgentAuth, Credential, JoinProof, SignatureProof, Transcript
from tests.hub.store.conformance import SettableClock

PIN = "sha256:" + "a" * 64
CHALLENGE = Challenge("hub-1", b"n" * 32, "192.0.2.7:1")


class Names:
    def __init__(self) -> None:
        self.names = {"uid-a": "a", "uid-b": "b"}

    def name_of(self, uid: str) -> str | None:
        return self.names.get(uid)


class World:
    """A hub without network: `join` and `sign` are what an agent with `seed` would send."""

    def __init__(self, store: SqliteStore, clock: SettableClock, tasks: TaskGroup) -> None:
        self.store, self.clock, self.names, self.tasks = store, clock, Names(), tasks
        self.tokens, self.keys = JoinTokenIndex(), AgentKeyIndex()
        self.follower = Follower(store, [self.tokens, self.keys])
        self.token_writer, self.key_writer = JoinTokens(store, clock), AgentKeys(store, clock)
        self.pins: set[str] = {PIN}
        self.check = check = ProofCheck(clock, lambda: self.pins)
        self.authenticator = AgentAuthenticator(
            {
                "join": JoinScheme(check, self.tokens, self.keys, self.key_writer, self.names, self.follower, tasks),
                "signature": SignatureScheme(check, self.keys, self.names),
            }
        )

    def standing(self, tokens: AgentTokenIndex, nodes: NodeTokens) -> Standing:
        return Standing(self.names, tokens, self.keys, nodes, self.clock)

    async def token(self, cluster: str = "uid-a", lifetime_s: float = 900.0) -> bytes:
        _, minted, revision = await self.token_writer.create(
            cluster_uid=cluster, lifetime_s=lifetime_s, created_by="admin"
        )
        await self.follower.reached(revision)
        return minted.text.encode()

    async def show(self, auth: AgentAuth, challenge: Challenge = CHALLENGE) -> AgentIdentity:
        return await self.authenticator.authenticate(auth, challenge)

    async def revoke(self, agent_id: str, cluster: str = "uid-a") -> None:
        record = await self.key_writer.revoke(cluster, agent_id, by="admin")
        assert record is not None
        await self.follower.reached(record.revision)

    async def replace(self, agent_id: str, seed: bytes, cluster: str = "uid-a") -> None:
        """The agent has another key from now on, and the last one is dead in ten seconds."""
        now, new = self.clock.now, PublicKey(credentials.public_key(seed), self.clock.now)

        def decide(record: AgentKey) -> AgentKey:
            return dataclasses.replace(record, keys=(dataclasses.replace(record.current, until=now + 10.0), new))

        record = await self.key_writer.change(cluster, agent_id, decide)
        assert record is not None
        await self.follower.reached(record.revision)

    def join(self, seed: bytes, token: bytes, **changes: object) -> AgentAuth:
        return self._auth("join", seed, token, "", changes)

    def sign(self, seed: bytes, cluster: str = "uid-a", **changes: object) -> AgentAuth:
        return self._auth("signature", seed, b"", cluster, changes)

    def _auth(self, scheme: str, seed: bytes, token: bytes, cluster: str, changes: dict[str, object]) -> AgentAuth:
        """`changes` to the transcript are signed; a name with `sent_` in front changes only what is sent."""
        key, now = credentials.public_key(seed), int(self.clock.now * 1000)
        fields: dict[str, object] = {
            "purpose": scheme, "hub_id": CHALLENGE.hub_id, "nonce": CHALLENGE.nonce, "pins": (PIN,), "cluster": cluster,
            "token_sha256": hashlib.sha256(token).digest() if token else b"", "role": "cluster",
            "instance": b"i" * 16, "epoch": 1, "signed_at": now, "key": key,
            **{name: value for name, value in changes.items() if not name.startswith("sent_")},
        }  # fmt: skip
        signature = credentials.sign(seed, Transcript(**fields))  # type: ignore[arg-type]
        sent = {name: fields[name] for name in ("pins", "signed_at", "key")} | {"signature": signature}
        sent |= {"token": token} if token else {"cluster": cluster}
        sent |= {name.removeprefix("sent_"): value for name, value in changes.items() if name.startswith("sent_")}
        shape = JoinProof if token else SignatureProof
        role, instance = sent.pop("role", fields["role"]), sent.pop("instance", fields["instance"])
        return AgentAuth(
            role=str(role),
            instance=instance,  # type: ignore[arg-type]
            epoch=sent.pop("epoch", fields["epoch"]),  # type: ignore[arg-type]
            versions=(1, 1),
            limits=Limits().offer(),
            credential=Credential(scheme=scheme, value=codec.encode(shape(**sent))),  # type: ignore[arg-type]
        )


def no_index() -> Any:
    """An index of nothing."""
    return RecordIndex("nothing", JoinToken.of)


class NoExchanges:
    def cut(self, **_: object) -> None: ...

    def recheck(self, cluster_uid: str) -> None: ...


@contextlib.asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    clock = SettableClock()
    store = await SqliteStore.open(directory / "hub.db", clock=clock)
    async with TaskGroup("world") as tasks, TaskGroup("enrolments") as enrolments:
        made = World(store, clock, enrolments)
        await made.follower.load()
        tasks.spawn(made.follower.run(), name="follower")
        yield made
    await store.close()
