"""Control messages: the msgpack maps inside frames, as exact frozen types.

A map has exactly the fields of its type. What a later version adds goes into `ext`, whose unknown keys are ignored;
everything else unknown ends the session. Fields that hold their default are left out on the wire. Encoding and
decoding, with their checks, are in `proto.codec`.
"""

import enum
from typing import Annotated, Final

import msgspec

NONCE_BYTES: Final = 32
INSTANCE_BYTES: Final = 16
KEY_BYTES: Final = 32
"""A raw Ed25519 public key (RFC 8032)."""
SIGNATURE_BYTES: Final = 64
PINS_MAX: Final = 2
"""One pin, or two while the hub's CA is being replaced."""
HEADERS_MAX: Final = 1024
"""Fields in one header list. The hub's front admits 256; impersonation groups come on top."""


class StreamKind(enum.IntEnum):
    """What a stream carries: decides the type of its OPEN message and whether a HEAD follows."""

    TCP = 0
    HTTP = 1
    CMD = 2
    SUB = 3


class StreamClass(enum.IntEnum):
    """How urgent a stream is. A stream that moves much at once is served as bulk whatever its class."""

    INTERACTIVE = 0
    NORMAL = 1
    BULK = 2


_Scalar = bool | int | str | None
Ext = dict[str, _Scalar | list[_Scalar] | dict[str, _Scalar]]
"""Additions of later versions, and arguments of commands: text keys; booleans, integers, text, nil; one level of
list or map of these. Nothing nests deeper, so a decoder's stack and memory are bounded by the message's size."""

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in order: lower-case name, value without surrounding white space. Validated on receipt."""

_Headers = Annotated[Headers, msgspec.Meta(max_length=HEADERS_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
_Version = Annotated[int, msgspec.Meta(ge=0, lt=2**16)]
_Name = Annotated[str, msgspec.Meta(max_length=253)]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_Instance = Annotated[bytes, msgspec.Meta(min_length=INSTANCE_BYTES, max_length=INSTANCE_BYTES)]
_Epoch = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Role = Annotated[str, msgspec.Meta(pattern="^(cluster|node)$", max_length=7)]
_Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
_Pins = Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1, max_length=PINS_MAX)]
_Millis = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of every control message."""


class HttpRequest(Wire, frozen=True):
    """OPEN of kind http: one Kubernetes request."""

    method: Annotated[str, msgspec.Meta(min_length=1, max_length=16)]
    """Upper-case HTTP method."""
    path: bytes
    """Raw request target behind the cluster prefix, query included, byte for byte; begins with `/`."""
    headers: _Headers
    """No hop-by-hop field, no host, no authorization; content-length only when the length of the body is known."""
    upgrade: Annotated[str, msgspec.Meta(max_length=16)] = ""
    """Empty, `websocket` or `SPDY/3.1`."""
    ext: Ext = {}


class TcpTarget(Wire, frozen=True):
    """OPEN of kind tcp: a raw connection to a target on the agent's list."""

    host: _Name
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    ext: Ext = {}


class Command(Wire, frozen=True):
    """OPEN of kind cmd: a named operation with an idempotency key."""

    verb: _Name
    args: Ext = {}
    key: _Name = ""
    """Idempotency key: a second command with the same key is the same command."""
    ext: Ext = {}


class Result(Wire, frozen=True):
    """The DATA of a command's answer, as a whole: what came of it, by verb."""

    values: Ext = {}
    ext: Ext = {}


class Subscription(Wire, frozen=True):
    """OPEN of kind sub: topics whose events flow back as DATA."""

    topics: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=64)]
    ext: Ext = {}


Opening = HttpRequest | TcpTarget | Command | Subscription


class Accepted(Wire, frozen=True):
    """ACCEPT: the stream was taken."""

    ext: Ext = {}


class HttpHead(Wire, frozen=True):
    """HEAD: the final response head, or 101 after which DATA is opaque."""

    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    """101 for an upgrade that was asked for, otherwise 200 to 599."""
    headers: _Headers
    """No hop-by-hop field; content-length only when exact."""
    ext: Ext = {}


class Trailers(Wire, frozen=True):
    """TRAILERS: fields after the body; ends the sender's half."""

    headers: _Headers
    ext: Ext = {}


class Goodbye(Wire, frozen=True):
    """GOAWAY: the part behind last id, code and drain time."""

    text: _Text = ""
    retry_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    """Wish of the sender: reconnect not before this. 0 = no wish."""
    ext: Ext = {}


class Bounds(Wire, frozen=True):
    """Limits of a session, exchanged in the handshake; of each the smaller one holds."""

    data: _Count
    """Payload of a DATA frame, bytes."""
    streams: _Count
    """Streams open at once, per opener."""
    backlog: _Count
    """Streams without an answer at once, per opener."""
    window: _Count
    """Credit of a fresh stream in each direction, bytes."""
    session_window: _Count
    """Credit of the session in each direction, bytes."""


class Credential(Wire, frozen=True):
    """Proof of who the agent is."""

    scheme: _Name
    """`bearer`: value is the token. `join`: JoinProof. `signature`: SignatureProof. `service-account`: the token."""
    value: bytes

    def __repr__(self) -> str:
        return f"Credential(scheme={self.scheme!r}, value=<{len(self.value)} bytes>)"


class SignatureProof(Wire, frozen=True):
    """Value of a credential of scheme `signature`: an enrolled key signs this session's Transcript."""

    cluster: _Name
    """The cluster's uid, as WELCOME told it when the agent joined."""
    key: _Key
    pins: _Pins
    """Of the CA in which the hub's chain on this connection ends; where that is not known, of every trusted CA."""
    signed_at: _Millis
    """Milliseconds since 1970 by the agent's clock."""
    signature: _Signature
    ext: Ext = {}


class JoinProof(Wire, frozen=True):
    """Value of a credential of scheme `join`: a join token, and the key that shall be enrolled signs the Transcript."""

    token: Annotated[bytes, msgspec.Meta(max_length=128)]
    key: _Key
    pins: _Pins
    """As in SignatureProof."""
    signed_at: _Millis
    """As in SignatureProof."""
    signature: _Signature
    ext: Ext = {}

    def __repr__(self) -> str:
        return f"JoinProof(key={self.key.hex()})"


class Transcript(Wire, frozen=True):
    """What an agent's key signs; never sent. Both sides make it from what they know."""

    purpose: Annotated[str, msgspec.Meta(pattern="^(signature|join|rotate|renew)$", max_length=9)]
    hub_id: _Name
    nonce: _Nonce
    """The nonce of the session's HELLO."""
    pins: _Pins
    cluster: _Name
    """The cluster's uid; empty with `join`, where the token stands for it."""
    token_sha256: bytes
    """SHA-256 of the join token's text with `join`, else empty."""
    role: _Role
    instance: _Instance
    epoch: _Epoch
    signed_at: _Millis
    key: _Key
    """The public key that is proven."""
    ext: Ext = {}


class HubHello(Wire, frozen=True):
    """HELLO: the hub's first word, before it knows anything of the peer."""

    hub_id: _Name
    nonce: _Nonce
    versions: tuple[_Version, _Version]
    """Oldest and newest wire version spoken."""
    limits: Bounds
    build: _Name = ""
    ext: Ext = {}


class AgentAuth(Wire, frozen=True):
    """AUTH: the agent's answer. The cluster comes from the credential alone."""

    role: _Role
    """What the agent is; the credential must agree."""
    instance: _Instance
    """Random per process."""
    epoch: _Epoch
    """Grows with every session of the instance; a higher one supersedes."""
    versions: tuple[_Version, _Version]
    limits: Bounds
    credential: Credential
    node: _Name = ""
    """Name of the Kubernetes node, role node only."""
    build: _Name = ""
    kubernetes: _Name = ""
    """The API server's version, as it reported it; for display."""
    ext: Ext = {}


class Welcome(Wire, frozen=True):
    """WELCOME: the session is open. Version and limits are the agreed ones."""

    session_id: _Name
    version: _Version
    limits: Bounds
    cluster: _Name = ""
    """The cluster's name, for the agent's logs."""
    ext: Ext = {}


class Refused(Wire, frozen=True):
    """REFUSED: the handshake ends here."""

    code: Annotated[int, msgspec.Meta(ge=1, lt=255)]
    """A `proto.errors.Code`; a number that the receiver does not know means INTERNAL."""
    text: _Text = ""
    retry_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0
    ext: Ext = {}


OPENING_OF_KIND: Final[dict[StreamKind, type[Opening]]] = {
    StreamKind.TCP: TcpTarget,
    StreamKind.HTTP: HttpRequest,
    StreamKind.CMD: Command,
    StreamKind.SUB: Subscription,
}
"""Which message an OPEN of each kind carries."""
