"""Composition root: what the hub is made of, in which order it starts, drains and stops."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from hub import audit, certificate, looplag, rlimits, tls
from hub.agents import AgentAdmission, AgentIndexes, HubPins
from hub.api.fetches import FetchLimit
from hub.api.server import build_application
from hub.api.services import Services, Visibility
from hub.auth.authenticate import Authenticator
from hub.auth.grants import Authorizer, GrantIndex, Grants
from hub.auth.nodes import credential_id
from hub.auth.revocation import Revocation
from hub.auth.tokens import TokenIndex, Tokens
from hub.bootstrap import SetupError, make_private_directory, read_hub_id, require_hub
from hub.cawatch import CaView, RotationWatch, Sessions
from hub.clock import wall_clock
from hub.clusters.cleanups import CleanUpIndex, CleanUps
from hub.clusters.records import Cluster, ClusterIndex, Clusters
from hub.config import Settings, host_and_port
from hub.edge.server import EdgeServer
from hub.exposition import MetricsServer
from hub.memory import buffer_budget
from hub.metrics import Metrics
from hub.proxy.relay import Relay
from hub.sealing import Keeper
from hub.singleflight import SingleFlight
from hub.store.index import Follower
from hub.store.interface import Store
from hub.store.sqlite import FILE_NAME, SqliteStore
from hub.tunnel.accept import TunnelEndpoint
from hub.tunnel.cateaching import CaTeaching
from hub.tunnel.cleanups import Cleaner
from hub.tunnel.registry import Registry, Tunnel
from hub.upkeep import make_retention, purge, resume_revocations, tidy
from proto import logs, pins
from proto.aio.busypoll import BusyPoll, share_here
from proto.aio.shutdown import Shutdown
from proto.aio.tasks import TaskGroup
from proto.compression import Histories
from proto.versions import PRODUCT_VERSION
from proto.window import Budget

logger = logging.getLogger(__name__)

EXPIRY_SWEEP_S: Final = 5.0
"""How long a stream may outlive its token."""


@dataclasses.dataclass(frozen=True, slots=True)
class Indexes:
    """What the hot path asks, all fed by one follower."""

    clusters: ClusterIndex
    tokens: TokenIndex
    agents: AgentIndexes
    grants: GrantIndex
    clean_ups: CleanUpIndex
    follower: Follower


def make_indexes(store: Store) -> Indexes:
    clusters, tokens, agents, grants = ClusterIndex(), TokenIndex(), AgentIndexes(), GrantIndex()
    clean_ups = CleanUpIndex()
    follower = Follower(store, [clusters, tokens, *agents.followed(), grants, clean_ups])
    return Indexes(clusters, tokens, agents, grants, clean_ups, follower)


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """What a worker shares with the other processes of its hub (hub.workers). `sockets` listen already; the main
    process keeps the store, shows the metrics and renews the certificate."""

    metrics: Metrics
    registry: Registry
    visibility: Visibility
    sockets: Sequence[socket.socket]
    budget: Budget
    """Of all the bytes that the process holds, over its own tunnels and over hops."""
    is_first: bool
    """It counts what every worker meets alike: their metrics are summed."""


class Program(Protocol):
    """What `serve` runs: a Hub, or the main process of several."""

    async def start(self) -> None: ...
    async def drain(self) -> None: ...
    async def close(self) -> None: ...
    async def failed(self) -> bool: ...
    def reload_certificate(self, *, is_asked: bool) -> None: ...
    def ready(self) -> dict[str, object]: ...


class Hub:
    """One hub process, or one worker of a hub that has several. `start`, then `drain` and `close`; `close` alone ends
    at once."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        hub_id: str,
        shared: Shared | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Builds everything and touches no network. Raises TlsError, OSError."""
        self._shared = shared
        self._settings = settings
        self._store = store
        self._hub_id = hub_id
        self._is_draining = False
        self._tasks = TaskGroup("hub")
        self._server_context = None if settings.plain_http else tls.ServerContext(certificate.tls_files(settings))
        self._indexes = make_indexes(store)
        self._metrics = shared.metrics if shared else Metrics()
        context = self._server_context
        if context is not None and (shared is None or shared.is_first):
            context.on_reload = self._metrics.certificate_reloaded
            self._metrics.certificate_end("hub").set_function(lambda: context.ends_at)
        self._registry = shared.registry if shared else make_registry(settings)
        self._authenticator = Authenticator(self._indexes.tokens, self._indexes.grants, wall_clock)
        self._authorizer = Authorizer(self._indexes.grants, self._indexes.clusters)
        self._clusters = Clusters(store, wall_clock)
        self._keeper = keeper
        self._tokens = Tokens(store, wall_clock)
        self._pins = HubPins(self._server_context.files if self._server_context else None, settings.agent_pins)
        self._ca = CaView(settings, self._indexes.clusters, self._indexes.agents.keys)
        self._admission = AgentAdmission(
            store,
            self._indexes.agents,
            self._indexes.clusters,
            self._indexes.follower,
            wall_clock,
            self._pins,
            self._tasks,
        )
        self._commands = self._admission.commands(self._registry, self._tasks)
        self._clean_ups = CleanUps(store, wall_clock)
        self._cleaner = Cleaner(
            self._indexes.clean_ups, self._clean_ups, self._registry, self._tasks, self._clusters.sweep
        )
        self._budget = shared.budget if shared else Budget(settings.buffer_bytes or buffer_budget())
        self._histories = Histories(settings.compression_bytes)
        self._busy_poll = BusyPoll(
            share_here(settings.busy_poll_share, settings.workers), spent=self._metrics.busy_poll_seconds.inc
        )
        self._relay = self._make_relay()
        self._revocation = self._make_revocation()
        self._services = self._make_services()
        self._edge = self._make_edge()
        self._metrics.connections.set_function(lambda: self._edge.open_connections)
        self._metrics.buffer_used.set_function(lambda: self._budget.used)
        self._metrics.buffer_limit.set(self._budget.limit)
        if shared is None:  # of several processes the main one says it, once for all
            self._metrics.connected.read = self._connected
        self._metrics_server = MetricsServer(lambda: asyncio.to_thread(self._metrics.render))
        self._bound: list[tuple[str, int]] = []
        self._metrics_bound: tuple[str, int] | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the indexes, then listen. Raises StoreError, SetupError; call `close` in any case."""
        loop = asyncio.get_running_loop()
        self._metrics.add_process()
        self._metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))  # called by the rendering thread
        if self._shared is None:
            await tidy(self._store)
        await self.load()
        self._relay.start()
        await self._listen()
        self._tasks.spawn(self._cut_expired(), name="expiry")
        self._tasks.spawn(looplag.measure(self._metrics.loop_lag.observe), name="loop lag")
        self._tasks.spawn(CaTeaching(self._registry, self._ca.lesson, self._tasks).run(), name="ca")
        if self._shared is None:
            retention = make_retention(self._indexes.tokens, self._indexes.agents, self._store)
            self._tasks.spawn(purge(retention, self._store), name="retention")
            resuming = resume_revocations(self._indexes.tokens, self._indexes.clusters, self._store)
            self._tasks.spawn(resuming, name="revocations")
            if self._keeper is not None:
                self._tasks.spawn(self._keeper.keep(), name="encryption keys")
            watch = RotationWatch(
                self._settings.data / tls.DIRECTORY, self._ca, self._metrics, self._sessions, wall_clock
            )
            renewing = certificate.renew(self._settings, self.reload_certificate, watch.look)
            self._tasks.spawn(renewing, name="certificate")

    async def load(self) -> None:
        """Fill the indexes and keep them following the store; the first part of `start`, once. Raises StoreError."""
        if self._following is None:
            await self._indexes.follower.load()
            self._following = self._tasks.spawn(self._indexes.follower.run(), name="follower")

    async def reached(self, revision: int) -> None:
        """Return when this process's indexes reflect the revision. Raises StoreUnavailable."""
        await self._indexes.follower.reached(revision)

    async def rotate_own(self, agent_id: str) -> str | None:
        """Have an agent that is connected to this process replace its key: why it did not, empty when it did, None when
        it has no tunnel here."""
        return await self._commands.rotate_own(agent_id)

    async def _listen(self) -> None:
        metrics, main = self._settings.metrics_listen, self._settings.listen
        if metrics and self._shared is None:
            self._metrics_bound = await self._metrics_server.start(metrics)
        try:
            self._bound = await self._edge.start()
        except OSError as exc:
            raise SetupError(f"cannot listen on {', '.join(main)}: {exc.strerror or exc}") from exc

    async def drain(self) -> None:
        """Stop being ready, let others notice, end watches cleanly, let requests finish within the grace."""
        await self.drain_clients()
        self.drain_agents()

    async def drain_clients(self) -> None:
        """All of it but the agents: requests of other workers may still come over their tunnels."""
        self._is_draining = True
        if self._settings.drain_delay_s:
            await asyncio.sleep(self._settings.drain_delay_s)
        await self._edge.leave()
        # Watches end last: their clients begin them again at once, and one begun here would hold the drain to its end.
        await self._edge.drain(self._settings.drain_grace_s, self._relay.drain)

    def drain_agents(self) -> None:
        """Send the agents away, each with its time to come back."""
        self._registry.drain(0.0)

    async def close(self) -> None:
        """End everything, the store last."""
        self._is_draining = True
        await self._relay.aclose()
        await self._edge.close()
        await self._services.finish()
        await self._metrics_server.close()
        await self._tasks.aclose()
        await self._store.close()

    @property
    def relay(self) -> Relay:
        """Requests under way."""
        return self._relay

    def failing_checks(self) -> list[str]:
        """What keeps the hub from being ready."""
        checks = {"draining": self._is_draining, "store": not self._indexes.follower.is_running}
        return [name for name, is_failing in checks.items() if is_failing]

    def reload_certificate(self, *, is_asked: bool) -> None:
        """`is_asked`: by SIGHUP, else it is one of the looks every few seconds."""
        if self._server_context is not None:
            self._server_context.reload_if_changed(is_asked=is_asked)

    def ready(self) -> dict[str, object]:
        """What the ready file says."""
        return ready_document(self._settings, self._bound, self._metrics_bound, self._hub_id)

    async def failed(self) -> bool:
        """Return when the hub can no longer do its work: the store is not followed any more. Whether it may drain: it
        would go on serving what is revoked meanwhile."""
        assert self._following is not None
        await asyncio.wait([self._following])
        return False

    def _make_relay(self) -> Relay:
        return Relay(
            authenticator=self._authenticator,
            authorizer=self._authorizer,
            routes=self._registry,
            metrics=self._metrics,
            limits=self._settings.proxy,
            budget=self._budget,
            histories=self._histories,
            direct_log=logs.direct(),
            clients=self._busy_poll.leg(),
        )

    def _make_revocation(self) -> Revocation:
        revocation = Revocation(
            tokens=self._indexes.tokens,
            grants=self._indexes.grants,
            agent_tokens=self._indexes.agents.tokens,
            agent_keys=self._indexes.agents.keys,
            issuers=self._indexes.agents.issuers,
            fault=self._admission.standing.fault,
            sessions=self._registry,
            exchanges=self._relay,
            clock=wall_clock,
        )

        def cluster_gone(cluster: Cluster) -> None:
            self._cleaner.cluster_gone(cluster)
            revocation.cluster_gone(cluster.uid)
            self._metrics.forget_cluster(cluster.name)

        def node_denied(cluster_uid: str, node: str) -> None:
            name = self._indexes.clusters.name_of(cluster_uid)
            if name is not None:
                revocation.agent_gone(credential_id(name, node))

        self._indexes.clusters.on_gone = cluster_gone
        self._indexes.agents.denials.on_denied = node_denied
        return revocation

    def _make_edge(self) -> EdgeServer:
        tunnel = TunnelEndpoint(
            hub_id=self._hub_id,
            authenticator=self._admission.authenticator(self._tasks),
            registry=self._registry,
            metrics=self._metrics,
            limits=self._settings.tunnel,
            budget=self._budget,
            compresses=self._histories.is_on,
            busy_poll=self._busy_poll,
            on_drain=self._agent_drains,
            commands=self._commands.handlers,
        )
        return EdgeServer(
            listen=[host_and_port(address) for address in self._settings.listen],
            tls=None if self._server_context is None else self._server_context.context,
            aiohttp_app=build_application(self._services),
            application=self._relay,
            tunnels=tunnel,
            limits=self._settings.edge,
            host_names=frozenset(self._settings.host_names) or None,
            sockets=self._shared.sockets if self._shared else None,
        )

    def _agent_drains(self, tunnel: Tunnel) -> None:
        self._registry.draining(tunnel)
        self._relay.drain(tunnel.link)

    def _make_services(self) -> Services:
        return Services(
            settings=self._settings.api,
            clock=wall_clock,
            hub_id=self._hub_id,
            ca_pem=self._ca.given_out,
            hub_url=lambda: str(self.ready()["url"]),
            agent_pins=self._pins,
            failing_checks=self.failing_checks,
            follower=self._shared.visibility if self._shared else self._indexes.follower,
            authenticator=self._authenticator,
            authorizer=self._authorizer,
            cluster_index=self._indexes.clusters,
            token_index=self._indexes.tokens,
            agent_token_index=self._indexes.agents.tokens,
            join_token_index=self._indexes.agents.join_tokens,
            agent_key_index=self._indexes.agents.keys,
            denial_index=self._indexes.agents.denials,
            denials=self._admission.denials,
            node_tables=self._admission.node_tables,
            node_lists=SingleFlight(self._tasks),
            grant_index=self._indexes.grants,
            clusters=self._clusters,
            clean_up_index=self._indexes.clean_ups,
            clean_ups=self._clean_ups,
            tokens=self._tokens,
            agent_tokens=self._admission.tokens,
            join_tokens=self._admission.join_tokens,
            agent_keys=self._admission.keys,
            grants=Grants(self._store),
            tunnels=self._registry,
            fetches=FetchLimit(time.monotonic),
            rotate_key=self._commands.rotate_key,
            joining_pins=self._ca.joining_pins,
            joining_ca=self._ca.joining_ca,
            ca_rotation=lambda: self._ca.rotation(self._registry.status),
            refused=self._metrics.refused,
        )

    def _connected(self) -> list[tuple[str, bool]]:
        """Each cluster's name, and whether it has a route; called by the rendering thread."""
        return [(cluster.name, self._registry.has_route(cluster.uid)) for cluster in self._indexes.clusters]

    async def _sessions(self) -> Sessions:
        return self._registry.status

    async def _cut_expired(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SWEEP_S)
            self._revocation.cut_expired()
            audit.tell_suppressed()
            self._cleaner.expire(cluster.uid for cluster in self._indexes.clusters)


def make_registry(settings: Settings) -> Registry:
    """The registry of a hub that is one process."""
    return Registry(
        time.monotonic, lambda: datetime.datetime.now(datetime.UTC), node_tunnels_max=settings.node_tunnels_max
    )


async def serve(settings: Settings, build: Callable[[Settings], Awaitable[Program]] | None = None) -> int:
    """Run a hub until SIGTERM or SIGINT; the exit status. Raises SetupError, StoreError, TlsError, OSError."""
    rlimits.prepare()
    shutdown = Shutdown()
    shutdown.install()
    try:
        hub = await (build or build_hub)(settings)
        try:
            await hub.start()
            return await _run(hub, settings, shutdown)
        finally:
            await hub.close()
            logger.info("hub stopped")
    finally:
        shutdown.close()


async def build_hub(settings: Settings) -> Hub:
    """Compose a hub on its data directory. Raises SetupError, StoreError, TlsError, OSError."""
    store, hub_id, keeper = await open_data(settings)
    try:
        return Hub(settings, store, hub_id, keeper=keeper)
    except BaseException:
        await store.close()
        raise


async def open_data(settings: Settings) -> tuple[SqliteStore, str, Keeper]:
    """The data directory's store, the hub's id and its unlocked keys; the certificate is there. Raises SetupError,
    StoreError, TlsError, OSError."""
    require_hub(settings.data)
    make_private_directory(settings.data)
    store = await SqliteStore.open(settings.data / FILE_NAME, log_keep=settings.store.log_keep)
    try:
        hub_id = await read_hub_id(store)
        keeper = Keeper(settings.data, settings.encryption_key_file, store)
        await keeper.unlock()
        certificate.ensure(settings)
        certificate.check_agent_ca(settings)
    except BaseException:
        await store.close()
        raise
    return store, hub_id, keeper


async def _run(hub: Program, settings: Settings, shutdown: Shutdown) -> int:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: hub.reload_certificate(is_asked=True))
    ready = hub.ready()
    if settings.ready_file is not None:
        tls.write_private(settings.ready_file, json.dumps(ready).encode() + b"\n", is_hubs=False)
    logger.info("hub ready", extra={name: ready[name] for name in ("url", "urls", "metrics_url", "ca_pin", "hub_id")})
    tasks = TaskGroup("serve")
    try:
        asked = tasks.spawn(shutdown.wait(), name="shutdown")
        failed = tasks.spawn(hub.failed(), name="health")
        await asyncio.wait([asked, failed], return_when=asyncio.FIRST_COMPLETED)
        if not failed.done() or failed.result():
            await hub.drain()
        return 1 if failed.done() else 0
    finally:
        await tasks.aclose()
        loop.remove_signal_handler(signal.SIGHUP)
        if settings.ready_file is not None:
            with contextlib.suppress(OSError):
                settings.ready_file.unlink()


def ready_document(
    settings: Settings, bound: Sequence[tuple[str, int]], metrics: tuple[str, int] | None, hub_id: str
) -> dict[str, object]:
    """What the ready file says."""
    scheme = "http" if settings.plain_http else "https"
    urls = [f"{scheme}://{_in_url(host)}:{port}" for host, port in bound]
    ca = None if settings.plain_http else certificate.tls_files(settings).ca
    return {
        "pid": os.getpid(),
        "url": settings.public_url or urls[0],
        "urls": urls,
        "metrics_url": f"http://{_in_url(metrics[0])}:{metrics[1]}/metrics" if metrics else None,
        "ca_file": str(ca) if ca else None,
        "ca_pin": pins.pins_of_pem(ca.read_bytes())[0] if ca else None,
        "hub_id": hub_id,
        "version": PRODUCT_VERSION,
    }


def _in_url(host: str) -> str:
    """An address as a URL writes it; a wildcard becomes the loopback address that it includes."""
    host = certificate.WILDCARDS.get(host, host)
    return f"[{host}]" if ":" in host else host
