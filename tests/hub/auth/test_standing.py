"""What a session rests on, looked up by state: whatever edge was missed, the sweep ends it."""

from __future__ import annotations

from hub.auth.agentkeys import AgentKeyIndex, PublicKey
from hub.auth.agents import AgentIdentity, AgentTokenIndex, Challenge
from hub.auth.nodes import DENIAL_KIND
from hub.auth.rotation import ProvenSession
from hub.auth.standing import TOKEN_GRACE_S, Registrants, Standing
from hub.store.model import Event, Key, Resource
from proto.errors import Code
from tests.hub.auth.issuing import Cluster
from tests.hub.auth.records import agent_key, agent_token, made
from tests.hub.auth.test_nodes import World

OLD, NEW = b"o" * 32, b"n" * 32


class Scene:
    def __init__(self) -> None:
        self.nodes = World("ES256")
        self.clock, self.names = self.nodes.clock, self.nodes.names
        self.tokens, self.keys = AgentTokenIndex(), AgentKeyIndex()
        self.standing = Standing(self.names, self.tokens, self.keys, self.nodes.tokens, self.clock)

    def fault(self, proven: ProvenSession) -> Code | None:
        found = self.standing.fault(proven)
        return None if found is None else found.code


def session(credential: str, key: bytes = b"") -> ProvenSession:
    return of(AgentIdentity("uid-a", "a", credential, "cluster", key))


def of(identity: AgentIdentity) -> ProvenSession:
    challenge = Challenge("hub-1", b"n" * 32, "x")
    return ProvenSession(identity, challenge, b"i" * 16, 1, identity.key, identity.expires_at, identity.rests_on)


def test_a_session_of_an_old_key_ends_though_no_edge_was_seen() -> None:
    """The hub was asleep, or its clock jumped, when the grace ended; or the session came in that very moment."""
    scene = Scene()
    now = scene.clock.now
    scene.keys.apply(made(agent_key("k", OLD, keys=(PublicKey(OLD, 1.0, now + 50), PublicKey(NEW, now)))))
    old, new = session("k", OLD), session("k", NEW)
    assert (scene.fault(old), scene.fault(new)) == (None, None)
    scene.clock.now += 86_400
    assert (scene.fault(old), scene.fault(new)) == (Code.CLOSED, None)
    old.key = NEW  # proven on the session that began with the old one
    assert scene.fault(old) is None
    scene.keys.apply(made(agent_key("k", NEW, revoked_at=now)))
    assert scene.fault(new) is Code.REVOKED
    scene.keys.reset([])
    assert scene.fault(new) is Code.REVOKED


def test_agent_tokens_and_clusters() -> None:
    scene = Scene()
    proven = session("g")
    assert scene.fault(proven) is Code.REVOKED
    scene.tokens.apply(made(agent_token("g", expires_at=scene.clock.now + 10)))
    assert scene.fault(proven) is None
    scene.clock.now += 10
    assert scene.fault(proven) is Code.REVOKED
    scene.tokens.apply(made(agent_token("g")))
    assert scene.fault(proven) is None
    scene.names.names.pop("uid-a")
    assert scene.fault(proven) is Code.REVOKED


def test_a_node_agents_session_rests_on_its_token_and_on_who_vouches_for_it() -> None:
    scene = Scene()
    proven = of(scene.nodes.show(scene.nodes.token()))
    assert scene.fault(proven) is None
    scene.nodes.register(Cluster("uid-a", "ES256"))  # the signing key is no longer among the registered ones
    assert scene.fault(proven) is Code.UNAUTHENTICATED
    scene.nodes.register(scene.nodes.a, fallback=proven.identity.subject)  # other rights
    assert scene.fault(proven) is Code.CLOSED
    scene.nodes.register(scene.nodes.a)
    scene.nodes.revoked.add("agent")
    assert scene.fault(proven) is Code.UNAUTHENTICATED
    scene.nodes.revoked.clear()
    scene.nodes.denials.apply(Event(Resource(Key(DENIAL_KIND, "uid-a", "node-1"), {"deniedAt": 1.0}), False))
    assert scene.fault(proven) is Code.REVOKED
    scene.nodes.denials.reset([])
    assert proven.expires_at is not None
    scene.clock.now = proven.expires_at + TOKEN_GRACE_S
    assert scene.fault(proven) is None
    scene.clock.now += 0.1
    assert scene.fault(proven) is Code.UNAUTHENTICATED


def test_who_may_speak_for_a_cluster() -> None:
    scene = Scene()
    registrants = Registrants(scene.tokens, scene.keys, scene.clock)
    scene.keys.apply(made(agent_key("k")))
    scene.tokens.apply(made(agent_token("g", expires_at=scene.clock.now + 1)))
    for who in ("k", "g"):
        assert registrants.is_live("uid-a", who)
        assert not registrants.is_live("uid-b", who)
    assert not registrants.is_live("uid-a", "nobody")
    scene.clock.now += 1
    scene.keys.apply(made(agent_key("k", revoked_at=1.0)))
    assert not registrants.is_live("uid-a", "g")
    assert not registrants.is_live("uid-a", "k")
