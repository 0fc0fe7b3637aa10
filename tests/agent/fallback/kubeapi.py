"""An API server's objects behind agent.kube.KubeApi's calls: compare-and-swap, merge patch of labels, lists."""

import copy
from urllib.parse import parse_qs, urlsplit

from agent.fallback.choose import LABEL
from agent.fallback.nodes import CONTROL_PLANE
from agent.kube import KubeError


def node(name, *, plane=False, zone="", status="True", cordoned=False, chosen=False, since="2026-01-01T00:00:00Z"):
    labels = {"kubernetes.io/hostname": name}
    labels |= {CONTROL_PLANE: ""} if plane else {}
    labels |= {"topology.kubernetes.io/zone": zone} if zone else {}
    labels |= {LABEL: "true"} if chosen else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": True} if cordoned else {},
        "status": {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": since}]},
    }


def pod(node_name, *, running=True):
    state = {"running": {"startedAt": "x"}} if running else {"waiting": {"reason": "ImagePullBackOff"}}
    return {"spec": {"nodeName": node_name}, "status": {"containerStatuses": [{"state": state}]}}


class Api:
    """`objects` by path; `nodes` and `pods` are lists. Pods are of the DaemonSet that the label of their node wants, of
    two: whose ServiceAccount's name ends with `-node`, and with `-node-fallback`."""

    def __init__(self, *nodes, pods=(), **objects):
        self.nodes = {each["metadata"]["name"]: each for each in nodes}
        self.pods = list(pods)
        self.objects = dict(objects)
        self.asked = []
        self.patches = []
        self.fail = 0
        self.refused = {}
        """Node → the status with which a change of its labels is answered, 0: not at all."""

    async def get(self, path):
        self._enter(path)
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        if parts.path == "/api/v1/nodes":
            return self._page(query)
        if parts.path.endswith("/pods"):
            return self._pods(query)
        if parts.path not in self.objects:
            raise KubeError(404, "the API server answered 404")
        return copy.deepcopy(self.objects[parts.path])

    def _page(self, query):
        selector = query.get("labelSelector", [""])[0]
        name = query.get("fieldSelector", [""])[0].removeprefix("metadata.name=")
        found = [each for each in self.nodes.values() if _selects(selector, each["metadata"].get("labels", {}))]
        return self._cut([each for each in found if name in {"", each["metadata"].get("name")}], query)

    def _pods(self, query):
        if self.pods is None:
            return {"items": None}
        (selector,) = query["fieldSelector"]
        chosen = self.chosen()
        is_fallback = selector.endswith("-fallback")
        return self._cut([pod for pod in self.pods if (pod["spec"]["nodeName"] in chosen) == is_fallback], query)

    @staticmethod
    def _cut(found, query):
        at, limit = int(query.get("continue", ["0"])[0]), int(query["limit"][0])
        more = str(at + limit) if at + limit < len(found) else ""
        return {"metadata": {"continue": more}, "items": copy.deepcopy(found[at : at + limit])}

    async def put(self, path, document):
        self._enter(path)
        current = self.objects[path]["metadata"].get("resourceVersion", "1")
        if document["metadata"].get("resourceVersion", "1") != current:
            raise KubeError(409, "conflict")
        metadata = {**document["metadata"], "resourceVersion": str(int(current) + 1)}
        self.objects[path] = {**copy.deepcopy(document), "metadata": metadata}
        return self.objects[path]

    async def patch(self, path, changes):
        self._enter(path)
        name = path.removeprefix("/api/v1/nodes/")
        if name in self.refused:
            raise KubeError(self.refused[name], f"the API server answered {self.refused[name]} to PATCH {path}")
        ((label, value),) = changes["metadata"]["labels"].items()
        labels = self.nodes[name]["metadata"]["labels"]
        self.patches.append((name, value))
        if value is None:
            labels.pop(label, None)
        else:
            labels[label] = value

    async def close(self):
        pass

    def _enter(self, path):
        self.asked.append(path)
        if self.fail:
            raise KubeError(self.fail, f"the API server answered {self.fail}")

    def chosen(self):
        return {name for name, each in self.nodes.items() if LABEL in each["metadata"].get("labels", {})}


def _selects(selector, labels):
    label, differs, value = selector.partition("!=")
    return labels.get(label) != value if differs else not label or label in labels


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now
