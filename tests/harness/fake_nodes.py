"""Make simulated nodes and pods: `python -m tests.harness.fake_nodes KUBECONFIG NODES PODS [--accounts]`.

A program of its own because a full cluster's API server can be reached only from inside its network.
"""

import asyncio
import base64
import itertools
import json
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any, Final

import aiohttp

NAMESPACE: Final = "simulated"
_AT_ONCE: Final = 32
_READY_S: Final = 240.0
_CREATED: Final = {200, 201, 409}


def _node(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"sim-{number:05}",
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": f"sim-{number:05}", "kubernetes.io/os": "linux"},
        },
        # No real workload may land on a node that does not exist.
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110"},
            "capacity": {"cpu": "32", "memory": "256Gi", "pods": "110"},
        },
    }


def _pod(number: int, nodes: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number:05}", "labels": {"app": f"app-{number % 10}"}},
        "spec": {
            "nodeName": f"sim-{number % nodes:05}",
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {"name": "main", "image": "local/simulated:1", "env": [{"name": "N", "value": str(number)}]}
            ],
        },
    }


class Maker:
    """Creates objects and counts the ready ones."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def create(self, path: str, document: dict[str, Any]) -> None:
        async with self._session.post(f"{self._url}{path}", json=document) as answer:
            if answer.status not in _CREATED:
                raise RuntimeError(f"POST {path}: {answer.status} {await answer.text()}")

    async def wait_account(self) -> None:
        """Until the namespace's ServiceAccount is there, where a controller makes one: pods need it."""
        path = f"{self._url}/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
        for _ in range(100):
            async with self._session.get(path) as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.1)

    async def ready(self, path: str) -> int:
        async with self._session.get(f"{self._url}{path}") as answer:
            items = (await answer.json())["items"]
        conditions = ([*item["status"].get("conditions", ())] for item in items)
        return sum(any(each["type"] == "Ready" and each["status"] == "True" for each in found) for found in conditions)

    async def wait_ready(self, path: str, count: int) -> None:
        async with asyncio.timeout(_READY_S):
            while await self.ready(path) < count:  # noqa: ASYNC110 - polls the API server
                await asyncio.sleep(0.3)


async def _bounded(work: Iterable[Awaitable[None]]) -> None:
    pending = iter(work)
    while batch := list(itertools.islice(pending, _AT_ONCE)):
        await asyncio.gather(*batch)


async def make(kubeconfig: Path, nodes: int, pods: int, *, accounts: bool) -> None:
    """Create and wait until every one is Ready. Raises RuntimeError, TimeoutError."""
    document = json.loads(kubeconfig.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pair:  # 0600; the ssl module takes files only
        pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(pair.name)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        maker = Maker(session, cluster["server"])
        await _bounded(maker.create("/api/v1/nodes", _node(number)) for number in range(nodes))
        if pods:
            await maker.create("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE}})
            path = f"/api/v1/namespaces/{NAMESPACE}/pods"
            if accounts:
                await maker.wait_account()
            await _bounded(maker.create(path, _pod(number, nodes)) for number in range(pods))
        await maker.wait_ready("/api/v1/nodes?labelSelector=type%3Dkwok", nodes)
        if pods:
            await maker.wait_ready(f"/api/v1/namespaces/{NAMESPACE}/pods", pods)


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), accounts="--accounts" in sys.argv))
