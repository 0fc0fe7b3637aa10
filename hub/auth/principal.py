"""Who is asking, and which names principals may have (design P1)."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

NAME_BYTES_MAX: Final = 253
RESERVED_PREFIXES: Final = ("hub:", "system:")
"""`hub:` would collide with groups that the hub adds itself (`riata:hub:…` downstream), `system:` with Kubernetes."""

_NAME: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `is_admin`: hub administrator with a token that is not limited to clusters."""

    user: str
    groups: tuple[str, ...]
    token_id: str
    is_admin: bool
    cluster_uids: frozenset[str] | None
    """The clusters that the token is limited to; None is every cluster the grants allow."""


def check_name(name: str) -> str:
    """The name itself if a user or group may have it, else ValueError with the rule and the cure.

    One printable line of ASCII, because the name becomes an `Impersonate-*` header downstream; no reserved prefix in
    any case of letters; not `*`, which means "everyone" in grants.
    """
    if not name:
        raise ValueError("must not be empty")
    if len(name) > NAME_BYTES_MAX:
        raise ValueError(f"must have at most {NAME_BYTES_MAX} characters")
    if not _NAME.fullmatch(name):
        raise ValueError("must be printable ASCII without spaces at its ends")
    if name.casefold().startswith(RESERVED_PREFIXES):
        raise ValueError("must not begin with hub: or system:, these prefixes are reserved")
    if name == "*":
        raise ValueError("must name somebody; * is not a name")
    return name
