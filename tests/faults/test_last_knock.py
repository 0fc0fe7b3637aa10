"""Who knocks at the moment in which a hub stops listening: served, refused, or not answered yet; never reset, and
never taken by nobody."""

import asyncio
import json
import subprocess
import sys
from typing import cast

import pytest

from hub.edge.connection import EdgeConnection
from hub.edge.limits import EdgeLimits
from hub.edge.listener import Listener, bind
from tests.faults import figures
from tests.harness import ports, tools

DRAINS = int(figures.number("DRAINS", 16))
LISTENS_S = 0.1
AWAY_S = 0.01

pytestmark = [
    pytest.mark.alone,
    pytest.mark.timeout(60 + 2 * DRAINS),
    pytest.mark.skipif(sys.platform != "linux", reason="hub.edge.synfilter is Linux's"),
]


class Greeter(asyncio.Protocol):
    """Stands for the hub behind its door: a word, and the end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(b"x")
        transport.close()


async def drained_often(port: int) -> None:
    for _ in range(DRAINS):
        door = Listener(
            bind("127.0.0.1", port, 512),
            tls=None,
            limits=EdgeLimits(),
            make_protocol=lambda peer: cast("EdgeConnection", Greeter()),
            open_count=lambda: 0,
        )
        door.start()
        await asyncio.sleep(LISTENS_S)
        await door.drain()
        await door.aclose()
        await asyncio.sleep(AWAY_S)


def knocking_at(port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.knocking", str(port)]
    return subprocess.Popen(command, cwd=tools.REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_who_knocks_when_the_hub_stops_listening_is_never_reset() -> None:
    with ports.keep("127.0.0.1") as kept, knocking_at(port := kept.getsockname()[1]) as knocking:
        try:
            asyncio.run(drained_often(port))
            said, _ = knocking.communicate("enough\n", timeout=30)
        finally:
            knocking.kill()
    fates = cast("dict[str, int]", json.loads(said))
    figures.show("last knocks", figures.seed(), drains=DRAINS, **fates)
    assert set(fates) <= {"served", "refused", "not_answered"}, fates
    assert fates["served"] > 10 * DRAINS
    assert fates.get("not_answered"), "nobody knocked at that moment"
