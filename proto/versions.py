"""Product version, wire version and the rule by which two peers agree on one."""

from typing import Final

from proto import errors

PRODUCT_VERSION: Final = "0.1.0"

WIRE_VERSION: Final = 1
"""The newest wire version this build speaks."""

WIRE_MIN: Final = 1
"""The oldest wire version this build still speaks: the hub is upgraded first, agents may be one version behind."""

SUBPROTOCOL: Final = "riata.mux.v1"
"""WebSocket subprotocol. It changes only when the eight-byte frame header itself changes."""

OURS: Final = (WIRE_MIN, WIRE_VERSION)


def negotiate(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """Return the highest version inside both ranges (min, max); raise VersionMismatch when there is none."""
    low, high = max(ours[0], theirs[0]), min(ours[1], theirs[1])
    if theirs[0] > theirs[1] or low > high:
        raise errors.VersionMismatch(
            f"no common wire version: ours {ours[0]}-{ours[1]}, theirs {theirs[0]}-{theirs[1]}"
        )
    return high
