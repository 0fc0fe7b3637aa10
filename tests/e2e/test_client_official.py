"""The official `kubernetes` client (threads, urllib3, websocket-client) through the line."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from kubernetes import client, config, stream, watch
from kubernetes.client.rest import ApiException

from tests.e2e.entry import Entry
from tests.e2e.pods import BOX, NAMESPACE, WEB, WEB_PORT
from tests.e2e.test_kubectl_reads import config_maps
from tests.e2e.test_kubectl_writes import rope_definition

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("default"),  # it leaves sockets to the garbage collector
]

Answer = TypeVar("Answer")


async def with_api(entry: Entry, body: Callable[[client.ApiClient], Answer]) -> Answer:
    """Run `body` in a thread with a client made from the kubeconfig."""

    def run() -> Answer:
        configuration = client.Configuration()
        config.load_kube_config(str(entry.kubectl.kubeconfig), client_configuration=configuration)
        with client.ApiClient(configuration) as api:
            return body(api)

    return await asyncio.to_thread(run)


def _map(name: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"stem": "made"}), data={"v": "1"})


@pytest.mark.light
async def test_list_in_pages(light: Entry) -> None:
    namespace = light.kubectl.namespace
    await light.kubectl("create", "-f", "-", stdin=config_maps(25))

    def body(api: client.ApiClient) -> list[str]:
        core = client.CoreV1Api(api)
        names: list[str] = []
        options: dict[str, Any] = {}
        while True:
            page = core.list_namespaced_config_map(namespace, limit=10, label_selector="stem", **options)
            names.extend(item.metadata.name for item in page.items)
            if not page.metadata._continue:
                return names
            options = {"_continue": page.metadata._continue}

    assert await with_api(light, body) == [f"item-{number:03d}" for number in range(25)]


@pytest.mark.light
async def test_watch_goes_on_from_the_last_version_without_gap_or_repeat(light: Entry) -> None:
    namespace = light.kubectl.namespace

    def body(api: client.ApiClient) -> list[str]:
        core = client.CoreV1Api(api)
        version = core.list_namespaced_config_map(namespace, label_selector="stem").metadata.resource_version
        seen: list[str] = []
        for part in range(3):
            for number in range(5):
                core.create_namespaced_config_map(namespace, _map(f"m-{part}-{number}"))
            watching = watch.Watch()
            events = watching.stream(
                core.list_namespaced_config_map,
                namespace,
                label_selector="stem",
                resource_version=version,
                timeout_seconds=20,
                _request_timeout=30,
            )
            for event in events:
                seen.append(event["object"].metadata.name)
                version = event["object"].metadata.resource_version
                if len(seen) == 5 * (part + 1):
                    watching.stop()
        return seen

    assert await with_api(light, body) == [f"m-{part}-{number}" for part in range(3) for number in range(5)]


@pytest.mark.light
async def test_bookmarks_come_through(light: Entry) -> None:
    namespace = light.kubectl.namespace

    def body(api: client.ApiClient) -> list[str]:
        core = client.CoreV1Api(api)
        version = core.list_namespaced_config_map(namespace).metadata.resource_version
        # Not selected, so that only a bookmark can tell how far the watch has come.
        later = threading.Timer(0.5, core.create_namespaced_config_map, (namespace, _map("made")))
        later.start()
        events = watch.Watch().stream(
            core.list_namespaced_config_map,
            namespace,
            label_selector="stem=none",
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=4,
            _request_timeout=30,
        )
        kinds = [event["type"] for event in events]
        later.join()
        return kinds

    # Two seconds before the end that `timeout_seconds` sets, the API server sends one; the end itself is clean.
    assert "BOOKMARK" in await with_api(light, body)


@pytest.mark.light
async def test_a_version_too_old_is_410_and_a_new_list_goes_on(light: Entry) -> None:
    kubectl, namespace = light.kubectl, light.kubectl.namespace
    await kubectl("create", "-f", "-", stdin=json.dumps(rope_definition()).encode())

    def body(api: client.ApiClient) -> tuple[int, str]:
        ropes = client.CustomObjectsApi(api)
        where = ("test.riata.io", "v1", namespace, "ropes")

        def first(version: str) -> str:
            watching = watch.Watch()
            for event in watching.stream(
                ropes.list_namespaced_custom_object, *where, resource_version=version, timeout_seconds=10
            ):
                watching.stop()
                return str(event["object"]["metadata"]["name"])
            return ""

        def told() -> int:
            for _ in range(50):
                try:
                    first("1")
                except ApiException as error:
                    if error.status != 429:  # 429: the new watch cache is being filled
                        return int(error.status)
                    time.sleep(0.2)
            return 0

        gone = told()
        version = ropes.list_namespaced_custom_object(*where)["metadata"]["resourceVersion"]
        rope = {"apiVersion": "test.riata.io/v1", "kind": "Rope", "metadata": {"name": "new"}, "spec": {"length": 1}}
        ropes.create_namespaced_custom_object(*where, rope)
        return gone, first(version)

    try:
        await kubectl("wait", "--for=condition=Established", "crd/ropes.test.riata.io", "--timeout=30s")
        assert await with_api(light, body) == (410, "new")
    finally:
        await kubectl("delete", "crd", "ropes.test.riata.io")


@pytest.mark.full
async def test_exec_with_input_and_exit_code(full: Entry) -> None:
    def body(api: client.ApiClient) -> tuple[str, int]:
        shell = stream.stream(
            client.CoreV1Api(api).connect_get_namespaced_pod_exec,
            BOX,
            NAMESPACE,
            command=["sh", "-c", "read line; echo got:$line; exit 6"],
            stderr=True,
            stdin=True,
            stdout=True,
            tty=False,
            _preload_content=False,
        )
        shell.write_stdin("typed\n")
        shell.run_forever(timeout=20)
        output = shell.read_stdout()
        code = shell.returncode
        shell.sock.shutdown()  # its own close() does nothing once the other side has closed
        return output, code

    assert await with_api(full, body) == ("got:typed\n", 6)


@pytest.mark.full
async def test_port_forward(full: Entry) -> None:
    def body(api: client.ApiClient) -> bytes:
        forward = stream.portforward(
            client.CoreV1Api(api).connect_get_namespaced_pod_portforward, WEB, NAMESPACE, ports=str(WEB_PORT)
        )
        connection: socket.socket = forward.socket(WEB_PORT)
        connection.setblocking(True)
        connection.sendall(b"GET /sums HTTP/1.0\r\n\r\n")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        connection.close()
        assert forward.error(WEB_PORT) is None
        forward.websocket.shutdown()
        return received

    received = await with_api(full, body)
    assert received.startswith(b"HTTP/1.")
    assert received.count(b"\n") >= 20
