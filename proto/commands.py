"""The verbs of commands: what may be asked of the other side, with exact arguments and results.

A verb never names a cluster, a node or an agent: who is concerned follows from the session alone, so that no agent can
even say something about another one (facts/security.md F1). docs/protocol.md §5.4 is rendered from this table.
"""

import dataclasses
from typing import Annotated, Final, TypeVar

import msgspec

from proto import errors, messages
from proto.messages import Ext

_A = TypeVar("_A", bound="Fields")

_Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Signature = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}$")]
_Pins = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=253)], ...], msgspec.Meta(min_length=1, max_length=messages.PINS_MAX)
]
_Millis = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


_Pin = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]

CA_MAX: Final = 32_768
"""Characters of a CA bundle; two CAs of a hub have 1,300."""
ACCEPTED_MAX: Final = 8
PODS_MAX: Final = 180
"""Pods in one part of a map: a command has at most 61,440 bytes."""
CHANGES_MAX: Final = 64
"""Places in which a fresher token differs; there are four or five."""
NODES_MAX: Final = 5_000
"""Nodes in the table of a cluster."""
ROWS_MAX: Final = 48
"""Nodes in one part of it, for the same reason: the longest rows take 1,100 bytes."""
PARTS_MAX: Final = 256


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of arguments and results. Bytes travel as lower-case hexadecimal text."""


class Nothing(Fields, frozen=True):
    """No field."""


class ReplaceKey(Fields, frozen=True):
    """Arguments of `replace-key`."""

    key: _Key
    """The public key that shall be the agent's from now on."""
    pins: _Pins
    signed_at: _Millis
    signature: _Signature
    """By the new key, over the Transcript with purpose `rotate` and this key."""
    old_signature: _Signature
    """By the key that this session has proven, over the same."""


class ProveKey(Fields, frozen=True):
    """Arguments of `prove-key`."""

    key: _Key
    """The public key that the agent has now."""


class KeyProof(Fields, frozen=True):
    """Result of `prove-key`."""

    pins: _Pins
    signed_at: _Millis
    signature: _Signature
    """By that key, over the Transcript with purpose `renew`."""


class RegisterIssuer(Fields, frozen=True, omit_defaults=True):
    """Arguments of `register-issuer`."""

    issuer: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    """The claim `iss` of the cluster's ServiceAccount tokens. A name, never an address that the hub would dial."""
    jwks: Annotated[str, msgspec.Meta(max_length=40_000)]
    """The cluster's JSON Web Key Set, as its API server gives it: 1 to 16 keys, RSA of 2048 to 4096 bits with an
    exponent up to 65537, or of the curves P-256, P-384, P-521."""
    subjects: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=512)], ...], msgspec.Meta(min_length=1, max_length=8)
    ]
    """The ServiceAccounts that node agents of the cluster run with."""
    fallback: Annotated[str, msgspec.Meta(max_length=512)] = ""
    """Of these, the one whose agents may serve requests; empty or absent: none. A hub before this field refuses it."""


class RegisterPods(Fields, frozen=True):
    """Arguments of `register-pods`."""

    part: Annotated[int, msgspec.Meta(ge=0, lt=256)]
    parts: Annotated[int, msgspec.Meta(ge=1, le=256)]
    """How many parts the map has; the last one ends it."""
    pods: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=300)], ...], msgspec.Meta(max_length=PODS_MAX)] = ()
    """Uid of a pod, a space, the name of its node."""


_Tag = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
_Part = Annotated[int, msgspec.Meta(ge=0, lt=PARTS_MAX)]
_Rows = msgspec.Meta(max_length=ROWS_MAX)


class RegisterNodes(Fields, frozen=True):
    """Arguments of `register-nodes`."""

    total: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    """How many nodes the cluster has; the table has at most 5,000."""
    tags: Annotated[tuple[_Tag, ...], msgspec.Meta(min_length=1, max_length=PARTS_MAX)]
    """Of each part of the table, what names its content: the agent's choice, another one for another content."""


class NodesMissing(Fields, frozen=True):
    """Result of `register-nodes`."""

    parts: Annotated[tuple[_Part, ...], msgspec.Meta(max_length=PARTS_MAX)]
    """Numbers of those that the hub does not have with these tags: to be told."""


class TellNodes(Fields, frozen=True):
    """Arguments of `tell-nodes`. Columns, equally long, of printable ASCII, empty where unknown."""

    part: _Part
    tag: _Tag
    """As registered."""
    names: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=253)], ...], _Rows]
    roles: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=128)], ...], _Rows]
    """Of a node, separated by spaces."""
    kubelets: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], _Rows]
    """Versions."""
    systems: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=128)], ...], _Rows]
    """OS images."""
    kernels: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=128)], ...], _Rows]
    architectures: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=32)], ...], _Rows]
    addresses: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=256)], ...], _Rows]
    """Of a node, separated by spaces."""
    zones: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], _Rows]
    ready: Annotated[tuple[bool, ...], _Rows]
    fallback: Annotated[tuple[bool, ...], _Rows]
    """It has the label of the fallback. For display: who may serve follows from tokens alone."""


class TellVersion(Fields, frozen=True):
    """Arguments of `tell-version`."""

    kubernetes: Annotated[str, msgspec.Meta(pattern="^[!-~]{1,64}$")]
    """As the API server reports it; for display."""


class PresentToken(Fields, frozen=True):
    """Arguments of `present-token`."""

    token: Annotated[str, msgspec.Meta(max_length=16_384)]
    """A fresher ServiceAccount token of the same pod."""

    def __repr__(self) -> str:
        return "PresentToken(…)"


class RenewToken(Fields, frozen=True):
    """Arguments of `renew-token`."""

    at: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, lt=16_384)], ...], msgspec.Meta(max_length=CHANGES_MAX)]
    """Where header and payload (in base64url, the dot between them) differ from those of the last token."""
    texts: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=1_024)], ...], msgspec.Meta(max_length=CHANGES_MAX)]
    """What stands there instead, each as long as what it takes the place of."""
    signature: Annotated[str, msgspec.Meta(max_length=2_048)]
    """In base64url."""

    def __repr__(self) -> str:
        return "RenewToken(…)"


class LearnCa(Fields, frozen=True):
    """Arguments of `learn-ca`."""

    ca: Annotated[str, msgspec.Meta(min_length=1, max_length=CA_MAX)]
    """PEM of the CAs that the hub's certificates are and will be of: one, two while its CA is replaced."""
    pins: Annotated[tuple[_Pin, ...], msgspec.Meta(min_length=1, max_length=ACCEPTED_MAX)]
    """Every pin under which the hub may be known, those of TLS terminators in front of it included."""


class CaLearnt(Fields, frozen=True):
    """Result of `learn-ca`."""

    pins: Annotated[tuple[_Pin, ...], msgspec.Meta(min_length=1, max_length=ACCEPTED_MAX)]
    """Of the CAs that the agent trusts from now on."""
    keeps: bool
    """They outlive this process: it keeps them, or its settings name them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verb:
    """One verb. `by`: who says it, `hub` or `agent`."""

    name: str
    by: str
    text: str
    args: type[Fields]
    result: type[Fields]


REPLACE_KEY: Final = Verb(
    "replace-key",
    "agent",
    "The agent's key is replaced, at once for this session, within 60 s for all others. The same key again is fine.",
    ReplaceKey,
    Nothing,
)
PROVE_KEY: Final = Verb(
    "prove-key", "hub", "Prove the current key on this session, which began with an older one.", ProveKey, KeyProof
)
ROTATE_KEY: Final = Verb("rotate-key", "hub", "Make a new key now and replace the old one.", Nothing, Nothing)

REGISTER_ISSUER: Final = Verb(
    "register-issuer",
    "agent",
    "Role cluster: who signs the cluster's ServiceAccount tokens, which prove its node agents.",
    RegisterIssuer,
    Nothing,
)
REGISTER_PODS: Final = Verb(
    "register-pods",
    "agent",
    "Role cluster, before Kubernetes 1.32: on which node each node agent's pod runs.",
    RegisterPods,
    Nothing,
)
REGISTER_NODES: Final = Verb(
    "register-nodes",
    "agent",
    "Role cluster: the table of the cluster's nodes, by the tags of its parts. It takes the place of what this agent"
    " registered before; the parts that the result names are to be told.",
    RegisterNodes,
    NodesMissing,
)
TELL_NODES: Final = Verb(
    "tell-nodes",
    "agent",
    "Role cluster: one part of the table that was registered. REFUSED when another one was registered meanwhile.",
    TellNodes,
    Nothing,
)
TELL_VERSION: Final = Verb(
    "tell-version",
    "agent",
    "Role cluster: the API server has another version than this session began with, or than was said last.",
    TellVersion,
    Nothing,
)
LEARN_CA: Final = Verb(
    "learn-ca",
    "hub",
    "Trust these CAs, and of those trusted until now only what has one of these pins. Refused when nothing that is"
    " trusted now would stay.",
    LearnCa,
    CaLearnt,
)
PRESENT_TOKEN: Final = Verb("present-token", "agent", "Role node: go on until this token ends.", PresentToken, Nothing)
RENEW_TOKEN: Final = Verb(
    "renew-token",
    "agent",
    "Role node: the same with a token that differs little from the last one that the hub took on this session.",
    RenewToken,
    Nothing,
)

VERBS: Final[dict[str, Verb]] = {
    verb.name: verb
    for verb in (
        REPLACE_KEY, PROVE_KEY, ROTATE_KEY, REGISTER_ISSUER, REGISTER_PODS, REGISTER_NODES, TELL_NODES, LEARN_CA,
        PRESENT_TOKEN, RENEW_TOKEN, TELL_VERSION,
    )
}  # fmt: skip
"""Every verb by its name."""


def to_ext(fields: Fields) -> Ext:
    """Arguments or results as they travel."""
    plain: Ext = msgspec.to_builtins(fields)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def from_ext(shape: type[_A], values: Ext) -> _A:
    """Raises StreamReset PROTOCOL for anything but exactly the fields of `shape`; the text never quotes them."""
    try:
        return msgspec.convert(values, shape, strict=True)
    except (msgspec.ValidationError, RecursionError):
        raise errors.StreamReset(f"malformed {shape.__name__}", errors.Code.PROTOCOL) from None
