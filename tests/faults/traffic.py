"""Mixed traffic at a steady rate, from clients that keep their connections, and what became of each request."""

import asyncio
import collections
import contextlib
import itertools
import random
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Final

import aiohttp

from proto.aio.tasks import TaskGroup
from tests.faults.rig import PATH, Answer, Client, FaultCluster
from tests.harness.children import until

KINDS: Final = (("get", 60), ("once", 10), ("list", 10), ("slow", 5), ("create", 15))
"""What is asked, in parts of a hundred: a small object, one on a connection of its own, a long list, an answer that
takes its time, a change."""
FRESH: Final = {"once", "create"}
"""Have a connection of their own."""
LIST_BYTES: Final = 200_000
GET_BYTES: Final = 1_000
SLOW_S: Final = 0.5


@dataclass
class Traffic:
    """Requests that were made, by kind and by fate: `whole`, `503`, `refused`, or the thing itself."""

    seed: int
    fates: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    odd: list[str] = field(default_factory=list)
    """The first of those that are neither whole, nor 503, nor refused."""
    whole_at: list[float] = field(default_factory=list)
    """When the whole ones began."""
    repeated: collections.Counter[str] = field(default_factory=collections.Counter)
    """How often aiohttp sent a read again by itself, on `kept` and on `fresh` connections: nobody else sees why."""
    seconds: float = 0.0
    """For how long requests were made, when that is over."""

    @property
    def total(self) -> int:
        return self.fates.total()

    @property
    def per_s(self) -> float:
        return self.total / self.seconds

    def count(self, *fates: str) -> int:
        return sum(count for (_, fate), count in self.fates.items() if fate in fates)

    def add(self, kind: str, answer: Answer) -> None:
        fate = fate_of(kind, answer)
        self.fates[kind, fate] += 1
        if fate == "whole":
            self.whole_at.append(answer.began_at)
        elif fate not in {"503", "refused"} and len(self.odd) < 20:
            self.odd.append(f"{kind}: {fate} after {answer.seconds:.3f} s {answer.text[:200]}")

    def since(self, at: float) -> float:
        """Seconds from `at` to the beginning of the first whole one after it."""
        return min((began for began in self.whole_at if began >= at), default=float("inf")) - at


def fate_of(kind: str, answer: Answer) -> str:
    """`whole`, `503`, `refused`; anything else says what it was."""
    size = LIST_BYTES if kind == "list" else GET_BYTES
    if answer.is_whole(size):
        return "whole"
    if not answer.status and answer.error.startswith("ClientConnectorError ECONNREFUSED"):
        return "refused"
    if answer.status == 503 and not answer.error and '"kind":"Status"' in answer.text.replace(" ", ""):
        return "503"
    return f"status {answer.status}, {answer.size} bytes, {answer.error or 'whole'}"


@contextlib.asynccontextmanager
async def traffic(cluster: FaultCluster, per_s: float) -> AsyncIterator[Traffic]:
    """So many requests a second until the end; every one has ended then.

    Reads keep their connections, as clients do, and repeat what a kept one lost before an answer began, as Go's and
    every other client does; a change has a connection of its own, since nobody may repeat it, and so have some reads,
    on which nothing may break.
    """
    seen = Traffic(cluster.seed)
    context = ssl.create_default_context(cafile=str(cluster.hub.ca_file))
    headers = {"Authorization": f"Bearer {cluster.hub.admin_token_file.read_text().strip()}"}
    base = f"{cluster.hub.url}/k8s/clusters/{cluster.name}"

    def session(name: str) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=name == "fresh")
        timeout, counts = aiohttp.ClientTimeout(total=60), [counting(seen, name)]
        return aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout, trace_configs=counts)

    async with TaskGroup("traffic") as group, session("kept") as kept, session("fresh") as fresh:
        began = time.monotonic()
        running = group.spawn(_ask(group, seen, Client(kept, base), Client(fresh, base), per_s), name="clock")
        try:
            await until(lambda: seen.count("whole") > 20, what="traffic", timeout_s=30)
            yield seen
        finally:
            running.cancel()
            seen.seconds = time.monotonic() - began
            await group.wait()


def counting(seen: Traffic, name: str) -> aiohttp.TraceConfig:
    """Sees each connection that a request takes; the second one is for what broke on the first."""

    async def taken(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
        seen.repeated[name] += hasattr(context, "taken")
        context.taken = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(taken)
    trace.on_connection_reuseconn.append(taken)
    return trace


async def _ask(group: TaskGroup, seen: Traffic, kept: Client, fresh: Client, per_s: float) -> None:
    """Until cancelled; what is under way then goes on."""
    dice = random.Random(seen.seed)
    kinds = [kind for kind, share in KINDS for _ in range(share)]
    started = time.monotonic()
    for number in itertools.count():
        await asyncio.sleep(max(started + number / per_s - time.monotonic(), 0))
        kind = dice.choice(kinds)
        group.spawn(_one(seen, fresh if kind in FRESH else kept, kind, number), name=f"request {number}")


async def _one(seen: Traffic, client: Client, kind: str, number: int) -> None:
    size = LIST_BYTES if kind == "list" else GET_BYTES
    query = f"id=traffic-{number}&size={size}" + (f"&delay={SLOW_S}" if kind == "slow" else "")
    if kind == "create":
        answer = await client.ask("POST", query, path=PATH, body=b"{}")
    else:
        answer = await client.ask("GET", query, path=PATH)
    seen.add(kind, answer)
