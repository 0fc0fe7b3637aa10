"""Enrolment and what comes after it: the schemes `join` and `signature` (design D6, docs/protocol.md §3.1).

A proof is right when the key signed *this* session: our nonce, our id, a pin of ours, its cluster, instance, epoch and
role, at a time near ours. Only then is anything said that depends on the record behind it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from hub import audit
from hub.audit import Audit
from hub.auth import bearer
from hub.auth.agentkeys import AgentKey, AgentKeyIndex, AgentKeys
from hub.auth.agents import ROLE_CLUSTER, AgentIdentity, Challenge, ClusterLookup, CredentialRefused
from hub.auth.jointokens import JoinToken, JoinTokenIndex
from hub.clock import Clock, rfc3339
from hub.store.index import Follower
from hub.store.model import StoreError
from proto import codec, credentials
from proto.aio.tasks import TaskGroup
from proto.errors import Code, ProtocolError
from proto.messages import AgentAuth, JoinProof, SignatureProof, Transcript

P = TypeVar("P", JoinProof, SignatureProof)

_REPLACED: Final = "this key of the agent was replaced by a newer one"


@dataclasses.dataclass(frozen=True, slots=True)
class Signed:
    """What an agent says that it has signed; with the hub's own challenge it makes the transcript."""

    purpose: str
    role: str
    instance: bytes
    epoch: int
    pins: tuple[str, ...]
    signed_at: int
    key: bytes
    cluster: str = ""
    token: bytes = dataclasses.field(default=b"", repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class ProofCheck:
    """What both schemes ask of a proof."""

    clock: Clock
    pins: Callable[[], Collection[str]]
    """The pins under which agents may know this hub; empty when the hub cannot know them: then no proof is good."""

    def parse(self, auth: AgentAuth, shape: type[P]) -> P:
        """Raises CredentialRefused."""
        try:
            return codec.decode(shape, auth.credential.value)
        except ProtocolError:
            raise CredentialRefused from None

    def signed(
        self,
        auth: AgentAuth,
        challenge: Challenge,
        proof: JoinProof | SignatureProof,
        *,
        purpose: str,
        cluster: str = "",
        token: bytes = b"",
    ) -> None:
        """Raises CredentialRefused unless the proof's key signed the session that begins."""
        signed = Signed(
            purpose, auth.role, auth.instance, auth.epoch, proof.pins, proof.signed_at, proof.key, cluster, token
        )
        self.holds(challenge, signed, proof.signature)

    def holds(self, challenge: Challenge, signed: Signed, signature: bytes, *, by: bytes = b"") -> None:
        """Raises CredentialRefused unless the key, or `by`, signed exactly this, on this session, now."""
        transcript = Transcript(
            purpose=signed.purpose,
            hub_id=challenge.hub_id,
            nonce=challenge.nonce,
            pins=signed.pins,
            cluster=signed.cluster,
            token_sha256=hashlib.sha256(signed.token).digest() if signed.token else b"",
            role=signed.role,
            instance=signed.instance,
            epoch=signed.epoch,
            signed_at=signed.signed_at,
            key=signed.key,
        )
        if not credentials.verify(signature, transcript, by=by):
            raise CredentialRefused
        self._check_pins(frozenset(self.pins()), signed.pins)
        skew_s = self.clock() - signed.signed_at / 1000
        if abs(skew_s) > credentials.SKEW_MAX_S:
            side = "behind" if skew_s > 0 else "ahead of"
            raise CredentialRefused(f"the agent's clock is {abs(skew_s):.0f} s {side} the hub's: set it right")

    @staticmethod
    def _check_pins(ours: frozenset[str], named: tuple[str, ...]) -> None:
        """Every CA that the agent names has to be one of ours, or whoever holds the other one's key can stand between.
        Raises CredentialRefused."""
        if not ours:
            raise CredentialRefused(
                "this hub does not know under which CA agents reach it: name the CA of its certificate in the setting"
                " tls_ca, or the pin of the TLS terminator's CA in agent_pins"
            )
        if foreign := [pin for pin in named if pin not in ours]:
            raise CredentialRefused(
                f"the agent trusts a CA that is not this hub's ({foreign[0][:71]}): something stands in between (if"
                " that is a TLS terminator of yours, name its pin in the hub's setting agent_pins), or the agent's"
                " settings still name a CA that was replaced (apply a new manifest)"
            )


class SignatureScheme:
    """`signature`: an enrolled key."""

    def __init__(self, check: ProofCheck, keys: AgentKeyIndex, clusters: ClusterLookup) -> None:
        self._check = check
        self._keys = keys
        self._clusters = clusters

    async def verify(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
        proof = self._check.parse(auth, SignatureProof)
        record = self._keys.by_key(proof.cluster, proof.key)
        if record is None:
            raise CredentialRefused
        self._check.signed(auth, challenge, proof, purpose=credentials.SIGNATURE, cluster=proof.cluster)
        return identity_of(record, proof.key, auth.role, self._clusters, self._check.clock(), challenge.peer)


class JoinScheme:
    """`join`: a join token enrols a key. The same token with the same key is the same join, however often."""

    def __init__(
        self,
        check: ProofCheck,
        tokens: JoinTokenIndex,
        index: AgentKeyIndex,
        keys: AgentKeys,
        clusters: ClusterLookup,
        follower: Follower,
        tasks: TaskGroup,
    ) -> None:
        """`tasks`: an enrolment that has begun goes on in them when the handshake's time is over."""
        self._check = check
        self._tokens = tokens
        self._index = index
        self._keys = keys
        self._clusters = clusters
        self._follower = follower
        self._tasks = tasks

    async def verify(self, auth: AgentAuth, challenge: Challenge) -> AgentIdentity:
        proof = self._check.parse(auth, JoinProof)
        token = self._token(proof)
        self._check.signed(auth, challenge, proof, purpose=credentials.JOIN, token=proof.token)
        if self._index.by_key(token.cluster_uid, proof.key) is None:
            self._refuse_used(token, auth.role, challenge.peer)
            enrolment = self._enrol(token, proof.key, auth.role, challenge.peer)
            await self._tasks.unbroken(enrolment, (CredentialRefused, StoreError), name="enrolment")
        known = self._index.by_key(token.cluster_uid, proof.key)  # as it is in this turn of the loop
        if known is None:
            raise CredentialRefused
        self._refuse_replaced(known, token, proof.key)
        return identity_of(known, proof.key, auth.role, self._clusters, self._check.clock(), challenge.peer)

    def _refuse_replaced(self, known: AgentKey, token: JoinToken, key: bytes) -> None:
        """A key's place that was put back to before a rotation: with a token that could enrol a key, the agent hears
        REVOKED, for which every version of it makes a new key and joins. Raises CredentialRefused."""
        now = self._check.clock()
        is_good = self._index.get(token.id) is None and not token.is_expired(now)
        if is_good and not known.is_revoked and not known.is_valid(key, now):
            raise CredentialRefused(_REPLACED, code=Code.REVOKED)

    def _token(self, proof: JoinProof) -> JoinToken:
        """The record of a token whose secret is right. Raises CredentialRefused."""
        presented = bearer.parse(proof.token)
        if presented is None or presented.prefix != bearer.JOIN_PREFIX:
            raise CredentialRefused
        token = self._tokens.get(presented.id)
        if not bearer.matches(presented, token.digest if token else None) or token is None:
            raise CredentialRefused("the join token is unknown here: make a new one (riata join-tokens create)")
        if self._clusters.name_of(token.cluster_uid) is None:
            raise CredentialRefused
        return token

    def _refuse_used(self, token: JoinToken, role: str, peer: str) -> None:
        """What can be said before anything is written. Raises CredentialRefused."""
        if role != ROLE_CLUSTER:
            raise CredentialRefused("a join token is for an agent of role cluster")
        used = self._index.get(token.id)
        if used is not None:
            raise self._used(token, used, peer)
        if token.is_expired(self._check.clock()):
            text = f"the join token expired at {rfc3339(token.expires_at)}: make a new one (riata join-tokens create)"
            raise CredentialRefused(text)

    async def _enrol(self, token: JoinToken, key: bytes, role: str, peer: str) -> None:
        """Make the record, so that the index has it; take it back if it may not be. Raises CredentialRefused,
        StoreError."""
        uid = token.cluster_uid
        record, is_ours = await self._keys.enrol(
            agent_id=token.id, cluster_uid=uid, role=role, key=key, joined_from=peer
        )
        await self._follower.reached(record.revision)
        if record.is_barred or record.keys[0].value != key:
            raise self._used(token, record, peer)
        twins = [each for each in self._index.all_by_key(uid, key) if each.id != record.id]
        is_second = any(each.order < record.order for each in twins)
        if is_ours and (is_second or self._clusters.name_of(uid) is None):
            # The same key came first with another token, or the cluster was deleted meanwhile.
            revision = await self._keys.forget(uid, token.id)
            await self._follower.reached(revision or 0)
        elif is_ours:
            audit.record(Audit.AGENT_JOINED, agent=record.id, cluster_uid=uid, peer=peer)

    def _used(self, token: JoinToken, record: AgentKey, peer: str) -> CredentialRefused:
        if record.is_barred:
            return CredentialRefused("the join token was revoked: make a new one (riata join-tokens create)")
        if record.revoked_at is not None:
            # Most often it is the agent itself: it has made a new key, and knows no other token.
            audit.record(Audit.REVOKED_TOKEN_USED, agent=record.id, cluster_uid=token.cluster_uid, peer=peer)
            return CredentialRefused(
                f"the agent that joined with this token was revoked at {rfc3339(record.revoked_at)}: make a new join"
                " token (riata join-tokens create)"
            )
        used_at = rfc3339(record.created_at)
        audit.record(
            Audit.JOIN_TOKEN_REUSED, agent=record.id, cluster_uid=token.cluster_uid, peer=peer, used_at=used_at,
            used_from=record.joined_from,
        )  # fmt: skip
        return CredentialRefused(
            f"the join token was used at {used_at} by another agent: make a new one (riata join-tokens create), and if"
            f" it was not you who used it, revoke that agent: riata agents revoke {record.id}"
        )


def identity_of(
    record: AgentKey, key: bytes, role: str, clusters: ClusterLookup, now: float, peer: str
) -> AgentIdentity:
    """Who an agent with a proven key is now. Raises CredentialRefused."""
    name = clusters.name_of(record.cluster_uid)
    if name is None:
        raise CredentialRefused
    if record.revoked_at is not None:
        audit.record(Audit.REVOKED_KEY_USED, agent=record.id, cluster_uid=record.cluster_uid, peer=peer)
        raise CredentialRefused(f"this agent was revoked at {rfc3339(record.revoked_at)}", code=Code.REVOKED)
    if not record.is_valid(key, now):
        raise CredentialRefused(_REPLACED)
    if record.role != role:
        raise CredentialRefused
    return AgentIdentity(record.cluster_uid, name, record.id, record.role, key)
