"""R2: the hub is SIGKILLed around its commits while many write to it. What it acknowledged is there afterwards."""

import asyncio
import collections
import contextlib
import dataclasses
import json
import random
import sqlite3
import ssl
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hub.auth import grants
from hub.clusters import records
from hub.store.sqlite import FILE_NAME
from proto.aio.tasks import TaskGroup
from tests.bench import rig
from tests.bench.scale import fleet
from tests.bench.scale.hub import Hub
from tests.faults import figures
from tests.faults.ledger import Api, Broken, Ledger, Writer, look

KILLS = int(figures.number("HUB_KILLS", 4))
REGISTERED = int(figures.number("HUB_KILLS_CLUSTERS", 500))
"""Clusters that nobody writes to, so that a start has something to read: 5,000 in `make faults`."""
WRITERS = 8
WRITES_MAX = 120
"""Of the store, or answers, until it dies."""
MOMENTS = ("before", "after", "answered", "any")
"""`before` a commit, in its transaction; `after` it, and nobody was told; when a success was just `answered`; any."""
ANY_MAX_S = 0.5
READY_S = 2.0
READY_MAX_S = 4.0
"""One start of many meets something else that the machine does."""
DEAD_S = 60.0
SECRETS = 50
"""The last ones, of either fate, that are tried after each death."""

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120 + KILLS * 20)]


@dataclasses.dataclass
class Doomed(Hub):
    """A hub that dies at a chosen write: `failpoint` as tests.e2e.failpoint takes it."""

    failpoint: str = "0:"

    def command(self, listen: str) -> list[str]:
        _, *options = super().command(listen)
        return [sys.executable, "-m", "tests.e2e.failpoint", self.failpoint, *options]

    @property
    def is_dead(self) -> bool:
        return self.process is not None and self.process.returncode is not None

    def strike(self) -> None:
        """SIGKILL from outside; `kill` waits for the end."""
        if self.process is not None and not self.is_dead:
            self.process.kill()

    async def kill(self) -> None:
        assert self.process is not None
        self.strike()
        await self.process.wait()
        (self.directory / rig.HUB_READY).unlink(missing_ok=True)


async def test_what_a_killed_hub_has_acknowledged_is_there() -> None:
    seed = figures.seed()
    dice, ledger = random.Random(seed), Ledger()
    writers = [Writer(number, ledger, seed) for number in range(WRITERS)]
    deaths: collections.Counter[str] = collections.Counter()
    ready_s: list[float] = []
    async with a_hub() as hub:
        for number in range(KILLS):
            moment, count = MOMENTS[number % len(MOMENTS)], dice.randint(1, WRITES_MAX)
            hub.failpoint = f"{count}:{moment}" if moment in {"before", "after"} else "0:"
            deaths[moment] += 1
            try:
                ready_s.append(await hub.start())
            except RuntimeError:
                assert hub.is_dead
            else:
                await until_dead(hub, ledger, writers, moment, count, dice)
            await hub.kill()
        hub.failpoint = "0:"
        ready_s.append(await hub.start())
        async with calling(hub) as api:
            await compare(api, ledger)
            await delete_all(api, ledger)
        await hub.stop()
        left = orphans(hub)
    lost = [each for each in ledger.problems if each.startswith(("lost", "deleted, and there again", "changed"))]
    figures.show(
        "R2",
        seed,
        clusters=REGISTERED,
        kills=KILLS,
        **{f"kills_{moment}": count for moment, count in deaths.items()},
        acknowledged=ledger.acknowledged,
        cut_off=ledger.cut,
        lost=len(lost),
        half_made=len(ledger.problems) - len(lost) + len(left),
        ready_median_s=statistics.median(ready_s),
        ready_max_s=max(ready_s),
    )
    assert ledger.problems == []
    assert left == []
    assert ledger.cut >= KILLS, "nobody was cut off"
    assert statistics.median(ready_s) <= READY_S * figures.room()
    assert max(ready_s) <= READY_MAX_S * figures.room()


async def until_dead(
    hub: Doomed, ledger: Ledger, writers: list[Writer], moment: str, count: int, dice: random.Random
) -> None:
    """Compare what is there, then write until the hub dies at its moment."""
    async with calling(hub) as api, asyncio.timeout(DEAD_S):
        try:
            await compare(api, ledger)
        except Broken:
            return  # it wrote something by itself, and died of that
        left = count if moment == "answered" else 0

        def answered() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                hub.strike()

        ledger.on_success = answered
        async with TaskGroup("writers") as group:
            for number, writer in enumerate(writers):
                group.spawn(writer.run(api), name=f"writer {number}")
            if moment == "any":
                await asyncio.sleep(dice.random() * ANY_MAX_S)
                hub.strike()
            await group.wait()


async def compare(api: Api, ledger: Ledger) -> None:
    """What there is, and that a token that was given out is good and one that was revoked is not. Raises Broken."""
    ledger.compare(await look(api))
    for known, wanted in ((ledger.there, 200), (ledger.gone, 401)):
        some = [each for each in known.values() if each.kind == "token" and each.secret][-SECRETS:]
        for each in some:
            status, _ = await api.ask("GET", "/v1/whoami", secret=each.secret)
            if status != wanted:
                ledger.problems.append(f"lost: its secret is answered {status} instead of {wanted}: {each}")


async def delete_all(api: Api, ledger: Ledger) -> None:
    """Every cluster that a writer made."""
    for each in [each for each in ledger.there.values() if each.kind == "cluster"]:
        status, document = await api.ask("DELETE", each.path)
        if status not in {200, 204}:
            ledger.problems.append(f"not deleted: {each}: {status} {document}")


def orphans(hub: Doomed) -> list[tuple[str, str, str]]:
    """What the stopped hub's database holds of clusters that are no more."""
    with contextlib.closing(sqlite3.connect(hub.data / FILE_NAME)) as database:
        rows = database.execute("SELECT kind, cluster, name, uid, spec FROM resources").fetchall()
    live = {uid for kind, _, _, uid, _ in rows if kind == records.KIND}
    bound = {*records.BOUND, grants.KIND}
    places = [(kind, json.loads(spec).get("clusterUid") or cluster, name) for kind, cluster, name, _, spec in rows]
    return [(kind, cluster, name) for kind, cluster, name in places if kind in bound and cluster not in {*live, "*"}]


@contextlib.asynccontextmanager
async def calling(hub: Doomed) -> AsyncIterator[Api]:
    """The administrator, with as many connections as there are writers."""
    context = ssl.create_default_context(cafile=str(hub.ca))
    headers = {"Authorization": f"Bearer {hub.admin.read_text().strip()}"}
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=DEAD_S / 2)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        yield Api(session, hub.url)


@contextlib.asynccontextmanager
async def a_hub() -> AsyncIterator[Doomed]:
    """A hub that does not run, with many clusters."""
    with tempfile.TemporaryDirectory(prefix="riata-killed-") as name:
        directory = Path(name) / "hub"
        directory.mkdir()
        hub = await Doomed.create(directory)
        try:
            await hub.start()
            await hub.kill()
            await fleet.enrol(hub, REGISTERED)
            yield hub
        finally:
            await hub.stop()
