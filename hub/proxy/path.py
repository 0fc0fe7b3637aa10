"""Which cluster a request target names, read byte for byte.

The name and the remainder come from one match, so what is authorised and what is forwarded cannot differ (C8). Nothing
is decoded and nothing is repaired: kube-apiserver cleans paths and decodes escapes after the hub has decided.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

from hub import errors
from proto import target as targets

CLUSTERS: Final = b"/k8s/clusters/"

_OWNED: Final = re.compile(rb"/k8s/clusters/([a-z][a-z0-9-]{0,62})(?=[/?]|\Z)")


class Place(NamedTuple):
    """`rest` is the raw target behind the cluster's prefix, query included; it always begins with one slash."""

    cluster: str
    rest: bytes


_SHORT: Final = 512
"""Longer targets carry selectors and tokens that seldom come again."""


def split(target: bytes) -> Place:
    """As `read`; remembered for short targets, since clients ask for the same ones again."""
    return _remembered(target) if len(target) <= _SHORT else read(target)


def read(target: bytes) -> Place:
    """Read the cluster's name. `/k8s/clusters/a`, with or without a query, is its root: no redirect.

    Raises NotFound for other places under /k8s/, BadRequest for anything that is not exactly a name or whose remainder
    could be understood in two ways (dot segments in any encoding, broken escapes, a doubled slash at its front).
    """
    match = _OWNED.match(target)
    if match is None:
        if not target.startswith(CLUSTERS):
            raise errors.NotFound
        raise errors.BadRequest("the path does not name a cluster: lower-case letters, digits and hyphens, up to 63")
    fault = targets.fault(target)
    if fault is not None:
        raise errors.BadRequest(fault)
    rest = target[match.end() :]
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    elif rest.startswith(b"//"):
        raise errors.BadRequest("empty segment behind the cluster's name")
    return Place(match[1].decode("ascii"), rest)


_remembered = functools.lru_cache(maxsize=4096)(read)
