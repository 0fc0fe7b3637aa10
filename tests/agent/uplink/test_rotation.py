"""Rotation: nothing running is touched, the old key dies in time, and a crash between any two steps is no end."""

import asyncio

import pytest

from agent.uplink import rotation as module
from agent.uplink.keyring import Keyring
from agent.uplink.rotation import AHEAD_S, KEY_LIFETIME_S, KeyRotation
from hub.auth.agents import CredentialRefused
from hub.auth.rotation import GRACE_S
from proto import credentials
from proto.aio import commands
from proto.errors import Code, StreamReset
from tests.agent.uplink.rotating import Agent, Crash, Store, hub_side, settled


async def enrolled(hub, tmp_path, **more):
    """An agent that has joined, and its store."""
    file = tmp_path / "join"
    file.write_bytes(await hub.world.token())
    agent = Agent(hub, Store(), file, **more)
    await agent.connect()
    return agent


def public(pair):
    return credentials.public_key(pair.seed)


async def test_a_rotation_keeps_the_session_and_kills_the_old_key(tmp_path):
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path)
        old = agent.store.state
        await agent.rotate()  # young, and nobody wished it
        assert agent.store.state == old
        assert await hub.commands.rotate_key(agent.tunnel.identity.credential_id) == ""
        new = agent.store.state
        assert (new.current != old.current, new.next, new.cluster_uid) == (True, None, "uid-a")
        assert agent.link.is_open
        assert agent.tunnel.proven.key == public(new.current)
        record = hub.world.keys.get(agent.tunnel.identity.credential_id)
        assert [key.value for key in record.keys] == [public(old.current), public(new.current)]
        assert (record.keys[0].until, record.keys[1].until) == (hub.world.clock.now + GRACE_S, None)
        # Within the grace both prove the agent, then only the new one; the session lives.
        assert await hub.world.show(hub.world.sign(old.current.seed))
        assert await hub.world.show(hub.world.sign(new.current.seed))
        hub.world.clock.now += GRACE_S
        hub.revocation.cut_expired()
        assert agent.link.is_open
        with pytest.raises(CredentialRefused, match="replaced by a newer one"):
            await hub.world.show(hub.world.sign(old.current.seed))
        assert await hub.world.show(hub.world.sign(new.current.seed))


@pytest.mark.parametrize("passed_s", [KEY_LIFETIME_S, -2 * AHEAD_S], ids=["old", "of a clock that was wrong"])
async def test_a_key_is_replaced_when_it_is_old(tmp_path, monkeypatch, passed_s):
    monkeypatch.setattr(module, "INTERVAL_S", 0.005)
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path, lifetime_s=KEY_LIFETIME_S)
        hub.group.spawn(agent.enrolment.tend(agent.link, agent.proven), name="tend")
        first = agent.store.state.current
        await settled()
        assert agent.store.state.current == first
        hub.world.clock.now += passed_s
        async with asyncio.timeout(30):
            while agent.store.state.current == first or agent.store.state.next is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert agent.tunnel.proven.key == public(agent.store.state.current)


async def test_replicas_prove_the_new_key_on_the_sessions_they_have(tmp_path):
    async with hub_side(tmp_path) as hub:
        one = await enrolled(hub, tmp_path)
        others = [Agent(hub, one.store, tmp_path / "join") for _ in range(3)]
        for other in others:
            await other.connect()
        assert await hub.commands.rotate_key(one.tunnel.identity.credential_id) == ""
        await settled()
        new = public(one.store.state.current)
        assert {agent.tunnel.proven.key for agent in (one, *others)} == {new}
        hub.world.clock.now += GRACE_S
        hub.revocation.cut_expired()
        assert all(agent.link.is_open for agent in (one, *others))


async def test_replicas_that_rotate_at_once_make_one_new_key(tmp_path):
    async with hub_side(tmp_path) as hub:
        one = await enrolled(hub, tmp_path, lifetime_s=10.0)
        others = [Agent(hub, one.store, tmp_path / "join", lifetime_s=10.0) for _ in range(3)]
        for other in others:
            await other.connect()
        hub.world.clock.now += 11
        await asyncio.gather(*(agent.rotate() for agent in (one, *others)), return_exceptions=True)
        await settled()
        record = hub.world.keys.get(one.tunnel.identity.credential_id)
        assert len(record.keys) == 2
        assert one.store.state.next is None
        assert public(one.store.state.current) == record.current.value


async def test_a_thief_with_the_old_key_is_cut_with_it(tmp_path):
    """A session that cannot prove the new key ends when the old one does."""
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path)
        stolen = Store()
        stolen.state = agent.store.state
        thief = Agent(hub, stolen, None)
        await thief.connect()
        assert await hub.commands.rotate_key(agent.tunnel.identity.credential_id) == ""
        await settled()
        assert thief.link.is_open
        hub.world.clock.now += GRACE_S
        hub.revocation.cut_expired()
        await settled()
        assert (agent.link.is_open, thief.link.is_open) == (True, False)


STEPS = ["kept", "sent", "committed", "answered", "promoted"]


@pytest.mark.parametrize("has_token", [False, True], ids=["without a token", "a new join token"])
@pytest.mark.parametrize("is_late", [False, True], ids=["within the grace", "after the grace"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_behind_any_step_recovers(tmp_path, monkeypatch, step, is_late, has_token):
    """H5. `kept`: the next key is kept; `sent`: the hub was asked and did nothing; `committed`: it did and we never
    heard; `answered`: we heard and did not write; `promoted`: we wrote and were gone. Also where the manifest was
    applied anew meanwhile: its token makes nobody another agent."""
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path, lifetime_s=10.0)
        first = agent.store.state.current
        hub.world.clock.now += 11
        real = commands.call

        async def call(link, verb, args, **more):
            if step == "sent":
                raise Crash
            await real(link, verb, args, **more)
            if step == "committed":
                raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(module, "call", call)
            if step == "kept":
                agent.store.crash_after = 1
            elif step == "promoted":
                agent.store.crash_after = 2
            elif step == "answered":
                save = agent.store.save

                async def lost(state, version):
                    if state.next is None and state.current != first:
                        raise Crash
                    return await save(state, version)

                patch.setattr(agent.store, "save", lost)
            with pytest.raises(Crash):
                await agent.rotate()
        await agent.crash()
        agent.store.crash_after = None
        if is_late:
            hub.world.clock.now += GRACE_S + 1
            hub.revocation.cut_expired()
        if has_token:
            (tmp_path / "join").write_bytes(await hub.world.token())
        else:  # only the keys can help
            (tmp_path / "join").unlink()
        again = Agent(hub, agent.store, tmp_path / "join", lifetime_s=1e9)
        for _ in range(2):
            try:
                await again.connect()
                break
            except CredentialRefused as exc:
                has_more = again.enrolment.refused(exc.code)
                if not has_more:
                    pytest.fail("refused, and nothing else to show")
        if again.store.state.next is not None:
            await again.rotate()
        state = again.store.state
        record = hub.world.keys.get(again.tunnel.identity.credential_id)
        assert (state.next, state.current != first) == (None, True)
        assert record.current.value == public(state.current) == again.tunnel.proven.key
        assert len(record.keys) == 2


@pytest.mark.parametrize("lost", ["answer", "end"])
async def test_what_was_cut_short_is_finished_on_the_same_session(tmp_path, monkeypatch, lost):
    """The hub's answer came too late, or the API server was away when it came."""
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path, lifetime_s=10.0)
        hub.world.clock.now += 11
        real, save = commands.call, agent.store.save

        async def call(link, verb, args, **more):
            await real(link, verb, args, **more)
            if lost == "answer":
                raise TimeoutError

        async def keep(state, version):
            if state.next is None:
                raise module.KeyUnusable("the API server is down")
            return await save(state, version)

        with monkeypatch.context() as patch:
            patch.setattr(module, "call", call)
            patch.setattr(agent.store, "save", keep)
            with pytest.raises((TimeoutError, module.KeyUnusable)):
                await agent.rotate()
        assert agent.store.state.next is not None
        hub.world.clock.now += GRACE_S + 1
        await agent.rotate()
        assert agent.store.state.next is None
        assert public(agent.store.state.current) == agent.tunnel.proven.key
        assert len(hub.world.keys.get(agent.tunnel.identity.credential_id).keys) == 2


@pytest.mark.parametrize("held", ["nothing", "not for which cluster"])
async def test_a_place_that_does_not_hold_the_key_is_no_success(tmp_path, held):
    """Somebody emptied it, or what the hub's welcome said could not be written down yet."""
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path)
        current = agent.store.state.current
        agent.store.state = None if held == "nothing" else module.KeyState(current)
        said = await hub.commands.rotate_key(agent.tunnel.identity.credential_id)
        assert "does not hold the key" in said
        assert agent.tunnel.proven.key == public(current)


async def back(agent):
    """Connected again, with whatever there is to show."""
    while True:
        try:
            return await agent.connect()
        except CredentialRefused as exc:
            has_more = agent.enrolment.refused(exc.code)
        if not has_more:
            pytest.fail("refused, and nothing else to show")


async def test_a_place_that_is_put_back_behind_a_rotation_loses_no_replica(tmp_path):
    """A restored Secret holds the key of before, dead at the hub: each replica has proven the new one."""
    async with hub_side(tmp_path) as hub:
        one = await enrolled(hub, tmp_path)
        other = Agent(hub, one.store, tmp_path / "join")
        await other.connect()
        before = one.store.state
        assert await hub.commands.rotate_key(one.tunnel.identity.credential_id) == ""
        await settled()
        after = one.store.state
        hub.world.clock.now += GRACE_S + 1
        for agent in (one, other):
            await agent.crash()  # of the connection
            agent.store.state = before
            await back(agent)
            assert agent.store.state == after


async def test_a_second_rotation_waits_for_the_first_to_be_over(tmp_path):
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path)
        agent_id = agent.tunnel.identity.credential_id
        assert await hub.commands.rotate_key(agent_id) == ""
        assert "not over yet" in await hub.commands.rotate_key(agent_id)
        pending = agent.store.state.next
        assert pending is not None
        hub.world.clock.now += GRACE_S
        assert await hub.commands.rotate_key(agent_id) == ""
        assert agent.store.state.current == pending
        assert len(hub.world.keys.get(agent_id).keys) == 2  # never more than two


async def test_a_revoked_agent_rotates_nothing(tmp_path):
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path, lifetime_s=1.0)
        hub.world.clock.now += 2
        on_gone = hub.world.keys.on_gone
        hub.world.keys.on_gone = lambda agent_id: None
        await hub.world.revoke(agent.tunnel.identity.credential_id)
        with pytest.raises(StreamReset) as caught:
            await agent.rotate()
        assert caught.value.code is Code.REVOKED
        hub.world.keys.on_gone = on_gone
        on_gone(agent.tunnel.identity.credential_id)
        await settled()
        assert not agent.link.is_open
        assert agent.link.end_reason.code is Code.REVOKED


async def test_what_the_store_refuses_the_hub_hears(tmp_path):
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path)

        async def broken(*_):
            raise module.KeyUnusable("the API server is down")

        agent.store.save = broken
        assert "API server is down" in await hub.commands.rotate_key(agent.tunnel.identity.credential_id)
        assert await hub.commands.rotate_key("nobody") == "it is not connected"
        rotation = KeyRotation(Keyring(agent.store, hub.world.clock))
        assert rotation.handlers(agent.link, agent.proven).keys() == {module.PROVE_KEY, module.ROTATE_KEY}


async def attempts(agent):
    """Until the hub takes the agent or it has nothing more to show."""
    while True:
        try:
            return await agent.connect()
        except CredentialRefused as exc:
            if not agent.enrolment.refused(exc.code):
                raise


async def test_a_place_that_was_put_back_to_before_a_rotation_takes_a_new_join_token(tmp_path):
    """The cluster's etcd was restored, and its pods began anew: no process has the key that the hub knows."""
    async with hub_side(tmp_path) as hub:
        agent = await enrolled(hub, tmp_path)
        backup, token = agent.store.state, (tmp_path / "join").read_bytes()
        assert await hub.commands.rotate_key(agent.tunnel.identity.credential_id) == ""
        hub.world.clock.now += GRACE_S
        restored = Store()
        restored.state = backup
        again = Agent(hub, restored, tmp_path / "join")
        with pytest.raises(CredentialRefused, match="replaced by a newer one"):
            await attempts(again)
        assert (restored.state, (tmp_path / "join").read_bytes()) == (backup, token)
        (tmp_path / "join").write_bytes(await hub.world.token())
        await attempts(again)
        assert restored.state.current != backup.current
        assert again.tunnel.identity.credential_id != agent.tunnel.identity.credential_id
