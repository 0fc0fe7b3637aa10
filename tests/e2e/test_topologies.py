"""What stands between agent, hub and users in real networks: a load balancer that ends TLS, a path prefix, nothing open
but port 443, an HTTP proxy on the agent's side. kubectl get, exec and watch through each; the agent has a key and is
let in only because the hub knows the pin of what it meets."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from proto.aio.tasks import TaskGroup
from tests import harness
from tests.e2e.entry import Entry
from tests.e2e.fixtures import fresh
from tests.e2e.hubapi import HubApi
from tests.e2e.kubectl import MODES
from tests.e2e.line import Line
from tests.e2e.pods import BOX, NAMESPACE
from tests.harness import fronts

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

LOOPBACK = "127.0.0.1"


@contextlib.asynccontextmanager
async def line_behind(
    cluster: harness.Cluster, seen: harness.Hub, name: str, kubectl: Path, directory: Path, **agent: object
) -> AsyncIterator[Entry]:
    """An agent that knows the hub as `seen`, and a user who does."""
    async with harness.agent(seen, cluster, name=name, enrol=True, **agent):  # type: ignore[arg-type]
        admin = seen.admin_token_file.read_text().strip()
        api = HubApi(seen.url, seen.ca_file, admin, kubectl, directory, made=[admin])
        token = (await api.mint("tests", user="tess")).token
        await api.grant("tests", user="tess", cluster="*", role="admin")
        yield api.entry(name, token)


async def works(entry: Entry) -> None:
    """kubectl get, watch and exec."""
    inside = await fresh(entry)
    async with inside.kubectl.running("get", "configmaps", "--watch-only", "-o", "name") as watch:
        await asyncio.sleep(0.5)
        await inside.kubectl("create", "configmap", "c", "--from-literal=a=b")
        assert await watch.line(20) == "configmap/c"
    got = await inside.kubectl("get", "configmap", "c", "-o", "json")
    assert json.loads(got.stdout)["data"] == {"a": "b"}
    data = os.urandom(512 * 1024)
    for mode in MODES:
        kubectl = entry.inside(NAMESPACE).kubectl.over(mode)
        result = await kubectl("exec", "-i", BOX, "--", "sh", "-c", "sha256sum; exit 3", stdin=data, rc=3)
        assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()


async def reaches(cluster: harness.Cluster, host: str, port: int) -> bool:
    """Whether the cluster's network lets this through."""
    dial = f"import socket; socket.create_connection(({host!r}, {port}), 2)"
    return (await harness.execute([*cluster.command_prefix, "python3", "-c", dial], timeout=15)).rc == 0


def settings(directory: Path, *lines: str) -> list[str]:
    """A hub's settings that have no flag."""
    file = directory / "hub.toml"
    file.write_text("\n".join(lines) + "\n")
    return ["--config", str(file)]


@pytest.mark.parametrize(
    ("name", "prefix", "port", "is_plain"),
    [("terminated", "", 0, False), ("plain-behind", "", 0, True), ("prefixed", "/fleet/hub", 443, False)],
)
async def test_behind_a_terminator(
    line: Line, whole_full: Entry, tmp_path: Path, name: str, prefix: str, port: int, is_plain: bool
) -> None:
    cluster = line.full
    assert cluster is not None
    hosts = [LOOPBACK, cluster.hub_host]
    made = fronts.terminator(f"front-{name}", [*hosts, "localhost"])
    options = settings(tmp_path, f'agent_pins = ["{made.pin}"]')
    if is_plain:
        options += ["--plain-http"]
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(plain_hub(options, name) if is_plain else behind_hub(options, name))
        seen = await stack.enter_async_context(
            fronts.haproxy(made, hub, hosts, prefix=prefix, port=port, plain=is_plain)
        )
        entry = await stack.enter_async_context(line_behind(cluster, seen, name, whole_full.kubectl.program, tmp_path))
        await works(entry)
        front = urlsplit(seen.url_on(cluster.hub_host)).port or 443
        assert await reaches(cluster, cluster.hub_host, front)
        own = [urlsplit(url) for url in hub.urls if urlsplit(url).hostname == cluster.hub_host]
        assert not [url for url in own if await reaches(cluster, cluster.hub_host, url.port or 0)]  # one port is enough


def behind_hub(options: list[str], name: str) -> contextlib.AbstractAsyncContextManager[harness.Hub]:
    return harness.hub(options=options, name=f"hub-{name}")


def plain_hub(options: list[str], name: str) -> contextlib.AbstractAsyncContextManager[harness.Hub]:
    return harness.hub(options=options, name=f"hub-{name}", only_loopback=True)


@dataclasses.dataclass
class Proxied(harness.Hub):
    """A hub under a name that only the proxy can resolve."""

    def url_on(self, host: str) -> str:
        return f"https://hub.internal:{urlsplit(self.url).port}"


async def test_through_an_http_proxy(line: Line, whole_full: Entry, tmp_path: Path) -> None:
    """The cluster's network lets nothing out but to the proxy, which resolves the hub's name and wants a password."""
    cluster = line.full
    assert cluster is not None
    targets: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        options = settings(tmp_path, 'tls_names = ["hub.internal"]')
        hub = await stack.enter_async_context(harness.hub(options=options, name="hub-proxied"))
        group = await stack.enter_async_context(TaskGroup("proxy"))
        server = await asyncio.start_server(lambda r, w: connect(r, w, targets, group), cluster.hub_host, 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        await cluster.allow_hub(port)
        seen = Proxied(**{each.name: getattr(hub, each.name) for each in dataclasses.fields(hub)})
        proxies = {"HTTPS_PROXY": f"http://u:p@{cluster.hub_host}:{port}", "NO_PROXY": "10.0.0.0/8,.svc"}
        entry = await stack.enter_async_context(
            line_behind(cluster, seen, "proxied", whole_full.kubectl.program, tmp_path, proxies=proxies)
        )
        await works(entry)
        assert set(targets) == {f"hub.internal:{urlsplit(hub.url).port}"}


async def connect(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, targets: list[str], group: TaskGroup
) -> None:
    """One CONNECT (RFC 9110 §9.3.6); every name is this machine."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        target = head.split()[1].decode() if b"Proxy-Authorization: Basic dTpw" in head else "nobody:0"
        targets.append(target)
        there, back = await asyncio.open_connection(LOOPBACK, int(target.rpartition(":")[2]))
    except (OSError, asyncio.IncompleteReadError):  # who comes while the hub goes, or leaves with it
        writer.close()
        return
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    group.spawn(pump(reader, back), name="out")
    group.spawn(pump(there, writer), name="in")


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()
