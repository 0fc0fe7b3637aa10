"""The main process of a hub with several workers: it owns the store, listens for all, and shows one page of metrics.

It serves no request itself. Implements hub.app.Program.
"""

from __future__ import annotations

import asyncio
import logging

from hub import certificate, tls
from hub.app import make_indexes, open_data, ready_document
from hub.bootstrap import SetupError
from hub.cawatch import CaView, RotationWatch, Sessions
from hub.clock import wall_clock
from hub.clusters.records import Cluster
from hub.config import Settings, host_and_port
from hub.exposition import MetricsServer
from hub.metrics import Metrics
from hub.sealing import Keeper
from hub.store.sqlite import SqliteStore
from hub.upkeep import make_retention, purge, resume_revocations, tidy
from hub.workers import messages
from hub.workers.crew import Crew
from hub.workers.sockets import Address, listening, reserve
from hub.workers.worker import settings_text
from proto.aio.tasks import TaskGroup

logger = logging.getLogger(__name__)


class Supervisor:
    """`start`, then `drain` and `close`; `close` alone ends at once."""

    def __init__(self, settings: Settings, store: SqliteStore, hub_id: str, keeper: Keeper) -> None:
        """Touches no network. Raises TlsError."""
        self._settings = settings
        self._store = store
        self._hub_id = hub_id
        if not settings.plain_http:
            tls.ServerContext(certificate.tls_files(settings))  # a pair that does not fit is told here, once
        self._tasks = TaskGroup("supervisor")
        self._metrics = Metrics()
        self._metrics.connected.read = self._connected
        self._indexes = make_indexes(store)
        self._keeper = keeper
        self._indexes.clusters.on_gone = self._cluster_gone
        self._metrics_server = MetricsServer(self._page)
        self._addresses: list[Address] = []
        self._metrics_bound: Address | None = None
        self._crew: Crew | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when every worker serves. Raises StoreError, SetupError; call `close` in any case."""
        loop = asyncio.get_running_loop()
        self._metrics.add_process()
        self._metrics.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        await tidy(self._store)
        await self._indexes.follower.load()
        self._following = self._tasks.spawn(self._indexes.follower.run(), name="follower")
        if self._settings.metrics_listen:
            self._metrics_bound = await self._metrics_server.start(self._settings.metrics_listen)
        crew = self._crew = self._hire()
        await crew.start()
        if crew.failure.done():
            raise SetupError(crew.failure.result())
        retention = make_retention(self._indexes.tokens, self._indexes.agents, self._store)
        self._tasks.spawn(purge(retention, self._store), name="retention")
        resuming = resume_revocations(self._indexes.tokens, self._indexes.clusters, self._store)
        self._tasks.spawn(resuming, name="revocations")
        self._tasks.spawn(self._keeper.keep(), name="encryption keys")
        settings, metrics = self._settings, self._metrics
        view = CaView(settings, self._indexes.clusters, self._indexes.agents.keys)
        watch = RotationWatch(settings.data / tls.DIRECTORY, view, metrics, self._sessions, wall_clock)
        self._tasks.spawn(certificate.renew(settings, self.reload_certificate, watch.look), name="certificate")

    async def drain(self) -> None:
        if self._crew is not None:
            await self._crew.drain(self._settings.drain_delay_s)
            await self._crew.stop()

    async def close(self) -> None:
        """End everything, the store last."""
        if self._crew is not None:
            await self._crew.stop()
            await self._crew.aclose()
        await self._metrics_server.close()
        await self._tasks.aclose()
        await self._store.close()

    async def failed(self) -> bool:
        """Return when the store is not followed any more, or no worker can be started. Whether those there are may
        drain: they do not serve what is revoked while the store is followed."""
        assert self._following is not None
        assert self._crew is not None
        async with TaskGroup("supervisor health") as tasks:
            failed = tasks.spawn(self._crew.failed(), name="crew")
            await asyncio.wait([self._following, failed], return_when=asyncio.FIRST_COMPLETED)
        if self._crew.failure.done():
            logger.error("hub cannot go on", extra={"reason": self._crew.failure.result()})
        return not self._following.done()

    def reload_certificate(self, *, is_asked: bool) -> None:
        """Every worker looks whether the files have changed."""
        if self._crew is not None:
            self._crew.tell(messages.Reload(is_asked))

    def ready(self) -> dict[str, object]:
        return ready_document(self._settings, self._addresses, self._metrics_bound, self._hub_id)

    def _hire(self) -> Crew:
        settings, backlog = self._settings, self._settings.edge.backlog
        try:
            self._addresses = reserve([host_and_port(address) for address in settings.listen], backlog)
            sockets = [listening(self._addresses, backlog) for _ in range(settings.workers)]
        except OSError as exc:
            raise SetupError(f"cannot listen on {', '.join(settings.listen)}: {exc.strerror or exc}") from exc
        return Crew(
            self._store,
            self._hub_id,
            settings_text(settings),
            lambda: listening(self._addresses, backlog),
            sockets,
            self._metrics,
            settings.tunnel,
        )

    async def _sessions(self) -> Sessions:
        found = await self._crew.sessions() if self._crew is not None else {}
        return lambda uid: found.get(uid, ())

    def _connected(self) -> list[tuple[str, bool]]:
        """Each cluster's name, and whether it has a route; called by the rendering thread."""
        connected = set[str]() if self._crew is None else self._crew.connected()
        return [(cluster.name, cluster.uid in connected) for cluster in self._indexes.clusters]

    async def _page(self) -> bytes:
        if self._crew is None:
            return await asyncio.to_thread(self._metrics.render)
        sums = await self._crew.measure()
        return await sums.render(self._metrics.registry)

    def _cluster_gone(self, cluster: Cluster) -> None:
        if self._crew is not None:
            self._crew.sums.forget(cluster.name)


async def build(settings: Settings) -> Supervisor:
    """Raises SetupError, StoreError, TlsError, OSError."""
    store, hub_id, keeper = await open_data(settings)
    try:
        return Supervisor(settings, store, hub_id, keeper)
    except BaseException:
        await store.close()
        raise
