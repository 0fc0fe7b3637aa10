"""Composition root: builds the agent from its settings, runs it until a signal, drains it."""

import asyncio
import contextlib
import json
import logging
import os
import resource
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import kubeconfig, proof
from agent.config import Settings
from agent.counts import Counts
from agent.health import Listener, Site
from agent.kubeconfig import KubeAccess
from agent.kubeversion import KubeVersion
from agent.metrics import CONTENT_TYPE, registry, render
from agent.nodefacts import NodeView
from agent.relay.addresses import Addresses
from agent.relay.admission import Admission
from agent.relay.context import RelayContext
from agent.relay.plugin import ExecPlugin
from agent.relay.policy import Policy
from agent.relay.pool import Pool, PoolLimits
from agent.uplink.connect import Uplink
from agent.uplink.session import Identity, Opener
from agent.uplink.trust import HubTrust
from proto import logs
from proto.aio import loop as event_loop
from proto.aio.busypoll import BusyPoll, share_here
from proto.aio.shutdown import Shutdown
from proto.aio.tasks import TaskGroup
from proto.commands import LEARN_CA
from proto.compression import Histories
from proto.facts import NodeFacts
from proto.versions import PRODUCT_VERSION

logger = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
BEAT_INTERVAL: Final = 1.0
"""Seconds between two beats of the event loop."""
BEAT_MAX: Final = 20.0
"""Seconds without a beat after which `/livez` fails."""
DESCRIPTORS: Final = 8192
"""Open files wished for: every stream holds a connection."""


@dataclass(slots=True)
class Pulse:
    """The event loop's last beat, on the monotonic clock."""

    at: float

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self.at = time.monotonic()
            await asyncio.sleep(BEAT_INTERVAL)

    def is_alive(self) -> tuple[bool, bytes]:
        """The page `/livez`."""
        if time.monotonic() - self.at < BEAT_MAX:
            return True, b"ok\n"
        return False, b"the event loop is stuck\n"


def run(settings: Settings) -> int:
    """Run the agent. Returns the exit code. Raises ConfigError before anything is started."""
    logs.configure(component="riata-agent", log_format=settings.log.format, level=settings.log.level)
    logs.log_uncaught()
    _raise_descriptor_limit()
    event_loop.settle()
    return event_loop.run(_run(settings))


async def _run(settings: Settings) -> int:
    shutdown = Shutdown()
    shutdown.install()
    try:
        async with TaskGroup("agent") as group:
            return await _serve(settings, group, shutdown)
    finally:
        shutdown.close()


async def _serve(settings: Settings, group: TaskGroup, shutdown: Shutdown) -> int:
    async with contextlib.AsyncExitStack() as shutdown_with:
        return await _serve_until(settings, group, shutdown, shutdown_with)


async def _serve_until(
    settings: Settings, group: TaskGroup, shutdown: Shutdown, shutdown_with: contextlib.AsyncExitStack
) -> int:
    instance = secrets.token_bytes(16)
    counts = Counts()
    access = kubeconfig.access(settings.kube)
    policy = Policy(settings.policy_file)
    addresses = access.addresses
    assert addresses is not None  # agent.kubeconfig.access makes them
    busy_poll = BusyPoll(share_here(settings.busy_poll_share), spent=counts.stayed_awake)
    pool = Pool(
        access.endpoint,
        access.trust,
        PoolLimits(),
        owner=group,
        counts=counts,
        addresses=addresses,
        leg=busy_poll.leg(),
    )
    histories = Histories(settings.compression_bytes)
    context = RelayContext(access.endpoint, pool, access.credential, policy, counts, histories)
    uplink = _uplink(settings, instance, access, context, shutdown_with, addresses, busy_poll)
    if settings.fallback_lease:
        from agent.fallback import labels  # it brings the Kubernetes client with it

        looking_after = labels.serving(settings.fallback_lease, access, counts, instance, group)
        await shutdown_with.enter_async_context(looking_after)
    if isinstance(access.credential, ExecPlugin):
        group.spawn(access.credential.tend(), name="credential plugin")
    pulse = Pulse(time.monotonic())
    with _listeners(settings, context, uplink, pulse) as urls:
        group.spawn(pulse.run(), name="pulse")
        running = group.spawn(uplink.run(), name="uplink")
        _announce(settings.serve.ready_file, {**urls, "pid": os.getpid(), "instance": instance.hex()})
        logger.info("agent started", extra={"version": PRODUCT_VERSION, "hub_url": settings.hub.url, **urls})
        leaving = group.spawn(shutdown.wait(), name="shutdown")
        await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            logger.error("the uplink ended: a bug")
            return EXIT_FAILED
        await uplink.drain(settings.drain_grace)
        running.cancel()
        await pool.close()
        return EXIT_OK


def _uplink(
    settings: Settings,
    instance: bytes,
    access: KubeAccess,
    context: RelayContext,
    shutdown_with: contextlib.AsyncExitStack,
    addresses: Addresses,
    busy_poll: BusyPoll,
) -> Uplink:
    trust = HubTrust(settings.hub, store=proof.ca_store(settings, access, shutdown_with))
    credential, duties = proof.choose(settings, access, shutdown_with)
    version = KubeVersion(access)

    def is_control_plane() -> bool:
        return bool(settings.host_ip) and addresses.has(settings.host_ip)

    opener = Opener(
        settings.hub,
        Identity(instance, settings.mode),
        trust,
        credential,
        proxy_environment=settings.proxy_environment,
        kubernetes=version.begin,
        compresses=context.histories.is_on,
        is_control_plane=is_control_plane,
        facts=NodeView(settings.host_ip, is_control_plane).facts if settings.mode == "node" else NodeFacts,
    )
    admission = Admission(context, serves=settings.serves)
    return Uplink(
        opener,
        credential,
        admission,
        context.counts,
        duties=duties if settings.mode == "node" else (*duties, version.tend),
        commands={LEARN_CA: trust.learn},
        busy_poll=busy_poll,
    )


@contextlib.contextmanager
def _listeners(settings: Settings, context: RelayContext, uplink: Uplink, pulse: Pulse) -> Iterator[dict[str, str]]:
    """Health and metrics; yields their URLs for the ready file."""
    loop = asyncio.get_running_loop()
    metrics = registry(context.counts, context.pool, context.histories, lambda: len(asyncio.all_tasks(loop)))
    state = uplink.state
    sites = {
        "health": Site(
            {
                "/livez": pulse.is_alive,
                "/readyz": lambda: (state.is_connected, f"{state.text}\n".encode()),
            }
        ),
        "metrics": Site({"/metrics": lambda: (True, render(metrics))}, CONTENT_TYPE),
    }
    wanted = {"health": settings.serve.health_listen, "metrics": settings.serve.metrics_listen}
    with contextlib.ExitStack() as stack:
        urls = {"health_url": "", "metrics_url": ""}
        for name, listen in wanted.items():
            if listen:
                listener = Listener(f"--{name}-listen", listen, sites[name])
                listener.start()
                stack.callback(listener.close)
                urls[f"{name}_url"] = listener.url
        yield urls


def _announce(path: Path | None, ready: dict[str, object]) -> None:
    """Write the ready file whole or not at all: whoever waits for it must not read half of it."""
    if path is None:
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(ready) + "\n")
    draft.replace(path)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
