"""What the line must not do to a response: hold it back, change it, end it early, or end it falsely."""

import asyncio
import base64
import contextlib
import gzip
import json
import time

import aiohttp
import pytest

from tests.e2e import measures
from tests.e2e.entry import Entry
from tests.e2e.line import Line
from tests.e2e.rawhttp import raw_connection
from tests.room import room

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

EVENTS = 50
IDLE_S = 20.0


BROWSER = "https://browser.example"
"""apiserver's WebSocket watch refuses a handshake without an Origin, which every browser sends."""


def maps(entry: Entry, query: str = "") -> str:
    """The URL of the ConfigMaps that `create` makes in the test's namespace; `query` starts with `&`."""
    return entry.at(f"/api/v1/namespaces/{entry.kubectl.namespace}/configmaps?labelSelector=made{query}")


async def create(session: aiohttp.ClientSession, entry: Entry, name: str, text: str = "1") -> None:
    metadata = {"name": name, "labels": {"made": "here"}}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": text}}
    async with session.post(maps(entry), json=document) as answer:
        assert answer.status == 201, await answer.text()


async def version(session: aiohttp.ClientSession, entry: Entry) -> str:
    async with session.get(maps(entry, "&limit=1")) as answer:
        return str((await answer.json())["metadata"]["resourceVersion"])


async def test_each_watch_event_is_flushed_at_once(light: Entry) -> None:
    delays = []
    async with light.session() as session:
        start = await version(session, light)
        async with session.get(maps(light, f"&watch=1&resourceVersion={start}")) as watch:
            assert watch.status == 200
            for number in range(EVENTS):
                sent = time.monotonic()
                await create(session, light, f"e-{number}")
                async with asyncio.timeout(30):
                    event = json.loads(await watch.content.readline())
                delays.append(time.monotonic() - sent)
                assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", f"e-{number}")
    print(f"\nPOST and its watch event: {measures.shown(delays)}")
    assert measures.quantile(delays, 0.5) < 0.1 * room()


async def test_a_watch_ends_cleanly_when_the_api_server_ends_it(light: Entry) -> None:
    async with light.session() as session:
        start = await version(session, light)
        async with session.get(maps(light, f"&watch=1&resourceVersion={start}&timeoutSeconds=2")) as watch:
            assert await watch.read() == b""  # and no error: the last chunk came


async def test_nothing_ends_an_idle_watch(light: Entry) -> None:
    async with light.session() as session:
        start = await version(session, light)
        async with session.get(maps(light, f"&watch=1&resourceVersion={start}")) as watch:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    pytest.fail(f"an idle watch ended or spoke: {await watch.content.readline()!r}")
            await create(session, light, "awake")
            async with asyncio.timeout(30):
                assert json.loads(await watch.content.readline())["object"]["metadata"]["name"] == "awake"


async def test_header_fields_of_the_api_server_are_untouched(light: Entry) -> None:
    async with light.session() as session:
        async with session.get(light.at("/api/v1/componentstatuses")) as answer:
            assert "deprecated" in answer.headers["Warning"]
        async with session.get(maps(light)) as answer:
            assert answer.headers["Audit-Id"]
            assert answer.headers["Content-Type"] == "application/json"
            assert "X-Kubernetes-Pf-Flowschema-Uid" in answer.headers
        table = "application/json;as=Table;v=v1;g=meta.k8s.io"
        async with session.get(maps(light), headers={"Accept": table}) as answer:
            assert (await answer.json())["kind"] == "Table"
        async with session.get(maps(light), headers={"Accept": "application/vnd.kubernetes.protobuf"}) as answer:
            assert answer.headers["Content-Type"] == "application/vnd.kubernetes.protobuf"
            assert (await answer.read()).startswith(b"k8s\x00")
        async with session.get(maps(light), headers={"Accept": "text/none"}) as answer:
            assert answer.status == 406


async def test_a_compressed_body_arrives_as_it_was_sent(light: Entry) -> None:
    async with light.session() as session:
        await create(session, light, "compressible", "x" * 300_000)
        async with session.get(maps(light), headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            packed = await answer.read()
    assert len(packed) < 100_000
    items = json.loads(gzip.decompress(packed))["items"]
    assert "x" * 300_000 in [item["data"].get("v") for item in items]


async def test_head_and_options_and_not_modified(light: Entry) -> None:
    async with light.session() as session:
        async with session.head(light.at("/readyz")) as answer:
            assert answer.status == 200
            assert await answer.read() == b""
        async with session.get(light.at("/openapi/v2")) as answer:
            tag = answer.headers["Etag"]
            assert len(await answer.read()) > 1_000_000
        async with session.get(light.at("/openapi/v2"), headers={"If-None-Match": tag}) as answer:
            assert answer.status == 304


async def test_watch_over_websocket(light: Entry) -> None:
    async with light.session() as session:
        start = await version(session, light)
        async with session.ws_connect(maps(light, f"&watch=1&resourceVersion={start}"), origin=BROWSER) as socket:
            await create(session, light, "seen")
            message = await socket.receive(timeout=10)
            assert json.loads(message.data)["object"]["metadata"]["name"] == "seen"
        url = maps(light, f"&watch=1&resourceVersion={start}")
        async with session.ws_connect(url, protocols=("base64.binary.k8s.io",), origin=BROWSER) as socket:
            assert socket.protocol == "base64.binary.k8s.io"
            message = await socket.receive(timeout=10)
            assert json.loads(message.data)["object"]["metadata"]["name"] == "seen"


async def test_a_browsers_bearer_in_the_sub_protocol_is_taken_and_not_passed_on(light: Entry) -> None:
    encoded = base64.urlsafe_b64encode(light.token.encode()).decode().rstrip("=")
    bearer = f"base64url.bearer.authorization.k8s.io.{encoded}"
    async with light.session() as session:
        start = await version(session, light)
    async with light.session(headers={}) as nobody:
        url = maps(light, f"&watch=1&resourceVersion={start}")
        async with nobody.ws_connect(url, protocols=(bearer, "base64.binary.k8s.io"), origin=BROWSER) as socket:
            assert socket.protocol == "base64.binary.k8s.io"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await nobody.ws_connect(url, protocols=("base64.binary.k8s.io",), origin=BROWSER)
        assert refused.value.status in {401, 403}  # 403: an API server that knows system:anonymous


async def test_100_continue_comes_only_to_whom_the_hub_lets_in(hub_line: Line, light: Entry) -> None:
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "expected"}}).encode()
    expect = ("Expect: 100-continue", "Content-Type: application/json", f"Content-Length: {len(body)}")
    path = f"/api/v1/namespaces/{light.kubectl.namespace}/configmaps"
    async with raw_connection(light) as connection:
        await connection.request("POST", path, *expect)
        assert (await connection.head()).status == 100
        await connection.send(body)
        assert (await connection.head()).status == 201
    stranger = hub_line.api.entry(hub_line.light.name, "riata_aaaaaaaaaa_" + "0" * 64)
    async with raw_connection(stranger) as connection:
        await connection.request("POST", path, *expect)
        assert (await connection.head()).status == 401


@pytest.mark.parametrize("upgrade", ["h2c", "tcp", "websocket, h2c", "connect-udp", "TLS/1.0"])
async def test_other_upgrades_are_refused(hub_line: Line, light: Entry, upgrade: str) -> None:
    async with raw_connection(light) as connection:
        await connection.request("GET", "/api", "Connection: Upgrade", f"Upgrade: {upgrade}")
        assert (await connection.head()).status == 400
        await connection.rest()  # and closed


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
async def test_a_refused_upgrade_leaves_no_door_open(hub_line: Line, light: Entry, protocol: str) -> None:
    """CVE-2018-1002105 with the real API server: what follows a refused upgrade is authorised anew or not at all."""
    path = f"/api/v1/namespaces/{light.kubectl.namespace}/pods/none/exec?command=true&stdout=1"
    key = ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13")
    upgrade = ("Connection: Upgrade", f"Upgrade: {protocol}", "Sec-WebSocket-Protocol: v5.channel.k8s.io", *key)
    method = "GET" if protocol == "websocket" else "POST"
    async with raw_connection(light) as connection:
        await connection.request(method, path, *upgrade)
        head = await connection.head()
        assert head.status == 404
        with contextlib.suppress(ConnectionError):
            await connection.send(b"GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n")
        # Either closed, or an answer of the hub's own to a request without a token.
        rest = b""
        with contextlib.suppress(ConnectionError):
            rest = await connection.rest()
    assert b"HTTP/1.1 200" not in rest
    assert b"SecretList" not in rest
