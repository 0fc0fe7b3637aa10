"""What is removed of a deleted cluster, against an API server in memory: the steps, the checks before each, and that
nothing happens by half."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hub.clusters.manifest import OWNER_LABEL
from hub.clusters.owned import KINDS
from hub.clusters.removal import AT_ONCE, KINDS_MAX, LIST_MAX, NODE_LABEL, NotRemoved, Removal
from proto.aio.tasks import TaskGroup

OURS, OTHERS = "uid-1", "uid-2"
ANCHOR, NODES = "riata-agent-impersonate", "riata-agent-nodes"
DISCOVERY = [
    {
        "metadata": {},
        "versions": [
            {
                "version": "v1",
                "resources": [
                    {"resource": name, "scope": "Namespaced", "verbs": ["list", "create", "delete"]}
                    for name in ("configmaps", "secrets", "serviceaccounts", "pods", "events")
                ]
                + [{"resource": "namespaces", "scope": "Cluster", "verbs": ["list", "create", "delete"]}],
            }
        ],
    }
]


class Kube:
    """Objects by the path of each; answers as the API server would, and keeps what was asked."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.status: dict[tuple[str, str], int] = {}
        """Answers that are forced: method and a part of the path."""
        self.before: Any = None
        self._versions = 0

    def add(self, kind: str, name: str, *, owner: str | None = OURS, owners: tuple[str, ...] = ()) -> dict[str, Any]:
        (version, path), *_ = [(key[0], value) for key, value in KINDS.items() if key[1] == kind] or [
            ("v1", (f"/api/v1/{kind.lower()}s", True))
        ]
        place, is_namespaced = path
        metadata: dict[str, Any] = {"name": name, "uid": f"uid-of-{name}", "resourceVersion": self.version()}
        if owner:
            metadata["labels"] = {OWNER_LABEL: owner}
        if owners:
            metadata["ownerReferences"] = [{"uid": each} for each in owners]
        if is_namespaced:
            metadata["namespace"] = "riata-system"
            base, _, plural = place.rpartition("/")
            place = f"{base}/namespaces/riata-system/{plural}"
        made: dict[str, Any] = {"apiVersion": version, "kind": kind, "metadata": metadata}
        if kind == "ClusterRoleBinding":
            made["subjects"] = [{"kind": "ServiceAccount", "name": "riata-agent", "namespace": "riata-system"}]
        self.objects[f"{place}/{name}"] = made
        return made

    def node(self, name: str, labels: dict[str, str]) -> dict[str, Any]:
        made = {
            "metadata": {"name": name, "uid": f"uid-of-{name}", "resourceVersion": self.version(), "labels": labels}
        }
        self.objects[f"/api/v1/nodes/{name}"] = made
        return made

    def version(self) -> str:
        self._versions += 1
        return str(self._versions)

    async def ask(self, method: str, target: str, accept: str, body: Any) -> tuple[int, Any]:
        path = urlsplit(target).path
        self.asked.append((method, path))
        if self.before is not None:
            self.before(method, path)
        for (forced, part), status in self.status.items():
            if forced == method and part in path:
                return status, None
        if path in ("/api", "/apis"):
            return 200, {"kind": "APIGroupDiscoveryList", "items": DISCOVERY if path == "/api" else []}
        if path in self.objects:
            return self._one(method, path, body)
        if method != "GET" or path.count("/") < 3:
            return 404, None
        return 200, {"metadata": {}, "items": self._list(path, parse_qs(urlsplit(target).query))}

    def _list(self, path: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        everywhere = re.compile(
            rf"{re.escape(path.rpartition('/')[0])}(/namespaces/[^/]+)?/{path.rpartition('/')[2]}/[^/]+"
        )
        found = [each for place, each in self.objects.items() if everywhere.fullmatch(place)]
        if "labelSelector" in query:
            key, is_equal, value = query["labelSelector"][0].partition("=")
            held = [(each, each["metadata"].get("labels", {}).get(key)) for each in found]
            found = [each for each, has in held if (has == value if is_equal else has is not None)]
        return copy.deepcopy(found)

    def _one(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        held = self.objects[path]["metadata"]
        if method == "GET":
            return 200, copy.deepcopy(self.objects[path])
        wanted = body["preconditions"] if method == "DELETE" else body["metadata"]
        if any(wanted.get(key, held[key]) != held[key] for key in ("uid", "resourceVersion")):
            return 409, None
        if method == "PATCH":
            for key, value in wanted.items():
                if key == "labels":
                    held["labels"] = {name: text for name, text in (held["labels"] | value).items() if text is not None}
                elif key == "ownerReferences":
                    held[key] = value
            held["resourceVersion"] = self.version()
            return 200, None
        del self.objects[path]
        self._collect(held["uid"])
        return 200, None

    def _collect(self, uid: str) -> None:
        """The garbage collector."""
        for path, each in list(self.objects.items()):
            if [owner["uid"] for owner in each["metadata"].get("ownerReferences", ())] == [uid]:
                self.objects.pop(path, None)
                self._collect(each["metadata"]["uid"])

    def names(self) -> set[str]:
        return {each["metadata"]["name"] for each in self.objects.values()}

    def writes(self) -> list[tuple[str, str]]:
        return [each for each in self.asked if each[0] != "GET"]


@pytest.fixture
def kube() -> Kube:
    """A cluster as the manifest leaves it, and what others have."""
    made = Kube()
    made.add("Namespace", "riata-system")
    made.add("ClusterRole", ANCHOR)
    made.add("ClusterRoleBinding", ANCHOR)
    made.add("ClusterRoleBinding", "riata-agent-cluster-admins")
    made.add("Deployment", "riata-agent")
    made.add("Secret", "riata-agent-key")
    made.add("Pod", "riata-agent-1", owner=None, owners=("uid-of-riata-agent",))
    made.add("ConfigMap", "kube-root-ca.crt", owner=None)
    made.add("ServiceAccount", "default", owner=None)
    made.add("ClusterRole", "stranger", owner=None)
    made.add("ClusterRole", "other", owner=OTHERS)
    return made


LEFT = {"stranger", "other", "kube-root-ca.crt", "default"}


async def test_what_has_the_label_goes_by_one_deletion_and_nothing_else(kube: Kube) -> None:
    removed, kept = await Removal(kube.ask, OURS).run()
    assert kube.names() == LEFT
    assert kept == []
    assert len(removed) == 6
    assert [method for method, _ in kube.writes()].count("DELETE") == 1
    assert kube.writes()[-1] == ("DELETE", f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{ANCHOR}")


@pytest.mark.parametrize("stranger", ["ConfigMap", "Secret", "Pod"])
async def test_a_namespace_that_holds_a_stranger_stays(kube: Kube, stranger: str) -> None:
    kube.add(stranger, "precious", owner=None)
    _, kept = await Removal(kube.ask, OURS).run()
    assert kube.names() == {*LEFT, "precious", "riata-system"}
    assert ["precious" in each for each in kept] == [True]


async def test_events_are_nobodys(kube: Kube) -> None:
    kube.add("Event", "happened", owner=None)
    assert (await Removal(kube.ask, OURS).run())[1] == []


@pytest.mark.parametrize("status", [401, 403, 500])
@pytest.mark.parametrize("where", [("GET", "secrets"), ("GET", "/apis"), ("PATCH", "deployments"), ("DELETE", "")])
async def test_what_is_refused_anywhere_removes_nothing(kube: Kube, where: tuple[str, str], status: int) -> None:
    kube.status[where] = status
    before = kube.names()
    with pytest.raises(NotRemoved, match=str(status)):
        await Removal(kube.ask, OURS).run()
    assert kube.names() == before


async def test_the_labels_go_from_the_nodes_and_the_right_to_put_them_back_before(kube: Kube) -> None:
    kube.add("ClusterRoleBinding", NODES)
    chosen, other = kube.node("chosen", {NODE_LABEL: "true", "a": "b"}), kube.node("other", {"a": "b"})
    await Removal(kube.ask, OURS).run()
    assert chosen["metadata"]["labels"] == other["metadata"]["labels"] == {"a": "b"}
    deletions = [path.rpartition("/")[2] for method, path in kube.writes() if method == "DELETE"]
    assert deletions == [NODES, ANCHOR]
    assert kube.writes().index(("PATCH", "/api/v1/nodes/chosen")) > kube.writes().index(
        ("DELETE", f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{NODES}")
    )
    assert kube.names() == {*LEFT, "chosen", "other"}


async def test_who_may_not_look_at_nodes_removes_nothing(kube: Kube) -> None:
    kube.add("ClusterRoleBinding", NODES)
    kube.status["GET", "/nodes"] = 403
    with pytest.raises(NotRemoved, match="list nodes"):
        await Removal(kube.ask, OURS).run()
    assert kube.writes() == []


async def test_an_object_that_changes_is_looked_at_again(kube: Kube) -> None:
    place = "/apis/apps/v1/namespaces/riata-system/deployments/riata-agent"
    changes = iter(range(3))

    def change(method: str, path: str) -> None:
        if (method, path) == ("PATCH", place) and next(changes, None) is not None:
            kube.objects[place]["metadata"]["resourceVersion"] = kube.version()

    kube.before = change
    await Removal(kube.ask, OURS).run()
    assert kube.names() == LEFT


async def test_one_that_is_another_clusters_by_now_stays(kube: Kube) -> None:
    """A new manifest was applied between the list and the change."""
    place = "/api/v1/namespaces/riata-system/secrets/riata-agent-key"

    def adopt(method: str, path: str) -> None:
        if (method, path) == ("PATCH", place):
            meta = kube.objects[place]["metadata"]
            meta |= {"labels": {OWNER_LABEL: OTHERS}, "resourceVersion": kube.version()}

    kube.before = adopt
    await Removal(kube.ask, OURS).run()
    assert "riata-agent-key" in kube.names()


async def test_one_that_somebody_elses_object_owns_is_told(kube: Kube) -> None:
    kube.add("DaemonSet", "riata-agent-node", owners=("somebody",))
    with pytest.raises(NotRemoved, match="somebody else's"):
        await Removal(kube.ask, OURS).run()
    assert kube.writes()[-1][0] == "PATCH"


async def test_interrupted_before_the_end_it_can_be_done_again(kube: Kube) -> None:
    kube.status["DELETE", ""] = 500
    with pytest.raises(NotRemoved):
        await Removal(kube.ask, OURS).run()
    kube.status.clear()
    await Removal(kube.ask, OURS).run()
    assert kube.names() == LEFT


async def test_where_nothing_is_ours_nothing_is_done(kube: Kube) -> None:
    assert await Removal(kube.ask, "uid-3").run() == ([], [])
    assert kube.writes() == []


async def test_without_the_binding_that_it_works_by_it_does_nothing(kube: Kube) -> None:
    del kube.objects[f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{ANCHOR}"]
    with pytest.raises(NotRemoved, match="-impersonate is gone"):
        await Removal(kube.ask, OURS).run()
    assert kube.writes() == []


async def test_an_api_server_that_cannot_tell_what_is_in_a_namespace_keeps_it(kube: Kube) -> None:
    async def old(method: str, target: str, accept: str, body: Any) -> tuple[int, Any]:
        return (
            (200, {"kind": "APIGroupList"})
            if target in ("/api", "/apis")
            else await kube.ask(method, target, accept, body)
        )

    _, kept = await Removal(old, OURS).run()
    assert "too old" in kept[0]
    assert "riata-system" in kube.names()


@pytest.mark.parametrize("answer", [None, [], {"items": "x"}, {"metadata": {"continue": "x"}, "items": []}])
async def test_answers_that_are_none_remove_nothing(kube: Kube, answer: Any) -> None:
    async def strange(method: str, target: str, accept: str, body: Any) -> tuple[int, Any]:
        return 200, answer

    with contextlib.suppress(NotRemoved):
        assert await Removal(strange, OURS).run() == ([], [])
    assert kube.writes() == []


async def test_more_than_was_asked_for_removes_nothing(kube: Kube) -> None:
    async def too_much(method: str, target: str, accept: str, body: Any) -> tuple[int, Any]:
        return 200, {"metadata": {}, "items": [{"metadata": {"name": str(n)}} for n in range(LIST_MAX + 1)]}

    with pytest.raises(NotRemoved, match="more than was asked for"):
        await Removal(too_much, OURS).run()


async def test_an_api_server_that_names_kinds_for_ever_is_not_asked_for_them(kube: Kube) -> None:
    resources = [
        {"resource": f"r{n}", "scope": "Namespaced", "verbs": ["list", "create", "delete"]}
        for n in range(KINDS_MAX + 1)
    ]
    endless = [{"metadata": {}, "versions": [{"version": "v1", "resources": resources}]}]

    async def named(method: str, target: str, accept: str, body: Any) -> tuple[int, Any]:
        if target in ("/api", "/apis"):
            return 200, {"kind": "APIGroupDiscoveryList", "items": endless}
        return await kube.ask(method, target, accept, body)

    with pytest.raises(NotRemoved, match="kinds"):
        await Removal(named, OURS).run()
    assert kube.writes() == []


async def test_the_label_alone_makes_nothing_ours(kube: Kube) -> None:
    """Who may change an object may put the label there, perhaps without the right to delete it."""
    kube.add("ClusterRole", "precious-role")
    kube.add("Namespace", "precious-space")
    kube.add("Secret", "precious-secret")
    _, kept = await Removal(kube.ask, OURS).run()
    assert kube.names() == {*LEFT, "precious-role", "precious-space", "precious-secret", "riata-system"}
    assert sum("riata makes none of this name" in each for each in kept) == 3
    assert ["riata-system" in each for each in kept].count(True) == 2  # it holds one, and holds it


async def test_two_bindings_that_could_be_the_one_it_works_by_are_left_alone(kube: Kube) -> None:
    kube.add("ClusterRoleBinding", "other-agent-impersonate")
    with pytest.raises(NotRemoved, match="not clear"):
        await Removal(kube.ask, OURS).run()
    assert kube.writes() == []


async def test_six_round_trips_are_enough_however_much_there_is(kube: Kube) -> None:
    """As the time is short and the cluster may be far away: what is asked at the same moment is one."""
    kube.add("ClusterRoleBinding", NODES)
    for number in range(20):
        kube.node(f"node-{number}", {NODE_LABEL: "true"})
    trips, waiting = 0, set[asyncio.Future[None]]()

    async def far(method: str, target: str, accept: str, body: Any) -> tuple[int, Any]:
        turn = asyncio.get_running_loop().create_future()
        waiting.add(turn)
        await turn
        return await kube.ask(method, target, accept, body)

    async with TaskGroup("far") as tasks:
        run = tasks.spawn(Removal(far, OURS).run(), name="removal")
        while not run.done():
            for _ in range(20):
                await asyncio.sleep(0)  # until everybody has asked
            trips += bool(waiting)
            for turn in waiting:
                turn.set_result(None)
            waiting.clear()
    assert kube.names() == {*LEFT, *(f"node-{number}" for number in range(20))}
    assert trips == 6


async def test_not_more_is_asked_at_once_than_an_agent_bears(kube: Kube) -> None:
    for number in range(AT_ONCE * 2):
        kube.node(f"node-{number}", {NODE_LABEL: "true"})
    kube.add("ClusterRoleBinding", NODES)
    now = most = 0

    async def counted(method: str, target: str, accept: str, body: Any) -> tuple[int, Any]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return await kube.ask(method, target, accept, body)

    await Removal(counted, OURS).run()
    assert most == AT_ONCE


async def test_it_tells_whether_something_may_have_gone(kube: Kube) -> None:
    kube.status["PATCH", "deployments"] = 403
    refused = Removal(kube.ask, OURS)
    with pytest.raises(NotRemoved):
        await refused.run()
    kube.status = {("DELETE", ""): 500}
    failed = Removal(kube.ask, OURS)
    with pytest.raises(NotRemoved):
        await failed.run()
    assert (refused.has_begun, failed.has_begun) == (False, True)
