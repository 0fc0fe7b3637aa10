"""What an agent with a key shows, and what it makes of the hub's answers; the hub's own schemes judge it."""

import asyncio

import pytest

from agent.keys import Kept, KeyConflict, KeyPair, KeyState, KeyUnusable
from agent.uplink import enrolment as module
from agent.uplink.credentials import Claims
from agent.uplink.diagnose import ConnectFailed
from agent.uplink.enrolment import Enrolment
from agent.uplink.keyring import Keyring
from agent.uplink.rotation import KeyRotation
from proto import codec, credentials, limits
from proto.aio.tasks import TaskGroup
from proto.errors import Code
from proto.messages import Bounds, HubHello, JoinProof, SignatureProof, Welcome

PIN = "sha256:" + "a" * 64
HELLO = HubHello(hub_id="hub-1", nonce=b"n" * 32, versions=(1, 1), limits=limits.Limits().offer())
CLAIMS = Claims("cluster", b"i" * 16, 1, (PIN,))
BOUNDS = Bounds(data=1, streams=1, backlog=1, window=1, session_window=1)
WELCOME = Welcome(session_id="s", version=1, limits=BOUNDS, cluster="a", ext={"cluster_uid": "uid-a"})
TOKEN = b"riatajoin_abcdefghij_" + b"0" * 64


class Store:
    """A key store in memory, shared by replicas. `fail` is raised by the next calls."""

    place = "the store"

    def __init__(self):
        self.state = None
        self.version = 0
        self.fail = None
        self.saves = 0

    async def load(self):
        if self.fail:
            raise self.fail
        return Kept(self.state, str(self.version))

    async def save(self, state, version):
        if self.fail:
            raise self.fail
        if version != str(self.version):
            raise KeyConflict("changed")
        self.state, self.version, self.saves = state, self.version + 1, self.saves + 1
        return Kept(state, str(self.version))


class Agent:
    def __init__(self, tmp_path, store=None, token=TOKEN):
        self.store, self.file = store or Store(), tmp_path / "join"
        if token:
            self.file.write_bytes(token + b"\n")
        ring = Keyring(self.store, lambda: 1000.0)
        self.enrolment = Enrolment(ring, self.file, KeyRotation(ring))

    async def show(self):
        """(scheme, key, proof) of the next attempt."""
        await self.enrolment.prepare()
        credential = self.enrolment.present(HELLO, CLAIMS)
        proof = codec.decode(JoinProof if credential.scheme == "join" else SignatureProof, credential.value)
        return credential.scheme, proof.key, proof


async def test_the_key_is_kept_before_anybody_hears_of_it(tmp_path):
    agent = Agent(tmp_path)
    await agent.enrolment.prepare()
    assert agent.store.saves == 1
    scheme, key, proof = await agent.show()
    assert (scheme, key, proof.token) == ("join", credentials.public_key(agent.store.state.current.seed), TOKEN)
    assert agent.store.state.cluster_uid == ""
    await agent.enrolment.welcomed(WELCOME)
    assert agent.store.state.cluster_uid == "uid-a"
    scheme, key_again, proof = await agent.show()
    assert (scheme, key_again, proof.cluster) == ("signature", key, "uid-a")


async def test_a_crash_at_any_point_is_the_same_join(tmp_path):
    """After the key was kept, after the hub committed, after WELCOME was read and not written down."""
    store = Store()
    keys = set()
    for _ in range(4):
        scheme, key, _ = await Agent(tmp_path, store).show()
        keys.add((scheme, key))
    assert len(keys) == 1


async def test_a_second_replica_takes_the_first_ones_key(tmp_path):
    store = Store()
    one, other = Agent(tmp_path, store), Agent(tmp_path, store)
    load = store.load

    async def load_late():  # both saw nothing before either had saved
        store.load = load
        return Kept(None, "0")

    await one.enrolment.prepare()
    store.load = load_late
    assert (await other.show())[1] == (await one.show())[1]
    assert store.saves == 1


async def test_without_token_and_without_a_known_key_it_says_so(tmp_path):
    agent = Agent(tmp_path, token=b"")
    with pytest.raises(ConnectFailed, match="no join token") as caught:
        await agent.show()
    assert caught.value.diagnosis.is_slow
    assert agent.enrolment.mark() is None
    agent.file.write_bytes(TOKEN)
    assert agent.enrolment.mark() is not None
    assert (await agent.show())[0] == "join"


async def test_a_refused_key_tries_the_token_once_and_then_waits(tmp_path):
    """The cluster was deleted and made anew, and its new manifest brought a new token."""
    agent = Agent(tmp_path)
    agent.store.state = KeyState(KeyPair(b"k" * 32, 1.0), "uid-old")
    assert (await agent.show())[0] == "signature"
    assert agent.enrolment.refused(Code.UNAUTHENTICATED)
    assert (await agent.show())[0] == "join"
    assert not agent.enrolment.refused(Code.UNAUTHENTICATED)
    assert (await agent.show())[0] == "signature"  # after the long wait, from the start
    assert agent.enrolment.refused(Code.UNAUTHENTICATED)
    agent.file.write_bytes(TOKEN.replace(b"0", b"1"))
    assert (await agent.show())[0] == "join"
    await agent.enrolment.welcomed(WELCOME)
    assert agent.store.state == KeyState(KeyPair(b"k" * 32, 1.0), "uid-a")


@pytest.mark.parametrize("code", [Code.OVERLOADED, Code.VERSION, Code.CLOSED, Code.SUPERSEDED])
async def test_other_refusals_say_nothing_about_the_key(tmp_path, code):
    agent = Agent(tmp_path)
    first = await agent.show()
    assert not agent.enrolment.refused(code)
    assert (await agent.show())[:2] == first[:2]


async def test_a_revoked_agent_joins_with_a_new_token_and_a_new_key(tmp_path):
    agent = Agent(tmp_path)
    _, old, _ = await agent.show()
    await agent.enrolment.welcomed(WELCOME)
    await agent.show()
    agent.enrolment.refused(Code.REVOKED)
    scheme, new, _ = await agent.show()
    assert scheme == "join"  # the token in the file was good once; whether it still is, the hub says
    assert new != old
    assert agent.store.state.cluster_uid == ""
    assert not agent.enrolment.refused(Code.UNAUTHENTICATED)


async def test_a_revoked_agent_without_a_token_keeps_still(tmp_path):
    agent = Agent(tmp_path, token=b"")
    agent.store.state = KeyState(KeyPair(b"k" * 32, 1.0), "uid-a")
    _, key, _ = await agent.show()
    assert not agent.enrolment.refused(Code.REVOKED)
    assert (await agent.show())[1] == key
    assert agent.store.saves == 0


async def test_replicas_of_a_revoked_agent_agree_on_one_new_key(tmp_path):
    store = Store()
    agents = [Agent(tmp_path, store) for _ in range(3)]
    for agent in agents:
        await agent.show()
        await agent.enrolment.welcomed(WELCOME)
        await agent.show()
        agent.enrolment.refused(Code.REVOKED)
    assert len({(await agent.show())[1] for agent in agents}) == 1


async def test_the_next_key_is_tried_when_the_current_one_is_dead(tmp_path):
    """A rotation that the hub finished, and we crashed before we heard of it."""
    agent = Agent(tmp_path, token=b"")
    current, following = KeyPair(b"k" * 32, 1.0), KeyPair(b"n" * 32, 2.0)
    agent.store.state = KeyState(current, "uid-a", following)
    assert (await agent.show())[1] == credentials.public_key(current.seed)
    assert agent.enrolment.refused(Code.UNAUTHENTICATED)
    assert (await agent.show())[1] == credentials.public_key(following.seed)
    await agent.enrolment.welcomed(WELCOME)
    assert agent.store.state == KeyState(following, "uid-a")


async def test_a_store_that_fails_later_is_no_reason_to_stop(tmp_path, caplog):
    agent = Agent(tmp_path)
    await agent.show()
    agent.store.fail = KeyUnusable("the API server is down")
    await agent.enrolment.welcomed(WELCOME)
    assert "cannot be kept" in caplog.text
    assert (await agent.show())[0] == "signature"


async def test_a_place_that_was_emptied_gets_the_key_back(tmp_path):
    """`kubectl replace` of the manifest: the Secret is as it was shipped, and the join token was used up long ago."""
    agent = Agent(tmp_path, token=b"")
    agent.store.state = known = KeyState(KeyPair(b"k" * 32, 1.0), "uid-a")
    _, key, _ = await agent.show()
    agent.store.state = None
    assert (await agent.show())[:2] == ("signature", key)
    assert agent.store.state == known


async def test_a_place_that_was_emptied_for_another_join_gets_a_new_key(tmp_path):
    agent = Agent(tmp_path)
    agent.store.state = KeyState(KeyPair(b"k" * 32, 1.0), "uid-old")
    _, key, _ = await agent.show()
    agent.store.state = None
    scheme, new, _ = await agent.show()
    assert scheme == "join"
    assert new != key


async def taken(tmp_path, store=None, token=TOKEN):
    """An agent that the hub has taken, and its key."""
    agent = Agent(tmp_path, store, token)
    if not token:
        agent.store.state = KeyState(KeyPair(b"k" * 32, 1.0), "uid-a")
    _, key, _ = await agent.show()
    await agent.enrolment.welcomed(WELCOME)
    return agent, key


async def test_a_place_that_was_emptied_beside_a_used_token_gets_the_key_back(tmp_path):
    """The new key is nobody's: the token in the file was this agent's own, long ago."""
    agent, key = await taken(tmp_path)
    known, agent.store.state = agent.store.state, None
    scheme, new, _ = await agent.show()
    assert (scheme, new == key) == ("join", False)
    assert agent.enrolment.refused(Code.UNAUTHENTICATED)
    scheme, shown, proof = await agent.show()
    assert (scheme, shown, proof.cluster) == ("signature", key, "uid-a")
    await agent.enrolment.welcomed(WELCOME)
    assert agent.store.state == known


async def test_replicas_put_one_key_back(tmp_path):
    store = Store()
    agents = [(await taken(tmp_path, store))[0] for _ in range(2)]
    known, store.state = store.state, None
    for agent in agents:
        if (await agent.show())[0] == "join":
            assert agent.enrolment.refused(Code.UNAUTHENTICATED)
            await agent.show()
        await agent.enrolment.welcomed(WELCOME)
        assert store.state == known


OTHER = KeyPair(b"o" * 32, 0.5)
OURS = KeyPair(b"k" * 32, 1.0)


@pytest.mark.parametrize(
    "older",
    [KeyState(OTHER, "uid-a"), KeyState(OTHER, "uid-a", OURS), KeyState(OURS), KeyState(OURS, "uid-b")],
    ids=["another key", "before a rotation was over", "before the join was written down", "of another cluster"],
)
async def test_a_place_that_was_put_back_to_an_older_state_gets_the_key_back(tmp_path, older):
    """A restored etcd, or a restored Secret."""
    agent, key = await taken(tmp_path, token=b"")
    known, agent.store.state = agent.store.state, older
    scheme, shown, proof = await agent.show()
    if (shown, proof.cluster) != (key, "uid-a"):
        assert agent.enrolment.refused(Code.UNAUTHENTICATED)
        scheme, shown, proof = await agent.show()
    assert (scheme, shown, proof.cluster) == ("signature", key, "uid-a")
    await agent.enrolment.welcomed(WELCOME)
    assert agent.store.state == known


async def test_a_key_that_cannot_be_put_back_at_once_is_put_back_later(tmp_path):
    """The API server is being restored: it answers reads, or nothing, and takes no writes yet."""
    agent, key = await taken(tmp_path, token=b"")
    known, agent.store.state = agent.store.state, KeyState(OTHER, "uid-a")
    await agent.show()
    agent.enrolment.refused(Code.UNAUTHENTICATED)
    await agent.show()
    for is_read in (False, True):
        agent.store.fail = KeyUnusable("the API server is being restored")
        await agent.enrolment.welcomed(WELCOME)
        agent.store.fail = None if is_read else agent.store.fail
        assert (await agent.show())[1] == key
    await agent.enrolment.welcomed(WELCOME)
    assert agent.store.state == known


async def test_a_younger_key_that_was_enrolled_does_not_give_way(tmp_path):
    """A replica has moved on, and what the hub refused was our clock."""
    agent, key = await taken(tmp_path, token=b"")
    moved = agent.store.state = KeyState(KeyPair(b"n" * 32, 2000.0), "uid-b")
    await agent.show()
    agent.enrolment.refused(Code.UNAUTHENTICATED)
    assert (await agent.show())[1] == key
    await agent.enrolment.welcomed(WELCOME)
    assert agent.store.state == moved


async def test_an_older_key_that_was_revoked_is_not_the_end_of_the_one_behind_it(tmp_path):
    agent, key = await taken(tmp_path, token=b"")
    agent.store.state = KeyState(OTHER, "uid-a")
    await agent.show()
    assert agent.enrolment.refused(Code.REVOKED)
    assert (await agent.show())[:2] == ("signature", key)


async def test_a_key_that_was_revoked_is_not_shown_from_memory(tmp_path):
    agent, _ = await taken(tmp_path, token=b"")
    await agent.show()
    assert not agent.enrolment.refused(Code.REVOKED)
    agent.store.state = KeyState(OTHER, "uid-a")
    assert (await agent.show())[1] == credentials.public_key(OTHER.seed)
    assert not agent.enrolment.refused(Code.UNAUTHENTICATED)


async def test_whoever_empties_the_place_and_brings_a_fresh_token_joins_elsewhere(tmp_path):
    agent, key = await taken(tmp_path)
    agent.store.state = None
    agent.file.write_bytes(TOKEN.replace(b"0", b"1"))
    scheme, new, _ = await agent.show()
    assert (scheme, new == key) == ("join", False)
    await agent.enrolment.welcomed(Welcome(session_id="s", version=1, limits=BOUNDS, ext={"cluster_uid": "uid-b"}))
    assert agent.store.state.cluster_uid == "uid-b"
    agent.file.unlink()
    scheme, shown, proof = await agent.show()
    assert (scheme, shown, proof.cluster) == ("signature", new, "uid-b")
    assert not agent.enrolment.refused(Code.UNAUTHENTICATED), "the cluster that it has left is forgotten"


async def test_what_a_replica_has_put_in_the_place_meanwhile_stays(tmp_path):
    agent, key = await taken(tmp_path, token=b"")
    agent.store.state = KeyState(OTHER, "uid-a")
    await agent.show()
    agent.enrolment.refused(Code.UNAUTHENTICATED)
    assert (await agent.show())[1] == key
    newer = KeyState(KeyPair(b"n" * 32, 9.0), "uid-a")
    await agent.store.save(newer, str(agent.store.version))
    await agent.enrolment.welcomed(WELCOME)
    assert agent.store.state == newer


async def never(*_):
    await asyncio.Event().wait()


async def test_a_store_that_hangs_does_not_keep_the_session_from_opening(tmp_path, monkeypatch, caplog):
    """The way to the API server went between the look at the key and the hub's WELCOME."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    agent = Agent(tmp_path)
    await agent.show()
    monkeypatch.setattr(agent.store, "load", never)
    async with asyncio.timeout(5):
        await agent.enrolment.welcomed(WELCOME)
    assert "cannot be kept" in caplog.text
    assert (await agent.show())[0] == "signature"


async def not_kept(tmp_path, monkeypatch):
    """Taken by the hub, while there is no way to the API server; what cannot be kept is tried again at once."""
    monkeypatch.setattr(module, "KEEP_INTERVAL_S", 0.0)
    agent = Agent(tmp_path)
    await agent.show()
    agent.store.fail = KeyUnusable("the API server is down")
    await agent.enrolment.welcomed(WELCOME)
    return agent


async def test_what_could_not_be_kept_is_kept_later(tmp_path, monkeypatch):
    """The operator takes the join token away, since the agent has joined."""
    agent = await not_kept(tmp_path, monkeypatch)
    agent.file.unlink()
    assert (await agent.show())[0] == "signature"
    await agent.enrolment.welcomed(WELCOME)
    agent.store.fail = None
    assert (await agent.show())[0] == "signature", "what is known counts, not what is kept"
    async with TaskGroup("test") as group:
        group.spawn(agent.enrolment.tend(None, None), name="tend")
        for _ in range(10):
            await asyncio.sleep(0)
    assert agent.store.state.cluster_uid == "uid-a"
    assert (await Agent(tmp_path, agent.store, token=b"").show())[0] == "signature"


async def test_two_sessions_that_keep_it_at_once_are_not_in_each_others_way(tmp_path, monkeypatch):
    """One drains while its replacement is open: what one of them has kept is nothing to keep for the other."""
    agent = await not_kept(tmp_path, monkeypatch)
    agent.store.fail = None
    async with TaskGroup("test") as group:
        tends = [group.spawn(agent.enrolment.tend(None, None), name=f"tend-{number}") for number in range(2)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert [tend.done() and tend.exception() for tend in tends] == [False, False]
    assert agent.store.state.cluster_uid == "uid-a"


async def test_nobody_waits_for_a_second_look(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    agent = Agent(tmp_path)
    first = await agent.show()
    agent.store.load = never
    assert (await agent.show())[:2] == first[:2]


async def test_a_store_that_fails_at_first_is_explained(tmp_path):
    agent = Agent(tmp_path)
    agent.store.fail = KeyUnusable("the API server is down")
    with pytest.raises(ConnectFailed, match="API server is down"):
        await agent.enrolment.prepare()


@pytest.mark.parametrize(
    "failure", [KeyUnusable("the API server is down", may_pass=True), KeyConflict("changed by others all the time")]
)
async def test_what_passes_by_itself_is_tried_again_soon_and_asks_for_no_join_token(tmp_path, failure):
    """A node that has just booted: its agent is there before the way to the API server is."""
    agent = Agent(tmp_path)
    agent.store.fail = failure
    with pytest.raises(ConnectFailed) as caught:
        await agent.enrolment.prepare()
    assert not caught.value.diagnosis.is_slow
    assert "join token" not in str(caught.value)


async def test_what_is_signed_is_this_session(tmp_path):
    agent = Agent(tmp_path)
    _, _, proof = await agent.show()
    assert (proof.pins, proof.signed_at) == ((PIN,), 1_000_000)
    assert TOKEN.decode() not in repr(proof)


async def test_a_welcome_without_a_uid_changes_nothing(tmp_path):
    agent = Agent(tmp_path)
    await agent.show()
    await agent.enrolment.welcomed(Welcome(session_id="s", version=1, limits=BOUNDS, ext={"cluster_uid": 7}))
    assert agent.store.state.cluster_uid == ""
