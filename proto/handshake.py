"""HELLO, AUTH, WELCOME or REFUSED: who is there, and under which version and limits (P5).

Sans-I/O: the caller moves one WebSocket message per step, bounds the time (10 s) and refuses longer messages than
64 KiB before they are complete. Each handshake message holds exactly one frame on stream 0 without flags.

    hub                                   agent
    hello()            -- HELLO   -->     receive_hello()
    receive()          <-- AUTH   --      auth()
    welcome()/refuse() -- WELCOME -->     receive_answer()
"""

import dataclasses
from typing import Final, TypeVar

from proto import codec, compression, errors, frames, messages, transitions, versions
from proto import limits as bounds
from proto.facts import NO_FACTS, NodeFacts, to_ext
from proto.frames import FrameType
from proto.transitions import SessionInput, SessionState

CLUSTER_UID: Final = "cluster_uid"
"""Key in the `ext` of WELCOME: what an enrolled agent names when it signs."""
CONTROL_PLANE: Final = "control_plane"
"""Key in the `ext` of AUTH: true when the agent's node is one of the control plane. The hub tries such ones first."""
PINGS: Final = "pings"
"""Key in `ext` of HELLO and AUTH: pings a second that the sender bears, where it is not 20."""
TRIAL: Final = "trial"
"""Key in the `ext` of HELLO and AUTH: the credential is checked and answered, and no session comes of it."""

_W = TypeVar("_W", bound=messages.Wire)


class TrialNotOffered(errors.ProtocolError):
    """The hub would take a trial for a session: nothing was said to it. No fault of either side."""


@dataclasses.dataclass(frozen=True, slots=True)
class Negotiated:
    """What both sides keep to for the life of the session."""

    version: int
    limits: messages.Bounds
    """Of each bound the smaller of both sides."""
    pings_per_s: float = bounds.UNSAID_PINGS_PER_S
    """What the peer bears in the long run."""
    compresses: bool = False
    """The agent may compress bodies of answers (proto.compression)."""


def _offer(limits: bounds.Limits, *, compresses: bool) -> messages.Ext:
    """What we say in `ext`; nothing where it is what silence means."""
    pings = int(limits.ping_per_s)
    said: messages.Ext = {} if pings == bounds.UNSAID_PINGS_PER_S else {PINGS: pings}
    return said | (compression.OFFER if compresses else {})


def _pings(ext: messages.Ext) -> float:
    """What the peer says of pings; the old figure when it says nothing that makes sense."""
    said = ext.get(PINGS)
    return float(said) if type(said) is int and said > 0 else bounds.UNSAID_PINGS_PER_S


class _Handshake:
    """State and framing of either side. `compresses`: whether this side wants bodies compressed."""

    __slots__ = ("_compresses", "_negotiated", "_state", "limits")

    def __init__(self, limits: bounds.Limits, *, compresses: bool) -> None:
        self.limits = limits
        self._compresses = compresses
        self._state = SessionState.NEW
        self._negotiated: Negotiated | None = None

    @property
    def state(self) -> SessionState:
        return self._state

    @property
    def negotiated(self) -> Negotiated:
        """The agreement, known to the hub after AUTH and to the agent after WELCOME; UsageError before."""
        if self._negotiated is None:
            raise errors.UsageError("nothing is negotiated yet")
        return self._negotiated

    def _advance(self, what: SessionInput, *, ours: bool) -> None:
        self._state = transitions.advance_session(self._state, what, ours=ours)

    def _send(self, kind: FrameType, what: SessionInput, message: messages.Wire) -> bytes:
        self._advance(what, ours=True)
        return frames.encode(kind, 0, 0, codec.encode(message))

    def _payload(self, message: bytes) -> tuple[int, bytes]:
        if len(message) > bounds.HANDSHAKE_MAX_BYTES:
            raise errors.ProtocolError(f"handshake message of {len(message)} bytes", errors.Code.TOO_BIG)
        found = frames.split(message)
        kind, flags, stream, payload = found[0]
        if len(found) != 1 or flags or stream:
            raise errors.ProtocolError("a handshake message is one frame on stream 0 without flags")
        return kind, payload

    def _receive(self, message: bytes, kind: FrameType, what: SessionInput, shape: type[_W]) -> _W:
        got, payload = self._payload(message)
        if got != kind:
            raise errors.ProtocolError(f"expected {kind.name}, got frame type {got:#x}")
        decoded = codec.decode(shape, payload)
        self._advance(what, ours=False)
        return decoded


class HubHandshake(_Handshake):
    """The hub's side. `nonce` is 32 fresh random bytes, drawn by the caller. `tries`: it offers trials."""

    __slots__ = ("_build", "_hub_id", "_tries", "_versions", "is_trial", "nonce")

    def __init__(
        self,
        hub_id: str,
        nonce: bytes,
        limits: bounds.Limits,
        *,
        build: str = versions.PRODUCT_VERSION,
        wire_versions: tuple[int, int] = versions.OURS,
        compresses: bool = False,
        tries: bool = False,
    ) -> None:
        super().__init__(limits, compresses=compresses)
        self._hub_id = hub_id
        self._tries = tries
        self.nonce = nonce
        self._build = build
        self._versions = wire_versions
        self.is_trial = False
        """The agent asks what would come of its credential: answer, register nothing, close. Known after AUTH."""

    def hello(self) -> bytes:
        """Return the first message."""
        hello = messages.HubHello(
            hub_id=self._hub_id,
            nonce=self.nonce,
            versions=self._versions,
            limits=self.limits.offer(),
            build=self._build,
            ext=_offer(self.limits, compresses=self._compresses) | ({TRIAL: True} if self._tries else {}),
        )
        return self._send(FrameType.HELLO, SessionInput.HELLO, hello)

    def receive(self, message: bytes) -> messages.AgentAuth:
        """Return the agent's AUTH. Raise ProtocolError, VersionMismatch: send `refuse` and end."""
        auth = self._receive(message, FrameType.AUTH, SessionInput.AUTH, messages.AgentAuth)
        version = versions.negotiate(self._versions, auth.versions)
        compresses = self._compresses and compression.is_spoken(auth.ext)
        agreed = bounds.merge(self.limits.offer(), auth.limits)
        self._negotiated = Negotiated(version, agreed, _pings(auth.ext), compresses)
        self.is_trial = self._tries and auth.ext.get(TRIAL) is True
        return auth

    def make_welcome(self, session_id: str, cluster: str, *, cluster_uid: str = "") -> messages.Welcome:
        """Return the WELCOME for what was negotiated, to be passed to `welcome`."""
        agreed = self.negotiated
        ext: messages.Ext = {CLUSTER_UID: cluster_uid} if cluster_uid else {}
        return messages.Welcome(
            session_id=session_id, version=agreed.version, limits=agreed.limits, cluster=cluster, ext=ext
        )

    def welcome(self, welcome: messages.Welcome) -> bytes:
        """Return the message that opens the session. Its version and limits must be the negotiated ones."""
        if (welcome.version, welcome.limits) != (self.negotiated.version, self.negotiated.limits):
            raise errors.UsageError("WELCOME differs from what was negotiated")
        return self._send(FrameType.WELCOME, SessionInput.WELCOME, welcome)

    def refuse(self, refused: messages.Refused) -> bytes:
        """Return the message that ends the handshake; possible after `hello` in any state but an open session."""
        return self._send(FrameType.REFUSED, SessionInput.REFUSED, refused)


class AgentHandshake(_Handshake):
    """The agent's side. `instance` is 16 random bytes of this process, `epoch` grows with each of its sessions.

    `is_trial`: only ask what would come of the credential. A hub that does not know this ends it before AUTH.
    `is_control_plane`: the agent's node is one of the control plane. `facts`: what else it sees of its node.
    """

    __slots__ = ("_facts", "_fields", "_hello", "_is_control_plane", "_is_trial", "_versions")

    def __init__(
        self,
        role: str,
        instance: bytes,
        epoch: int,
        limits: bounds.Limits,
        *,
        node: str = "",
        build: str = versions.PRODUCT_VERSION,
        kubernetes: str = "",
        wire_versions: tuple[int, int] = versions.OURS,
        compresses: bool = False,
        is_trial: bool = False,
        is_control_plane: bool = False,
        facts: NodeFacts = NO_FACTS,
    ) -> None:
        super().__init__(limits, compresses=compresses)
        self._versions = wire_versions
        self._is_trial = is_trial
        self._is_control_plane = is_control_plane
        self._facts = facts
        self._hello: messages.HubHello | None = None
        self._fields = (role, instance, epoch, node, build, kubernetes)

    def receive_hello(self, message: bytes) -> messages.HubHello:
        """Return the hub's HELLO; its nonce is what a signature signs. Raise ProtocolError, VersionMismatch,
        TrialNotOffered."""
        hello = self._receive(message, FrameType.HELLO, SessionInput.HELLO, messages.HubHello)
        versions.negotiate(self._versions, hello.versions)
        if self._is_trial and hello.ext.get(TRIAL) is not True:
            raise TrialNotOffered("the hub is older than the trial of a credential", errors.Code.VERSION)
        self._compresses = self._compresses and compression.is_spoken(hello.ext)
        self._hello = hello
        return hello

    def auth(self, credential: messages.Credential) -> bytes:
        """Return the message that carries the credential. Send it only over a verified connection."""
        role, instance, epoch, node, build, kubernetes = self._fields
        ext = _offer(self.limits, compresses=self._compresses)
        ext |= ({TRIAL: True} if self._is_trial else {}) | ({CONTROL_PLANE: True} if self._is_control_plane else {})
        ext |= to_ext(self._facts)
        auth = messages.AgentAuth(
            role=role,
            instance=instance,
            epoch=epoch,
            versions=self._versions,
            limits=self.limits.offer(),
            credential=credential,
            node=node,
            build=build,
            kubernetes=kubernetes,
            ext=ext,
        )
        return self._send(FrameType.AUTH, SessionInput.AUTH, auth)

    def receive_answer(self, message: bytes) -> messages.Welcome | messages.Refused:
        """Return WELCOME (the session is open) or REFUSED. A refusal may also come instead of waiting for AUTH.

        Raise ProtocolError when the hub agreed to something that neither side offered.
        """
        if frames.split(message)[0][0] == FrameType.REFUSED:
            return self._receive(message, FrameType.REFUSED, SessionInput.REFUSED, messages.Refused)
        welcome = self._receive(message, FrameType.WELCOME, SessionInput.WELCOME, messages.Welcome)
        assert self._hello is not None  # the state table lets no WELCOME pass before HELLO
        agreed = Negotiated(
            versions.negotiate(self._versions, self._hello.versions),
            bounds.merge(self.limits.offer(), self._hello.limits),
            _pings(self._hello.ext),
            self._compresses,
        )
        if (welcome.version, welcome.limits) != (agreed.version, agreed.limits):
            raise errors.ProtocolError("the hub's WELCOME differs from what was offered")
        self._negotiated = agreed
        return welcome
