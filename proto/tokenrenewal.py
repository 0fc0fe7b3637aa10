"""A fresher ServiceAccount token as what differs from the one shown before: the same pod's, so little does.

Of the 1,200 characters of a token with an RSA key, 460 are new: the signature and the claims `exp`, `iat`, `nbf` and
`jti`. An idle node agent says them 180 times a day. The hub puts the token together and checks it whole, as any other:
what was put together wrongly is a token with a wrong signature.
"""

from typing import Final

from proto.commands import CHANGES_MAX, RenewToken
from proto.errors import Code, StreamReset

_NEAR: Final = 4
"""Characters between two changes that cost less than a change of their own."""
_SIGNATURE_MAX: Final = 2_048


def signed_part(token: str) -> str:
    """Header and payload of a JWT: what a side remembers. Without its signature it proves nothing to anybody."""
    return token.rpartition(".")[0]


def difference(before: str, token: str) -> RenewToken | None:
    """What makes the signed part `before` into that of `token`; None where the whole token is to be said."""
    signed, _, signature = token.rpartition(".")
    if not before or len(before) != len(signed) or len(signature) > _SIGNATURE_MAX:
        return None
    starts: list[int] = []
    ends: list[int] = []
    for at, (one, other) in enumerate(zip(before, signed, strict=True)):
        if one == other:
            continue
        if ends and at - ends[-1] <= _NEAR:
            ends[-1] = at + 1
        else:
            starts.append(at)
            ends.append(at + 1)
    if len(starts) > CHANGES_MAX:
        return None
    texts = tuple(signed[start:end] for start, end in zip(starts, ends, strict=True))
    return RenewToken(at=tuple(starts), texts=texts, signature=signature)


def renewed(before: str, args: RenewToken) -> str:
    """The token. Raises StreamReset PROTOCOL for changes that are not within `before`, one behind the other."""
    if len(args.at) != len(args.texts):
        raise StreamReset("each change has its place", Code.PROTOCOL)
    pieces: list[str] = []
    reached = 0
    for at, text in zip(args.at, args.texts, strict=True):
        if at < reached or at + len(text) > len(before):
            raise StreamReset("a change is not within the token that was shown", Code.PROTOCOL)
        pieces += (before[reached:at], text)
        reached = at + len(text)
    return "".join((*pieces, before[reached:], ".", args.signature))
