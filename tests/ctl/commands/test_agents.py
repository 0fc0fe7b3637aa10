"""`riata agents`."""

import pytest
from aiohttp import web

from ctl import client
from tests.ctl.conftest import Riata
from tests.ctl.fakehub import CREATED, FakeHub

ONE = {
    "id": "k000000001", "cluster": "a", "role": "cluster", "node": "", "credential": "key", "connected": True,
    "version": "0.1.0", "address": "192.0.2.7:1", "connectedSince": CREATED, "lastSeen": CREATED, "rttSeconds": 0.0123,
    "keySince": CREATED, "revokedAt": None,
}  # fmt: skip


async def test_list_revoke_and_rotate(riata: Riata, hub: str, fake: FakeHub) -> None:
    fake.agents["k000000001"] = ONE
    fake.agents["k000000002"] = {"id": "k000000002", "cluster": "b", "role": "cluster", "revokedAt": CREATED}
    rows = [line.split() for line in (await riata("agents", "list")).out.splitlines()]
    assert rows[0][:5] == ["ID", "CLUSTER", "ROLE", "NODE", "STATE"]
    assert rows[1] == [
        "k000000001", "a", "cluster", "-", "connected", "0.1.0", "192.0.2.7:1", CREATED, CREATED, "12.3ms", CREATED,
        "-", "-",
    ]  # fmt: skip
    assert rows[2][4] == "revoked"
    assert (await riata("agents", "list", "--cluster", "b", "-o", "name")).out == "k000000002\n"
    assert (await riata("agents", "rotate-key", "k000000001")).code == 0
    assert fake.calls[-1][:2] == ("POST", "/v1/agents/k000000001/rotate-key")
    assert (await riata("agents", "revoke", "k000000001")).err == "agent k000000001 revoked\n"
    assert (await riata("agents", "revoke", "k000000001")).code == 4


@pytest.mark.parametrize("knows_parameters", [True, False])
async def test_a_fleet_comes_in_pages_and_one_cluster_alone(
    riata: Riata, hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch, knows_parameters: bool
) -> None:
    """All agents of 250,000 nodes in one answer were more than a command takes, and those of one cluster were picked
    from them here. A hub of before sends them all."""
    monkeypatch.setattr(client, "PAGE", 2)
    fake.knows_parameters = knows_parameters
    fake.agents |= {f"{name}{n}": {"id": f"{name}{n}", "cluster": name} for name in "abc" for n in "12"}
    assert (await riata("agents", "list", "-o", "name")).out.split() == ["a1", "a2", "b1", "b2", "c1", "c2"]
    asked = [path for _, path, _ in fake.calls]
    rest = ["/v1/agents?limit=2&continue=a", "/v1/agents?limit=2&continue=b"] if knows_parameters else []
    assert asked == ["/v1/agents?limit=2", *rest]
    assert (await riata("agents", "list", "--cluster", "b", "-o", "name")).out.split() == ["b1", "b2"]
    assert fake.calls[-1][1] == "/v1/agents?cluster=b"


async def test_list_shows_what_is_known_of_the_nodes(riata: Riata, hub: str, fake: FakeHub) -> None:
    facts, registered = {"roles": ["control-plane"]}, {"roles": ["worker", "gpu"], "kubelet": "v1.37.2"}
    node = {"cluster": "a", "role": "node", "connected": True, "nodeFacts": facts}
    fake.agents["a:n1"] = {**node, "id": "a:n1", "node": "n1", "registeredNode": None}
    fake.agents["a:n2"] = {**node, "id": "a:n2", "node": "n2", "registeredNode": registered}
    rows = [line.split() for line in (await riata("agents", "list")).out.splitlines()]
    assert [row[-2:] for row in rows] == [
        ["NODE-ROLES", "KUBELET"], ["control-plane", "-"], ["worker,gpu", "v1.37.2"],
    ]  # fmt: skip


async def test_a_node_that_the_hub_does_not_know_is_told(riata: Riata, hub: str, fake: FakeHub) -> None:
    note = "the hub knows no node worker-1 of cluster a"
    fake.answer = web.json_response({"id": "a:worker-1", "cluster": "a", "node": "worker-1", "note": note})
    told = await riata("agents", "revoke", "a:worker-1")
    assert (told.code, told.err.splitlines()[:2]) == (0, ["agent a:worker-1 revoked", f"note: {note}"])
    assert "riata clusters show a" in told.err
    assert "riata agents readmit a:worker-1" in told.err
