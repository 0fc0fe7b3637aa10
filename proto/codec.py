"""Control messages to and from their msgpack bytes, with every check that hostile input needs.

The only importer of a msgpack library. A payload is one complete map of at most 61,440 bytes and it must be the
*canonical* encoding of what it decodes to: the receiver encodes the decoded message again and compares. That refuses
duplicate keys, over-long integers, trailing bytes and extension types by one rule, and it means that no two decoders
can ever read one message differently. It costs about half a microsecond for a request head.
"""

from typing import Final, TypeVar, cast

import msgspec

from proto import errors, limits, messages

_W = TypeVar("_W", bound=messages.Wire)

_TYPES: Final[tuple[type[messages.Wire], ...]] = (
    messages.HttpRequest,
    messages.TcpTarget,
    messages.Command,
    messages.Result,
    messages.Subscription,
    messages.Accepted,
    messages.HttpHead,
    messages.Trailers,
    messages.Goodbye,
    messages.HubHello,
    messages.AgentAuth,
    messages.Welcome,
    messages.Refused,
    messages.SignatureProof,
    messages.JoinProof,
    messages.Transcript,
)

_encode: Final = msgspec.msgpack.Encoder().encode
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(kind).decode for kind in _TYPES}


def encode(message: messages.Wire) -> bytes:
    """Return the payload for `message`; raise MessageTooBig above 61,440 bytes, UsageError for wrong types."""
    try:
        payload = _encode(message)
    except (msgspec.MsgspecError, TypeError, UnicodeEncodeError, OverflowError, RecursionError) as exc:
        raise errors.UsageError(f"cannot encode {type(message).__name__}") from exc
    if len(payload) > limits.CONTROL_MAX_BYTES:
        raise errors.MessageTooBig(f"{type(message).__name__} of {len(payload)} bytes")
    return payload


def decode(kind: type[_W], payload: bytes) -> _W:
    """Return the message of type `kind` in `payload`; raise ProtocolError for anything but its canonical encoding."""
    if len(payload) > limits.CONTROL_MAX_BYTES:
        raise errors.ProtocolError(f"{kind.__name__} of {len(payload)} bytes", errors.Code.TOO_BIG)
    try:
        message = cast(_W, _DECODERS[kind](payload))
        # Encoding cannot fail on what was just decoded, save for a surrogate that no decoder lets through.
        canonical = _encode(message)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as exc:
        # The library's text may quote the input, which may hold a credential: name the type and nothing else.
        raise errors.ProtocolError(f"malformed {kind.__name__}") from exc
    if canonical != payload:
        raise errors.ProtocolError(f"{kind.__name__} is not in canonical form")
    return message
