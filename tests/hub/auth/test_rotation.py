"""The hub's part of a rotation: both signatures, two keys at most, nobody else's key. The whole dance, crashes
included, is in tests/agent/uplink/test_rotation.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.auth.rotation import KeyRotation, ProvenSession
from proto import credentials
from proto.commands import KeyProof, ReplaceKey
from proto.errors import Code, StreamReset
from proto.messages import Transcript
from tests.hub.auth import enrolling
from tests.hub.auth.enrolling import CHALLENGE, PIN, World

OLD, NEW, OTHER = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with enrolling.world(tmp_path) as world:
        yield world


def rotation(world: World) -> KeyRotation:
    return KeyRotation(world.check, world.keys, world.key_writer, world.follower, world.clock)


async def session(world: World, seed: bytes = OLD, cluster: str = "uid-a") -> ProvenSession:
    identity = await world.show(world.join(seed, await world.token(cluster)))
    return ProvenSession(identity, CHALLENGE, b"i" * 16, 1, identity.key)


def transcript(world: World, kind: str, seed: bytes, **changes: object) -> Transcript:
    fields: dict[str, object] = {
        "purpose": kind, "hub_id": CHALLENGE.hub_id, "nonce": CHALLENGE.nonce, "pins": (PIN,), "cluster": "uid-a",
        "token_sha256": b"", "role": "cluster", "instance": b"i" * 16, "epoch": 1,
        "signed_at": int(world.clock.now * 1000), "key": credentials.public_key(seed), **changes,
    }  # fmt: skip
    return Transcript(**fields)  # type: ignore[arg-type]


def request(world: World, *, old: bytes = OLD, new: bytes = NEW, **changes: object) -> ReplaceKey:
    signed = transcript(world, credentials.ROTATE, new, **changes)
    return ReplaceKey(
        key=signed.key.hex(),
        pins=signed.pins,
        signed_at=signed.signed_at,
        signature=credentials.sign(new, signed).hex(),
        old_signature=credentials.sign(old, signed).hex(),
    )


async def test_both_keys_must_sign_and_the_same_again_is_fine(world: World) -> None:
    proven = await session(world)
    for _ in range(2):
        await rotation(world).replace(proven, request(world))
        assert proven.key == credentials.public_key(NEW)
        proven.key = credentials.public_key(OLD)  # as a session that crashed before it heard
    (item,) = (await world.store.list("agent-key")).items
    assert len(item.spec["keys"]) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"old": OTHER}, {"nonce": b"m" * 32}, {"hub_id": "hub-2"}, {"cluster": "uid-b"}, {"instance": b"j" * 16},
        {"epoch": 2}, {"purpose": "renew"}, {"purpose": "signature"}, {"signed_at": 1},
        {"key": credentials.public_key(OTHER)},
    ],
    ids=str,
)  # fmt: skip
async def test_nothing_less_than_both_over_this_session(world: World, changes: dict[str, object]) -> None:
    proven = await session(world)
    with pytest.raises(StreamReset) as caught:
        await rotation(world).replace(proven, request(world, **changes))  # type: ignore[arg-type]
    assert caught.value.code is Code.UNAUTHENTICATED
    assert proven.key == credentials.public_key(OLD)


async def test_the_key_of_another_agent_is_not_taken(world: World) -> None:
    proven, other = await session(world), await session(world, OTHER)
    with pytest.raises(StreamReset) as caught:
        await rotation(world).replace(proven, request(world, new=OTHER))
    assert caught.value.code is Code.FORBIDDEN
    assert await world.show(world.sign(OTHER)) == other.identity


async def test_a_key_that_was_replaced_does_not_come_back(world: World) -> None:
    proven = await session(world)
    await rotation(world).replace(proven, request(world))
    world.clock.now += 60
    with pytest.raises(StreamReset) as caught:
        await rotation(world).replace(proven, request(world, old=NEW, new=OLD))
    assert caught.value.code is Code.FORBIDDEN


async def test_a_session_of_a_dead_key_replaces_nothing(world: World) -> None:
    proven = await session(world)
    late = ProvenSession(proven.identity, CHALLENGE, b"i" * 16, 1, proven.key)
    await rotation(world).replace(proven, request(world))
    world.clock.now += 60
    with pytest.raises(StreamReset) as caught:
        await rotation(world).replace(late, request(world, new=OTHER))
    assert caught.value.code is Code.UNAUTHENTICATED
    without = ProvenSession(proven.identity, CHALLENGE, b"i" * 16, 1, b"")
    with pytest.raises(StreamReset) as caught:
        await rotation(world).replace(without, request(world, new=OTHER))
    assert caught.value.code is Code.FORBIDDEN


async def test_an_agent_that_is_gone(world: World) -> None:
    proven = await session(world)
    await world.key_writer.forget("uid-a", proven.identity.credential_id)
    with pytest.raises(StreamReset) as caught:
        await rotation(world).replace(proven, request(world))
    assert caught.value.code is Code.REVOKED


async def test_a_replica_proves_the_new_key(world: World) -> None:
    proven = await session(world)
    key = credentials.public_key(NEW)

    def proof(**changes: object) -> KeyProof:
        signed = transcript(world, credentials.RENEW, NEW, **changes)
        return KeyProof(pins=signed.pins, signed_at=signed.signed_at, signature=credentials.sign(NEW, signed).hex())

    for wrong in ({"purpose": "rotate"}, {"nonce": b"m" * 32}, {"instance": b"j" * 16}, {"cluster": "uid-b"}):
        assert not rotation(world).prove(proven, key, proof(**wrong))
    assert proven.key == credentials.public_key(OLD)
    assert rotation(world).prove(proven, key, proof())
    assert proven.key == key
