"""hub/auth/impersonate.py: who a request is downstream (facts/security.md §2.A, design P1 and P9)."""

from __future__ import annotations

import tracemalloc

import pytest

from hub import errors
from hub.auth.grants import Access
from hub.auth.impersonate import identity
from hub.auth.principal import Principal

ALICE = Principal("alice", ("dev",), "t1", False, None)


def access(*, admin: bool = False, users: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> Access:
    return Access("uid-1", "c1", admin, users, groups)


def test_names_get_the_prefix() -> None:
    assert identity(ALICE, access(), (), "r1") == (
        (b"impersonate-user", b"riata:alice"),
        (b"impersonate-group", b"riata:dev"),
        (b"impersonate-extra-riata.io%2frequest-id", b"r1"),
    )


def test_an_admin_gets_the_hubs_group() -> None:
    assert (b"impersonate-group", b"riata:hub:cluster-admins") in identity(ALICE, access(admin=True), (), "r")


def test_acting_as_somebody_leaves_everything_of_ones_own_behind() -> None:
    claims = [(b"impersonate-user", b"bob"), (b"impersonate-group", b"ops"), (b"impersonate-group", b"ops")]
    granted = access(admin=True, users=("bob",), groups=("ops",))
    assert identity(ALICE, granted, claims, "r") == (
        (b"impersonate-user", b"riata:bob"),
        (b"impersonate-group", b"riata:ops"),
        (b"impersonate-extra-riata.io%2frequest-id", b"r"),
    )


U, G, E = b"impersonate-user", b"impersonate-group", b"impersonate-extra-"
ANY = access(users=("*",), groups=("*",))
BOB = access(users=("bob",))
NOBODY = access(admin=True)

REFUSED = [
    (NOBODY, [(U, b"bob")], 403),
    (NOBODY, [(G, b"system:masters")], 403),
    (NOBODY, [(b"impersonate-uid", b"0")], 403),
    (NOBODY, [(b"impersonate-foo", b"x")], 403),
    (BOB, [(U, b"carol")], 403),
    (BOB, [(U, b"bob"), (G, b"ops")], 403),
    (ANY, [(U, b"system:serviceaccount:kube-system:x")], 403),
    (ANY, [(U, b"System:anonymous")], 403),
    (ANY, [(U, b"bob"), (G, b"system:masters")], 403),
    (ANY, [(U, b"hub:x")], 403),
    (ANY, [(U, b"bob"), (G, b"hub:cluster-admins")], 403),
    (ANY, [(U, b"")], 403),
    (ANY, [(U, b"*")], 403),
    (ANY, [(U, b"x" * 300)], 403),
    (ANY, [(U, b"b\xc3\xb6b")], 403),
    (ANY, [(U, b"bob"), (b"impersonate-uid", b"0")], 403),
    (ANY, [(U, b"bob"), (b"impersonate-foo", b"0")], 403),
    (ANY, [(U, b"bob"), (E + b"scopes", b"x")], 403),
    (ANY, [(U, b"bob"), (E + b"riata-request-id", b"x")], 403),
    (ANY, [(G, b"ops")], 400),
    (ANY, [(U, b"bob"), (U, b"bob")], 400),
    (NOBODY, [(U, b"bob"), (U, b"eve")], 400),
    (ANY, [(U, b"bob"), (E, b"x")], 400),
    (ANY, [(U, b"bob"), (E + b"a%2fb", b"x")], 400),
    (ANY, [(U, b"bob"), (E + b"%00", b"x")], 400),
    (ANY, [(U, b"bob"), *((E + b"k%d" % i, b"x") for i in range(17))], 400),
    (ANY, [(U, b"bob"), *((E + b"k", b"x") for _ in range(65))], 400),
    (ANY, [(U, b"bob"), (E + b"k", b"x" * 5000)], 400),
]


@pytest.mark.parametrize(("granted", "claims", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_refused(granted: Access, claims: list[tuple[bytes, bytes]], expected: int) -> None:
    with pytest.raises(errors.HubError) as caught:
        identity(ALICE, granted, claims, "r")
    assert caught.value.http_status == expected


def test_a_client_fills_no_memory_with_the_names_it_acts_as() -> None:
    """Whoever may act as anybody names another two hundred groups in each request: 140 KB that were kept, of 4,096."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(64):
            claims = [(G, b"g%05d-%03d-" % (number, each) + b"x" * 235) for each in range(200)]
            assert len(identity(ALICE, ANY, [(U, b"bob"), *claims], "r")) == 202
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1_000_000


@pytest.mark.parametrize("user", ["", "system:admin", "hub:x", "a\r\nb", "ü", " a", "a ", "x" * 300, "*"])
def test_a_principal_with_an_impossible_name_gets_nothing(user: str) -> None:
    """Fails closed although no such principal can be created."""
    with pytest.raises(errors.PermissionDenied):
        identity(Principal(user, (), "t", False, None), access(), (), "r")
    with pytest.raises(errors.PermissionDenied):
        identity(Principal("alice", (user,), "t", False, None), access(), (), "r")
