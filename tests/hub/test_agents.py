"""The composition of what agents are let in by: every scheme and every index is there, pins follow the CA file."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from hub.agents import AgentAdmission, AgentIndexes, HubPins
from hub.clusters import nodetable
from hub.clusters.records import BOUND, ClusterIndex
from hub.store.index import Follower
from hub.store.sqlite import SqliteStore
from hub.tls import TlsFiles
from proto import pins
from proto.aio.tasks import TaskGroup
from tests.hub.store.conformance import SettableClock

NAMED = "sha256:" + "a" * 64


async def test_every_scheme_of_the_protocol_and_every_kind_that_belongs_to_a_cluster(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    indexes = AgentIndexes()
    follower = Follower(store, indexes.followed())
    admission = AgentAdmission(store, indexes, ClusterIndex(), follower, SettableClock(), frozenset, TaskGroup("x"))
    assert set(admission.authenticator(TaskGroup("x"))._schemes) == {"bearer", "join", "signature", "service-account"}
    # What an index follows is swept with its cluster, and the other way round; tables of nodes have no index.
    assert {index.kind for index in indexes.followed()} | {nodetable.KIND, nodetable.PART_KIND} == set(BOUND)
    await store.close()


def test_pins_follow_the_file_and_the_setting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, other = trustme.CA(), trustme.CA()
    file = tmp_path / "ca.crt"
    file.write_bytes(one.cert_pem.bytes())
    found = HubPins(TlsFiles(file, file, file), [NAMED.upper().replace("SHA256", "sha256")])
    (pin,) = pins.pins_of_pem(one.cert_pem.bytes())
    assert found() == {pin, NAMED}
    file.write_bytes(other.cert_pem.bytes())
    assert found() == {*pins.pins_of_pem(other.cert_pem.bytes()), NAMED}
    file.write_bytes(b"junk")
    assert found() == {*pins.pins_of_pem(other.cert_pem.bytes()), NAMED}
    file.unlink()
    assert found() == {*pins.pins_of_pem(other.cert_pem.bytes()), NAMED}
    assert "last pins stay in force" in caplog.text


def test_without_a_ca_of_its_own_a_hub_knows_no_pins() -> None:
    assert HubPins(None, ())() == frozenset()
