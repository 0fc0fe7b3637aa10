"""Bodies compressed on the tunnel: clients get the bytes of a direct call, the tunnel a fraction of them."""

import base64
import contextlib
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml

from tests import harness
from tests.e2e import measures
from tests.e2e.entry import Entry
from tests.e2e.line import Line, agent_page
from tests.faults.proxy import Way, fault_proxy
from tests.faults.weather import Weather

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

COUNT = 150
PROTOBUF = "application/vnd.kubernetes.protobuf"
LIST_OF_METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
"""Another form than the stored one; a Table would show ages, which differ from call to call."""
WIRE = 'riata_hub_compressed_bytes_total{form="wire"}'


@contextlib.asynccontextmanager
async def directly(cluster: harness.Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    """The API server itself, as its administrator."""
    config = yaml.safe_load(cluster.admin_kubeconfig.read_text())
    user = config["users"][0]["user"]
    context = ssl.create_default_context(cafile=str(cluster.ca_file))
    headers = {"Accept-Encoding": "identity"}
    if "token" in user:
        headers["Authorization"] = f"Bearer {user['token']}"
    else:
        with tempfile.TemporaryDirectory() as directory:
            paths = []
            for name in ("client-certificate", "client-key"):
                path = Path(directory) / name
                path.write_bytes(
                    base64.b64decode(user[f"{name}-data"]) if f"{name}-data" in user else Path(user[name]).read_bytes()
                )
                paths.append(str(path))
            context.load_cert_chain(*paths)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(
        cluster.url, connector=connector, auto_decompress=False, headers=headers
    ) as session:
        yield session


def document(number: int, text: str = "") -> dict[str, object]:
    """A ConfigMap of some 3 KB."""
    data = {f"setting-{at}": f"value {at * number} of {number}{text}" for at in range(80)}
    metadata = {"name": f"map-{number:03d}", "labels": {"size": "3k"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def fill(entry: Entry) -> str:
    """Create the ConfigMaps; the path that lists them."""
    items = [document(number) for number in range(COUNT)]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()
    await entry.kubectl("create", "-f", "-", stdin=manifest)
    return f"/api/v1/namespaces/{entry.kubectl.namespace}/configmaps"


async def compressed(line: Line) -> tuple[float, float]:
    """Bytes on the wire and of the bodies, so far."""
    async with aiohttp.ClientSession() as session, session.get(line.hub.metrics_url) as answer:
        samples = dict(row.rsplit(" ", 1) for row in (await answer.text()).splitlines() if not row.startswith("#"))
    return float(samples.get(WIRE, 0)), float(samples.get(WIRE.replace("wire", "plain"), 0))


async def version(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}?limit=1") as answer:
        return str((await answer.json())["metadata"]["resourceVersion"])


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("accept", ["application/json", "application/yaml", PROTOBUF, LIST_OF_METADATA])
async def test_a_list_is_that_of_a_direct_call(hub_line: Line, light: Entry, accept: str, coding: str) -> None:
    path = await fill(light)
    async with light.session() as session, directly(hub_line.light) as direct:
        same = f"{path}?resourceVersion={await version(session, light.at(path))}&resourceVersionMatch=Exact"
        headers = {"Accept": accept, "Accept-Encoding": coding}
        _, before = await compressed(hub_line)
        async with session.get(light.at(same), headers=headers) as answer:
            ours, ours_headers = await answer.read(), answer.headers
        _, after = await compressed(hub_line)
        async with direct.get(same, headers=headers) as answer:
            theirs, theirs_headers = await answer.read(), answer.headers
    assert ours == theirs
    assert len(ours) > 5_000
    for name in ("Content-Type", "Content-Encoding", "Content-Length", "Vary", "Etag"):
        assert ours_headers.get(name) == theirs_headers.get(name), name
    # What the API server has packed itself goes through; everything else is packed on the tunnel.
    assert after - before == (0 if "Content-Encoding" in theirs_headers else len(ours))


async def test_openapi_and_discovery_are_those_of_a_direct_call(hub_line: Line, light: Entry) -> None:
    async with light.session() as session, directly(hub_line.light) as direct:
        for path in ("/openapi/v2", "/openapi/v3/api/v1", "/apis", "/version", "/metrics", "/readyz?verbose"):
            async with session.get(light.at(path)) as ours, direct.get(path) as theirs:
                assert ours.status == theirs.status
                if path != "/metrics":
                    assert await ours.read() == await theirs.read(), path
                assert ours.headers.get("Etag") == theirs.headers.get("Etag")


@pytest.mark.parametrize("accept", ["application/json", PROTOBUF + ";stream=watch", METADATA])
async def test_a_watch_is_that_of_a_direct_call_and_a_fraction_on_the_tunnel(
    hub_line: Line, light: Entry, accept: str
) -> None:
    path = await fill(light)
    async with far_away(hub_line) as far, far.session() as session, directly(hub_line.light) as direct:
        start = await version(session, far.at(path))
        for number in range(0, COUNT, 2):
            await light_patch(session, light, f"{path}/map-{number:03d}", number)
        same = f"{path}?watch=1&resourceVersion={start}&timeoutSeconds=2"
        wire, plain = await compressed(hub_line)
        async with session.get(far.at(same), headers={"Accept": accept, "Accept-Encoding": "gzip"}) as answer:
            assert "Content-Encoding" not in answer.headers
            ours = await answer.read()  # ended by the API server, and whole
        wire, plain = (now - then for now, then in zip(await compressed(hub_line), (wire, plain), strict=True))
        async with direct.get(same, headers={"Accept": accept}) as answer:
            theirs = await answer.read()
    assert ours == theirs
    assert plain == len(ours) > 20_000
    print(f"\n{accept}: {plain:.0f} bytes of events took {wire:.0f}")
    assert wire < 0.25 * plain


@contextlib.asynccontextmanager
async def far_away(line: Line) -> AsyncIterator[Entry]:
    """The light cluster by an agent that is not near its hub: there events go as they are (agent/relay/compress.py)."""
    address = urlsplit(line.hub.url)
    async with fault_proxy((address.hostname or "", address.port or 0), seed=1) as proxy:
        for way in Way:
            proxy.weather[way] = Weather(latency_s=0.002)
        options = ("--hub-url", f"https://127.0.0.1:{proxy.port}")
        async with harness.agent(line.hub, line.light, name="far", options=options):
            yield line.entry("far")


async def light_patch(session: aiohttp.ClientSession, entry: Entry, path: str, number: int) -> None:
    patch = {"data": {"changed": f"by {number}"}}
    headers = {"Content-Type": "application/merge-patch+json"}
    async with session.patch(entry.at(path), data=json.dumps(patch), headers=headers) as answer:
        assert answer.status == 200


async def test_kubectl_lists_in_one_piece_and_in_pages(hub_line: Line, light: Entry) -> None:
    await fill(light)
    before, _ = await compressed(hub_line)
    whole = (await light.kubectl("get", "configmaps", "-l", "size", "-o", "json", "--chunk-size=0")).stdout
    pages = (await light.kubectl("get", "configmaps", "-l", "size", "-o", "json", "--chunk-size=20")).stdout
    after, _ = await compressed(hub_line)
    names = [item["metadata"]["name"] for item in json.loads(whole)["items"]]
    assert names == [item["metadata"]["name"] for item in json.loads(pages)["items"]]
    assert len(names) == COUNT
    assert after > before  # pages are below what an API server packs


async def test_logs_and_programs_are_left_alone(hub_line: Line, light: Entry) -> None:
    before = await compressed(hub_line)
    async with light.session() as session:
        for path in ("/metrics", "/readyz?verbose", "/api/v1/namespaces/default/services/none/proxy/x"):
            async with session.get(light.at(path)) as answer:
                await answer.read()
    assert await compressed(hub_line) == before


async def test_an_agent_that_does_not_compress_serves_as_well(hub_line: Line, light: Entry) -> None:
    path = await fill(light)
    before = await compressed(hub_line)
    async with harness.agent(hub_line.hub, hub_line.light, name="plain", options=("--compression-bytes", "0")) as agent:
        entry = hub_line.entry("plain")
        async with entry.session() as session:
            start = await version(session, entry.at(path))
            async with session.get(entry.at(f"{path}?watch=1&resourceVersion={start}")) as watch:
                await light_patch(session, entry, f"{path}/map-001", 1)
                assert json.loads(await watch.content.readline())["type"] == "MODIFIED"
            async with session.get(entry.at(path)) as answer:
                assert len((await answer.json())["items"]) >= COUNT
        page = await agent_page(agent)
        assert page["riata_agent_compressed_bytes_total"] == 0
    assert await compressed(hub_line) == before
    assert (await measures.scrape(hub_line.hub.metrics_url))["riata_hub_compressed_bodies"] == 0
