"""What an API server says of its nodes, as the choice wants it: read a part of them, remember since when they are fit.

A cluster of thousands of nodes is never listed whole: who has the label, who is control plane, and of the others some
hundreds, only while more are needed and now and then to see whether there are better ones.

Where the fallback's pod could run is not worked out from taints and selectors: a pod of the other DaemonSet, whose are
the same but for the label, runs there or does not.
"""

import datetime
from collections.abc import Callable, Iterable
from typing import Any, Final

from agent.fallback.choose import CORDONED, DELETED, LABEL, NO_AGENT, NODES_MAX, NOT_READY, REFUSED, Node
from agent.issuer import FALLBACK, NODE
from agent.kube import KubeApi

CONTROL_PLANE: Final = "node-role.kubernetes.io/control-plane"
CONTROL_PLANES: Final = (CONTROL_PLANE, "node-role.kubernetes.io/controlplane", "node-role.kubernetes.io/master")
ZONE: Final = "topology.kubernetes.io/zone"
OS: Final = "kubernetes.io/os"
NOT_WINDOWS: Final = f"labelSelector={OS}%21%3Dwindows"
"""Has nodes without the label, too."""
PAGE: Final = 25
"""Nodes, or pods, that are read at once: 350 KB of JSON take some 15 ms, in which nothing is relayed."""
PAGES_MAX: Final = 12
"""Of the nodes without a role, and of the node agents' pods, as many pages are looked at, in the API server's order.
Nodes that run Windows are not among them: a cluster may have more of them than that, and all of them first."""
NAMED_MAX: Final = 25
"""Nodes on which a node agent runs that are asked for by name, where too few of them are on those pages: as behind a
large pool of nodes for one purpose."""
WIDE_INTERVAL_S: Final = 600.0
AVOIDED_S: Final = 600.0
"""Seconds that a node is not chosen again on which no node agent came up; four times as long each time again, …"""
AVOIDED_MAX_S: Final = 86_400.0
"""… up to a day, until one has run there or it was not chosen for another day."""
REFUSED_S: Final = 300.0
"""Seconds that a node is not tried again whose label the API server refused to set: others take its place."""

Document = dict[str, Any]


class Nodes:
    """The nodes in question, each time anew."""

    def __init__(
        self, api: KubeApi, namespace: str, account: str, *, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        """`account`: the cluster agent's ServiceAccount in `namespace`, with which the names of the node agents' begin;
        empty: where those run is not looked at. `clock`: monotonic seconds; `wall`: since the epoch."""
        self._api = api
        self._pods = f"/api/v1/namespaces/{namespace}/pods?fieldSelector=spec.serviceAccountName%3D{account}"
        self._account = account
        self._clock = clock
        self._wall = wall
        self._wide_at = float("-inf")
        self._known: dict[str, tuple[str, float]] = {}
        """Node → unfit why, since when."""
        self._avoided: dict[str, tuple[float, float]] = {}
        """Node → until when, and for how long it was, remembered for a day longer."""
        self._refused: dict[str, float] = {}
        """Node → until when."""

    async def look(self) -> list[Node]:
        """Raises KubeError, ValueError."""
        found = await self._list(f"labelSelector={LABEL}")
        chosen = set(found)
        agents = await self._agents(FALLBACK) if chosen else set()
        found |= await self._list(f"labelSelector={CONTROL_PLANE}")
        now = self._clock()
        fit = [name for name in chosen if not (_unfit(found[name])[0] or self._known.get(name, ("",))[0])]
        if len(fit) < NODES_MAX or now - self._wide_at >= WIDE_INTERVAL_S:
            self._wide_at = now
            found |= await self._list(NOT_WINDOWS)
            others = await self._agents(NODE) - chosen
            found |= await self._missing(others, found)
            agents |= others
        if not self._account:
            agents = set(found)
        self._avoided = {
            name: (until, wait)
            for name, (until, wait) in self._avoided.items()
            if until + AVOIDED_MAX_S > now and not (name in chosen and name in agents)
        }
        known, self._known = self._known, {}
        return [self._node(document, known, agents) for document in found.values() if _may_run(document)]

    def forget(self) -> None:
        """Since when nodes are what they are: somebody else has looked after them meanwhile, and what was seen before
        says nothing of now."""
        self._known = {}

    def lost(self, name: str, why: str) -> None:
        """A node lost its label."""
        if why == NO_AGENT:
            before = self._avoided.get(name)
            wait = AVOIDED_S if before is None else min(4 * before[1], AVOIDED_MAX_S)
            self._avoided[name] = self._clock() + wait, wait

    def refused(self, name: str) -> None:
        """The API server does not let a node have the label."""
        now = self._clock()
        self._refused = {name: until for name, until in self._refused.items() if until > now}
        self._refused[name] = now + REFUSED_S

    def _node(self, document: Document, known: dict[str, tuple[str, float]], agents: Iterable[str]) -> Node:
        name, labels, now = _name(document), _labels(document), self._clock()
        is_chosen = LABEL in labels
        unfit, moment = _unfit(document)
        if not unfit and (self._is_avoided(name, now) or (is_chosen and name not in agents)):
            unfit, moment = NO_AGENT, None
        if not unfit and not is_chosen and self._is_refused(name, now):
            unfit, moment = REFUSED, None
        before = known.get(name)
        if before is not None and before[0] == unfit:
            since = before[1]
        elif before is None and moment is not None:  # met for the first time: as old as the API server says
            since = now - max(0.0, self._wall() - moment)
        else:
            since = now
        self._known[name] = (unfit, since)
        is_control_plane = any(role in labels for role in CONTROL_PLANES)
        return Node(name, is_control_plane, str(labels.get(ZONE, "")), is_chosen, unfit, now - since, name in agents)

    def _is_avoided(self, name: str, now: float) -> bool:
        return self._avoided.get(name, (0.0, 0.0))[0] > now

    def _is_refused(self, name: str, now: float) -> bool:
        return self._refused.get(name, 0.0) > now

    async def _list(self, query: str) -> dict[str, Document]:
        """Nodes by name."""
        return {_name(each): each for each in await self._pages(f"/api/v1/nodes?{query}") if _name(each)}

    async def _missing(self, agents: set[str], found: dict[str, Document]) -> dict[str, Document]:
        """Of the nodes in `agents`, none of them chosen, some that `found` lacks, if too few in it are fit."""
        more: dict[str, Document] = {}
        now = self._clock()
        able = {name for name in agents if not (self._is_avoided(name, now) or self._is_refused(name, now))}
        good = sum(name in able and not _unfit(document)[0] for name, document in found.items())
        for name in sorted(able - found.keys())[:NAMED_MAX]:
            if good >= NODES_MAX:
                break
            named = await self._list(f"fieldSelector=metadata.name%3D{name}")
            good += sum(not _unfit(document)[0] for document in named.values())
            more |= named
        return more

    async def _agents(self, suffix: str) -> set[str]:
        """Nodes on which a container of a node agent's pod runs; `suffix`: of its ServiceAccount."""
        found: set[str] = set()
        for pod in await self._pages(f"{self._pods}{suffix}") if self._account else ():
            status, spec = _part(pod, "status"), _part(pod, "spec")
            states = status.get("containerStatuses")
            running = [each for each in states if _part(_part(each, "state"), "running")] if states else []
            if running and isinstance(spec.get("nodeName"), str):
                found.add(spec["nodeName"])
        return found

    async def _pages(self, path: str) -> list[Document]:
        """The items of the first PAGES_MAX pages of this list."""
        found: list[Document] = []
        more = ""
        for _ in range(PAGES_MAX):
            listed = await self._api.get(f"{path}&limit={PAGE}{more}")
            found += _items(listed)
            token = listed["metadata"].get("continue") if isinstance(listed.get("metadata"), dict) else ""
            if not isinstance(token, str) or not token:
                break
            more = f"&continue={token}"
        return found


def _may_run(document: Document) -> bool:
    """Our images are Linux's. A label that another node has is taken away as from any node where nothing runs."""
    labels = _labels(document)
    return LABEL in labels or labels.get(OS, "linux") == "linux"


def _unfit(document: Document) -> tuple[str, float | None]:
    """Why a node is unfit, empty if it is not, and since when, in seconds since the epoch, where it is known."""
    if _part(document, "metadata").get("deletionTimestamp"):
        return DELETED, None
    if _part(document, "spec").get("unschedulable"):
        return CORDONED, None
    conditions = _part(document, "status").get("conditions")
    for condition in conditions if isinstance(conditions, list) else []:
        if _part({"": condition}, "").get("type") == "Ready":
            moment = _moment(condition.get("lastTransitionTime"))
            return ("" if condition.get("status") == "True" else NOT_READY), moment
    return NOT_READY, None


def _moment(text: object) -> float | None:
    try:
        return datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None


def _items(listed: Any) -> list[Document]:
    """Raises ValueError."""
    items = listed.get("items") if isinstance(listed, dict) else None
    if not isinstance(items, list):
        raise ValueError("the API server's list is malformed")
    return [item for item in items if isinstance(item, dict)]


def _part(document: Any, name: str) -> Document:
    part = document.get(name) if isinstance(document, dict) else None
    return part if isinstance(part, dict) else {}


def _name(document: Document) -> str:
    return str(_part(document, "metadata").get("name") or "")


def _labels(document: Document) -> Document:
    return _part(_part(document, "metadata"), "labels")
