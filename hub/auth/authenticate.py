"""From a presented credential to a principal, on the hot path: no I/O, no waiting, a few microseconds."""

from __future__ import annotations

from typing import Final, Protocol

from hub.auth.bearer import USER_PREFIX, Bearer, matches
from hub.auth.principal import Principal
from hub.auth.tokens import TokenIndex, TokenRecord
from hub.clock import Clock
from hub.errors import Unauthenticated

_KEPT_MAX: Final = 16_384
"""Principals kept; tokens in use at the same time are far fewer."""


class AdminRule(Protocol):
    """Answers who is hub administrator (hub.auth.grants.GrantIndex)."""

    version: int
    """Grows with every change of the grants."""

    def is_hub_admin(self, user: str, groups: tuple[str, ...]) -> bool: ...


class Authenticator:
    """Bearer tokens of people and programs."""

    def __init__(self, tokens: TokenIndex, admins: AdminRule, clock: Clock) -> None:
        self._tokens = tokens
        self._admins = admins
        self._clock = clock
        self._principals: dict[str, tuple[TokenRecord, Principal]] = {}
        self._version = -1

    def authenticate(self, bearer: Bearer) -> Principal:
        """The caller behind a token. Raises Unauthenticated with one text for malformed, unknown, expired and revoked:
        the difference would only help someone who guesses."""
        presented = bearer.presented
        if presented is None or presented.prefix != USER_PREFIX:
            raise Unauthenticated
        record = self._tokens.get(presented.id)
        if not matches(presented, record.digest if record else None) or record is None:
            raise Unauthenticated
        if record.is_expired(self._clock()):
            raise Unauthenticated
        return self.principal(record)

    def principal(self, record: TokenRecord) -> Principal:
        """The principal of a token record as the grants stand now. Kept until a grant or the record changes, because
        building it costs more than all the rest of a call."""
        if self._version != self._admins.version or len(self._principals) >= _KEPT_MAX:
            self._principals.clear()
            self._version = self._admins.version
        known = self._principals.get(record.id)
        if known is not None and known[0] is record:
            return known[1]
        principal = self._build(record)
        self._principals[record.id] = record, principal
        return principal

    def _build(self, record: TokenRecord) -> Principal:
        is_admin = record.cluster_uids is None and self._admins.is_hub_admin(record.user, record.groups)
        return Principal(record.user, record.groups, record.id, is_admin, record.cluster_uids)
