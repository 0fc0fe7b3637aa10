"""The registry of a worker: its own tunnels, and hops to those of the other workers.

A request takes a tunnel of this worker if a lively one is there, since a hop costs a second process; else the
healthiest of all.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import math
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

from hub.auth.agents import AgentIdentity
from hub.auth.nodes import ROLE_NODE
from hub.route import Asked, Candidate, Decision, Reason, Route
from hub.singleflight import SingleFlight
from hub.tunnel.limits import NODE_TUNNELS_MAX
from hub.tunnel.registry import INSTANCES_MAX, Refusal, Registry, Tunnel, TunnelStatus
from hub.tunnel.route import QUESTION, decide
from hub.workers import messages
from hub.workers.channel import Channel, ChannelLost
from hub.workers.directory import Directory, Remote, loses, replaces
from hub.workers.hop import Hop
from hub.workers.host import Host
from hub.workers.messages import Live, Lives, Opened, Outcome
from proto.aio.tasks import TaskGroup
from proto.errors import Code
from proto.limits import Limits
from proto.window import Budget

logger = logging.getLogger(__name__)

_SWEEP_S: Final = 1.0


class SharedRegistry(Registry):
    """`worker`: our number. `on_drain` is set by the owner: an agent that requests hop to goes away."""

    def __init__(
        self,
        worker: int,
        channel: Channel,
        *,
        limits: Limits,
        budget: Budget,
        on_hop: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
        node_tunnels_max: int = NODE_TUNNELS_MAX,
    ) -> None:
        super().__init__(now, wall, node_tunnels_max=node_tunnels_max)
        self._worker = worker
        self._channel = channel
        self._limits = limits
        self._budget = budget
        self._on_hop = on_hop
        self._clock = now
        self._tasks = TaskGroup("registry")
        self.directory = Directory(now, wall)
        self.host = Host(limits, budget, now)
        self.on_drain: Callable[[Route], object] = lambda route: None
        self._hops: dict[Remote, Hop] = {}
        self._remote: dict[Remote, Candidate] = {}
        self._by_session: dict[str, Tunnel] = {}
        """Our own: a hop names one of thousands, and many come in a second."""
        self._is_closed = False
        self._lives: dict[str, tuple[float, Live]] = {}
        self._looked_at = -math.inf
        """When the last answer about all clusters came."""
        self._looks = SingleFlight[None](self._tasks)
        """By cluster uid. Every one makes all other workers go through their tunnels, and thousands can ask at once."""

    def start(self) -> None:
        self.host.start()
        self._tasks.spawn(self._sweep(), name="idle hops")

    async def aclose(self) -> None:
        self._is_closed = True
        for hop in self._hops.values():
            hop.close()
        await self._tasks.aclose()
        await self.host.aclose()

    # -- own tunnels

    def check(self, identity: AgentIdentity, instance: bytes, epoch: int) -> None:
        remote = self._mates_elsewhere(identity)
        if any(each.instance == instance and each.epoch >= epoch for each in remote):
            raise Refusal(Code.SUPERSEDED, "superseded", "a newer session of this instance is open")
        own = {each.instance for each in self.mates_of(identity)}
        others = {each.instance for each in remote}
        if len((own | others) - {instance}) >= INSTANCES_MAX:
            what = "node" if identity.role == ROLE_NODE else "cluster"
            raise Refusal(Code.OVERLOADED, "too-many-instances", f"the {what} has {INSTANCES_MAX} agents of this role")
        super().check(identity, instance, epoch)

    def _mates_elsewhere(self, identity: AgentIdentity) -> list[Opened]:
        if identity.role != ROLE_NODE:
            return [each.opened for each in self.directory.of_cluster(identity.cluster_uid)]
        nodes = [each.opened for each in self.directory.nodes_of(identity.cluster_uid)]
        return [each for each in nodes if each.node == identity.node]

    def _has(self, identity: AgentIdentity, instance: bytes) -> bool:
        elsewhere = self._mates_elsewhere(identity)
        return super()._has(identity, instance) or any(each.instance == instance for each in elsewhere)

    def node_tunnels(self, cluster_uid: str) -> int:
        return super().node_tunnels(cluster_uid) + len(self.directory.nodes_of(cluster_uid))

    def add(self, tunnel: Tunnel) -> None:
        identity = tunnel.identity
        self.check(identity, tunnel.instance, tunnel.epoch)
        # The others hear of it before they hear that it supersedes one: nobody sees a cluster without an agent.
        self._channel.tell(
            Opened(
                worker=self._worker,
                session_id=tunnel.session_id,
                cluster_uid=identity.cluster_uid,
                cluster_name=identity.cluster_name,
                role=identity.role,
                instance=tunnel.instance,
                epoch=tunnel.epoch,
                address=tunnel.address,
                version=tunnel.version,
                kubernetes=tunnel.cluster.kubernetes,
                connected_at=tunnel.connected_at.timestamp(),
                compresses=tunnel.link.compresses,
                credential_id=identity.credential_id,
                node=identity.node,
                is_eligible=tunnel.candidate.is_eligible,
                is_control_plane=tunnel.is_control_plane,
                facts=tunnel.facts,
            )
        )
        super().add(tunnel)
        self._by_session[tunnel.session_id] = tunnel

    def _forget(self, tunnel: Tunnel) -> bool:
        self._by_session.pop(tunnel.session_id, None)
        return super()._forget(tunnel)

    def remove(self, tunnel: Tunnel) -> None:
        super().remove(tunnel)
        self.host.ended(tunnel)
        self._channel.tell(messages.Closed(tunnel.session_id))

    def draining(self, tunnel: Tunnel) -> None:
        if tunnel in self._everybody(tunnel.identity.cluster_uid):  # else `Closed` was told
            self._channel.tell(messages.Draining(tunnel.session_id))
        self.host.draining(tunnel)

    def cut(self, *, cluster_uid: str | None = None, credential_id: str | None = None, code: Code) -> int:
        if cluster_uid is not None:
            self.directory.forget(cluster_uid)
        return super().cut(cluster_uid=cluster_uid, credential_id=credential_id, code=code)

    def visited(self, session_id: str, sock: socket.socket) -> None:
        """Another worker's way to one of our tunnels."""
        if self._is_closed:
            sock.close()
            return
        self.host.take(self._by_session.get(session_id), sock, session_id)

    def live(self, cluster_uid: str) -> Lives:
        """How our tunnels of a cluster are, '' for all."""
        now = self._clock()
        own = [each for each in self if cluster_uid in {"", each.identity.cluster_uid}]
        return Lives(
            tuple(
                Live(
                    each.session_id,
                    max(now - each.link.last_received_at, 0.0),
                    each.link.rtt_s,
                    each.link.streams,
                    each.trust.pins,
                    each.trust.keeps,
                    each.trust.problem,
                    each.cluster.kubernetes,
                )
                for each in own
            )
        )

    # -- tunnels of others

    def opened(self, opened: Opened) -> None:
        """Another worker's new tunnel; ours of an earlier epoch of the same instance ends (P7)."""
        mine = self._everybody(opened.cluster_uid)  # not all: thousands come in a storm, and thousands are here
        olds = [own for own in mine if own.link.is_draining and replaces(own, opened)]
        given_up = [old for old in olds if not self._has_room(old.identity)]  # before the new one counts
        self.directory.opened(opened)
        for own in mine:
            if own in given_up or loses(own, self._worker, opened):
                own.link.close(Code.SUPERSEDED, "a newer session of this instance is open")

    def closed(self, session_id: str) -> None:
        remote = self.directory.closed(session_id)
        if remote is not None:
            self._ended(remote)

    def gone(self, worker: int) -> None:
        for remote in self.directory.gone(worker):
            self._ended(remote)

    def drains(self, session_id: str) -> None:
        self.directory.draining(session_id)

    def pick(self, cluster_uid: str, asked: Asked = QUESTION, *, without: Sequence[Route] = ()) -> Decision:
        own = self._tunnels.get(cluster_uid)
        if own is not None and len(own) == 1 and not without:
            only = own[0].candidate
            route = only.route
            if route.may_open and route.unanswered_ping_at is None and not route.is_draining:
                return only.chosen(Reason.HEALTHIEST) if self.directory.of_cluster(cluster_uid) else only.only
        return decide(self.candidates(cluster_uid), asked, self._clock(), without)

    def candidates(self, cluster_uid: str) -> Sequence[Candidate]:
        remotes = [self._candidate(remote) for remote in self.directory.serving(cluster_uid)]
        own = super().candidates(cluster_uid)
        if remotes:
            return [*remotes, *own]
        return own or [self._candidate(remote) for remote in self.directory.nodes_of(cluster_uid)]

    def status(self, cluster_uid: str) -> list[TunnelStatus]:
        shown = super().status(cluster_uid)
        now, wall = self._clock(), self._wall()
        for remote in (*self.directory.of_cluster(cluster_uid), *self.directory.nodes_of(cluster_uid)):
            opened, since = remote.opened, remote.connected_since
            at, live = self._lives.get(opened.session_id, (now, None))
            # Of a worker that does not answer it is known when the agent came, and nothing later.
            age_s = (wall - since).total_seconds() if live is None else live.last_received_age_s + now - at
            shown.append(
                TunnelStatus(
                    role=opened.role,
                    node=opened.node,
                    credential_id=opened.credential_id,
                    instance=opened.instance.hex(),
                    address=opened.address,
                    version=opened.version,
                    kubernetes=opened.kubernetes if live is None else live.kubernetes,
                    facts=opened.facts,
                    connected_since=since,
                    last_received_age_s=max(age_s, 0.0),
                    rtt_s=None if live is None else live.rtt_s,
                    streams=0 if live is None else live.streams,
                    is_eligible=opened.is_eligible,
                    trusts=() if live is None else live.trusts,
                    keeps_trust=live is not None and live.keeps_trust,
                    trust_problem="" if live is None else live.trust_problem,
                )
            )
        return sorted(shown, key=lambda each: each.connected_since)

    async def refresh(self, cluster_uid: str = "", *, within_s: float = 0.0) -> None:
        if self._clock() - self._looked_at < within_s:
            return
        known_elsewhere = (*self.directory.of_cluster(cluster_uid), *self.directory.nodes_of(cluster_uid))
        if not (known_elsewhere if cluster_uid else len(self.directory)):
            return
        await self._looks.do(cluster_uid, lambda: self._look(cluster_uid))

    async def _look(self, cluster_uid: str) -> None:
        try:
            lives = await self._channel.ask(messages.Look(cluster_uid))
        except ChannelLost:
            return
        assert isinstance(lives, Lives)
        now = self._clock()
        known = self._lives if cluster_uid else {}
        if not cluster_uid:
            self._looked_at = now
        # Those that have ended meanwhile are left out: who is told of an end is told once.
        known.update({live.session_id: (now, live) for live in lives.tunnels if live.session_id in self.directory})
        self._lives = known

    async def rotate_elsewhere(self, credential_id: str) -> str | None:
        try:
            outcome = await self._channel.ask(messages.RotateKey(credential_id))
        except ChannelLost:
            return None
        assert isinstance(outcome, Outcome)
        return outcome.why

    def lost_at(self, cluster_uid: str) -> float | None:
        own, other = super().lost_at(cluster_uid), self.directory.lost_at(cluster_uid)
        return max((at for at in (own, other) if at is not None), default=None)

    def lost_when(self, cluster_uid: str) -> datetime.datetime | None:
        own, other = super().lost_when(cluster_uid), self.directory.lost_when(cluster_uid)
        return max((at for at in (own, other) if at is not None), default=None)

    # -- internals

    def _candidate(self, remote: Remote) -> Candidate:
        candidate = self._remote.get(remote)
        if candidate is None:
            opened = remote.opened
            candidate = self._remote[remote] = Candidate(
                self._hop(remote),
                opened.role,
                opened.instance,
                opened.node,
                is_eligible=opened.is_eligible,
                is_control_plane=opened.is_control_plane,
                is_remote=True,
                connected_at=remote.connected_since,
            )
        return candidate

    def _hop(self, remote: Remote) -> Hop:
        hop = self._hops.get(remote)
        if hop is None:
            hop = self._hops[remote] = Hop(
                remote,
                connect=lambda sock: self._channel.tell(
                    messages.Hop(remote.opened.worker, remote.opened.session_id), sock
                ),
                tasks=self._tasks,
                limits=self._limits,
                budget=self._budget,
                on_drain=self._hop_drains,
                on_open=self._on_hop,
                clock=self._clock,
            )
        return hop

    def _hop_drains(self, hop: Hop) -> None:
        self.on_drain(hop)

    def _ended(self, remote: Remote) -> None:
        """A tunnel of another worker has ended, as `remove` for our own."""
        self._seen.note(remote.opened.credential_id, self._wall())
        self._lives.pop(remote.opened.session_id, None)
        if (candidate := self._remote.pop(remote, None)) is not None:
            candidate.let_go()
        hop = self._hops.pop(remote, None)
        if hop is not None:
            hop.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            for hop in tuple(self._hops.values()):
                hop.close_if_idle()
