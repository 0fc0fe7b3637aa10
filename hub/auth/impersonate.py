"""The identity under which a request arrives at a cluster (design D2, P1, P9; facts/security.md §2.A).

Names get the prefix `riata:`; the hub's own group is `riata:hub:cluster-admins`. The result is built from the principal
and the hub's grants alone: what the client claims can only narrow it to somebody whom a grant names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final

from hub import errors
from hub.auth.grants import ANYBODY, Access
from hub.auth.principal import Principal, check_name

Pair = tuple[bytes, bytes]

PREFIX: Final = "riata:"
CLUSTER_ADMINS: Final = "riata:hub:cluster-admins"

USER: Final = b"impersonate-user"
GROUP: Final = b"impersonate-group"
EXTRA: Final = b"impersonate-extra-"
REQUEST_ID: Final = EXTRA + b"riata.io%2frequest-id"
"""The only extra that reaches a cluster; the agent's RBAC names it, as `riata.io/request-id`. Constrained impersonation
(KEP-5284) takes no key that is not a path below a domain."""

EXTRAS_MAX: Final = 16
EXTRA_VALUES_MAX: Final = 64
EXTRA_BYTES_MAX: Final = 4096
FEW_GROUPS: Final = 8
"""Up to so many an identity that somebody acts as is remembered: the names are the client's, 50 KiB of them in a head,
and thousands are kept."""
_EXTRA_KEY: Final = re.compile(rb"[a-z0-9._-]{1,63}")


def identity(principal: Principal, access: Access, claims: Sequence[Pair], request_id: str) -> tuple[Pair, ...]:
    """The identity headers of a request. `claims`: the client's own `Impersonate-*` fields, lower-case names.

    Raises BadRequest for malformed claims, PermissionDenied for claims that no grant covers. Fails closed: a principal
    with a name that may not exist gets nothing.
    """
    if claims:
        user, groups = _act_as(access, claims)
        pairs = _remembered(user, groups, False) if len(groups) <= FEW_GROUPS else _pairs(user, groups, False)
    else:
        pairs = _remembered(principal.user, principal.groups, access.is_admin)
    return (*pairs, (REQUEST_ID, request_id.encode("ascii")))


def administrator(user: str, groups: tuple[str, ...], request_id: str) -> tuple[Pair, ...]:
    """The identity headers of somebody who administers the hub, for what the hub does in their name. Raises
    PermissionDenied for a name that may not exist."""
    return (*_pairs(user, groups, True), (REQUEST_ID, request_id.encode("ascii")))


def _pairs(user: str, groups: tuple[str, ...], is_admin: bool) -> tuple[Pair, ...]:
    try:
        names = [check_name(name) for name in (user, *groups)]
    except ValueError:
        raise errors.PermissionDenied("this user or group name may not be used in a cluster") from None
    pairs = [(USER, (PREFIX + names[0]).encode("ascii"))]
    pairs += [(GROUP, (PREFIX + name).encode("ascii")) for name in names[1:]]
    if is_admin:
        pairs.append((GROUP, CLUSTER_ADMINS.encode("ascii")))
    return tuple(pairs)


_remembered = functools.lru_cache(maxsize=4096)(_pairs)


def _act_as(access: Access, claims: Sequence[Pair]) -> tuple[str, tuple[str, ...]]:
    """`kubectl --as`: the named user with exactly the named groups; nothing of the caller's own rights comes along."""
    users = [value for name, value in claims if name == USER]
    groups = [value for name, value in claims if name == GROUP]
    extras = [pair for pair in claims if pair[0].startswith(EXTRA)]
    _check_form(users, extras)
    if not access.users and not access.groups:
        raise errors.PermissionDenied("impersonation is not granted")
    if extras or len(users) + len(groups) < len(claims):
        raise errors.PermissionDenied("only users and groups can be impersonated")
    if not users:
        raise errors.BadRequest("impersonating groups needs a user too")
    user = _covered(users[0], access.users)
    return user, tuple(dict.fromkeys(_covered(group, access.groups) for group in groups))


def _check_form(users: list[bytes], extras: list[Pair]) -> None:
    if len(users) > 1:
        raise errors.BadRequest("more than one Impersonate-User")
    keys = {name[len(EXTRA) :] for name, _ in extras}
    if len(keys) > EXTRAS_MAX or len(extras) > EXTRA_VALUES_MAX:
        raise errors.BadRequest("too many impersonated extras")
    if sum(len(name) + len(value) for name, value in extras) > EXTRA_BYTES_MAX:
        raise errors.BadRequest("impersonated extras are too large")
    if any(_EXTRA_KEY.fullmatch(key) is None for key in keys):
        raise errors.BadRequest("the key of an impersonated extra is malformed")


def _covered(claimed: bytes, granted: tuple[str, ...]) -> str:
    try:
        name = check_name(claimed.decode("ascii"))
    except ValueError:  # also UnicodeDecodeError
        raise errors.PermissionDenied("this name can never be impersonated through the hub") from None
    if name not in granted and ANYBODY not in granted:
        raise errors.PermissionDenied("impersonating this user or group is not granted")
    return name
