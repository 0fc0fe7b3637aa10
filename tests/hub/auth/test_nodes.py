"""Node agents: a token of the right cluster, for this hub, of the right account, bound, short-lived; or nobody."""

from __future__ import annotations

import base64
import dataclasses
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from hub.auth.agents import AgentIdentity, Challenge, CredentialRefused
from hub.auth.issuers import KIND as ISSUER_KIND
from hub.auth.issuers import IssuerIndex, proof
from hub.auth.nodes import DENIAL_KIND, DenialIndex, Denials, NodeTokens, NodeTokenScheme
from hub.auth.pods import PodIndex
from hub.store.index import Follower
from hub.store.model import Event, Key, Resource
from hub.store.sqlite import SqliteStore
from proto.errors import Code
from proto.limits import Limits
from proto.messages import AgentAuth, Credential
from tests.hub.auth.enrolling import Names
from tests.hub.auth.issuing import HUB_ID, ISSUER, SUBJECT, Cluster
from tests.hub.store.conformance import SettableClock

KUBERNETES = {"namespace": "riata-system", "pod": {"name": "p", "uid": "pod-1"}, "node": {"name": "node-1"}}


class World:
    def __init__(self, kind: str = "RS256") -> None:
        self.clock, self.names = SettableClock(), Names()
        self.issuers, self.denials, self.pods = IssuerIndex(), DenialIndex(), PodIndex()
        self.a, self.b = Cluster("uid-a", kind), Cluster("uid-b", kind)
        self.revoked: set[str] = set()
        self.revision = 0
        self.tokens = NodeTokens(
            self.issuers, self.denials, self.pods, self.names, lambda uid, who: who not in self.revoked, self.clock
        )
        for cluster in (self.a, self.b):
            self.register(cluster)

    def register(self, cluster: Cluster, by: str = "agent", **changes: object) -> None:
        spec = {
            "issuer": ISSUER, "jwks": cluster.jwks(), "subjects": [SUBJECT, f"{SUBJECT}-fallback"],
            "registeredAt": self.clock.now, **changes,
        }  # fmt: skip
        self.revision += 1
        at = Key(ISSUER_KIND, cluster.uid, by)
        self.issuers.apply(Event(Resource(at, spec, revision=self.revision), False))

    def show(self, token: bytes) -> AgentIdentity:
        return self.tokens.identity(token, HUB_ID)

    def refusal(self, token: bytes) -> CredentialRefused:
        with pytest.raises(CredentialRefused) as caught:
            self.show(token)
        return caught.value

    def token(self, **changes: Any) -> bytes:
        return self.a.token(self.clock.now, **changes)


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
def test_a_good_token_names_cluster_and_node(kind: str) -> None:
    world = World(kind)
    assert world.show(world.token()) == AgentIdentity(
        "uid-a", "a", "a:node-1", "node", node="node-1", pod="pod-1", expires_at=world.clock.now + 600,
        subject=SUBJECT, rests_on=proof(ISSUER, world.a.keys[0], SUBJECT),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("registered", "subject", "is_fallback"),
    [
        ({"fallback": f"{SUBJECT}-fallback"}, f"{SUBJECT}-fallback", True),
        ({"fallback": f"{SUBJECT}-fallback"}, SUBJECT, False),
        ({}, f"{SUBJECT}-fallback", False),  # by a cluster agent that does not know of it
        ({"fallback": ""}, f"{SUBJECT}-fallback", False),
        ({"fallback": "system:serviceaccount:x:y"}, f"{SUBJECT}-fallback", False),
    ],
)
def test_only_the_registered_fallback_may_serve(registered: dict[str, str], subject: str, is_fallback: bool) -> None:
    world = World()
    world.register(world.a, **registered)
    identity = world.show(world.token(sub=subject))
    assert (identity.subject, identity.is_fallback) == (subject, is_fallback)
    assert world.tokens.still_holds(identity)
    world.register(world.a, fallback="" if is_fallback else subject)  # its rights change either way …
    assert not world.tokens.still_holds(identity)
    world.register(world.a, subjects=["system:serviceaccount:x:y"])  # … or end
    assert not world.tokens.vouches("uid-a", identity.rests_on)


def test_a_fallback_that_is_no_text_lets_nobody_in() -> None:
    world = World()
    world.register(world.a, fallback=7)
    assert "not registered" in str(world.refusal(world.token(sub=f"{SUBJECT}-fallback")))


def test_a_rotation_of_the_clusters_keys() -> None:
    world = World()
    old = world.token()
    world.a.rotate()
    assert world.refusal(world.token()).code is Code.UNAUTHENTICATED
    world.register(world.a)
    one, other = world.show(world.token()), world.show(old)
    assert dataclasses.replace(one, rests_on="") == dataclasses.replace(other, rests_on="")
    assert world.tokens.vouches("uid-a", one.rests_on)
    assert world.tokens.vouches("uid-a", other.rests_on)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aud": ["https://kubernetes.default.svc"]}, "another hub"),
        ({"aud": ["riata:hub-2:uid-a"]}, "another hub"),
        ({"aud": ["riata:hub-1:uid-a", "https://kubernetes.default.svc"]}, None),
        ({"aud": []}, None),
        ({"aud": None}, None),
        ({"aud": "riata:hub-1:uid-a"}, None),
        ({"aud": [7]}, None),
        ({"aud": ["riata:hub-1:uid-c"]}, None),
        ({"iss": "https://evil.test"}, None),
        ({"iss": None}, None),
        ({"sub": "system:serviceaccount:default:default"}, "ServiceAccount is not one"),
        ({"sub": None}, "ServiceAccount is not one"),
        ({"exp": 1_000_000}, "expired at"),
        ({"exp": None}, None),
        ({"exp": float("nan")}, None),
        ({"exp": 9e12, "iat": float("nan")}, None),
        ({"exp": 10**400}, None),
        ({"exp": -1e300}, None),
        ({"exp": float("inf")}, None),
        ({"iat": 1_000_700, "nbf": 1_000_000, "exp": 1_000_600}, None),
        ({"sub": ["a"]}, "ServiceAccount is not one"),
        ({"exp": "soon"}, None),
        ({"exp": True}, None),
        ({"iat": None}, None),
        ({"iat": 1_000_061, "nbf": 1_000_061}, "not valid yet"),
        ({"nbf": 1_000_100}, "not valid yet"),
        ({"exp": 1_003_600}, "expirationSeconds to 600"),
        ({"kubernetes.io": None}, "not bound to a pod"),
        ({"kubernetes.io": {**KUBERNETES, "pod": None}}, "not bound to a pod"),
        ({"kubernetes.io": {**KUBERNETES, "pod": {"uid": 7}}}, "not bound to a pod"),
        ({"kubernetes.io": {**KUBERNETES, "node": None}}, "1.32"),
        ({"kubernetes.io": {**KUBERNETES, "node": {"name": "../x"}}}, "1.32"),
    ],
)
def test_everything_else_is_refused(changes: dict[str, object], said: str | None) -> None:
    world = World()
    refused = world.refusal(world.token(**changes))
    assert said is None or said in refused.message


def test_a_cluster_proves_its_own_nodes_only() -> None:
    """F1, F2: whatever a compromised cluster signs or registers, it stays a node of that cluster."""
    world = World()
    world.refusal(world.b.token(world.clock.now, aud=["riata:hub-1:uid-a"]))
    world.refusal(world.a.token(world.clock.now, key=world.b.keys[0], header={"kid": world.a.keys[0].kid}))
    world.register(world.b, jwks=world.a.jwks())
    assert world.show(world.b.token(world.clock.now, key=world.a.keys[0], header={"kid": world.a.keys[0].kid})
                      ).cluster_uid == "uid-b"  # fmt: skip
    assert world.show(world.token()).cluster_uid == "uid-a"


def test_no_algorithm_but_the_listed_ones() -> None:
    world = World()
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=")
    payload = base64.urlsafe_b64encode(json.dumps(world.a.claims(world.clock.now)).encode()).rstrip(b"=")
    world.refusal(header + b"." + payload + b".")
    world.refusal(header + b"." + payload + b".AA")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": world.a.keys[0].kid}).encode()).rstrip(b"=")
    for secret in (world.a.keys[0].as_pem(private=False), world.a.jwks().encode()):
        mac = hmac.digest(secret, header + b"." + payload, "sha256")
        world.refusal(header + b"." + payload + b"." + base64.urlsafe_b64encode(mac).rstrip(b"="))
    stranger = RSAKey.generate_key(2048, parameters={"kid": world.a.keys[0].kid})
    world.refusal(world.token(key=stranger))


@pytest.mark.parametrize("token", [b"", b"a.b", b"a.b.c", b"." * 5, b"\xff.\xff.\xff", b"x" * 20_000, b"e30.e30.e30"])
def test_nonsense_is_refused(token: bytes) -> None:
    assert World().refusal(token).message == "the agent's credential is not valid for any cluster"


def test_a_header_that_is_nested_too_deeply_is_refused() -> None:
    world = World()
    _, claims, signature = world.token().split(b".")
    deep = base64.urlsafe_b64encode(b"[" * 10_500).rstrip(b"=")
    world.refusal(b".".join((deep, claims, signature)))


def test_before_the_issuer_is_registered_and_after_the_cluster_is_gone() -> None:
    world = World()
    world.issuers.reset([])
    assert "not registered" in world.refusal(world.token()).message
    world.names.names.clear()
    world.refusal(world.token())


async def test_a_denied_node_until_it_is_readmitted(tmp_path: Path) -> None:
    world = World()
    store = await SqliteStore.open(tmp_path / "hub.db", clock=world.clock)
    denials, cut = Denials(store, world.clock), []
    world.denials.on_denied = lambda uid, node: cut.append((uid, node))
    follower = Follower(store, [world.denials])
    first = await denials.deny("uid-a", "node-1", by="admin")
    assert await denials.deny("uid-a", "node-1", by="other") == first
    await follower.load()
    assert cut == [("uid-a", "node-1")]
    refused = world.refusal(world.token())
    assert (refused.code, "revoked at 1970-01-12" in refused.message) == (Code.REVOKED, True)
    other = {**KUBERNETES, "node": {"name": "node-2"}}
    assert world.show(world.token(**{"kubernetes.io": other})).node == "node-2"
    assert world.show(world.b.token(world.clock.now)).node == "node-1"
    assert world.denials.of_cluster("uid-a") == {"node-1": world.clock.now}
    assert await denials.allow("uid-a", "node-1") is not None
    assert await denials.allow("uid-a", "node-1") is None
    await follower.load()
    assert world.show(world.token()).node == "node-1"
    await store.close()


def test_before_kubernetes_1_32_the_registered_map_names_the_node() -> None:
    world = World()
    old = {"namespace": "riata-system", "pod": {"name": "p", "uid": "pod-1"}}
    assert "not told" in world.refusal(world.token(**{"kubernetes.io": old})).message
    spec = {"pods": {"pod-1": "node-9"}}
    world.pods.apply(Event(Resource(Key("node-pods", "uid-b", "agent.0"), spec), False))
    world.refusal(world.token(**{"kubernetes.io": old}))  # another cluster's map
    world.pods.apply(Event(Resource(Key("node-pods", "uid-a", "agent.0"), spec), False))
    assert world.show(world.token(**{"kubernetes.io": old})).node == "node-9"
    assert world.show(world.token()).node == "node-1"  # what the token says goes first


def test_a_denial_that_cannot_be_read_denies() -> None:
    world = World()
    event = Event(Resource(Key(DENIAL_KIND, "uid-a", "node-1"), {"deniedAt": "x"}), False)
    world.denials.apply(event)
    assert world.refusal(world.token()).code is Code.REVOKED
    world.denials.apply(Event(event.resource, True))
    assert world.show(world.token())


async def test_the_scheme_takes_role_and_node_from_the_token() -> None:
    world = World()
    scheme = NodeTokenScheme(world.tokens)

    def auth(**changes: object) -> AgentAuth:
        fields: dict[str, Any] = {
            "role": "node", "instance": b"i" * 16, "epoch": 1, "versions": (1, 1), "limits": Limits().offer(),
            "credential": Credential(scheme="service-account", value=world.token()), **changes,
        }  # fmt: skip
        return AgentAuth(**fields)

    challenge = Challenge(HUB_ID, b"n" * 32, "x")
    assert (await scheme.verify(auth(), challenge)).node == "node-1"
    assert (await scheme.verify(auth(node="node-1"), challenge)).node == "node-1"
    for changes in ({"role": "cluster"}, {"node": "node-2"}):
        with pytest.raises(CredentialRefused):
            await scheme.verify(auth(**changes), challenge)
    with pytest.raises(CredentialRefused):
        await scheme.verify(auth(), Challenge("hub-2", b"n" * 32, "x"))


def test_what_a_revoked_agent_registered_proves_nobody() -> None:
    """The attack: a stolen agent key registers signing keys of the thief's, and is revoked; its nodes stay."""
    world = World()
    thief = Cluster("uid-a")
    good = world.token()
    honest = world.show(good)
    world.register(thief, by="thief")
    evil = world.show(thief.token(world.clock.now))
    assert evil.credential_id == honest.credential_id
    assert not world.tokens.vouches("uid-a", honest.rests_on)
    world.revoked.add("thief")
    assert world.refusal(thief.token(world.clock.now)).code is Code.UNAUTHENTICATED
    assert not world.tokens.vouches("uid-a", evil.rests_on)
    # What another agent had said is in force again at once, without a word of it.
    assert world.show(good) == honest
    assert world.tokens.vouches("uid-a", honest.rests_on)
    world.revoked.add("agent")
    assert "was revoked" in world.refusal(good).message


def test_a_pod_map_of_a_revoked_agent_counts_for_nothing() -> None:
    world = World()
    for agent, node in (("thief", "node-9"), ("agent", "node-2")):
        spec = {"pods": {"pod-1": node}}
        world.pods.apply(Event(Resource(Key("node-pods", "uid-a", f"{agent}.0"), spec), False))
    unnamed = {name: value for name, value in KUBERNETES.items() if name != "node"}
    token = world.token(**{"kubernetes.io": unnamed})
    assert world.show(token).node == "node-9"
    world.revoked.add("thief")
    assert world.show(token).node == "node-2"
