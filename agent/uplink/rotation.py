"""Replacing the agent's key over an open session, without a word to anything that runs on it.

    keep the next key -> tell the hub, signed by both -> make it the current one

A crash between any two steps is taken up from what is kept: the current key is good until the hub has the next one and
for a grace behind it; after that the next one is (agent.uplink.enrolment shows both in turn). Replicas share what is
kept, so a rotation that one began is the rotation of all; the hub has each prove the new key on its own session.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final

from agent.keys import KeyConflict, KeyState, KeyUnusable
from agent.uplink.credentials import Proven
from agent.uplink.keyring import Keyring
from proto import credentials
from proto.aio.commands import Handler, call
from proto.aio.link import Link
from proto.commands import PROVE_KEY, REPLACE_KEY, ROTATE_KEY, KeyProof, Nothing, ProveKey, ReplaceKey, Verb
from proto.errors import Code, RiataError, StreamReset

logger = logging.getLogger(__name__)

KEY_LIFETIME_S: Final = 30 * 86_400.0
"""A key is replaced when it is this old."""
AHEAD_S: Final = 86_400.0
"""A key that was made so long after now was made under a wrong clock, and its age would say nothing for years."""
INTERVAL_S: Final = 60.0
"""How often its age is looked at, and a rotation that was cut short is taken up again."""


class KeyRotation:
    """The agent's part of a rotation."""

    def __init__(self, ring: Keyring, *, key_lifetime_s: float = KEY_LIFETIME_S) -> None:
        self._ring = ring
        self._key_lifetime_s = key_lifetime_s
        self._is_wished = False
        self._at_work = asyncio.Lock()

    async def tend(self, link: Link, proven: Proven) -> None:
        """Replace the key when it is old, and finish what an earlier attempt has begun. Cancelled with the session."""
        while True:
            if self._ring.state.next is not None or self._is_old(self._ring.state):
                try:
                    await self.rotate(link, proven)
                except (RiataError, KeyUnusable, KeyConflict, TimeoutError) as exc:
                    logger.warning("agent key not replaced", extra={"place": self._ring.place, "error": str(exc)})
            await asyncio.sleep(INTERVAL_S)

    def handlers(self, link: Link, proven: Proven) -> Mapping[Verb, Handler]:
        """What the hub may ask."""

        async def prove_key(args: ProveKey) -> KeyProof:
            return await self._prove(proven, bytes.fromhex(args.key))

        async def rotate_key(args: Nothing) -> Nothing:
            self._is_wished = True
            with _as_reset():
                await self.rotate(link, proven)
            return Nothing()

        return {PROVE_KEY: prove_key, ROTATE_KEY: rotate_key}

    async def rotate(self, link: Link, proven: Proven) -> None:
        """One rotation, or the rest of one. Raises KeyUnusable, KeyConflict, RiataError, TimeoutError."""
        async with self._at_work:
            before = self._ring.state
            is_due = self._is_wished or self._is_old(before)
            await self._ring.change(self._begun)
            self._is_wished = False
            state = self._ring.state
            if state.next is None:
                if is_due and state.current == before.current:
                    raise KeyUnusable(
                        f"{self._ring.place} does not hold the key that this agent has proven; it is written there"
                        " within a minute of the join, or at the next connect"
                    )
                return  # another replica has done it
            key = credentials.public_key(state.next.seed)
            transcript = self._ring.transcript(credentials.ROTATE, proven, key)
            await call(
                link,
                REPLACE_KEY,
                ReplaceKey(
                    key=key.hex(),
                    pins=proven.claims.pins,
                    signed_at=transcript.signed_at,
                    signature=credentials.sign(state.next.seed, transcript).hex(),
                    old_signature=credentials.sign(state.current.seed, transcript).hex(),
                ),
            )
            following = state.next
            self._ring.follow(following)
            await self._ring.change(
                lambda found: KeyState(following, found.cluster_uid) if found and found.next == following else found
            )
            logger.info("agent key replaced", extra={"place": self._ring.place})

    def _begun(self, state: KeyState | None) -> KeyState | None:
        """What is kept while a rotation is under way: one that is, stays; a key that is young needs none."""
        if state is None or not state.cluster_uid or state.next is not None:
            return state
        is_wished = self._is_wished and state.current == self._ring.state.current
        if not is_wished and not self._is_old(state):
            return state
        return KeyState(state.current, state.cluster_uid, self._ring.new_pair())

    def _is_old(self, state: KeyState) -> bool:
        age = self._ring.wall() - state.current.made_at
        return bool(state.cluster_uid) and not -AHEAD_S < age < self._key_lifetime_s

    async def _prove(self, proven: Proven, key: bytes) -> KeyProof:
        """The proof of a key that another replica may have made. Raises StreamReset when it is not here yet."""
        with _as_reset():
            await self._ring.load()
        for pair in (self._ring.state.current, self._ring.state.next):
            if pair is not None and credentials.public_key(pair.seed) == key:
                transcript = self._ring.transcript(credentials.RENEW, proven, key)
                signature = credentials.sign(pair.seed, transcript)
                self._ring.follow(pair)  # the hub asks for none that it does not have
                return KeyProof(pins=proven.claims.pins, signed_at=transcript.signed_at, signature=signature.hex())
        raise StreamReset("this agent does not have that key yet", Code.REFUSED)


class _as_reset(contextlib.AbstractContextManager[None]):
    """A key that cannot be read or kept, as the hub is told of it."""

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, KeyUnusable | KeyConflict):
            raise StreamReset(str(exc), Code.INTERNAL) from None
