"""Issuers: what a cluster's agent may register, and what it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OctKey, RSAKey

from hub.auth import issuers
from hub.auth.issuers import IssuerIndex, Issuers
from hub.store.index import Follower
from hub.store.model import Event, Key, Resource
from hub.store.sqlite import SqliteStore
from proto.commands import RegisterIssuer
from proto.errors import Code, StreamReset
from tests.hub.auth.issuing import ISSUER, SUBJECT, Cluster
from tests.hub.store.conformance import SettableClock


def request(cluster: Cluster, **changes: Any) -> RegisterIssuer:
    return RegisterIssuer(**{"issuer": ISSUER, "jwks": cluster.jwks(), "subjects": (SUBJECT,), **changes})


async def test_registered_kept_and_replaced(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    index, writer, cluster = IssuerIndex(), Issuers(store, clock), Cluster("uid-a")
    follower = Follower(store, [index])
    await follower.load()
    assert await writer.register("uid-a", request(cluster)) > 0
    assert await writer.register("uid-a", request(cluster)) == 0  # nothing new, nothing written
    cluster.rotate()
    assert await writer.register("uid-a", request(cluster)) > 0
    await follower.load()
    found = index.get("uid-a")
    assert found is not None
    assert (found.issuer, found.subjects, len(found.keys.keys)) == (ISSUER, {SUBJECT}, 2)
    assert index.get("uid-b") is None
    await store.close()


@pytest.mark.parametrize(
    "jwks",
    [
        "", "[]", "{}", '{"keys":[]}', '{"keys":[1]}', '{"keys":[{"kty":"RSA"}]}', "[" * 20_000,
        json.dumps({"keys": [OctKey.generate_key(256).as_dict(private=True)]}),
        json.dumps({"keys": [RSAKey.generate_key(2048).as_dict(private=True)]}),
        json.dumps({"keys": [RSAKey.generate_key(2048).as_dict(private=False)] * 17}),
        json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}),
    ],
)  # fmt: skip
async def test_what_is_no_public_key_set_is_refused(tmp_path: Path, jwks: str) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    with pytest.raises(StreamReset) as caught:
        await Issuers(store, SettableClock()).register("u", request(Cluster("u"), jwks=jwks))
    assert caught.value.code is Code.PROTOCOL
    assert (await store.list(issuers.KIND)).items == ()
    await store.close()


def test_a_weak_key_is_refused() -> None:
    with pytest.raises(ValueError, match="2048"):
        issuers.key_set(json.dumps({"keys": [{"kty": "RSA", "e": "AQAB", "n": "A" * 171}]}))


def test_an_unreadable_record_proves_nobody(caplog: pytest.LogCaptureFixture) -> None:
    index = IssuerIndex()
    spec = {"issuer": ISSUER, "jwks": Cluster("u").jwks(), "subjects": [SUBJECT]}
    at = Key(issuers.KIND, "u", "self")
    index.apply(Event(Resource(at, spec), False))
    assert index.get("u") is not None
    index.apply(Event(Resource(at, {**spec, "jwks": "x"}), False))
    assert index.get("u") is None
    assert "unreadable" in caplog.text
    index.reset([Resource(at, spec)])
    index.apply(Event(Resource(at, spec), True))
    assert index.get("u") is None
