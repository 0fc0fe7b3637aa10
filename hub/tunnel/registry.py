"""Live tunnels by cluster. In memory of this process; what is not here is not connected."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hub.auth.agents import ROLE_CLUSTER, AgentIdentity
from hub.auth.nodes import ROLE_NODE
from hub.auth.rotation import ProvenSession, nothing_proven
from hub.auth.standing import Fault
from hub.catrust import AgentTrust
from hub.route import Asked, Candidate, Decision, Reason, Route
from hub.tunnel.lastseen import LastSeen
from hub.tunnel.limits import NODE_TUNNELS_MAX
from hub.tunnel.route import QUESTION, decide, is_reachable
from proto.aio.link import Link
from proto.errors import Code
from proto.facts import NO_FACTS, NodeFacts

logger = logging.getLogger(__name__)

_dice: Final = random.SystemRandom()
SPREAD_PER_S: Final = 50.0
"""Agents that a hub which goes away asks back per second (facts/tunnels.md §7.3)."""
SPREAD_MAX_S: Final = 30.0
INSTANCES_MAX: Final = 5
"""P7: tunnels of one role of a cluster, or of one node."""
DRAINING_MAX: Final = 2
"""Sessions of one instance that may drain beside its newest: a long exec may outlive two that follow each other. Only
the peer ends a drain that it has announced, so that without a bound it could hold session after session."""


@dataclasses.dataclass(slots=True)
class ClusterFacts:
    """What one session's agent says of its cluster, for display; it may say so anew."""

    kubernetes: str
    """The API server's version."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tunnel:
    """One session of an agent instance, with what is known of the agent."""

    identity: AgentIdentity
    instance: bytes
    epoch: int
    link: Link
    address: str
    version: str
    """The agent's build."""
    cluster: ClusterFacts
    connected_at: datetime.datetime
    session_id: str
    proven: ProvenSession = dataclasses.field(default_factory=nothing_proven)
    """What its credential has proven, which may change while it lives."""
    is_control_plane: bool = False
    """What the agent says of its node; orders those that are eligible and does nothing else."""
    facts: NodeFacts = NO_FACTS
    """What it says of its node besides, for display."""
    trust: AgentTrust = dataclasses.field(default_factory=AgentTrust)
    """What it knows of the hub's CAs, while these are replaced."""
    candidate: Candidate = dataclasses.field(init=False)
    """The tunnel as a route."""

    def __post_init__(self) -> None:
        identity = self.identity
        candidate = Candidate(
            self.link,
            identity.role,
            self.instance,
            identity.node,
            is_eligible=may_serve(identity.role, is_fallback=identity.is_fallback),
            is_control_plane=self.is_control_plane,
            connected_at=self.connected_at,
        )
        object.__setattr__(self, "candidate", candidate)


def may_serve(role: str, *, is_fallback: bool) -> bool:
    """Whether requests may take a tunnel of an agent with this identity (design D5): one of a role that is not known
    here may not."""
    return role == ROLE_CLUSTER or (role == ROLE_NODE and is_fallback)


@dataclasses.dataclass(frozen=True, slots=True)
class TunnelStatus:
    """One tunnel as the management API shows it. Ages in seconds."""

    role: str
    node: str
    credential_id: str
    instance: str
    address: str
    version: str
    kubernetes: str
    connected_since: datetime.datetime
    last_received_age_s: float
    rtt_s: float | None
    streams: int
    is_eligible: bool = True
    """Requests may take it."""
    facts: NodeFacts = NO_FACTS
    trusts: tuple[str, ...] = ()
    """Pins of the CAs that it trusts; only while the hub's own is replaced."""
    keeps_trust: bool = False
    trust_problem: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class RouteStatus:
    """The route that a request would take now."""

    role: str
    """`none` without a route."""
    node: str
    instance: str
    reason: Reason
    since: datetime.datetime | None
    """From when on this agent would have been taken, as far as this process knows."""


class Refusal(Exception):
    """The registry does not take the tunnel."""

    def __init__(self, code: Code, reason: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason
        self.text = text


class Registry:
    """`now`: the clock of the links. `wall`: current time for people."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
        *,
        node_tunnels_max: int = NODE_TUNNELS_MAX,
    ) -> None:
        self._now = now
        self._wall = wall
        self._node_tunnels_max = node_tunnels_max
        self._tunnels: dict[str, list[Tunnel]] = {}
        self._nodes: dict[str, list[Tunnel]] = {}
        """Tunnels of role node, those that may serve and those that may not."""
        self._serving: dict[str, list[Candidate]] = {}
        """Of both, those that may serve: a cluster of a thousand nodes has three or so."""
        self._seen: LastSeen[datetime.datetime] = LastSeen()
        self._lost: LastSeen[tuple[float, datetime.datetime]] = LastSeen()
        """Of role cluster."""
        self._fallback_lost: LastSeen[float] = LastSeen()
        self._spared: set[Tunnel] = set()
        """Of deleted clusters, to carry their clean-up (hub.tunnel.cleanups)."""

    def __iter__(self) -> Iterator[Tunnel]:
        everybody = (*self._tunnels.values(), *self._nodes.values())
        return iter([tunnel for tunnels in everybody for tunnel in tunnels])

    def _everybody(self, cluster_uid: str) -> list[Tunnel]:
        return [*self._tunnels.get(cluster_uid, ()), *self._nodes.get(cluster_uid, ())]

    def _of(self, identity: AgentIdentity) -> dict[str, list[Tunnel]]:
        return self._nodes if identity.role == ROLE_NODE else self._tunnels

    def mates_of(self, identity: AgentIdentity) -> list[Tunnel]:
        """The tunnels of the same role of the same cluster, and of the same node."""
        peers = self._of(identity).get(identity.cluster_uid, ())
        return [tunnel for tunnel in peers if tunnel.identity.node == identity.node]

    def check(self, identity: AgentIdentity, instance: bytes, epoch: int) -> None:
        """Raises Refusal if a tunnel of this instance and epoch would not be taken."""
        peers = self.mates_of(identity)
        same = [tunnel for tunnel in peers if tunnel.instance == instance]
        if any(tunnel.epoch >= epoch for tunnel in same):
            raise Refusal(Code.SUPERSEDED, "superseded", "a newer session of this instance is open")
        if not self._has(identity, instance) and not self._has_room(identity):
            raise Refusal(
                Code.OVERLOADED,
                "too-many-nodes",
                f"the cluster has {self._node_tunnels_max} tunnels of node agents, as many as the hub's setting"
                " node_tunnels_max allows",
            )
        others = {tunnel.instance for tunnel in peers} - {instance}
        if len(others) >= INSTANCES_MAX:
            what = "node" if identity.role == ROLE_NODE else "cluster"
            raise Refusal(Code.OVERLOADED, "too-many-instances", f"the {what} has {INSTANCES_MAX} agents of this role")

    def node_tunnels(self, cluster_uid: str) -> int:
        """How many tunnels of node agents a cluster has."""
        return len(self._nodes.get(cluster_uid, ()))

    def add(self, tunnel: Tunnel) -> None:
        """Take a tunnel; an older session of the same instance ends at once (P7). Raises Refusal."""
        uid = tunnel.identity.cluster_uid
        self.check(tunnel.identity, tunnel.instance, tunnel.epoch)
        superseded = self._superseded_by(tunnel)
        self._of(tunnel.identity).setdefault(uid, []).append(tunnel)
        if tunnel.candidate.is_eligible:
            self._serving.setdefault(uid, []).append(tunnel.candidate)
        for old in superseded:
            self._forget(old)
            old.link.close(Code.SUPERSEDED, "a newer session of this instance is open")

    def _superseded_by(self, tunnel: Tunnel) -> list[Tunnel]:
        """Those that end when this one is taken. Of the same role and node only: an instance id is no secret, and
        whoever copies it supersedes nobody else."""
        identity = tunnel.identity
        same = [old for old in self.mates_of(identity) if old.instance == tunnel.instance]
        # One that drains was announced to end, and this is its replacement: it keeps the streams it has, unless there
        # are too many, or the cluster has no place beside the one that is given back.
        draining = [old for old in same if old.link.is_draining]
        spared = draining[-DRAINING_MAX:] if self._has_room(identity) else []
        return [old for old in same if old not in spared]

    def _has(self, identity: AgentIdentity, instance: bytes) -> bool:
        """Whether this instance has a tunnel, which a newer one takes the place of."""
        return any(tunnel.instance == instance for tunnel in self.mates_of(identity))

    def _has_room(self, identity: AgentIdentity) -> bool:
        """For one more tunnel of a node agent; those of role cluster are bounded by their instances."""
        return identity.role != ROLE_NODE or self.node_tunnels(identity.cluster_uid) < self._node_tunnels_max

    def remove(self, tunnel: Tunnel) -> None:
        """The session has ended: called in that moment, before the goodbye. Idempotent."""
        if not self._forget(tunnel):
            return
        uid = tunnel.identity.cluster_uid
        self._seen.note(tunnel.identity.credential_id, self._wall())
        if tunnel.identity.role != ROLE_NODE:
            self._lost.note(uid, (self._now(), self._wall()))
        elif tunnel.candidate.is_eligible:
            self._fallback_lost.note(uid, self._now())

    def _forget(self, tunnel: Tunnel) -> bool:
        """Take a tunnel out of the books; whether it was there."""
        uid, role = tunnel.identity.cluster_uid, self._of(tunnel.identity)
        tunnels = role.get(uid, [])
        if tunnel not in tunnels:
            return False
        tunnels.remove(tunnel)
        if not tunnels:
            del role[uid]
        serving = self._serving.get(uid, [])
        if tunnel.candidate in serving:
            serving.remove(tunnel.candidate)
            if not serving:
                del self._serving[uid]
        tunnel.candidate.let_go()
        return True

    def of_cluster(self, cluster_uid: str) -> Sequence[Tunnel]:
        return self._tunnels.get(cluster_uid, ())

    def pick(self, cluster_uid: str, asked: Asked = QUESTION, *, without: Sequence[Route] = ()) -> Decision:
        """The route for the next request of this class that has tried some already."""
        tunnels = self._tunnels.get(cluster_uid)
        if tunnels is not None and len(tunnels) == 1 and not without:
            only = tunnels[0].candidate
            if only.route.may_open and only.route.unanswered_ping_at is None:
                return only.only
        return decide(self.candidates(cluster_uid), asked, self._now(), without)

    def has_route(self, cluster_uid: str) -> bool:
        """Whether a request would find one now."""
        return is_reachable(self.candidates(cluster_uid), self._now())

    def candidates(self, cluster_uid: str) -> Sequence[Candidate]:
        """Those that may serve, or those that are there and may not."""
        serving = self._serving.get(cluster_uid)
        return serving or [tunnel.candidate for tunnel in self._nodes.get(cluster_uid, ())]

    def draining(self, tunnel: Tunnel) -> None:
        """The agent of this tunnel goes away; `pick` sees it on the link."""

    async def refresh(self, cluster_uid: str = "", *, within_s: float = 0.0) -> None:
        """Learn what `status` of a cluster, '' for all, has to know of elsewhere: here nothing. `within_s`: what was
        learnt of all will do if it is younger."""

    async def rotate_elsewhere(self, credential_id: str) -> str | None:
        """Have an agent that is connected elsewhere replace its key: why it did not, empty when it did, None when it is
        connected nowhere."""
        return None

    def status(self, cluster_uid: str) -> list[TunnelStatus]:
        """What the management API shows, newest tunnel last."""
        now = self._now()
        return [
            TunnelStatus(
                role=tunnel.identity.role,
                node=tunnel.identity.node,
                credential_id=tunnel.identity.credential_id,
                instance=tunnel.instance.hex(),
                address=tunnel.address,
                version=tunnel.version,
                kubernetes=tunnel.cluster.kubernetes,
                facts=tunnel.facts,
                connected_since=tunnel.connected_at,
                last_received_age_s=max(now - tunnel.link.last_received_at, 0.0),
                rtt_s=tunnel.link.rtt_s,
                streams=tunnel.link.streams,
                is_eligible=tunnel.candidate.is_eligible,
                trusts=tunnel.trust.pins,
                keeps_trust=tunnel.trust.keeps,
                trust_problem=tunnel.trust.problem,
            )
            for tunnel in (*self._tunnels.get(cluster_uid, ()), *self._nodes.get(cluster_uid, ()))
        ]

    def route_now(self, cluster_uid: str) -> RouteStatus:
        """What the management API shows. A route began when its agent connected; that of a node agent not before the
        last cluster agent was lost."""
        decision = self.pick(cluster_uid)
        chosen = decision.candidate
        if chosen is None:
            return RouteStatus("none", "", "", decision.reason, None)
        since, lost = chosen.connected_at, self.lost_when(cluster_uid)
        if chosen.role == ROLE_NODE and since is not None and lost is not None:
            since = max(since, lost)
        return RouteStatus(chosen.role, chosen.node, chosen.instance.hex(), decision.reason, since)

    def cut(self, *, cluster_uid: str | None = None, credential_id: str | None = None, code: Code) -> int:
        """End the sessions of a cluster or of a credential now; how many. Used when one is deleted or revoked."""
        doomed = [
            tunnel
            for tunnel in self
            if tunnel not in self._spared
            and (
                (cluster_uid is not None and tunnel.identity.cluster_uid == cluster_uid)
                or (credential_id is not None and tunnel.identity.credential_id == credential_id)
            )
        ]
        for tunnel in doomed:
            tunnel.link.close(code, "the credential or the cluster was revoked")
        if cluster_uid is not None:
            self._lost.forget(cluster_uid)
            self._fallback_lost.forget(cluster_uid)
        return len(doomed)

    def spare(self, cluster_uid: str, instance: str) -> Tunnel | None:
        """A tunnel that `cut` shall leave alone until `cut_spared`; None if it is not of this process, or not alive.
        `instance` in hexadecimal: no secret, so a node agent that may not serve is none, whichever it has copied."""
        for tunnel in self._everybody(cluster_uid):
            if tunnel.candidate.is_eligible and tunnel.instance.hex() == instance and tunnel.link.is_open:
                self._spared.add(tunnel)
                return tunnel
        return None

    def cut_spared(self, tunnel: Tunnel, code: Code) -> None:
        """End the session of a spared tunnel now."""
        self._spared.discard(tunnel)
        tunnel.link.close(code, "the cluster was deleted")

    def cut_faulty(self, fault: Callable[[ProvenSession], Fault | None], *, cluster_uid: str | None = None) -> int:
        """End the sessions, of one cluster when given, that `fault` finds something wrong with; how many."""
        doomed = 0
        for tunnel in self if cluster_uid is None else self._everybody(cluster_uid):
            is_looked_at = tunnel.link.is_open and tunnel not in self._spared
            found = fault(tunnel.proven) if is_looked_at else None
            if found is not None:
                doomed += 1
                tunnel.link.close(found.code, found.text)
        return doomed

    def seen_when(self, credential_id: str) -> datetime.datetime | None:
        """When an agent that has no session now last had one, as this process has seen or heard."""
        return self._seen.get(credential_id)

    def lost_at(self, cluster_uid: str) -> float | None:
        """When, on the links' clock, the cluster last lost a tunnel that served; None if never in the life of this
        process. One that drains counts as lost now: its successor is on the way.
        """
        if any(each.route.is_draining and each.route.is_open for each in self._serving.get(cluster_uid, ())):
            return self._now()
        lost, fallback = self._lost.get(cluster_uid), self._fallback_lost.get(cluster_uid)
        return max((at for at in (lost and lost[0], fallback) if at is not None), default=None)

    def lost_when(self, cluster_uid: str) -> datetime.datetime | None:
        """When, for people, the cluster last lost a tunnel of role cluster."""
        lost = self._lost.get(cluster_uid)
        return None if lost is None else lost[1]

    def drain(self, deadline_s: float, jitter: Callable[[], float] = _dice.random) -> None:
        """Tell every agent that this hub goes away (GOAWAY), and when to come back: spread, so that the next hub is not
        met by all of them at once. Sessions end when their streams have. `jitter`: 0 to 1."""
        tunnels = list(self)
        spread_s = min(SPREAD_MAX_S, len(tunnels) / SPREAD_PER_S)
        for tunnel in tunnels:
            tunnel.link.send_drain(deadline_s, Code.DRAINING, "the hub is shutting down", retry_s=jitter() * spread_s)
