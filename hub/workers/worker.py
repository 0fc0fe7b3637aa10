"""A worker: a hub with the store, the metrics page and the certificate's care left to the main process."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
from typing import Final, TextIO, cast

from hub import config
from hub.app import Hub, Shared
from hub.bootstrap import SetupError
from hub.config import Settings
from hub.memory import buffer_budget
from hub.metrics import Metrics
from hub.workers import messages
from hub.workers.channel import Channel
from hub.workers.lines import WholeLines
from hub.workers.messages import Done, News, Question, Reply
from hub.workers.metrics import measure, packed
from hub.workers.registry import SharedRegistry
from hub.workers.storeview import StoreView
from proto import logs
from proto.aio.tasks import TaskGroup
from proto.compression import HISTORY_BYTES
from proto.versions import PRODUCT_VERSION
from proto.window import Budget

logger = logging.getLogger(__name__)

FAILED: Final = 1
"""Exit status of a worker that could not start, or that broke."""
ORPHANED: Final = 70
"""Exit status of a worker whose main process has ended."""
_STDERR: Final = 2
UNEVEN: Final = 1.2
"""So much more than its part may be a worker's: the kernel spreads connections by chance."""
_SHARED: Final = (
    "per_cluster", "per_user_and_cluster", "long_per_cluster", "long_per_user_and_cluster", "cancelled_burst",
    "cancelled_per_s",
)  # fmt: skip
"""Limits for the sake of a cluster and its agent, which all workers ask. Nobody's connections are all with one worker
but by chance, and there is one for each request under way."""


async def run(descriptor: int) -> int:
    """Serve until the main process says stop; the exit status. What it failed of is in the log by then: the main
    process kills a worker whose channel ends, and what the interpreter would print comes after that."""
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    worker = Worker(sock)
    try:
        return await worker.run()
    except Exception:
        logger.exception("worker failed")
        return FAILED
    finally:
        await worker.aclose()


class Everywhere:
    """Implements hub.api.services.Visibility."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def reached(self, revision: int) -> None:
        await self._channel.ask(messages.ReachedEverywhere(revision))


class Worker:
    """One worker's life: Hello, Start, Loaded, Serve, Stop."""

    def __init__(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._start: asyncio.Future[tuple[messages.Start, list[socket.socket]]] = loop.create_future()
        self._serve = asyncio.Event()
        self._stop = asyncio.Event()
        self._early: list[tuple[News, list[socket.socket]]] = []
        self._hub: Hub | None = None
        self._registry: SharedRegistry | None = None
        self._metrics = Metrics()
        self._channel = Channel(
            sock, "main process", on_question=self._answer, on_news=self._news, on_lost=self._orphaned
        )

    async def run(self) -> int:
        self._channel.tell(messages.Hello(PRODUCT_VERSION))
        start, sockets = await self._start
        settings = settings_from(start.settings)
        logs.configure(
            component=f"hub.{start.number}",
            log_format=settings.log_format,
            level=settings.log_level,
            stream=cast(TextIO, WholeLines(_STDERR)),
        )
        logs.log_uncaught()
        _count(start, sockets)
        hub = self._compose(start, settings, sockets)
        await hub.load()
        self._channel.tell(messages.Loaded())
        await self._serve.wait()
        await hub.start()
        logger.info("worker serves", extra={"worker": start.number, "pid": os.getpid()})
        async with TaskGroup("worker") as tasks:
            failed = tasks.spawn(hub.failed(), name="health")
            asked = tasks.spawn(self._stop.wait(), name="stop")
            await asyncio.wait([failed, asked], return_when=asyncio.FIRST_COMPLETED)
            hub.drain_agents()
            return FAILED if failed.done() else 0

    async def aclose(self) -> None:
        if self._hub is not None:
            await self._hub.close()
        if self._registry is not None:
            await self._registry.aclose()
        await self._channel.aclose()

    def _compose(self, start: messages.Start, settings: Settings, sockets: list[socket.socket]) -> Hub:
        budget = Budget(settings.buffer_bytes)
        registry = self._registry = SharedRegistry(
            start.number,
            self._channel,
            limits=settings.tunnel,
            budget=budget,
            on_hop=self._metrics.hops.inc,
            node_tunnels_max=settings.node_tunnels_max,
        )
        shared = Shared(self._metrics, registry, Everywhere(self._channel), sockets, budget, start.number == 1)
        hub = self._hub = Hub(settings, StoreView(self._channel), start.hub_id, shared)
        registry.on_drain = hub.relay.drain
        registry.start()
        early, self._early = self._early, []
        for news, given in early:
            self._news(news, given)
        return hub

    async def _answer(self, question: Question) -> Reply:
        hub, registry = self._hub, self._registry
        if isinstance(question, messages.Measure):
            return await asyncio.to_thread(lambda: packed(measure(self._metrics.registry)))
        if hub is not None and registry is not None:
            if isinstance(question, messages.Reached):
                await hub.reached(question.revision)
            elif isinstance(question, messages.Drain):
                await hub.drain_clients()
            elif isinstance(question, messages.Look):
                return registry.live(question.cluster_uid)
            elif isinstance(question, messages.RotateKey):
                return messages.Outcome(await hub.rotate_own(question.agent_id))
        return Done()

    def _news(self, news: News, sockets: list[socket.socket]) -> None:
        registry = self._registry
        if isinstance(news, messages.Start):
            self._start.set_result((news, sockets))
        elif isinstance(news, messages.Serve):
            self._serve.set()
        elif isinstance(news, messages.Stop):
            self._stop.set()
        elif registry is None or self._hub is None:
            self._early.append((news, sockets))
        elif isinstance(news, messages.Reload):
            self._hub.reload_certificate(is_asked=news.is_asked)
        else:
            _tell(registry, news, sockets)

    def _orphaned(self) -> None:
        """Nobody is left who could revoke anything: what runs ends now."""
        logger.error("the main process has ended")
        os._exit(ORPHANED)


def _count(start: messages.Start, sockets: list[socket.socket]) -> None:
    """Raise SetupError if the kernel dropped listening sockets on the way, as at the limit of open files."""
    if len(sockets) < start.sockets:
        for sock in sockets:
            sock.close()
        raise SetupError(f"{len(sockets)} of {start.sockets} listening sockets arrived: too many open files?")


def _tell(registry: SharedRegistry, news: News, sockets: list[socket.socket]) -> None:
    if isinstance(news, messages.Opened):
        registry.opened(news)
    elif isinstance(news, messages.Draining):
        registry.drains(news.session_id)
    elif isinstance(news, messages.Closed):
        registry.closed(news.session_id)
    elif isinstance(news, messages.Gone):
        registry.gone(news.worker)
    elif isinstance(news, messages.Hop) and sockets:
        registry.visited(news.session_id, sockets[0])
    elif isinstance(news, messages.Hop):  # dropped by the kernel: who asked sees the end of the other one
        logger.error("hop lost its socket on the way, too many open files?", extra={"session": news.session_id})


def settings_text(settings: Settings) -> str:
    """What a worker gets: the same settings, with its share of the memory, and of what one agent can bear."""
    values = config.effective(settings)
    values["buffer_bytes"] = max((settings.buffer_bytes or buffer_budget()) // settings.workers, 1024 * 1024)
    if settings.compression_bytes:  # 0 means none, which a small share must not become
        values["compression_bytes"] = max(settings.compression_bytes // settings.workers, HISTORY_BYTES)
    proxy = values["proxy"]
    assert isinstance(proxy, dict)
    for name in _SHARED if settings.workers > 1 else ():
        share = proxy[name] * UNEVEN / settings.workers
        proxy[name] = math.ceil(share) if isinstance(proxy[name], int) else share
    return json.dumps(values)


def settings_from(text: str) -> Settings:
    """Raises ConfigError."""
    values: dict[str, tuple[object, str]] = {}
    for name, value in json.loads(text).items():
        if name in config.GROUPS:
            values |= {f"{name}.{key}": (inner, "main process") for key, inner in value.items()}
        else:
            values[name] = value, "main process"
    return config.build(values)
