"""An agent with a key of its own: it joins once with a join token, then signs the hub's nonce at each connect.

What it can show, in this order: the current key (once the hub has enrolled it), the next one (a rotation that the hub
may have finished without us hearing of it), the current key with a join token, and the key that the hub took last,
should its place have been emptied or put back to an older state since. What the hub refuses is not shown again until
something changed; only when nothing is left is the refusal final, and attempts become rare.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from agent.keys import KeyConflict, KeyPair, KeyState, KeyUnusable
from agent.uplink.credentials import TOKEN_BYTES_MAX, Claims, Proven, mark_of
from agent.uplink.diagnose import ConnectFailed, of_cause
from agent.uplink.keyring import Keyring
from agent.uplink.rotation import KeyRotation
from proto import causes, codec, credentials
from proto.aio.commands import Handler
from proto.aio.link import Link
from proto.commands import Verb
from proto.errors import Code
from proto.handshake import CLUSTER_UID
from proto.messages import Credential, HubHello, JoinProof, SignatureProof, Welcome

logger = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""Seconds that a second look at the key may take, and writing down what a WELCOME said: the handshake waits for it."""
KEEP_INTERVAL_S: Final = 60.0
"""Seconds until that is tried again."""
_TERMINAL: Final = frozenset({Code.UNAUTHENTICATED, Code.REVOKED})


class _Shown(NamedTuple):
    """What makes one credential differ from another."""

    scheme: str
    pair: KeyPair
    token: bytes = b""
    cluster: str = ""


class Enrolment:
    """Implements HubCredential."""

    def __init__(self, ring: Keyring, join_token_file: Path | None, rotation: KeyRotation) -> None:
        self._ring = ring
        self._join_token_file = join_token_file
        self._rotation = rotation
        self._shown: _Shown | None = None
        self._judged: KeyState | None = None
        """What was in the key's place when that was shown."""
        self._refused: set[_Shown] = set()
        self._revoked = b""
        """The key that the hub called revoked."""
        self._unkept: Callable[[KeyState], KeyState] | None = None
        """What the last WELCOME made of the state, for as long as it could not be written down."""

    async def prepare(self) -> None:
        """Load the key, or make one and keep it, before anybody can have heard of it.

        One that is loaded is looked at again, since a replica may have replaced it, but nobody waits long for that: a
        cluster whose API server is down is still to be seen at the hub.
        """
        ring = self._ring
        try:
            async with asyncio.timeout(LOOK_S if ring.is_loaded else None):
                state = await ring.load()
            if state is None:
                # Emptied by somebody: without a join token a new key is nobody's, and the one in memory may be good.
                known = ring.state if ring.is_loaded and not self._token() else None
                await ring.change(lambda state: state or known or KeyState(ring.new_pair()))
                logger.info("agent key put back" if known else "agent key made", extra={"place": ring.place})
            elif state.current.seed == self._revoked and self._fresh_token():
                # A revoked key never comes back: whoever was given a new join token joins with a new key.
                await ring.change(
                    lambda state: state if state and state.current.seed != self._revoked else KeyState(ring.new_pair())
                )
                logger.info("agent key made anew, the old one was revoked", extra={"place": ring.place})
            elif self._unkept is not None:
                ring.assume(self._unkept(state))
        except (KeyUnusable, KeyConflict, TimeoutError) as exc:
            if not ring.is_loaded:
                raise _unread(exc, ring.place) from exc
            logger.warning("agent key not read again", extra={"place": ring.place, "error": str(exc) or "no answer"})

    async def look(self) -> None:
        """Load the key, and make none. Raises ConnectFailed when there is none to load."""
        try:
            async with asyncio.timeout(LOOK_S):
                state = await self._ring.load()
        except (KeyUnusable, TimeoutError) as exc:
            raise _unread(exc, self._ring.place) from exc
        if state is None and self._token():
            raise ConnectFailed(of_cause(causes.CREDENTIAL_NOT_JOINED))
        if state is None:
            raise _unusable(f"{self._ring.place} holds no key, and there is no join token")

    def present(self, hello: HubHello, claims: Claims) -> Credential:
        candidates = self._candidates()
        if not candidates:
            raise _unusable("the hub does not know this agent's key, and there is no join token")
        fresh = [shown for shown in candidates if shown not in self._refused]
        if not fresh:  # everything was refused: after a long wait, again from the start
            self._refused.clear()
        self._shown = (fresh or candidates)[0]
        self._judged = self._ring.found
        scheme, pair, token, cluster = self._shown
        seed, pins = pair.seed, claims.pins
        key = credentials.public_key(seed)
        transcript = self._ring.transcript(scheme, Proven(hello, claims), key, cluster=cluster, token=token)
        at, signature = transcript.signed_at, credentials.sign(seed, transcript)
        proof: JoinProof | SignatureProof
        if token:
            proof = JoinProof(token=token, key=key, pins=pins, signed_at=at, signature=signature)
        else:
            proof = SignatureProof(cluster=cluster, key=key, pins=pins, signed_at=at, signature=signature)
        return Credential(scheme=scheme, value=codec.encode(proof))

    async def welcomed(self, welcome: Welcome) -> None:
        """The hub knows the key that was shown: write down for which cluster, and that it is the current one."""
        self._refused.clear()
        self._revoked = b""
        uid, shown, judged = welcome.ext.get(CLUSTER_UID), self._shown, self._judged
        if not isinstance(uid, str) or not uid or shown is None:
            return
        proven = self._ring.proven = KeyState(shown.pair, uid)

        def settled(state: KeyState) -> KeyState:
            if state.next == shown.pair:
                return proven
            if state.current == shown.pair:
                return KeyState(state.current, uid, state.next)
            # What the hub did not take gives way; what a replica has put in its place since does not, nor a younger key
            # that was enrolled: what was refused may have been our clock.
            is_younger = bool(state.cluster_uid) and state.current.made_at > shown.pair.made_at
            return proven if state == judged and not is_younger else state

        if self._unkept is not None or settled(self._ring.state) != self._ring.state:
            self._unkept = settled
            await self._keep(settled)

    async def _keep(self, settled: Callable[[KeyState], KeyState]) -> None:
        """Write it down. What cannot be written is in memory: the session opens, and it is tried again."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._ring.change(lambda state: settled(state) if state else None)
        except (KeyUnusable, KeyConflict, TimeoutError) as exc:
            error = str(exc) or "no answer"
            logger.warning("joined, but this cannot be kept", extra={"place": self._ring.place, "error": error})
            self._ring.assume(settled(self._ring.state))
        else:
            self._unkept = None

    def refused(self, code: Code) -> bool:
        if code not in _TERMINAL or self._shown is None:
            return False
        if code is Code.REVOKED:
            self._revoked = self._shown.pair.seed
            if self._ring.proven is not None and self._ring.proven.current == self._shown.pair:
                self._ring.proven = None
            if not self._shown.token:
                self._refused.add(self._shown)
            return bool(self._fresh_token()) or any(shown not in self._refused for shown in self._last())
        self._refused.add(self._shown)
        return any(shown not in self._refused for shown in self._candidates())

    async def tend(self, link: Link, proven: Proven) -> None:
        while self._unkept is not None:
            await asyncio.sleep(KEEP_INTERVAL_S)
            if (unkept := self._unkept) is not None:  # a session that drains tends beside its replacement
                await self._keep(unkept)
        await self._rotation.tend(link, proven)

    def handlers(self, link: Link, proven: Proven) -> Mapping[Verb, Handler]:
        return self._rotation.handlers(link, proven)

    def mark(self) -> object:
        return None if self._join_token_file is None else mark_of(self._join_token_file)

    def _candidates(self) -> list[_Shown]:
        if not self._ring.is_loaded:
            return []
        state = self._ring.state
        found: list[_Shown] = []
        if state.cluster_uid:
            pairs = (state.current, state.next)
            found += [_Shown(credentials.SIGNATURE, pair, cluster=state.cluster_uid) for pair in pairs if pair]
        token = self._token()
        if token:
            found.append(_Shown(credentials.JOIN, state.current, token))
        return found + [shown for shown in self._last() if shown not in found]

    def _last(self) -> list[_Shown]:
        """The key that the hub took last."""
        proven = self._ring.proven
        return [] if proven is None else [_Shown(credentials.SIGNATURE, proven.current, cluster=proven.cluster_uid)]

    def _fresh_token(self) -> bytes:
        """A join token that was not refused yet, with whatever key."""
        token = self._token()
        return b"" if any(token == each.token for each in self._refused) else token

    def _token(self) -> bytes:
        """What the file holds; empty when there is none. It is optional once the agent has joined."""
        if self._join_token_file is None:
            return b""
        try:
            with self._join_token_file.open("rb") as file:
                return file.read(TOKEN_BYTES_MAX).strip()[:128]
        except OSError:
            return b""


def _unread(exc: Exception, place: str) -> ConnectFailed:
    """No key can be had of its place."""
    if isinstance(exc, KeyUnusable) and not exc.may_pass:
        return _unusable(str(exc))
    return ConnectFailed(of_cause(causes.CREDENTIAL_UNREAD, said=str(exc) or f"{place} does not answer"))


def _unusable(what: str) -> ConnectFailed:
    return ConnectFailed(of_cause(causes.CREDENTIAL_NONE, said=what))
