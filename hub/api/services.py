"""What the handlers work with: the indexes they read and the writers that go to the store."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import datetime
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, NamedTuple, Protocol

from hub.api.fetches import FetchLimit
from hub.auth.agentkeys import AgentKeyIndex, AgentKeys
from hub.auth.agents import AgentTokenIndex, AgentTokens
from hub.auth.authenticate import Authenticator
from hub.auth.grants import Authorizer, GrantIndex, Grants
from hub.auth.jointokens import JoinTokenIndex, JoinTokens
from hub.auth.nodes import DenialIndex, Denials
from hub.auth.principal import Principal
from hub.auth.tokens import TokenIndex, Tokens
from hub.catrust import Rotation
from hub.clock import Clock
from hub.clusters.cleanups import CleanUpIndex, CleanUps
from hub.clusters.nodetable import NodeTables
from hub.clusters.records import ClusterIndex, Clusters
from hub.config import ApiSettings
from hub.route import Reason
from hub.singleflight import SingleFlight
from proto.aio.tasks import TaskGroup
from proto.facts import NodeFacts

FINISH_S: Final = 2.0
"""What changes something gets to come to its end when the hub stops: as long as a goodbye."""


class Holder(NamedTuple):
    """Whose requests are counted together."""

    user: str
    is_limited: bool
    """By a token that is limited to clusters."""

    @staticmethod
    def of(caller: Principal) -> Holder:
        return Holder(caller.user, caller.cluster_uids is not None)


class TunnelStatus(Protocol):
    """One tunnel (hub.tunnel.registry.TunnelStatus)."""

    @property
    def role(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def credential_id(self) -> str: ...
    @property
    def instance(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def kubernetes(self) -> str: ...
    @property
    def connected_since(self) -> datetime.datetime: ...
    @property
    def last_received_age_s(self) -> float: ...
    @property
    def rtt_s(self) -> float | None: ...
    @property
    def streams(self) -> int: ...
    @property
    def is_eligible(self) -> bool: ...
    @property
    def facts(self) -> NodeFacts: ...


class RouteStatus(Protocol):
    """The route that a request would take now (hub.tunnel.registry.RouteStatus)."""

    @property
    def role(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def instance(self) -> str: ...
    @property
    def reason(self) -> Reason: ...
    @property
    def since(self) -> datetime.datetime | None: ...


class Visibility(Protocol):
    """Where a write has to be seen before it is answered (hub.store.index.Follower, or all workers)."""

    async def reached(self, revision: int) -> None: ...


class Tunnels(Protocol):
    """Who is connected (hub.tunnel.registry.Registry)."""

    async def refresh(self, cluster_uid: str = "", *, within_s: float = 0.0) -> None:
        """Learn what `status` says of tunnels of other processes; '' for all clusters. `within_s`: what was learnt of
        all will do if it is younger."""

    def status(self, cluster_uid: str) -> Sequence[TunnelStatus]: ...

    def route_now(self, cluster_uid: str) -> RouteStatus: ...

    def lost_when(self, cluster_uid: str) -> datetime.datetime | None: ...

    def seen_when(self, credential_id: str) -> datetime.datetime | None: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Composed in hub.app. `failing_checks` names what keeps the hub from being ready."""

    settings: ApiSettings
    clock: Clock
    hub_id: str
    ca_pem: Callable[[], bytes]
    """What /v1/ca gives out. Raises OSError, PinError."""
    hub_url: Callable[[], str]
    """Under which URL agents reach this hub."""
    agent_pins: Callable[[], Collection[str]]
    """Under which pins they may know it."""
    failing_checks: Callable[[], list[str]]
    follower: Visibility
    authenticator: Authenticator
    authorizer: Authorizer
    cluster_index: ClusterIndex
    token_index: TokenIndex
    agent_token_index: AgentTokenIndex
    join_token_index: JoinTokenIndex
    agent_key_index: AgentKeyIndex
    denial_index: DenialIndex
    denials: Denials
    node_tables: NodeTables
    node_lists: SingleFlight[bytes]
    """Of one cluster each, by its uid (hub.api.nodes)."""
    grant_index: GrantIndex
    clusters: Clusters
    clean_up_index: CleanUpIndex
    clean_ups: CleanUps
    tokens: Tokens
    tokens_in_the_making: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """By user: tokens that the index may not know yet. The bound on a user's tokens counts them."""
    clusters_in_the_making: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """By user: clusters that those tokens name."""
    under_way: collections.Counter[Holder] = dataclasses.field(default_factory=collections.Counter)
    """Requests whose answers are not read yet (hub.api.server)."""
    families: collections.Counter[tuple[Holder, bool]] = dataclasses.field(default_factory=collections.Counter)
    """Revocations with descendants that are under way (hub.api.tokens); by whether the token itself still exists."""
    changes: TaskGroup = dataclasses.field(default_factory=lambda: TaskGroup("changes"))
    """Requests that change something, which go on when their time is over. Ended by `finish`."""
    agent_tokens: AgentTokens
    join_tokens: JoinTokens
    agent_keys: AgentKeys
    grants: Grants
    tunnels: Tunnels
    fetches: FetchLimit
    rotate_key: Callable[[str], Awaitable[str]]
    """Has an enrolled agent replace its key; why it did not, or nothing."""
    joining_pins: Callable[[], Sequence[str]]
    """Pins that new agents are given. Raises OSError, PinError."""
    joining_ca: Callable[[], bytes]
    """The CAs behind the first of them; empty if the hub has none. Raises OSError."""
    refused: Callable[[str], None]
    """Counts a request that was refused for this reason (hub.metrics)."""
    ca_rotation: Callable[[], Awaitable[Rotation]]
    """Where the replacement of the hub's CA is. Raises OSError, PinError."""

    async def finish(self) -> None:
        """Wait, FINISH_S at most, for what has begun to change something: the store writes what it has accepted, and
        the audit event comes behind that. Then end it. Before the store is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                await self.changes.wait()
        await self.changes.aclose()
