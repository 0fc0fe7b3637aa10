"""Telling the hub of the cluster's nodes: what only the API server knows of them, roles and versions above all.

A node agent has no right to ask; the cluster agent lists nodes anyhow, to choose those of the fallback. It lists them
in pages, now and then, and speaks when something has changed: a heartbeat is no change, and a node that comes and goes
for ever costs the hub one part of the table in ten minutes.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec

from agent.errors import TokenUnavailable
from agent.failures import Failures
from agent.fallback.choose import LABEL
from agent.fallback.nodes import ZONE
from agent.kube import KubeApi, KubeError
from agent.paging import Page, pages
from agent.uplink.credentials import Proven
from proto.aio.commands import call
from proto.aio.link import Link
from proto.commands import NODES_MAX, REGISTER_NODES, TELL_NODES, RegisterNodes
from proto.errors import Code, RiataError, StreamReset
from proto.nodetable import NodeRow, Part, clean, divide, to_args
from proto.window import Bucket

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 60.0
"""Between two looks, in clusters of up to 500 nodes; …"""
NODE_S: Final = 0.12
"""… in others this for each node: 5,000 nodes, 50 MB of JSON, are looked at every ten minutes."""
PAGE: Final = 25
"""Nodes that are read at once: 350 KB of JSON, 5 ms in which nothing is relayed."""
FIRST_S: Final = 5.0
"""The most that a session waits before its first word: a hub that comes back hears of everything else first."""
TELLINGS: Final = 6.0
"""Changes that are told one after the other; …"""
TELLING_S: Final = 600.0
"""… then one in this time."""
_ROLE: Final = "node-role.kubernetes.io/"
_OLD_ROLE: Final = "kubernetes.io/role"
_ADDRESSES: Final = ("InternalIP", "ExternalIP")


class _Metadata(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    labels: dict[str, str] | None = None


class _Info(msgspec.Struct, rename="camel"):
    kubelet_version: str = ""
    os_image: str = ""
    kernel_version: str = ""
    architecture: str = ""


class _Typed(msgspec.Struct):
    """A condition, or an address."""

    type: str
    status: str = ""
    address: str = ""


class _Status(msgspec.Struct, rename="camel"):
    node_info: _Info | None = None
    conditions: list[_Typed] | None = None
    addresses: list[_Typed] | None = None


class _Node(msgspec.Struct):
    metadata: _Metadata
    status: _Status | None = None


_page: Final = msgspec.json.Decoder(Page[_Node])


class NodeRegistration:
    """A duty of each session of a cluster agent that looks after fallback nodes: it has the right to list nodes."""

    def __init__(
        self,
        api: KubeApi,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock`: monotonic seconds."""
        self._api = api
        self._sleep = sleep
        self._clock = clock
        self._changes = Bucket(TELLINGS, 1 / TELLING_S)
        self._known: RegisterNodes | None = None
        """What the hub was told last, in whichever session."""
        self._due = float("-inf")
        """When the nodes are to be looked at next, by `clock`."""
        self._failures = Failures(logger, "nodes not registered")

    async def tend(self, link: Link, proven: Proven) -> None:
        """Register, and again when something has changed. Cancelled with the session."""
        await self._sleep(random.uniform(0, FIRST_S))  # noqa: S311 - spreads agents that come back at once
        is_told = False
        while True:
            try:
                is_told = await self._round(link, is_told=is_told)
                self._failures.over()
            except StreamReset as refused:
                if refused.code is Code.FORBIDDEN:
                    logger.info("the hub is older than this agent: it takes no table of nodes")
                    return
                self._failures.note(refused)
                is_told = False  # or half: what the hub has now is not what `_known` says
            except (KubeError, TokenUnavailable, RiataError, TimeoutError, ValueError) as exc:
                self._failures.note(exc)
                is_told = False
            await self._sleep(self._due - self._clock())

    async def _round(self, link: Link, *, is_told: bool) -> bool:
        """Whether the hub has heard of the nodes in this session. Raises KubeError, TokenUnavailable, RiataError,
        TimeoutError."""
        # What was seen a moment ago is true enough when a session begins, and costs the API server nothing.
        is_fresh = not is_told and self._clock() < self._due
        if is_fresh and self._known is not None and not (await call(link, REGISTER_NODES, self._known)).parts:
            return True
        self._wait(0)
        rows = await self._look()
        self._wait(len(rows))
        parts = divide(rows)
        wanted = RegisterNodes(total=len(rows), tags=tuple(part.tag for part in parts))
        if wanted != self._known and self._known is not None:
            if self._changes.is_empty(self._clock()):
                return is_told
            self._changes.spend(self._clock())
        elif is_told:
            return True
        await self._tell(link, wanted, parts)
        if len(rows) > NODES_MAX and self._known is None:
            logger.warning("the cluster has more nodes than a table takes", extra={"nodes": len(rows)})
        self._known = wanted
        return True

    def _wait(self, nodes: int) -> None:
        """The next look at so many nodes is due in a while."""
        self._due = self._clock() + max(INTERVAL_S, NODE_S * nodes) * random.uniform(0.9, 1.1)  # noqa: S311 - no secret

    async def _look(self) -> list[NodeRow]:
        """Raises KubeError, TokenUnavailable."""
        found: list[NodeRow] = []
        async for nodes in pages(self._api, "/api/v1/nodes", _page, limit=PAGE, sleep=self._sleep):
            found += [_row(node) for node in nodes]
        return found

    async def _tell(self, link: Link, table: RegisterNodes, parts: list[Part]) -> None:
        """Raises RiataError, TimeoutError."""
        missing = [number for number in (await call(link, REGISTER_NODES, table)).parts if number < len(parts)]
        for number in missing:
            await call(link, TELL_NODES, to_args(number, parts[number]))
        if missing:
            logger.info("nodes registered", extra={"nodes": table.total, "parts": len(missing)})


def _row(node: _Node) -> NodeRow:
    labels = node.metadata.labels or {}
    status = node.status or _Status()
    info = status.node_info or _Info()
    roles = {label.removeprefix(_ROLE) for label in labels if label.startswith(_ROLE)} | {labels.get(_OLD_ROLE, "")}
    return NodeRow(
        name=clean("names", node.metadata.name),
        roles=clean("roles", " ".join(sorted(roles - {""}))),
        kubelet=clean("kubelets", info.kubelet_version),
        system=clean("systems", info.os_image),
        kernel=clean("kernels", info.kernel_version),
        architecture=clean("architectures", info.architecture),
        addresses=_addresses(status.addresses or ()),
        zone=clean("zones", labels.get(ZONE, "")),
        is_ready=any(each.type == "Ready" and each.status == "True" for each in status.conditions or ()),
        is_fallback=LABEL in labels,
    )


def _addresses(found: "list[_Typed] | tuple[()]") -> str:
    """As many as have room, whole."""
    known = dict.fromkeys(each.address for each in found if each.type in _ADDRESSES and each.address)
    text = ""
    for address in known:
        longer = f"{text} {address}".strip()
        if clean("addresses", longer) != longer:
            break
        text = longer
    return text
