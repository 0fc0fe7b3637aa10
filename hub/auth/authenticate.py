"""From a presented credential to a principal, on the hot path: no I/O, no waiting, a few microseconds."""

from __future__ import annotations

from typing import Protocol

from hub.auth import bearer as bearer_tokens
from hub.auth.principal import Principal
from hub.auth.tokens import TokenIndex, TokenRecord
from hub.clock import Clock
from hub.errors import Unauthenticated


class AdminRule(Protocol):
    """Answers who is hub administrator (hub.auth.grants.GrantIndex)."""

    def is_hub_admin(self, user: str, groups: tuple[str, ...]) -> bool: ...


class Authenticator:
    """Bearer tokens of people and programs."""

    def __init__(self, tokens: TokenIndex, admins: AdminRule, clock: Clock) -> None:
        self._tokens = tokens
        self._admins = admins
        self._clock = clock

    def authenticate(self, bearer: bytes) -> Principal:
        """The caller behind a token. Raises Unauthenticated with one text for malformed, unknown, expired and revoked:
        the difference would only help someone who guesses."""
        presented = bearer_tokens.parse(bearer)
        if presented is None or presented.prefix != bearer_tokens.USER_PREFIX:
            raise Unauthenticated
        record = self._tokens.get(presented.id)
        if not bearer_tokens.matches(presented, record.digest if record else None) or record is None:
            raise Unauthenticated
        if record.is_expired(self._clock()):
            raise Unauthenticated
        return self.principal(record)

    def principal(self, record: TokenRecord) -> Principal:
        """The principal of a token record as the grants stand now."""
        is_admin = record.cluster_uids is None and self._admins.is_hub_admin(record.user, record.groups)
        return Principal(record.user, record.groups, record.id, is_admin, record.cluster_uids)
