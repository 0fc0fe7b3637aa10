"""How agents are let in, composed: indexes, writers, the schemes of their credentials, and what they may ask."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection
from typing import Final

from hub import tls
from hub.auth.agentkeys import AgentKeyIndex, AgentKeys
from hub.auth.agents import AgentAuthenticator, AgentTokenIndex, AgentTokens, BearerScheme
from hub.auth.enrol import JoinScheme, ProofCheck, SignatureScheme
from hub.auth.issuers import IssuerIndex, Issuers
from hub.auth.jointokens import JoinTokenIndex, JoinTokens
from hub.auth.nodes import DenialIndex, Denials, NodeTokens, NodeTokenScheme
from hub.auth.pods import PodIndex, Pods
from hub.auth.registrations import Registrations
from hub.auth.rotation import KeyRotation
from hub.auth.standing import Registrants, Standing
from hub.clock import Clock, wall_clock
from hub.clusters.nodetable import NodeTables
from hub.clusters.records import ClusterIndex
from hub.store.index import Follower, Index
from hub.store.interface import Store
from hub.tunnel.commands import AgentCommands
from hub.tunnel.registry import Registry
from proto import pins
from proto.aio.tasks import TaskGroup

logger = logging.getLogger(__name__)

_SETTLED_S: Final = 1.0
"""A file changed less than this ago may change once more without another time of change: clocks of file systems tick
slowly."""


@dataclasses.dataclass(frozen=True, slots=True)
class AgentIndexes:
    """What an agent's credential is looked up in."""

    tokens: AgentTokenIndex = dataclasses.field(default_factory=AgentTokenIndex)
    join_tokens: JoinTokenIndex = dataclasses.field(default_factory=JoinTokenIndex)
    keys: AgentKeyIndex = dataclasses.field(default_factory=AgentKeyIndex)
    issuers: IssuerIndex = dataclasses.field(default_factory=IssuerIndex)
    denials: DenialIndex = dataclasses.field(default_factory=DenialIndex)
    pods: PodIndex = dataclasses.field(default_factory=PodIndex)

    def followed(self) -> list[Index]:
        return [self.tokens, self.join_tokens, self.keys, self.issuers, self.denials, self.pods]


class AgentAdmission:
    """The writers, and what is made of them for the tunnel."""

    def __init__(
        self,
        store: Store,
        indexes: AgentIndexes,
        clusters: ClusterIndex,
        follower: Follower,
        clock: Clock,
        pins_now: Callable[[], Collection[str]],
        tasks: TaskGroup,
    ) -> None:
        self._store = store
        self._indexes = indexes
        self._clusters = clusters
        self._follower = follower
        self._clock = clock
        self._check = ProofCheck(clock, pins_now)
        is_live = Registrants(indexes.tokens, indexes.keys, clock).is_live
        self._node_tokens = NodeTokens(indexes.issuers, indexes.denials, indexes.pods, clusters, is_live, clock)
        self.standing = Standing(clusters, indexes.tokens, indexes.keys, self._node_tokens, clock)
        self.tokens = AgentTokens(store, clock)
        self.join_tokens = JoinTokens(store, clock)
        self.keys = AgentKeys(store, clock)
        self.denials = Denials(store, clock)
        self.node_tables = NodeTables(store, is_live, clock, tasks)

    def authenticator(self, tasks: TaskGroup) -> AgentAuthenticator:
        """Every scheme of docs/protocol.md §3.1. `tasks`: of what a handshake begins and may not cut."""
        indexes, clusters, check = self._indexes, self._clusters, self._check
        return AgentAuthenticator(
            {
                "bearer": BearerScheme(indexes.tokens, clusters, self._clock),
                "join": JoinScheme(
                    check, indexes.join_tokens, indexes.keys, self.keys, clusters, self._follower, tasks
                ),
                "signature": SignatureScheme(check, indexes.keys, clusters),
                "service-account": NodeTokenScheme(self._node_tokens),
            }
        )

    def commands(self, registry: Registry, tasks: TaskGroup) -> AgentCommands:
        """What agents may ask on the tunnels of `registry`, wired to hear of rotations."""
        rotation = KeyRotation(self._check, self._indexes.keys, self.keys, self._follower, self._clock)
        registrations = Registrations(Issuers(self._store, self._clock), Pods(self._store))
        commands = AgentCommands(
            registry, rotation, self._indexes.keys, registrations, self.node_tables, self._node_tokens, tasks
        )
        self._indexes.keys.on_rotated = commands.rotated
        return commands


class HubPins:
    """Under which pins agents may know this hub: those of its CA, read again when the file changes, and those that an
    operator names for a terminator in front. Empty when nothing can be known: plain HTTP, or files of the operator
    without their CA."""

    def __init__(self, files: tls.TlsFiles | None, named: Collection[str], clock: Clock = wall_clock) -> None:
        self._files = files
        self._named = frozenset(map(pins.parse_pin, named))
        self._clock = clock
        self._stamp: tuple[tuple[int, int, int], ...] | None = None
        self._own: frozenset[str] = frozenset()

    def __call__(self) -> frozenset[str]:
        try:
            if self._files is not None and (stamp := tls.ca_stamp(self._files)) != self._stamp:
                ca = tls.read_ca(self._files)
                self._own = frozenset(pins.pins_of_pem(ca)) if ca else frozenset()
                is_old = all(self._clock() - at / 1e9 > _SETTLED_S for at, _, _ in stamp)
                self._stamp = stamp if is_old else None
        except (OSError, pins.PinError):
            logger.exception("the CA file cannot be read, its last pins stay in force")
        return self._own | self._named
