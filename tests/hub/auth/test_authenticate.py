"""From a bearer token to a principal; everything wrong is one and the same refusal."""

from __future__ import annotations

import pytest

from hub.auth import bearer
from hub.auth.authenticate import Authenticator
from hub.auth.grants import GrantIndex, Role
from hub.auth.principal import Principal
from hub.auth.tokens import TokenIndex
from hub.errors import Unauthenticated
from tests.hub.auth.records import gone, grant, made, token
from tests.hub.store.conformance import SettableClock


class World:
    def __init__(self) -> None:
        self.clock = SettableClock()
        self.tokens, self.grants = TokenIndex(), GrantIndex()
        self.authenticator = Authenticator(self.tokens, self.grants, self.clock)

    def mint(self, prefix: str = bearer.USER_PREFIX, **changes: object) -> bytes:
        minted = bearer.mint(prefix)
        self.tokens.apply(made(token(minted.id, digest=minted.digest, **changes)))
        return minted.text.encode()


def test_a_token_becomes_its_principal() -> None:
    world = World()
    text = world.mint(cluster_uids=frozenset({"u"}))
    found = world.authenticator.authenticate(bearer.Bearer(text))
    assert found == Principal("jane", ("dev",), text.decode().split("_")[1], False, frozenset({"u"}))


def test_administration_is_looked_up_at_each_call() -> None:
    world = World()
    text = world.mint()
    admin = grant(role=Role.HUB_ADMIN)
    world.grants.apply(made(admin))
    assert world.authenticator.authenticate(bearer.Bearer(text)).is_admin
    world.grants.apply(gone(admin))
    assert not world.authenticator.authenticate(bearer.Bearer(text)).is_admin


def test_a_replaced_record_counts_at_once() -> None:
    world = World()
    text = world.mint()
    token_id = text.decode().split("_")[1]
    assert world.authenticator.authenticate(bearer.Bearer(text)).groups == ("dev",)
    record = world.tokens.get(token_id)
    assert record is not None
    world.tokens.apply(made(token(token_id, digest=record.digest, groups=("ops",))))
    assert world.authenticator.authenticate(bearer.Bearer(text)).groups == ("ops",)


def test_a_limited_token_never_administers() -> None:
    world = World()
    world.grants.apply(made(grant(role=Role.HUB_ADMIN)))
    assert not world.authenticator.authenticate(bearer.Bearer(world.mint(cluster_uids=frozenset({"u"})))).is_admin


def test_one_refusal_for_everything() -> None:
    world = World()
    good = world.mint()
    expired = world.mint(expires_at=world.clock.now)
    unknown = bearer.mint("riata").text.encode()
    agent = world.mint(bearer.AGENT_PREFIX)
    wrong = good[:-1] + (b"0" if good[-1:] != b"0" else b"1")
    revoked = world.mint()
    world.tokens.apply(gone(token(revoked.decode().split("_")[1])))
    texts = set()
    for presented in (b"", b"x", good + b" ", expired, unknown, agent, wrong, revoked, b"\xff"):
        with pytest.raises(Unauthenticated) as caught:
            world.authenticator.authenticate(bearer.Bearer(presented))
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert world.authenticator.authenticate(bearer.Bearer(good)).user == "jane"


def test_a_credential_that_a_connection_remembers_is_checked_at_each_call() -> None:
    world = World()
    text = world.mint(expires_at=world.clock.now + 5)
    remembered = bearer.Bearer(text)
    token_id = text.decode().split("_")[1]
    assert world.authenticator.authenticate(remembered).groups == ("dev",)
    record = world.tokens.get(token_id)
    assert record is not None
    world.tokens.apply(made(token(token_id, digest=record.digest, groups=("ops",), expires_at=world.clock.now + 5)))
    assert world.authenticator.authenticate(remembered).groups == ("ops",)
    world.clock.now += 5
    with pytest.raises(Unauthenticated):
        world.authenticator.authenticate(remembered)
    world.clock.now -= 5
    world.tokens.apply(gone(token(token_id)))
    with pytest.raises(Unauthenticated):
        world.authenticator.authenticate(remembered)
