"""What others notice while the hub is busy: an administrator's GET, and the lag of its event loop."""

import asyncio
import contextlib
import dataclasses
import math
import ssl
import time
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from proto.aio import tasks
from tests.bench.scale import fleet
from tests.bench.scale.hub import Hub

GET_INTERVAL_S: Final = 0.1
LAG_INTERVAL_S: Final = 0.02
GET_MAX_S: Final = 60.0


@dataclasses.dataclass
class Probe:
    """Seconds of each sample, and how many GETs failed."""

    gets: list[float] = dataclasses.field(default_factory=list)
    lags: list[float] = dataclasses.field(default_factory=list)
    failed: int = 0

    def figures(self) -> dict[str, float]:
        return {
            "admin GET p50 ms": quantile(self.gets, 0.5) * 1e3,
            "admin GET p99 ms": quantile(self.gets, 0.99) * 1e3,
            "admin GETs failed": float(self.failed),
            "loop lag p99 ms": quantile(self.lags, 0.99) * 1e3,
            "loop lag max ms": max(self.lags, default=0.0) * 1e3,
        }


def quantile(samples: list[float], share: float) -> float:
    """The sample below which a share of all lies; 0 without samples."""
    if not samples:
        return 0.0
    return sorted(samples)[max(math.ceil(share * len(samples)) - 1, 0)]


@contextlib.asynccontextmanager
async def probing(hub: Hub) -> AsyncIterator[Probe]:
    """GET /v1/clusters/NAME every 100 ms, each on a connection of its own as a command has it, whether or not the last
    one was answered. The lag is that of a page which does nothing, on a connection to the metrics listener."""
    probe = Probe()
    context = ssl.create_default_context(cafile=str(hub.ca))
    headers = {"Authorization": f"Bearer {hub.admin.read_text().strip()}"}
    timeout = aiohttp.ClientTimeout(total=GET_MAX_S)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as api,
        aiohttp.ClientSession() as plain,
        tasks.TaskGroup("probes") as pending,
        tasks.TaskGroup("probe") as group,
    ):
        group.spawn(_get_often(hub, api, probe, pending), name="gets")
        group.spawn(_feel_lag(hub, plain, probe), name="lag")
        yield probe
        group.cancel()
        await pending.wait()


async def _get_often(hub: Hub, session: aiohttp.ClientSession, probe: Probe, pending: tasks.TaskGroup) -> None:
    while True:
        pending.spawn(_get(hub, session, probe), name="get")
        await asyncio.sleep(GET_INTERVAL_S)


async def _get(hub: Hub, session: aiohttp.ClientSession, probe: Probe) -> None:
    began = time.monotonic()
    try:
        async with session.get(f"{hub.url}/v1/clusters/{fleet.cluster(0)}") as answer:
            await answer.read()
            answer.raise_for_status()
    except (aiohttp.ClientError, TimeoutError):
        probe.failed += 1
    else:
        probe.gets.append(time.monotonic() - began)


async def _feel_lag(hub: Hub, session: aiohttp.ClientSession, probe: Probe) -> None:
    while True:
        began = time.monotonic()
        with contextlib.suppress(aiohttp.ClientError):  # it is being restarted
            async with session.get(hub.metrics_url.removesuffix("metrics")) as answer:
                await answer.read()
            probe.lags.append(time.monotonic() - began)
        await asyncio.sleep(LAG_INTERVAL_S)
