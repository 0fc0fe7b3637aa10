"""Issuers: what a cluster's agent may register, and what it may not."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

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
    assert await writer.register("uid-a", "one", request(cluster)) > 0
    assert await writer.register("uid-a", "one", request(cluster)) == 0  # nothing new, nothing written
    cluster.rotate()
    assert await writer.register("uid-a", "one", request(cluster)) > 0
    await follower.load()
    (found,) = index.of_cluster("uid-a")
    assert (found.issuer, found.subjects, len(found.keys.keys)) == (ISSUER, {SUBJECT}, 2)
    assert index.of_cluster("uid-b") == ()
    clock.now += 1
    assert await writer.register("uid-a", "two", request(cluster)) > 0  # an agent's word of its own
    await follower.load()
    assert [issuer.registered_by for issuer in index.of_cluster("uid-a")] == ["two", "one"]
    await writer.forget("uid-a", "two")
    await follower.load()
    assert [issuer.registered_by for issuer in index] == ["one"]
    await store.close()


async def test_an_agent_that_says_again_what_another_one_has_replaced_is_in_force_again(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    index, writer, cluster = IssuerIndex(), Issuers(store, clock), Cluster("uid-a")
    follower = Follower(store, [index])

    async def says(agent: str, subject: str) -> str:
        """Who is in force afterwards."""
        clock.now += 60
        await writer.register("uid-a", agent, request(cluster, subjects=(subject,)))
        await follower.load()
        return index.of_cluster("uid-a")[0].registered_by

    trial = "system:serviceaccount:trial:riata-agent-node"
    assert await says("one", SUBJECT) == "one"
    assert await says("two", trial) == "two"  # a trial in another namespace, which is soon taken away
    assert await says("one", SUBJECT) == "one"
    assert await says("two", trial) == "two"  # or not: the last word holds, whoever has it
    await store.close()


async def test_the_last_word_holds_though_the_clock_was_ahead_when_another_was_said(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    index, writer, cluster = IssuerIndex(), Issuers(store, clock), Cluster("uid-a")
    clock.now += 86_400
    await writer.register("uid-a", "one", request(cluster))
    clock.now -= 86_400  # set right
    cluster.rotate()
    assert await writer.register("uid-a", "two", request(cluster)) > 0
    assert await writer.register("uid-a", "two", request(cluster)) == 0
    await Follower(store, [index]).load()
    assert [issuer.registered_by for issuer in index.of_cluster("uid-a")] == ["two", "one"]
    await store.close()


async def test_agents_that_agree_do_not_write_in_turn(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    writer, cluster, written = Issuers(store, clock), Cluster("uid-a"), list[int]()
    for _ in range(3):
        for agent in ("one", "two"):
            clock.now += 60
            written.append(await writer.register("uid-a", agent, request(cluster)))
    assert [bool(revision) for revision in written] == [True, True, False, False, False, False]
    # A third one disagreed and was revoked, and a fourth one agrees: what the first has to say is not lost between.
    for agent, subject in (("three", "system:serviceaccount:a:b"), ("four", SUBJECT)):
        clock.now += 60
        assert await writer.register("uid-a", agent, request(cluster, subjects=(subject,))) > 0
    clock.now += 60
    assert await writer.register("uid-a", "one", request(cluster)) > 0
    await store.close()


async def test_who_hears_that_an_issuer_is_another_one(tmp_path: Path) -> None:
    clock = SettableClock()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=clock)
    index, writer, cluster, heard = IssuerIndex(), Issuers(store, clock), Cluster("uid-a"), list[str]()
    index.on_changed = heard.append
    await writer.register("uid-a", "one", request(cluster, fallback=SUBJECT))
    await Follower(store, [index]).load()
    (found,) = index.of_cluster("uid-a")
    assert [found.lets_serve(subject) for subject in (SUBJECT, "", "x")] == [True, False, False]
    assert heard == ["uid-a"]
    await writer.register("uid-a", "one", request(cluster))  # by an agent that registers none
    (resource,) = (await store.list(issuers.KIND)).items
    index.apply(Event(resource, False))
    (found,) = index.of_cluster("uid-a")
    assert not found.lets_serve(SUBJECT)
    index.apply(Event(resource, True))
    index.reset([resource])
    index.reset([])
    assert heard == ["uid-a"] * 5
    await store.close()


async def test_the_fallback_is_one_of_the_node_agents(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    with pytest.raises(StreamReset, match="none of the subjects") as caught:
        await Issuers(store, SettableClock()).register(
            "u", "one", request(Cluster("u"), fallback="system:serviceaccount:a:b")
        )
    assert caught.value.code is Code.PROTOCOL
    assert (await store.list(issuers.KIND)).items == ()
    await store.close()


@pytest.mark.parametrize(
    "jwks",
    [
        "", "[]", "{}", '{"keys":[]}', '{"keys":[1]}', '{"keys":[{"kty":"RSA"}]}', "[" * 20_000,
        json.dumps({"keys": [OctKey.generate_key(256).as_dict(private=True)]}),
        json.dumps({"keys": [RSAKey.generate_key(2048).as_dict(private=True)]}),
        json.dumps({"keys": [RSAKey.generate_key(2048).as_dict(private=False)] * 17}),
        json.dumps({"keys": [ECKey.generate_key("P-256", {"kid": "a"}).as_dict(private=False) for _ in "12"]}),
        json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}),
    ],
    ids=range(12),  # keys are new each time, and every process of a run must call the tests the same
)  # fmt: skip
async def test_what_is_no_public_key_set_is_refused(tmp_path: Path, jwks: str) -> None:
    store = await SqliteStore.open(tmp_path / "hub.db")
    with pytest.raises(StreamReset) as caught:
        await Issuers(store, SettableClock()).register("u", "one", request(Cluster("u"), jwks=jwks))
    assert caught.value.code is Code.PROTOCOL
    assert (await store.list(issuers.KIND)).items == ()
    await store.close()


def test_a_weak_key_is_refused() -> None:
    with pytest.raises(ValueError, match="2048"):
        issuers.key_set(json.dumps({"keys": [{"kty": "RSA", "e": "AQAB", "n": "A" * 172}]}))


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [
        ((1 << 2047) + 1, (1 << 2000) + 1), ((1 << 2047) + 1, 65_539), ((1 << 2047) + 1, 1), (1 << 2047, 65_537),
        ((1 << 4096) + 1, 65_537), ((1 << 200_000) + 1, 65_537),
    ],
    ids=["large exponent", "exponent beyond 65537", "exponent 1", "even", "4,097 bits", "200,000 bits"],
)  # fmt: skip
def test_a_key_that_is_dear_to_check_or_worth_nothing_is_refused(modulus: int, exponent: int) -> None:
    with pytest.raises(ValueError, match="RSA"):
        issuers.key_set(json.dumps({"keys": [{"kty": "RSA", "n": number(modulus), "e": number(exponent)}]}))


def test_the_largest_key_that_is_taken_is_one_of_4096_bits() -> None:
    key = {"kty": "RSA", "kid": "a", "n": number((1 << 4095) + 1), "e": number(65_537)}
    assert [each.kid for each in issuers.key_set(json.dumps({"keys": [key]})).keys] == ["a"]


async def test_a_refused_key_is_named_with_what_to_do(tmp_path: Path) -> None:
    dear = {"kty": "RSA", "kid": "key-of-2019", "n": number((1 << 8191) + 1), "e": number(65_537)}
    store = await SqliteStore.open(tmp_path / "hub.db")
    with pytest.raises(StreamReset) as caught:
        await Issuers(store, SettableClock()).register(
            "u", "one", request(Cluster("u"), jwks=json.dumps({"keys": [dear]}))
        )
    assert caught.value.code is Code.PROTOCOL
    said = "key 'key-of-2019': an RSA key has 2048 to 4096 bits, this one 8192; have the API server sign with a key of"
    assert caught.value.text.startswith(said)
    assert "--service-account-signing-key-file" in caught.value.text
    await store.close()


def test_a_short_key_that_is_padded_is_refused() -> None:
    padded = base64.urlsafe_b64encode(bytes(192) + ((1 << 511) + 1).to_bytes(64, "big")).decode()
    with pytest.raises(ValueError, match="2048"):
        issuers.key_set(json.dumps({"keys": [{"kty": "RSA", "n": padded, "e": "AQAB"}]}))


def test_only_the_curves_that_api_servers_sign_with() -> None:
    with pytest.raises(ValueError, match="RSA or EC"):
        issuers.key_set(json.dumps({"keys": [ECKey.generate_key("secp256k1").as_dict(private=False)]}))


def test_an_unreadable_record_proves_nobody(caplog: pytest.LogCaptureFixture) -> None:
    index = IssuerIndex()
    spec = {"issuer": ISSUER, "jwks": Cluster("u").jwks(), "subjects": [SUBJECT], "registeredAt": 1.0}
    at = Key(issuers.KIND, "u", "self")
    index.apply(Event(Resource(at, spec), False))
    assert index.of_cluster("u")
    index.apply(Event(Resource(at, {**spec, "jwks": "x"}), False))
    assert not index.of_cluster("u")
    assert "unreadable" in caplog.text
    index.reset([Resource(at, spec)])
    index.apply(Event(Resource(at, spec), True))
    assert not index.of_cluster("u")
