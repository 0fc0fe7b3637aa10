"""What the agents of a hub may ask, and what the hub asks of them: the hub's half of proto.commands.

Each session has its own server; who is concerned comes from the session, never from an argument.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from hub.auth.agentkeys import AgentKeyIndex
from hub.auth.agents import ROLE_CLUSTER, AgentIdentity, CredentialRefused
from hub.auth.nodes import ROLE_NODE, NodeTokens
from hub.auth.registrations import Registrations
from hub.auth.rotation import KeyRotation
from hub.clusters.nodetable import NodeTables
from hub.store.model import StoreError
from hub.store.writer import FAILURES_BURST, FAILURES_PER_S
from hub.tunnel.registry import INSTANCES_MAX, Registry, Tunnel
from hub.tunnel.writerate import WriteRate
from proto.aio.commands import Handler, call
from proto.aio.tasks import TaskGroup
from proto.commands import (
    PRESENT_TOKEN,
    PROVE_KEY,
    REGISTER_ISSUER,
    REGISTER_NODES,
    REGISTER_PODS,
    RENEW_TOKEN,
    REPLACE_KEY,
    ROTATE_KEY,
    TELL_NODES,
    TELL_VERSION,
    NodesMissing,
    Nothing,
    PresentToken,
    ProveKey,
    RegisterIssuer,
    RegisterNodes,
    RegisterPods,
    RenewToken,
    ReplaceKey,
    TellNodes,
    TellVersion,
    Verb,
)
from proto.errors import Code, RiataError, StreamReset
from proto.rationing import RationedLog
from proto.tokenrenewal import renewed, signed_part
from proto.window import Bucket

logger = logging.getLogger(__name__)

_R = TypeVar("_R")

RENEW_AGAIN_S: Final = 3.0
"""Between two requests to prove the new key: the replica may not have read it yet."""
UNFINISHED_MAX: Final = 4 * INSTANCES_MAX
"""Writes of one cluster's agents that are under way at once: an agent says four things side by side (its key, the
issuer, the pods, the nodes). The store has one reader for all clusters, and who takes a command back asks for more."""
TOKENS_BURST: Final = 5.0
TOKENS_PER_S: Final = 0.1
"""Tokens that one session may have checked: each is a signature on the event loop. The kubelet renews one every eight
minutes; the rest is for an agent whose token is refused until its cluster has registered a new signing key."""
_WHOLE_TOKEN: Final = 1.0
"""What `renew-token` leaves in the bucket: an agent whose changes are refused says the token whole at once, and would
never come to that if its changes took each place."""


class AgentCommands:
    """Handlers for one hub's tunnels, and the requests that a rotation makes."""

    def __init__(
        self,
        registry: Registry,
        rotation: KeyRotation,
        keys: AgentKeyIndex,
        registrations: Registrations,
        node_tables: NodeTables,
        node_tokens: NodeTokens,
        tasks: TaskGroup,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._failures = RationedLog(logger, now, burst=FAILURES_BURST, per_s=FAILURES_PER_S)
        self._registry = registry
        self._registrations = registrations
        self._node_tables = node_tables
        self._writes = WriteRate()
        self._unfinished: collections.Counter[str] = collections.Counter()
        """Writes under way by cluster uid."""
        self._node_tokens = node_tokens
        self._rotation = rotation
        self._keys = keys
        self._tasks = tasks

    def handlers(self, tunnel: Tunnel) -> Mapping[Verb, Handler]:
        """What the agent of this tunnel may ask; asked for once, when its session begins."""
        checks = Bucket(TOKENS_BURST, TOKENS_PER_S)

        who = tunnel.identity

        async def replace_key(args: ReplaceKey) -> Nothing:
            await self._write(tunnel, lambda: self._rotation.replace(tunnel.proven, args))
            return Nothing()

        async def register_issuer(args: RegisterIssuer) -> Nothing:
            _only_its_agent(tunnel)
            await self._write(tunnel, lambda: self._registrations.issuer(who, args))
            return Nothing()

        async def register_pods(args: RegisterPods) -> Nothing:
            _only_its_agent(tunnel)
            await self._write(tunnel, lambda: self._registrations.pods(who, args))
            return Nothing()

        async def register_nodes(args: RegisterNodes) -> NodesMissing:
            _only_its_agent(tunnel)
            return await self._write(tunnel, lambda: self._register_nodes(tunnel, args))

        async def tell_nodes(args: TellNodes) -> Nothing:
            _only_its_agent(tunnel)
            await self._write(tunnel, lambda: self._node_tables.tell(who.cluster_uid, who.credential_id, args))
            return Nothing()

        async def tell_version(args: TellVersion) -> Nothing:
            _only_its_agent(tunnel)
            self._writes.take(tunnel)  # nothing is written, and nobody has to say it more often
            tunnel.cluster.kubernetes = args.kubernetes
            return Nothing()

        async def present_token(args: PresentToken) -> Nothing:
            self._count(checks)
            self._take_token(tunnel, args.token)
            return Nothing()

        async def renew_token(args: RenewToken) -> Nothing:
            self._count(checks, leave=_WHOLE_TOKEN)
            self._take_token(tunnel, renewed(tunnel.proven.token, args))
            return Nothing()

        return {
            REPLACE_KEY: replace_key,
            REGISTER_ISSUER: register_issuer,
            REGISTER_PODS: register_pods,
            REGISTER_NODES: register_nodes,
            TELL_NODES: tell_nodes,
            TELL_VERSION: tell_version,
            PRESENT_TOKEN: present_token,
            RENEW_TOKEN: renew_token,
        }

    def _count(self, checks: Bucket, *, leave: float = 0.0) -> None:
        """Count a token that is to be checked. Raises StreamReset OVERLOADED when there were too many."""
        now = self._now()
        if checks.is_empty(now) or checks.level < 1.0 + leave:
            raise StreamReset(
                f"this session presents tokens too often: one in {1 / TOKENS_PER_S:.0f} s is taken", Code.OVERLOADED
            )
        checks.spend(now)

    def _take_token(self, tunnel: Tunnel, token: str) -> None:
        """The session of a node agent goes on until this token ends. Raises StreamReset."""
        proven = tunnel.proven
        if tunnel.identity.role != ROLE_NODE:
            raise StreamReset("only a node agent presents tokens", Code.FORBIDDEN)
        try:
            fresh = self._node_tokens.identity(token.encode(), proven.challenge.hub_id)
        except CredentialRefused as exc:
            raise StreamReset(exc.message, exc.code) from None
        if _without_token(fresh) != _without_token(tunnel.identity):
            raise StreamReset("the token is another agent's", Code.FORBIDDEN)
        proven.expires_at, proven.rests_on, proven.token = fresh.expires_at, fresh.rests_on, signed_part(token)

    async def _register_nodes(self, tunnel: Tunnel, args: RegisterNodes) -> NodesMissing:
        who = tunnel.identity
        missing, parts = await self._node_tables.register(who.cluster_uid, who.credential_id, args)
        self._writes.charge(tunnel, parts)
        return missing

    async def _write(self, tunnel: Tunnel, work: Callable[[], Awaitable[_R]]) -> _R:
        """Count it, and do it to its end: what an agent has begun to write is written, and audited, though it takes its
        command back or leaves. Raises StreamReset."""
        uid = tunnel.identity.cluster_uid
        if self._unfinished[uid] >= UNFINISHED_MAX:
            raise StreamReset("too much that the agents of this cluster write is not written yet", Code.OVERLOADED)
        self._writes.take(tunnel)
        self._unfinished[uid] += 1
        return await self._tasks.unbroken(
            self._written(tunnel, work), (StreamReset,), name=f"write-{tunnel.session_id}"
        )

    async def _written(self, tunnel: Tunnel, work: Callable[[], Awaitable[_R]]) -> _R:
        """Raises StreamReset."""
        try:
            return await work()
        except StoreError as exc:
            kind, cluster = type(exc).__name__, tunnel.identity.cluster_name
            event = "an agent's word could not be stored"
            self._failures.log(logging.ERROR, event, kind, with_traceback=True, cluster=cluster)
            raise StreamReset("the hub's store does not work now", Code.OVERLOADED) from None
        finally:
            self._finished(tunnel.identity.cluster_uid)

    def _finished(self, cluster_uid: str) -> None:
        self._unfinished[cluster_uid] -= 1
        if not self._unfinished[cluster_uid]:
            del self._unfinished[cluster_uid]

    def rotated(self, agent_id: str) -> None:
        """The agent has a new key: have every session prove it. What does not is cut when the old one dies."""
        for tunnel in self._registry:
            if tunnel.identity.credential_id == agent_id and self._wanted(tunnel):
                self._tasks.spawn(self._renew(tunnel), name=f"renew-{tunnel.link.name}")

    async def rotate_key(self, agent_id: str) -> str:
        """Have a connected agent replace its key now; why it did not, or nothing."""
        why = await self.rotate_own(agent_id)
        if why is None:
            why = await self._registry.rotate_elsewhere(agent_id)
        return "it is not connected" if why is None else why

    async def rotate_own(self, agent_id: str) -> str | None:
        """The same over a tunnel of this process; None when there is none."""
        for tunnel in self._registry:
            if tunnel.identity.credential_id == agent_id and tunnel.link.may_open:
                try:
                    await call(tunnel.link, ROTATE_KEY, Nothing())
                except (RiataError, TimeoutError) as exc:
                    return str(exc) or "it did not answer in time"
                return ""
        return None

    def _wanted(self, tunnel: Tunnel) -> bytes:
        """The key that the session still has to prove; empty when there is none."""
        record = self._keys.get(tunnel.identity.credential_id)
        if record is None or record.is_revoked or not tunnel.link.is_open:
            return b""
        return b"" if tunnel.proven.key == record.current.value else record.current.value

    async def _renew(self, tunnel: Tunnel) -> None:
        while key := self._wanted(tunnel):
            try:
                proof = await call(tunnel.link, PROVE_KEY, ProveKey(key=key.hex()))
            except (RiataError, TimeoutError) as exc:
                logger.info("new key not proven yet", extra={"link": tunnel.link.name, "error": str(exc)})
            else:
                if self._rotation.prove(tunnel.proven, key, proof):
                    return
            await asyncio.sleep(RENEW_AGAIN_S)


def _only_its_agent(tunnel: Tunnel) -> None:
    """Raises StreamReset FORBIDDEN."""
    if tunnel.identity.role != ROLE_CLUSTER:
        raise StreamReset("only a cluster's own agent says this of its cluster", Code.FORBIDDEN)


def _without_token(identity: AgentIdentity) -> AgentIdentity:
    """What must be the same with a fresher token: who it is and what it may, not when it ends and who signed it."""
    return dataclasses.replace(identity, expires_at=None, rests_on="")
