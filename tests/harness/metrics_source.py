"""A small source of `metrics.k8s.io` for `kubectl top`: figures of the node's own kubelet, served as an aggregated API.

`python -m tests.harness.metrics_source DIRECTORY` inside a full cluster's namespaces. It stands where metrics-server
would; the API server reaches it through the aggregation layer with the front proxy's certificate, which it insists on.
"""

import asyncio
import json
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from tests.harness.control_plane import ControlPlane
from tests.harness.node import KUBELET_PORT, NODE_ADDRESS

PORT: Final = 4443
GROUP: Final = "metrics.k8s.io"
GROUP_VERSION: Final = f"{GROUP}/v1beta1"
SERVICE: Final = "metrics"
NAMESPACE: Final = "kube-system"
_SUMMARY: Final = f"https://{NODE_ADDRESS}:{KUBELET_PORT}/stats/summary"


def manifests(plane: ControlPlane) -> str:
    """Service, endpoints and APIService, as a JSON list for `kubectl apply`."""
    meta = {"name": SERVICE, "namespace": NAMESPACE}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"ports": [{"name": "https", "port": 443}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
    }
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": plane.ca_bundle(),
            "service": {"name": SERVICE, "namespace": NAMESPACE, "port": 443},
        },
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, endpoints, registration]})


def _usage(cpu: dict[str, Any], memory: dict[str, Any]) -> dict[str, str]:
    return {"cpu": f"{cpu.get('usageNanoCores', 0)}n", "memory": f"{memory.get('workingSetBytes', 0) // 1024}Ki"}


def _head(kind: str, metadata: dict[str, str]) -> dict[str, Any]:
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"kind": kind, "apiVersion": GROUP_VERSION, "metadata": metadata, "timestamp": stamp, "window": "15s"}


def node_metrics(summary: dict[str, Any]) -> dict[str, Any]:
    """NodeMetrics from the kubelet's summary (k8s.io/kubelet/pkg/apis/stats/v1alpha1)."""
    node = summary["node"]
    usage = _usage(node.get("cpu", {}), node.get("memory", {}))
    return {**_head("NodeMetrics", {"name": node["nodeName"]}), "usage": usage}


def pod_metrics(pod: dict[str, Any]) -> dict[str, Any]:
    """PodMetrics from one pod of the kubelet's summary."""
    found = pod.get("containers", [])
    containers = [{"name": one["name"], "usage": _usage(one.get("cpu", {}), one.get("memory", {}))} for one in found]
    metadata = {"name": pod["podRef"]["name"], "namespace": pod["podRef"]["namespace"]}
    return {**_head("PodMetrics", metadata), "containers": containers}


def _list(kind: str, items: list[dict[str, Any]]) -> web.Response:
    return web.json_response({"kind": f"{kind}List", "apiVersion": GROUP_VERSION, "metadata": {}, "items": items})


class Source:
    """The HTTP handlers."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def _summary(self) -> dict[str, Any]:
        async with self._session.get(_SUMMARY) as answer:
            answer.raise_for_status()
            found: dict[str, Any] = await answer.json()
            return found

    async def resources(self, _: web.Request) -> web.Response:
        kinds = (("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True))
        found = [
            {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]}
            for name, kind, namespaced in kinds
        ]
        document = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": found}
        return web.json_response(document)

    async def nodes(self, request: web.Request) -> web.Response:
        metrics = node_metrics(await self._summary())
        wanted = request.match_info.get("name")
        if wanted is None:
            return _list("NodeMetrics", [metrics])
        if wanted != metrics["metadata"]["name"]:
            raise web.HTTPNotFound
        return web.json_response(metrics)

    async def pods(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info.get("namespace"), request.match_info.get("name")
        items = [pod_metrics(pod) for pod in (await self._summary()).get("pods", [])]
        items = [each for each in items if namespace in {None, each["metadata"]["namespace"]}]
        if name is None:
            return _list("PodMetrics", items)
        for each in items:
            if each["metadata"]["name"] == name:
                return web.json_response(each)
        raise web.HTTPNotFound

    def application(self) -> web.Application:
        """Routes under /apis/metrics.k8s.io/v1beta1."""
        prefix, application = f"/apis/{GROUP_VERSION}", web.Application()
        routes = (
            ("", self.resources),
            ("/nodes", self.nodes),
            ("/nodes/{name}", self.nodes),
            ("/pods", self.pods),
            ("/namespaces/{namespace}/pods", self.pods),
            ("/namespaces/{namespace}/pods/{name}", self.pods),
        )
        application.add_routes([web.get(f"{prefix}{path}", handler) for path, handler in routes])
        return application


async def serve(directory: Path) -> None:
    """Serve until killed."""
    keys = directory / "pki"
    upstream = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    upstream.load_cert_chain(keys / "kubelet-client.crt", keys / "kubelet-client.key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(keys / "front-proxy-ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(keys / "apiserver.crt", keys / "apiserver.key")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=upstream)) as session:
        runner = web.AppRunner(Source(session).application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, NODE_ADDRESS, PORT, ssl_context=context).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
