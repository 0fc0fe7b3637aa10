"""Audit events: what an operator must be able to find again, as log records with `audit: true` and a closed set of
names. The audit log of a later issue takes them from here; until then they are lines of the hub's log.

No secret is ever a field: tokens and keys appear by their ids.
"""

from __future__ import annotations

import enum
import logging

_log = logging.getLogger("riata.audit")


class Audit(enum.StrEnum):
    """Every audit event."""

    JOIN_TOKEN_MADE = "join-token-made"  # noqa: S105 a name
    """A join token was made for a cluster."""
    JOIN_TOKEN_REUSED = "join-token-reused"  # noqa: S105 a name
    """A join token that had been used was shown again, with another key: somebody has a copy of it."""
    MANIFEST_FETCHED = "manifest-fetched"
    """The manifest of a cluster was fetched with a join token."""
    AGENT_JOINED = "agent-joined"
    """An agent enrolled its key with a join token."""
    AGENT_KEY_REPLACED = "agent-key-replaced"
    """An agent replaced its key over a session that the old one had proven."""
    AGENT_REVOKED = "agent-revoked"
    """An agent was revoked: an enrolled key, or the agent of a node."""
    AGENT_READMITTED = "agent-readmitted"
    """The agent of a revoked node was let in again."""
    REVOKED_KEY_USED = "revoked-key-used"
    """A revoked agent key was used to sign; the signature was right."""


_WARNINGS = frozenset({Audit.JOIN_TOKEN_REUSED, Audit.REVOKED_KEY_USED})


def record(event: Audit, **fields: object) -> None:
    """Write one audit event. `fields` are plain values."""
    _log.log(logging.WARNING if event in _WARNINGS else logging.INFO, event.value, extra={"audit": True, **fields})
