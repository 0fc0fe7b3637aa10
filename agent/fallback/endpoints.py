"""Writing down where the control plane is, for node agents that lose the way over the Service.

The API servers' own EndpointSlice goes into a ConfigMap that the node agents' pods mount: the kubelet brings it to
them, so they need no right for it, and it stays when the Service, DNS or this agent are gone.
"""

import ipaddress
import logging
from typing import Any, Final

from agent.kube import KubeApi, KubeError

logger = logging.getLogger(__name__)

SLICE: Final = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
ENTRY: Final = "endpoints"
"""The ConfigMap's entry: one `ADDRESS:PORT` a line (IPv6 in brackets), as agent.relay.endpoint reads it."""
ENDPOINTS_MAX: Final = 16


class ControlPlaneEndpoints:
    """`config_map`: NAMESPACE/NAME, shipped empty by the manifest; the agent may get and update this one."""

    def __init__(self, api: KubeApi, config_map: str) -> None:
        namespace, _, name = config_map.partition("/")
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"

    async def publish(self) -> None:
        """Write what has changed. Raises KubeError, ValueError."""
        lines = read(await self._api.get(SLICE))
        if not lines:  # an API server that is just starting: what was known is better than nothing
            return
        text = "".join(f"{line}\n" for line in lines)
        document = await self._api.get(self._path)
        if not isinstance(document, dict):
            raise ValueError("the ConfigMap of the endpoints is malformed")
        data = document.get("data") or {}
        if data.get(ENTRY) == text:
            return
        try:
            await self._api.put(self._path, {**document, "data": {**data, ENTRY: text}})
        except KubeError as exc:
            if exc.status != 409:  # another replica was faster: it knows the same
                raise
        logger.info("the control plane's endpoints are written down", extra={"endpoints": lines})


def read(document: Any) -> list[str]:
    """`ADDRESS:PORT` of each endpoint, in order. Raises ValueError."""
    try:
        ports = [port["port"] for port in document["ports"] or [] if port.get("name", "https") == "https"]
        addresses = [
            ipaddress.ip_address(address)
            for endpoint in document["endpoints"] or []
            if (endpoint.get("conditions") or {}).get("ready", True) is not False
            for address in endpoint["addresses"]
        ]
        lines = {f"{_host(address)}:{int(port)}" for address in addresses for port in ports if 0 < int(port) < 65536}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError("the EndpointSlice of the API servers is malformed") from None
    return sorted(lines)[:ENDPOINTS_MAX]


def _host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
