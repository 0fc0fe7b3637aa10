"""Decisions about clusters: deny by default, bound to uids, nothing implied but what design P9 says."""

from __future__ import annotations

import pytest

from hub.auth.grants import EVERY_CLUSTER, Access, Authorizer, Grant, GrantIndex, Role
from hub.auth.principal import Principal
from hub.store.model import Event, Key, Resource
from tests.hub.auth.records import gone, grant, made, stored


class Names:
    """Clusters a and b; `moved` is a name that got another uid."""

    def __init__(self) -> None:
        self.uids = {"a": "uid-a", "b": "uid-b"}

    def uid_of(self, name: str) -> str | None:
        return self.uids.get(name)


JANE = Principal("jane", ("dev", "ops"), "t1", False, None)


def access(
    *grants: Grant, principal: Principal = JANE, cluster: str = "a", names: Names | None = None
) -> Access | None:
    index = GrantIndex()
    index.reset(stored(item) for item in grants)
    return Authorizer(index, names or Names()).access(principal, cluster)


def test_without_a_grant_nothing() -> None:
    assert access() is None
    assert access(grant(user="bob")) is None
    assert access(grant(user="", group="admins")) is None
    assert access(grant(cluster_uid="uid-b")) is None
    assert access(grant(), cluster="nowhere") is None


@pytest.mark.parametrize(
    ("given", "is_admin"),
    [
        (grant(), False),
        (grant(cluster_uid="uid-a"), False),
        (grant(user="", group="ops"), False),
        (grant(role=Role.ADMIN), True),
        (grant(cluster_uid="uid-a", role=Role.ADMIN), True),
        (grant(role=Role.HUB_ADMIN), True),
    ],
)
def test_roles(given: Grant, is_admin: bool) -> None:
    assert access(given) == Access("uid-a", "a", is_admin, (), ())


def test_a_user_is_no_group_and_a_group_no_user() -> None:
    assert access(grant(user="dev")) is None
    assert access(grant(user="", group="jane")) is None


def test_a_new_cluster_of_an_old_name_inherits_nothing() -> None:
    names = Names()
    names.uids["a"] = "uid-a2"
    assert access(grant(cluster_uid="uid-a"), names=names) is None


def test_a_limited_token_reaches_only_its_clusters() -> None:
    limited = Principal("jane", (), "t1", False, frozenset({"uid-b"}))
    assert access(grant(role=Role.HUB_ADMIN), principal=limited) is None
    assert access(grant(role=Role.HUB_ADMIN), principal=limited, cluster="b") is not None
    assert access(grant(), principal=Principal("jane", (), "t", True, frozenset())) is None


def test_impersonation_comes_from_its_grants_alone() -> None:
    found = access(
        grant("one", impersonate_users=("bob", "eve"), cluster_uid="uid-a"),
        grant("two", user="", group="dev", impersonate_users=("bob",), impersonate_groups=("*",)),
        grant("three", role=Role.HUB_ADMIN),
        grant("other", cluster_uid="uid-b", impersonate_users=("root",)),
    )
    assert found == Access("uid-a", "a", True, ("bob", "eve"), ("*",))
    assert access(grant(role=Role.HUB_ADMIN)) == Access("uid-a", "a", True, (), ())


def test_hub_administration() -> None:
    index = GrantIndex()
    index.reset([stored(grant("x", user="", group="ops", role=Role.HUB_ADMIN)), stored(grant("y", role=Role.ADMIN))])
    assert index.is_hub_admin("anybody", ("ops",))
    assert not index.is_hub_admin("jane", ("dev",))


def test_the_index_tells_of_what_was_taken_back() -> None:
    changed: list[Grant] = []
    index = GrantIndex(changed.append)
    first = grant("g")
    index.apply(made(first))
    index.apply(made(first))
    assert changed == []
    narrower = grant("g", cluster_uid="uid-a")
    index.apply(made(narrower))
    assert changed == [first]
    index.apply(gone(narrower))
    assert changed == [first, narrower]
    assert list(index) == list(index.of("jane", ())) == []
    index.apply(made(first))
    index.reset([])
    assert changed == [first, narrower, first]


@pytest.mark.parametrize("change", [{"role": "owner"}, {"user": "", "group": ""}, {"group": "x"}, {"clusterUid": None}])
def test_an_unreadable_grant_gives_nothing(change: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    index = GrantIndex()
    if change == {"clusterUid": None}:
        spec = {key: value for key, value in grant().spec().items() if key != "clusterUid"}
    else:
        spec = {**grant().spec(), **change}
    index.apply(Event(Resource(Key("grant", "", "g"), spec), False))
    assert list(index) == []
    assert len(caplog.records) == 1


def test_every_cluster_is_a_word_that_no_uid_can_be() -> None:
    assert EVERY_CLUSTER == "*"


def test_decisions_are_kept_only_as_long_as_they_hold() -> None:
    index, names = GrantIndex(), Names()
    index.reset([stored(grant())])
    authorizer = Authorizer(index, names)
    first = authorizer.access(JANE, "a")
    assert first is not None
    assert authorizer.access(JANE, "a") is first
    names.uids["a"] = "uid-of-a-new-a"
    assert authorizer.access(JANE, "a") == Access("uid-of-a-new-a", "a", False, (), ())
    limited = Principal("jane", ("dev", "ops"), "t1", False, frozenset({"uid-b"}))
    assert authorizer.access(limited, "a") is None
    nobody = Principal("bob", (), "t1", False, None)
    assert authorizer.access(nobody, "a") is None
    index.reset([])
    assert authorizer.access(JANE, "a") is None


def test_what_concerns_one_cluster_is_found_without_the_rest() -> None:
    """A user with a grant for each of five thousand clusters makes a token for all of them: 25 million looks."""
    index = GrantIndex()
    for number in range(1000):
        index.apply(made(grant(f"g{number}", cluster_uid=f"uid-{number}")))
    index.apply(made(grant("every", user="", group="ops")))
    assert [each.name for each in index.covering("uid-7", "jane", ("dev", "ops"))] == ["g7", "every"]
    index.apply(made(grant("g7", cluster_uid="uid-8")))
    assert [each.name for each in index.covering("uid-7", "jane", ())] == []
    assert [each.name for each in index.covering("uid-8", "jane", ())] == ["g8", "g7"]
    assert len(list(index.of("jane", ("ops",)))) == 1001
    for each in index:
        index.apply(gone(each))
    assert list(index.of("jane", ("ops",))) == []
    assert index._by_user == index._by_group == {}
