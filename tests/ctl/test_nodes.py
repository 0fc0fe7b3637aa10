"""The nodes below `riata clusters show`."""

import json
import re

from tests.ctl.conftest import Riata
from tests.ctl.fakehub import CREATED, FakeHub

NODES = {
    "total": 2, "registeredBy": "k", "registeredAt": CREATED, "whole": True,
    "items": [
        {
            "name": "n1",
            "registered": {
                "roles": ["control-plane", "etcd"], "kubelet": "v1.37.2", "osImage": "Debian 12", "kernel": "6.1",
                "architecture": "amd64", "addresses": ["10.0.0.5"], "zone": "", "ready": True, "fallback": True,
            },
            "agent": {"serves": True, "facts": {"roles": []}},
        },
        {"name": "n2", "registered": None, "agent": {"serves": False, "facts": {"roles": ["control-plane"]}}},
    ],
}  # fmt: skip


def known(fake: FakeHub) -> None:
    fake.clusters["a"] = {"name": "a", "createdAt": CREATED, "connected": True, "labels": {}}
    fake.nodes["a"] = NODES


async def test_nodes_stand_below_their_cluster(riata: Riata, hub: str, fake: FakeHub) -> None:
    known(fake)
    lines = (await riata("clusters", "show", "a")).out.splitlines()
    assert lines[2] == ""
    rows = [re.split(" {2,}", line) for line in lines[3:]]
    assert rows == [
        ["NODE", "READY", "ROLES", "KUBELET", "OS-IMAGE", "KERNEL", "ARCH", "ADDRESSES", "ZONE", "FALLBACK", "AGENT"],
        ["n1", "yes", "control-plane,etcd", "v1.37.2", "Debian 12", "6.1", "amd64", "10.0.0.5", "-", "yes", "serves"],
        ["n2", "-", "control-plane", "-", "-", "-", "-", "-", "-", "-", "connected"],
    ]
    shown = json.loads((await riata("clusters", "show", "a", "-o", "json")).out)
    assert (shown["name"], shown["nodes"]) == ("a", NODES)
    assert (await riata("clusters", "show", "a", "-o", "name")).out == "a\n"


async def test_many_nodes_are_cut(riata: Riata, hub: str, fake: FakeHub) -> None:
    known(fake)
    items = [{"name": f"n{number:04}", "registered": None, "agent": None} for number in range(5000)]
    fake.nodes["a"] = {**NODES, "total": 6000, "items": items}
    result = await riata("clusters", "show", "a")
    assert result.out.count("\n") == 2 + 2 + 100
    assert "100 of 6000 nodes; -o json has 5000" in result.err


async def test_whoever_may_not_see_them_sees_the_cluster(riata: Riata, hub: str, fake: FakeHub) -> None:
    known(fake)
    for code in (403, 404):
        fake.nodes["a"] = code
        result = await riata("clusters", "show", "a")
        assert (result.code, result.out.count("\n")) == (0, 2)
        assert "nodes" not in json.loads((await riata("clusters", "show", "a", "-o", "json")).out)
    fake.nodes["a"] = 503
    assert (await riata("clusters", "show", "a")).code == 1
