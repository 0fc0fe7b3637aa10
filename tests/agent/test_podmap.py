"""The pod map: told to the hub by agents of old clusters only, in parts, again when it changes."""

import asyncio
import json
import urllib.parse

import pytest

from agent import paging
from agent import podmap as module
from agent.kube import KubeError
from agent.kubeconfig import KubeAccess
from agent.podmap import PodRegistration
from proto.aio.commands import CommandServer
from proto.aio.tasks import TaskGroup
from proto.commands import REGISTER_PODS, Nothing
from tests.agent.test_issuer import Credential
from tests.proto.aio.fakes import Wire


def pod(uid, node="node-1", account="riata-agent-node"):
    return {"metadata": {"uid": uid}, "spec": {"nodeName": node, "serviceAccountName": account}}


class Api:
    def __init__(self, version, *pods):
        self.version, self.pods, self.asked = version, list(pods), []
        self.fail = False

    async def get(self, path, decode=json.loads):
        """As the API server: pages, whose last one says no more."""
        self.asked.append(path)
        if self.fail:
            raise KubeError(403, "forbidden")
        document = {"gitVersion": self.version}
        if path != "/version":
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query))
            start, limit = int(query.get("continue", 0)), int(query.get("limit", len(self.pods)))
            more = {"continue": str(start + limit)} if start + limit < len(self.pods) else {}
            document = {"metadata": {"resourceVersion": "1", **more}, "items": self.pods[start : start + limit]}
        return decode(json.dumps(document).encode())


async def run_for(api, monkeypatch, change=None):
    """What the hub was told."""
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    told = []

    async def register(args):
        told.append(args)
        return Nothing()

    async with Wire() as wire, TaskGroup("agent") as group:
        server = CommandServer({REGISTER_PODS: register}, group)
        wire.hub._delivery._on_open = lambda stream, kind, cls, message: server.on_open(stream, message)
        duty = PodRegistration(api, KubeAccess(None, None, Credential()))
        group.spawn(duty.tend(wire.agent, None), name="tend")
        await asyncio.sleep(0.06)
        if change is not None:
            change()
            await asyncio.sleep(0.06)
    return told


@pytest.mark.parametrize("version", ["v1.32.0", "v1.37.2+k3s1", "v2.0.0"])
async def test_where_tokens_name_the_node_nobody_is_asked(monkeypatch, version):
    api = Api(version, pod("a"))
    assert await run_for(api, monkeypatch) == []
    assert api.asked == ["/version"]


async def test_only_the_pods_of_node_agents_that_run_somewhere(monkeypatch):
    api = Api("v1.31.9", pod("a"), pod("b", "node-2", "riata-agent-node-fallback"), pod("c", account="other"))
    api.pods += [pod("d", node=""), {"metadata": {}, "spec": {}}]
    (told,) = await run_for(api, monkeypatch)
    assert (told.pods, told.part, told.parts) == (("a node-1", "b node-2"), 0, 1)
    assert f"/api/v1/namespaces/riata-system/pods?limit={module.PAGE}" in api.asked


async def test_thousands_of_pods_are_never_read_at_once(monkeypatch):
    """45 MB for 5,000 nodes: more than one answer may have, and a moment in which nothing is relayed."""
    monkeypatch.setattr(paging, "PAUSE_S", 0.0)
    api = Api("v1.31.9", *(pod(f"p{number:03}") for number in range(2 * module.PAGE + 1)))
    told = await run_for(api, monkeypatch)
    assert sum(len(each.pods) for each in told) == 2 * module.PAGE + 1
    assert api.asked[1:4] == [
        f"/api/v1/namespaces/riata-system/pods?limit={module.PAGE}{more}"
        for more in ("", f"&continue={module.PAGE}", f"&continue={2 * module.PAGE}")
    ]


async def test_told_again_when_it_changes_and_in_parts(monkeypatch):
    monkeypatch.setattr(module, "PODS_MAX", 2)
    api = Api("v1.30.0", *(pod(f"p{number}") for number in range(3)))
    told = await run_for(api, monkeypatch, api.pods.clear)
    assert [(each.part, each.parts, len(each.pods)) for each in told] == [(0, 2, 2), (1, 2, 1), (0, 1, 0)]


async def test_an_api_server_that_refuses_is_asked_again(monkeypatch, caplog):
    api = Api("v1.30.0", pod("a"))
    api.fail = True

    def mend():
        api.fail = False

    assert len(await run_for(api, monkeypatch, mend)) == 1
    assert caplog.text.count("pods of node agents not registered") == 1
