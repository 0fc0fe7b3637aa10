"""The agent's key in memory and in its place, and what it signs. Shared by enrolment and rotation."""

import hashlib
from collections.abc import Callable
from typing import Final

from agent.keys import KeyConflict, KeyPair, KeyState, KeyStore
from agent.uplink.credentials import Proven
from proto import credentials
from proto.messages import Transcript

_TRIES: Final = 8
"""Compare-and-swap against a handful of replicas."""


class Keyring:
    """What was last seen in the store. `wall`: seconds since the epoch."""

    def __init__(self, store: KeyStore, wall: Callable[[], float]) -> None:
        self.place = store.place
        self.wall = wall
        self._store = store
        self._state: KeyState | None = None
        self.found: KeyState | None = None
        """What the store was last seen to hold, also while something else is assumed."""
        self.proven: KeyState | None = None
        """The key that the hub has taken last, and for which cluster, whatever becomes of its place meanwhile."""

    @property
    def is_loaded(self) -> bool:
        return self._state is not None

    @property
    def state(self) -> KeyState:
        """The key as last seen or assumed; only once it was loaded or made."""
        assert self._state is not None
        return self._state

    async def load(self) -> KeyState | None:
        """What the store has now. Raises KeyUnusable."""
        kept = await self._store.load()
        self._see(kept.state)
        return kept.state

    async def change(self, decide: Callable[[KeyState | None], KeyState | None]) -> None:
        """Replace what is kept by what `decide` makes of it, as often as others change it meanwhile; None or the same
        leaves it. Raises KeyUnusable, KeyConflict."""
        for _ in range(_TRIES):
            kept = await self._store.load()
            wanted = decide(kept.state)
            if wanted is not None and wanted != kept.state:
                try:
                    kept = await self._store.save(wanted, kept.version)
                except KeyConflict:
                    continue
            self._see(kept.state)
            return
        raise KeyConflict(f"{self.place} is changed by others all the time")

    def assume(self, state: KeyState) -> None:
        """Go on with what could not be kept."""
        self._state = state

    def _see(self, state: KeyState | None) -> None:
        if state is not None:
            self.found = self._state = state

    def follow(self, pair: KeyPair) -> None:
        """The hub has this key now in place of the one that it took."""
        if self.proven is not None:
            self.proven = KeyState(pair, self.proven.cluster_uid)

    def new_pair(self) -> KeyPair:
        return KeyPair(credentials.new_seed(), self.wall())

    def transcript(
        self, purpose: str, proven: Proven, key: bytes, *, cluster: str | None = None, token: bytes = b""
    ) -> Transcript:
        """What a key signs on this session, now."""
        hello, claims = proven.hello, proven.claims
        return Transcript(
            purpose=purpose,
            hub_id=hello.hub_id,
            nonce=hello.nonce,
            pins=claims.pins,
            cluster=self.state.cluster_uid if cluster is None else cluster,
            token_sha256=hashlib.sha256(token).digest() if token else b"",
            role=claims.role,
            instance=claims.instance,
            epoch=claims.epoch,
            signed_at=int(self.wall() * 1000),
            key=key,
        )
