"""Replacing an agent's key over a session that the old one has proven (facts/security.md H4, H5).

At most two keys are valid at once: the new one, and the one before for a grace in which every session of the agent
proves the new one. Nothing of a session changes while it does.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from hub import audit
from hub.audit import Audit
from hub.auth.agentkeys import AgentKey, AgentKeyIndex, AgentKeys, PublicKey
from hub.auth.agents import AgentIdentity, Challenge, CredentialRefused
from hub.auth.enrol import ProofCheck, Signed
from hub.clock import Clock
from hub.store.index import Follower
from proto import credentials
from proto.commands import KeyProof, ReplaceKey
from proto.errors import Code, StreamReset

GRACE_S: Final = 50.0
"""How long the old key lives on; with the sweep of sessions behind it, it is dead within 60 s."""


@dataclasses.dataclass(slots=True)
class ProvenSession:
    """What a session has proven. `key` changes when a newer one is proven; empty for credentials without a key."""

    identity: AgentIdentity
    challenge: Challenge
    instance: bytes
    epoch: int
    key: bytes
    expires_at: float | None = None
    """When what it has proven ends; later when a fresher token was presented."""
    rests_on: str = ""
    """The registered proof behind the last token (hub.auth.issuers.proof), role node."""
    token: str = dataclasses.field(default="", repr=False)
    """Header and payload of that token, role node: a fresher one is told as what differs."""

    def signed(self, purpose: str, key: bytes, proof: ReplaceKey | KeyProof) -> Signed:
        """What the agent must have signed on this session."""
        return Signed(
            purpose=purpose,
            role=self.identity.role,
            instance=self.instance,
            epoch=self.epoch,
            pins=proof.pins,
            cluster=self.identity.cluster_uid,
            signed_at=proof.signed_at,
            key=key,
        )


def nothing_proven() -> ProvenSession:
    """Of a session that no credential stands behind: it may replace, prove and present nothing."""
    return ProvenSession(AgentIdentity("", "", "", ""), Challenge("", b"", ""), b"", 0, b"")


class KeyRotation:
    """The hub's part of a rotation."""

    def __init__(
        self, check: ProofCheck, index: AgentKeyIndex, keys: AgentKeys, follower: Follower, clock: Clock
    ) -> None:
        self._check = check
        self._index = index
        self._keys = keys
        self._follower = follower
        self._clock = clock

    async def replace(self, session: ProvenSession, args: ReplaceKey) -> None:
        """Make `args.key` the agent's key. The same key again changes nothing. Raises StreamReset, StoreError."""
        new = bytes.fromhex(args.key)
        identity = session.identity
        if not session.key:
            raise StreamReset("this agent has no key", Code.FORBIDDEN)
        signed = session.signed(credentials.ROTATE, new, args)
        try:
            self._check.holds(session.challenge, signed, bytes.fromhex(args.signature))
            if session.key == new:  # said again: our answer was lost, or could not be written down
                return
            self._check.holds(session.challenge, signed, bytes.fromhex(args.old_signature), by=session.key)
        except CredentialRefused as exc:
            raise StreamReset(exc.message, Code.UNAUTHENTICATED) from None
        other = self._index.by_key(identity.cluster_uid, new)
        if other is not None and other.id != identity.credential_id:
            raise StreamReset("another agent of the cluster has this key", Code.FORBIDDEN)
        before = session.key
        record = await self._keys.change(
            identity.cluster_uid, identity.credential_id, lambda record: self._decide(record, before, new)
        )
        if record is None:
            raise StreamReset("this agent is no more", Code.REVOKED)
        await self._follower.reached(record.revision)
        session.key = new
        audit.record(
            Audit.AGENT_KEY_REPLACED, agent=record.id, cluster_uid=record.cluster_uid, peer=session.challenge.peer
        )

    def _decide(self, record: AgentKey, before: bytes, new: bytes) -> AgentKey | None:
        """The record with the new key. Raises StreamReset."""
        now = self._clock()
        if record.is_revoked:
            raise StreamReset("this agent was revoked", Code.REVOKED)
        if record.current.value == new:
            return None
        if not record.is_valid(before, now):
            raise StreamReset("the key of this session was replaced", Code.UNAUTHENTICATED)
        if record.current.value != before or any(key.is_valid(now) for key in record.keys[:-1]):
            raise StreamReset("the last rotation is not over yet", Code.REFUSED)
        if any(key.value == new for key in record.keys):
            raise StreamReset("a key that was replaced does not come back", Code.FORBIDDEN)
        old = dataclasses.replace(record.current, until=now + GRACE_S)
        return dataclasses.replace(record, keys=(old, PublicKey(new, now)))

    def prove(self, session: ProvenSession, key: bytes, proof: KeyProof) -> bool:
        """Whether the session has proven `key`, which then is the session's."""
        try:
            signed = session.signed(credentials.RENEW, key, proof)
            self._check.holds(session.challenge, signed, bytes.fromhex(proof.signature))
        except CredentialRefused:
            return False
        session.key = key
        return True
