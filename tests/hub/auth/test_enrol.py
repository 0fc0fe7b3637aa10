"""Joining and signing: one token, one key; one signature, one session; and what a refusal tells whom."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.auth.agents import AgentIdentity, Challenge, CredentialRefused
from proto.credentials import SKEW_MAX_S, new_seed, public_key
from proto.errors import Code
from proto.messages import AgentAuth
from tests.harness.records import captured
from tests.hub.auth import enrolling
from tests.hub.auth.enrolling import CHALLENGE, World

ONE, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with enrolling.world(tmp_path) as world:
        yield world


async def refusal(world: World, auth: AgentAuth, challenge: Challenge = CHALLENGE) -> CredentialRefused:
    with pytest.raises(CredentialRefused) as caught:
        await world.show(auth, challenge)
    return caught.value


async def test_join_then_sign(world: World) -> None:
    token = await world.token()
    joined = await world.show(world.join(ONE, token))
    assert joined == AgentIdentity("uid-a", "a", token.decode().split("_")[1], "cluster", public_key(ONE))
    assert await world.show(world.sign(ONE)) == joined


async def test_a_thousand_joins_at_once_have_one_winner(world: World) -> None:
    """H1, with the real store: every one of them passed the first look before any had written."""
    token = await world.token()
    seeds = [new_seed() for _ in range(1000)]
    auths = [world.join(seed, token) for seed in seeds]
    outcomes = await asyncio.gather(*(world.show(auth) for auth in auths), return_exceptions=True)
    winners = [outcome for outcome in outcomes if isinstance(outcome, AgentIdentity)]
    assert len(winners) == 1
    losers = [outcome for outcome in outcomes if isinstance(outcome, CredentialRefused)]
    assert len(losers) == 999
    assert len((await world.store.list("agent-key")).items) == 1
    assert await world.show(world.sign(seeds[outcomes.index(winners[0])])) == winners[0]


async def test_a_thousand_replicas_with_one_key_are_one_join(world: World) -> None:
    token = await world.token()
    auths = [world.join(ONE, token, instance=number.to_bytes(16)) for number in range(1000)]
    outcomes = await asyncio.gather(*(world.show(auth) for auth in auths))
    assert len(set(outcomes)) == 1
    assert len((await world.store.list("agent-key")).items) == 1


async def test_a_second_use_says_when_the_first_was_and_is_audited(world: World) -> None:
    token = await world.token()
    await world.show(world.join(ONE, token))
    world.clock.now += 60
    with captured("riata.audit") as logged:
        second = await refusal(world, world.join(OTHER, token))
    assert second.code is Code.UNAUTHENTICATED
    assert re.search(r"used at 1970-01-12T13:46:40Z", second.message)
    assert "riata agents revoke" in second.message
    (event,) = logged
    assert (event["event"], event["audit"], event["level"]) == ("join-token-reused", True, "warning")
    assert (event["used_at"], event["peer"]) == ("1970-01-12T13:46:40Z", CHALLENGE.peer)
    assert token.decode() not in str(logged) + second.message


async def test_the_same_join_again_at_any_time(world: World) -> None:
    """A crash before WELCOME was read, a second replica, a restart the day after."""
    token = await world.token()
    first = await world.show(world.join(ONE, token))
    world.clock.now += 86_400
    assert await world.show(world.join(ONE, token)) == first


async def test_an_expired_token_enrols_nobody(world: World) -> None:
    token = await world.token(lifetime_s=60)
    world.clock.now += 60
    late = await refusal(world, world.join(ONE, token))
    assert "expired at 1970-01-12T13:47:40Z" in late.message
    assert (await world.store.list("agent-key")).items == ()


async def test_a_key_that_lives_needs_no_second_token(world: World) -> None:
    first = await world.show(world.join(ONE, await world.token()))
    again = await world.token()
    assert await world.show(world.join(ONE, again)) == first
    other = await world.show(world.join(OTHER, again))  # it was not used up
    assert other.credential_id == again.decode().split("_")[1]


async def test_a_revoked_agent_does_not_come_back(world: World) -> None:
    token = await world.token()
    joined = await world.show(world.join(ONE, token))
    await world.revoke(joined.credential_id)
    for auth in (world.sign(ONE), world.join(ONE, token), world.join(ONE, await world.token())):
        with captured("riata.audit") as logged:
            refused = await refusal(world, auth)
        assert [event["event"] for event in logged] == ["revoked-key-used"]
        assert refused.code is Code.REVOKED
        assert "revoked at 1970-01-12T13:46:40Z" in refused.message
    assert (await world.show(world.join(OTHER, await world.token()))).cluster_uid == "uid-a"


async def test_who_shows_a_used_token_of_a_revoked_agent_is_no_thief(world: World) -> None:
    """The agent itself: its token is still mounted, and it has made a new key."""
    token = await world.token()
    joined = await world.show(world.join(ONE, token))
    await world.revoke(joined.credential_id)
    with captured("riata.audit") as logged:
        refused = await refusal(world, world.join(OTHER, token))
    assert refused.code is Code.UNAUTHENTICATED
    assert "was revoked at 1970-01-12T13:46:40Z: make a new join token" in refused.message
    assert "another agent" not in refused.message
    (event,) = logged
    assert (event["event"], event["agent"], event["peer"]) == (
        "revoked-token-used", joined.credential_id, CHALLENGE.peer,
    )  # fmt: skip


async def test_a_key_that_was_replaced_is_called_revoked_where_a_new_one_can_join(world: World) -> None:
    """A Secret that was put back to before a rotation: for REVOKED, and nothing else, the agent makes a new key."""
    token = await world.token()
    joined = await world.show(world.join(ONE, token))
    await world.replace(joined.credential_id, OTHER)
    fresh = await world.token()
    assert await world.show(world.join(ONE, fresh)) == joined, "within the grace it is the agent"
    world.clock.now += 10
    replaced = await refusal(world, world.join(ONE, fresh))
    assert replaced.code is Code.REVOKED
    assert "replaced by a newer one" in replaced.message
    for auth in (world.sign(ONE), world.join(ONE, token)):  # the running agent has its newest key in memory
        assert (await refusal(world, auth)).code is Code.UNAUTHENTICATED
    assert (await refusal(world, world.join(ONE, fresh, sent_signature=bytes(64)))).code is Code.UNAUTHENTICATED
    assert (await world.show(world.join(new_seed(), fresh))).credential_id == fresh.decode().split("_")[1]
    assert (await refusal(world, world.join(ONE, fresh))).code is Code.UNAUTHENTICATED
    assert (await world.show(world.sign(OTHER))).credential_id == joined.credential_id
    expired = await world.token(lifetime_s=60)
    world.clock.now += 60
    assert (await refusal(world, world.join(ONE, expired))).code is Code.UNAUTHENTICATED


async def test_a_key_is_known_in_its_own_cluster_only(world: World) -> None:
    """F1: the uid that a proof names finds the key; it never lends one."""
    await world.show(world.join(ONE, await world.token()))
    await world.show(world.join(OTHER, await world.token("uid-b")))
    assert (await refusal(world, world.sign(ONE, "uid-b"))).code is Code.UNAUTHENTICATED
    assert (await refusal(world, world.sign(ONE, sent_cluster="uid-b"))).code is Code.UNAUTHENTICATED
    cloned = await world.show(world.join(ONE, await world.token("uid-b")))  # a copied Secret, joined on purpose
    assert cloned.cluster_uid == "uid-b"
    assert (await world.show(world.sign(ONE))).cluster_uid == "uid-a"


@pytest.mark.parametrize(
    "changes",
    [
        {"hub_id": "hub-2"}, {"nonce": b"m" * 32}, {"purpose": "join"}, {"purpose": "rotate"}, {"cluster": "uid-b"},
        {"instance": b"j" * 16, "sent_instance": b"i" * 16}, {"epoch": 2, "sent_epoch": 1}, {"sent_role": "node"},
        {"sent_signed_at": 1_000_000_001_000}, {"sent_pins": ("sha256:" + "b" * 64,)}, {"sent_signature": bytes(64)},
        {"sent_key": public_key(OTHER)},
    ],
    ids=str,
)  # fmt: skip
async def test_a_signature_is_for_this_session(world: World, changes: dict[str, object]) -> None:
    """H6: recorded elsewhere, replayed, or with any field changed. One text for all."""
    await world.show(world.join(ONE, await world.token()))
    refused = await refusal(world, world.sign(ONE, **changes))
    assert refused.message == "the agent's credential is not valid for any cluster"


async def test_a_replay_in_another_session_is_refused(world: World) -> None:
    await world.show(world.join(ONE, await world.token()))
    recorded = world.sign(ONE)
    assert await world.show(recorded)
    await refusal(world, recorded, Challenge("hub-1", b"o" * 32, "192.0.2.8:1"))
    await refusal(world, recorded, Challenge("hub-2", b"n" * 32, "192.0.2.8:1"))


@pytest.mark.parametrize("skew_s", [SKEW_MAX_S + 1, -SKEW_MAX_S - 1])
async def test_a_clock_that_is_wrong_is_named(world: World, skew_s: float) -> None:
    token = await world.token()
    signed_at = int((world.clock.now - skew_s) * 1000)
    for auth in (world.join(ONE, token, signed_at=signed_at), world.sign(ONE, signed_at=signed_at)):
        if auth.credential.scheme == "signature":
            await world.show(world.join(ONE, token))
        refused = await refusal(world, auth)
        assert f"301 s {'behind' if skew_s > 0 else 'ahead of'} the hub's" in refused.message


async def test_an_agent_that_trusts_another_ca_is_refused(world: World) -> None:
    """Whoever stands in between has another CA, and the agent has signed which one it sees."""
    token = await world.token()
    foreign = "sha256:" + "f" * 64
    refused = await refusal(world, world.join(ONE, token, pins=(foreign,)))
    assert "agent_pins" in refused.message
    refused = await refusal(world, world.join(ONE, token, pins=(foreign, enrolling.PIN)))
    assert foreign in refused.message  # one foreign CA among them is one too many
    assert (await world.show(world.join(ONE, token))).cluster_uid == "uid-a"
    world.pins = {enrolling.PIN, foreign}  # while the CA is replaced
    assert await world.show(world.sign(ONE, pins=(foreign, enrolling.PIN)))
    world.pins = set()  # files of the operator without their CA, or plain HTTP, and nobody has named a pin
    refused = await refusal(world, world.sign(ONE))
    assert "tls_ca" in refused.message
    assert "agent_pins" in refused.message


async def test_a_join_token_makes_no_node(world: World) -> None:
    refused = await refusal(world, world.join(ONE, await world.token(), role="node"))
    assert "role cluster" in refused.message
    await world.show(world.join(ONE, await world.token()))
    await refusal(world, world.sign(ONE, role="node"))


async def test_a_join_whose_cluster_goes_meanwhile_leaves_nothing(world: World) -> None:
    token = await world.token()
    enrol = world.key_writer.enrol

    async def enrol_and_delete(**fields: str) -> object:
        world.names.names.pop("uid-a")
        return await enrol(**fields)  # type: ignore[arg-type]

    world.key_writer.enrol = enrol_and_delete  # type: ignore[assignment,method-assign]
    await refusal(world, world.join(ONE, token))
    assert (await world.store.list("agent-key")).items == ()


@pytest.mark.parametrize("scheme", ["join", "signature"])
@pytest.mark.parametrize("value", [b"", b"\x80", b"\xff" * 100, b"riatajoin_abcdefghij_" + b"0" * 64])
async def test_nonsense_is_refused(world: World, scheme: str, value: bytes) -> None:
    auth = world.sign(ONE)
    credential = type(auth.credential)(scheme=scheme, value=value)
    fields = {name: getattr(auth, name) for name in auth.__struct_fields__} | {"credential": credential}
    await refusal(world, AgentAuth(**fields))


async def test_unknown_tokens_and_tokens_of_another_kind(world: World) -> None:
    for token in (b"riatajoin_abcdefghij_" + b"0" * 64, b"riata_abcdefghij_" + b"0" * 64, b"x"):
        assert (await refusal(world, world.join(ONE, token))).code is Code.UNAUTHENTICATED
    token = await world.token()
    world.names.names.clear()
    await refusal(world, world.join(ONE, token))


async def test_a_token_that_is_revoked_while_its_join_is_in_the_store_enrols_nobody(world: World) -> None:
    """The join has passed every look and waits for the disk when the operator takes the token back."""
    token = await world.token()
    agent_id = token.decode().split("_")[1]
    enrol, held = world.key_writer.enrol, asyncio.Event()

    async def enrol_late(**fields: str) -> object:
        await held.wait()
        return await enrol(**fields)  # type: ignore[arg-type]

    world.key_writer.enrol = enrol_late  # type: ignore[assignment,method-assign]
    joining = world.tasks.spawn(world.show(world.join(ONE, token)), name="join")
    await asyncio.sleep(0)
    barred, is_ours = await world.key_writer.bar("uid-a", agent_id, by="admin")
    assert is_ours
    await world.token_writer.revoke("uid-a", agent_id)
    await world.follower.reached(barred.revision)
    held.set()
    with pytest.raises(CredentialRefused, match="was revoked"):
        await joining
    await refusal(world, world.sign(ONE))
    assert world.keys.by_key("uid-a", public_key(ONE)) is None


async def test_a_token_whose_agent_was_faster_is_not_barred(world: World) -> None:
    token = await world.token()
    joined = await world.show(world.join(ONE, token))
    record, is_ours = await world.key_writer.bar("uid-a", joined.credential_id, by="admin")
    assert (record.is_barred, is_ours) == (False, False)
    assert await world.show(world.sign(ONE)) == joined


async def test_one_key_under_two_tokens_at_once_is_one_agent(world: World) -> None:
    tokens = [await world.token() for _ in range(20)]
    joined = await asyncio.gather(*(world.show(world.join(ONE, token)) for token in tokens))
    assert len(set(joined)) == 1
    assert len((await world.store.list("agent-key")).items) == 1
    assert await world.show(world.sign(ONE)) == joined[0]
    await world.revoke(joined[0].credential_id)
    assert (await refusal(world, world.sign(ONE))).code is Code.REVOKED


async def test_a_key_with_two_records_that_a_crash_left_is_dead_when_one_is_revoked(world: World) -> None:
    ids = []
    for _ in range(2):
        token = await world.token()
        ids.append(token.decode().split("_")[1])
        record, _ = await world.key_writer.enrol(
            agent_id=ids[-1], cluster_uid="uid-a", role="cluster", key=public_key(ONE), joined_from=""
        )
        await world.follower.reached(record.revision)
    assert (await world.show(world.sign(ONE))).credential_id in ids
    await world.revoke(ids[1])
    assert (await refusal(world, world.sign(ONE))).code is Code.REVOKED


async def test_a_handshake_that_is_cut_lets_its_join_end_whole(world: World) -> None:
    """The handshake's ten seconds ended while the disk was slow: the key is enrolled and audited all the same."""
    token = await world.token()
    enrol, held = world.key_writer.enrol, asyncio.Event()

    async def enrol_late(**fields: str) -> object:
        await held.wait()
        return await enrol(**fields)  # type: ignore[arg-type]

    world.key_writer.enrol = enrol_late  # type: ignore[assignment,method-assign]
    with captured("riata.audit") as logged:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await world.show(world.join(ONE, token))
        held.set()
        await world.tasks.wait()
    assert [event["event"] for event in logged] == ["agent-joined"]
    world.key_writer.enrol = enrol  # type: ignore[method-assign]
    assert (await world.show(world.join(ONE, token))).credential_id == token.decode().split("_")[1]
