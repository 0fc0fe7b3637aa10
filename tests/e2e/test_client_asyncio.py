"""kubernetes_asyncio through the line, configured from a kubeconfig as any program of a user would be."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.stream import WsApiClient

from tests.e2e.entry import Entry
from tests.e2e.pods import BOX, NAMESPACE, WEB, WEB_PORT
from tests.e2e.test_kubectl_reads import config_maps
from tests.e2e.test_kubectl_writes import rope_definition
from tests.e2e.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


async def configured(entry: Entry) -> client.Configuration:
    """The library's own reading of the kubeconfig, without its global default."""
    configuration = client.Configuration()
    await config.load_kube_config(str(entry.kubectl.kubeconfig), client_configuration=configuration)
    return configuration


@contextlib.asynccontextmanager
async def core(entry: Entry) -> AsyncIterator[client.CoreV1Api]:
    async with client.ApiClient(await configured(entry)) as api:
        yield client.CoreV1Api(api)


def _map(name: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"stem": "made"}), data={"v": "1"})


@pytest.mark.light
async def test_list_in_pages(light: Entry) -> None:
    namespace = light.kubectl.namespace
    await light.kubectl("create", "-f", "-", stdin=config_maps(25))
    async with core(light) as api:
        names: list[str] = []
        token = None
        pages = 0
        while pages == 0 or token:
            options = {"_continue": token} if token else {}
            page = await api.list_namespaced_config_map(namespace, limit=10, **options, _request_timeout=20)
            names += [item.metadata.name for item in page.items if item.metadata.name.startswith("item-")]
            token = page.metadata._continue
            pages += 1
    assert names == [f"item-{number:03d}" for number in range(25)]
    assert pages == 3


@pytest.mark.light
async def test_watch_goes_on_from_the_last_version_without_gap_or_repeat(light: Entry) -> None:
    namespace = light.kubectl.namespace
    async with core(light) as api:
        listed = await api.list_namespaced_config_map(namespace, label_selector="stem", _request_timeout=20)
        seen: list[str] = []
        version = listed.metadata.resource_version
        for part in range(3):
            for number in range(5):
                await api.create_namespaced_config_map(namespace, _map(f"m-{part}-{number}"), _request_timeout=20)
            stream = watch.Watch().stream(
                api.list_namespaced_config_map,
                namespace,
                label_selector="stem",
                resource_version=version,
                timeout_seconds=20,
                _request_timeout=30,
            )
            async with stream as events:
                async for event in events:
                    seen.append(event["object"].metadata.name)
                    version = event["object"].metadata.resource_version
                    if len(seen) == 5 * (part + 1):
                        break
    assert seen == [f"m-{part}-{number}" for part in range(3) for number in range(5)]


@pytest.mark.light
async def test_bookmarks_come_through(light: Entry) -> None:
    namespace = light.kubectl.namespace
    async with core(light) as api:
        stream = watch.Watch().stream(
            api.list_namespaced_config_map,
            namespace,
            label_selector="stem=none",
            send_initial_events=True,
            resource_version_match="NotOlderThan",
            resource_version="",
            allow_watch_bookmarks=True,
            timeout_seconds=4,
            _request_timeout=30,
        )
        initial = final = None
        async with stream as events:
            async for event in events:
                if event["type"] == "BOOKMARK":
                    annotations = event["raw_object"]["metadata"].get("annotations") or {}
                    if annotations.get("k8s.io/initial-events-end") == "true":
                        initial = event["raw_object"]["metadata"]["resourceVersion"]
                        # Not selected, so that only a bookmark can tell how far the watch has come.
                        await api.create_namespaced_config_map(namespace, _map("made"), _request_timeout=20)
                        continue
                    # The API server sends one two seconds before the end that `timeout_seconds` sets.
                    final = event["raw_object"]["metadata"]["resourceVersion"]
                    break
    assert initial is not None
    assert final is not None
    assert int(final) > int(initial)


@pytest.mark.light
async def test_a_version_too_old_is_410_and_a_new_list_goes_on(light: Entry) -> None:
    kubectl, namespace = light.kubectl, light.kubectl.namespace
    # The watch cache of a resource that was just defined knows nothing older than itself: a genuine 410.
    await kubectl("create", "-f", "-", stdin=json.dumps(rope_definition()).encode())
    try:
        await kubectl("wait", "--for=condition=Established", "crd/ropes.test.riata.io", "--timeout=30s")
        async with client.ApiClient(await configured(light)) as api:
            ropes = client.CustomObjectsApi(api)
            where = ("test.riata.io", "v1", namespace, "ropes")

            async def first(version: str) -> str | ApiException:
                stream = watch.Watch().stream(
                    ropes.list_namespaced_custom_object,
                    *where,
                    resource_version=version,
                    timeout_seconds=10,
                    _request_timeout=20,
                )
                try:
                    async with stream as events:
                        async for event in events:
                            return str(event["raw_object"]["metadata"]["name"])
                except ApiException as error:
                    return error
                return ""

            async def told() -> ApiException | None:
                answer = await first("1")
                assert isinstance(answer, ApiException)
                return None if answer.status == 429 else answer  # 429: the new watch cache is being filled

            gone = await until(told, what="the watch cache to be filled")
            assert gone.status == 410
            assert "too old resource version" in str(gone.reason)
            listed = await ropes.list_namespaced_custom_object(*where, _request_timeout=20)
            rope = {
                "apiVersion": "test.riata.io/v1",
                "kind": "Rope",
                "metadata": {"name": "new"},
                "spec": {"length": 1},
            }
            await ropes.create_namespaced_custom_object(*where, rope, _request_timeout=20)
            assert await first(listed["metadata"]["resourceVersion"]) == "new"
    finally:
        await kubectl("delete", "crd", "ropes.test.riata.io")


@pytest.mark.light
async def test_patch_types_and_errors(light: Entry) -> None:
    namespace = light.kubectl.namespace
    async with core(light) as api:
        await api.create_namespaced_config_map(namespace, _map("one"), _request_timeout=20)
        patched = await api.patch_namespaced_config_map("one", namespace, {"data": {"v": "2"}}, _request_timeout=20)
        assert patched.data == {"v": "2"}
        with pytest.raises(ApiException) as caught:
            await api.create_namespaced_config_map(namespace, _map("one"), _request_timeout=20)
        assert caught.value.status == 409
        with pytest.raises(ApiException) as caught:
            await api.read_namespaced_config_map("none", namespace, _request_timeout=20)
        assert caught.value.status == 404


@pytest.mark.full
async def test_exec_over_version_4_of_the_channel_protocol(full: Entry) -> None:
    async with WsApiClient(await configured(full)) as api:
        call = client.CoreV1Api(api).connect_get_namespaced_pod_exec
        flags = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
        assert await call(BOX, NAMESPACE, command=["sh", "-c", "echo hello"], **flags) == "hello\n"
        opening = await call(
            BOX,
            NAMESPACE,
            command=["sh", "-c", "cat; exit 7"],
            **{**flags, "stdin": True, "tty": True},
            _preload_content=False,
        )
        async with opening as socket:
            await socket.send_bytes(b"\x00typed\n\x04")
            output, ended = b"", b""
            async for message in socket:
                channel, data = message.data[0], message.data[1:]
                output += data if channel == 1 else b""
                ended += data if channel == 3 else b""
    assert b"typed" in output
    assert WsApiClient.parse_error_data(ended) == 7


@pytest.mark.full
async def test_port_forward_over_version_4_of_the_channel_protocol(full: Entry) -> None:
    async with WsApiClient(await configured(full)) as api:
        call = client.CoreV1Api(api).connect_get_namespaced_pod_portforward
        opening = await call(WEB, NAMESPACE, ports=WEB_PORT, _preload_content=False)
        async with opening as socket, asyncio.timeout(20):
            data, errors = b"", b""
            await socket.send_bytes(b"\x00GET /sums HTTP/1.0\r\n\r\n")
            async for message in socket:
                if message.data[0] == 0:
                    data += message.data[1:]
                else:
                    errors += message.data[1:]
    port = WEB_PORT.to_bytes(2, "little")  # each channel starts with its port
    assert data.startswith(port + b"HTTP/1.")
    assert data.count(b"\n") >= 20
    assert errors == port
