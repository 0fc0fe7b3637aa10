"""Telling the hub on which node each node agent's pod runs, in clusters whose tokens do not say it themselves.

Kubernetes puts the node into a pod's token from 1.32 on; there is nothing to tell then, and nobody is asked.
"""

import asyncio
import logging
import re
from typing import Final

import msgspec

from agent.errors import TokenUnavailable
from agent.failures import Failures
from agent.issuer import SUFFIXES, own_name
from agent.kube import KubeApi, KubeError
from agent.kubeconfig import KubeAccess
from agent.paging import Page, pages
from agent.uplink.credentials import Proven
from proto.aio.commands import call
from proto.aio.link import Link
from proto.commands import PODS_MAX, REGISTER_PODS, RegisterPods
from proto.errors import RiataError

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 15.0
"""How often the pods are looked at: as long a new node agent waits at worst."""
PAGE: Final = 40
"""Pods that are read at once: 400 KB of JSON, as agent.nodetable reads nodes. A cluster of thousands has tens of MB."""
NODE_CLAIM_SINCE: Final = (1, 32)
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)")


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    service_account_name: str = ""


class _Pod(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec


_page: Final = msgspec.json.Decoder(Page[_Pod])


class PodRegistration:
    """A duty of each session of a cluster agent."""

    def __init__(self, api: KubeApi, access: KubeAccess) -> None:
        self._api = api
        self._access = access
        self._failures = Failures(logger, "pods of node agents not registered")

    async def tend(self, link: Link, proven: Proven) -> None:
        """Register, and again when something has changed. Cancelled with the session."""
        told: list[str] | None = None
        is_needed: bool | None = None
        while True:
            try:
                if is_needed is None:
                    is_needed = await self._is_needed()
                if not is_needed:
                    return
                pods = await self._pods()
                if pods != told:
                    await self._tell(link, pods)
                    told = pods
                self._failures.over()
            except (KubeError, TokenUnavailable, RiataError, TimeoutError, ValueError) as exc:
                self._failures.note(exc)
            await asyncio.sleep(INTERVAL_S)

    async def _is_needed(self) -> bool:
        version = await self._api.get("/version")
        found = _VERSION.match(str(version.get("gitVersion", ""))) if isinstance(version, dict) else None
        return found is not None and (int(found[1]), int(found[2])) < NODE_CLAIM_SINCE

    async def _pods(self) -> list[str]:
        """`UID NODE` of every node agent's pod. Raises KubeError, TokenUnavailable, ValueError."""
        _, _, namespace, name = own_name(self._access).split(":")
        accounts = {f"{name}{suffix}" for suffix in SUFFIXES}
        found: list[str] = []
        async for pods in pages(self._api, f"/api/v1/namespaces/{namespace}/pods", _page, limit=PAGE):
            found += [line for pod in pods if (line := _line(pod, accounts))]
        return sorted(found)

    async def _tell(self, link: Link, pods: list[str]) -> None:
        parts = [pods[at : at + PODS_MAX] for at in range(0, len(pods), PODS_MAX)] or [[]]
        for number, part in enumerate(parts):
            await call(link, REGISTER_PODS, RegisterPods(part=number, parts=len(parts), pods=tuple(part)))


def _line(pod: _Pod, accounts: set[str]) -> str:
    """Empty for a pod that is no node agent's, or runs nowhere yet."""
    spec = pod.spec
    return f"{pod.metadata.uid} {spec.node_name}" if spec.node_name and spec.service_account_name in accounts else ""
