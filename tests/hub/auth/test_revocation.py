"""What is taken back is cut at once: by deletion, by replacement, by time."""

from __future__ import annotations

from hub.auth.agentkeys import AgentKeyIndex
from hub.auth.agents import AgentTokenIndex
from hub.auth.grants import GrantIndex
from hub.auth.issuers import IssuerIndex
from hub.auth.revocation import Revocation
from hub.auth.rotation import ProvenSession
from hub.auth.standing import Fault
from hub.auth.tokens import TokenIndex
from hub.store.model import Event, Key, Resource
from proto.errors import Code
from tests.hub.auth.issuing import ISSUER, SUBJECT, Cluster
from tests.hub.auth.records import agent_key, agent_token, gone, grant, made, token
from tests.hub.store.conformance import SettableClock


def fault(proven: ProvenSession) -> Fault | None:
    """Nobody is asked here."""
    return None


class World:
    """Notes every cut as (what, whom)."""

    def __init__(self) -> None:
        self.cuts: list[tuple[str, str]] = []
        self.clock = SettableClock()
        self.tokens, self.grants, self.agent_tokens = TokenIndex(), GrantIndex(), AgentTokenIndex()
        self.agent_keys, self.issuers = AgentKeyIndex(), IssuerIndex()
        self.revocation = Revocation(
            tokens=self.tokens,
            grants=self.grants,
            agent_tokens=self.agent_tokens,
            agent_keys=self.agent_keys,
            issuers=self.issuers,
            fault=fault,
            sessions=Sessions(self.cuts),
            exchanges=Exchanges(self.cuts),
            clock=self.clock,
        )


class Sessions:
    def __init__(self, cuts: list[tuple[str, str]]) -> None:
        self.cuts = cuts

    def cut(self, *, cluster_uid: str | None = None, credential_id: str | None = None, code: Code) -> None:
        assert code is Code.REVOKED
        self.cuts.append(("sessions", cluster_uid or credential_id or ""))

    def cut_faulty(self, found: object, *, cluster_uid: str | None = None) -> None:
        assert found is fault
        self.cuts.append(("faulty", cluster_uid or "all"))


class Exchanges:
    def __init__(self, cuts: list[tuple[str, str]]) -> None:
        self.cuts = cuts

    def cut(self, *, token_id: str | None = None, cluster_uid: str | None = None) -> None:
        self.cuts.append(("exchanges", token_id or cluster_uid or ""))

    def recheck(self, cluster_uid: str) -> None:
        self.cuts.append(("recheck", cluster_uid))


def test_revoked_credentials_are_cut() -> None:
    world = World()
    world.tokens.apply(made(token("t")))
    world.agent_tokens.apply(made(agent_token("g")))
    world.agent_keys.apply(made(agent_key("k")))
    world.grants.apply(made(grant("x")))
    assert world.cuts == []
    world.tokens.apply(gone(token("t")))
    world.agent_tokens.apply(gone(agent_token("g")))
    world.agent_keys.apply(made(agent_key("k", revoked_at=2.0)))
    world.grants.apply(gone(grant("x")))
    assert world.cuts == [("exchanges", "t"), ("sessions", "g"), ("sessions", "k"), ("recheck", "*")]
    world.grants.apply(made(grant("y", cluster_uid="uid-a")))
    world.grants.apply(gone(grant("y", cluster_uid="uid-a")))
    assert world.cuts[4:] == [("recheck", "uid-a")]


def test_a_deleted_cluster_is_cut_on_both_sides() -> None:
    world = World()
    world.revocation.cluster_gone("uid-a")
    assert world.cuts == [("exchanges", "uid-a"), ("sessions", "uid-a")]


def test_expired_credentials_are_cut_once() -> None:
    world = World()
    now = world.clock.now
    world.tokens.apply(made(token("soon", expires_at=now + 3)))
    world.tokens.apply(made(token("late", expires_at=now + 30)))
    world.tokens.apply(made(token("never")))
    world.tokens.apply(made(token("long-ago", expires_at=now - 30)))
    world.revocation.cut_expired()
    assert world.cuts == [("faulty", "all")]
    world.clock.now += 5
    world.revocation.cut_expired()
    world.revocation.cut_expired()
    assert world.cuts[1:] == [("exchanges", "soon"), ("faulty", "all"), ("faulty", "all")]


def test_with_an_agent_go_the_node_sessions_that_rest_on_its_word() -> None:
    world = World()
    spec = {"issuer": ISSUER, "jwks": Cluster("u", "ES256").jwks(), "subjects": [SUBJECT], "registeredAt": 1.0}
    for cluster, by in (("uid-a", "k"), ("uid-b", "other")):
        world.issuers.apply(Event(Resource(Key("token-issuer", cluster, by), spec), False))
    assert world.cuts == [("faulty", "uid-a"), ("faulty", "uid-b")]  # another issuer, another look
    world.agent_keys.apply(made(agent_key("k")))
    world.agent_keys.apply(made(agent_key("k", revoked_at=2.0)))
    assert world.cuts[2:] == [("sessions", "k"), ("faulty", "uid-a")]
