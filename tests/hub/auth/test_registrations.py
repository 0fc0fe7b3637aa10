"""What agents say of their cluster is audited once it is kept."""

from __future__ import annotations

from pathlib import Path

from hub.auth.agents import AgentIdentity
from hub.auth.issuers import Issuers
from hub.auth.pods import Pods
from hub.auth.registrations import Registrations
from hub.store.sqlite import SqliteStore
from proto.commands import RegisterIssuer, RegisterPods
from tests.harness.records import captured
from tests.hub.auth.issuing import SUBJECT, Cluster
from tests.hub.store.conformance import SettableClock

WHO = AgentIdentity("uid-a", "a", "reg-1", "cluster")


async def test_registrations_are_audited_when_they_change_something(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    clock, cluster = SettableClock(), Cluster("uid-a", "ES256")
    registrations = Registrations(Issuers(store, clock), Pods(store))
    with captured("riata.audit") as logged:
        for _ in range(2):
            args = RegisterIssuer(issuer="i" * 2048, jwks=cluster.jwks(), subjects=(SUBJECT,))
            await registrations.issuer(WHO, args)
            await registrations.pods(WHO, RegisterPods(part=0, parts=1, pods=("pod node",)))
    assert [event["event"] for event in logged] == ["issuer-registered", "pods-registered"]
    issuer, pods = logged
    assert (issuer["agent"], issuer["cluster"], len(str(issuer["issuer"]))) == ("reg-1", "a", 200)
    assert issuer["keys"] == [cluster.keys[0].thumbprint()]
    assert (pods["part"], pods["parts"], pods["pods"]) == (0, 1, 1)
    await store.close()
