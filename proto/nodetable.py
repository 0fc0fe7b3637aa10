"""The table of a cluster's nodes, as its agent tells it to the hub: rows, and how they travel (docs/protocol.md §5.4).

Only what changes rarely is in it, so that a cluster at rest says nothing: no heartbeat, no capacity, no condition but
`ready`. For display; nothing that the hub decides rests on it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from proto.commands import NODES_MAX, PARTS_MAX, ROWS_MAX, TellNodes
from proto.errors import Code, StreamReset

PART_ROWS: Final = 20
"""Nodes of a part that the agent aims at: a change sends one part again, 2 KB."""
_WIDTHS: Final = {
    "names": 253, "roles": 128, "kubelets": 64, "systems": 128, "kernels": 128, "architectures": 32, "addresses": 256,
    "zones": 64,
}  # fmt: skip
"""Characters of each column, as in TellNodes."""


class NodeRow(msgspec.Struct, frozen=True, array_like=True):
    """One node, as the API server knows it. Texts are printable ASCII, empty where unknown."""

    name: str
    roles: str = ""
    """Separated by spaces, as the labels `node-role.kubernetes.io/…` say."""
    kubelet: str = ""
    """The kubelet's version."""
    system: str = ""
    """The OS image."""
    kernel: str = ""
    architecture: str = ""
    """As Kubernetes calls it: amd64, arm64."""
    addresses: str = ""
    """Internal and external ones, separated by spaces."""
    zone: str = ""
    is_ready: bool = False
    is_fallback: bool = False
    """It has the label of the fallback (agent.fallback)."""


class Part(msgspec.Struct, frozen=True):
    """Some of the rows, and the tag by which both sides know them."""

    tag: str
    rows: tuple[NodeRow, ...]


def divide(rows: Iterable[NodeRow]) -> list[Part]:
    """The table in parts, at least one. A node stays in its part while others come and go, until the table has doubled.

    Rows beyond NODES_MAX are left out, and those for which a part has no room: one table of 5,000 nodes in millions.
    """
    known = sorted(rows, key=lambda row: row.name)[:NODES_MAX]
    count = 1
    while count < PARTS_MAX and len(known) > count * PART_ROWS:
        count *= 2
    parts: list[list[NodeRow]] = [[] for _ in range(count)]
    for row in known:
        part = parts[hashlib.sha256(row.name.encode()).digest()[0] % count]
        if len(part) < ROWS_MAX:
            part.append(row)
    return [Part(_tag(part), tuple(part)) for part in parts]


def _tag(rows: Sequence[NodeRow]) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(rows)).hexdigest()[:16]


def clean(column: str, text: str) -> str:
    """A text as its column takes it: what is not printable ASCII becomes `?`, and it is cut."""
    plain = "".join(each if " " <= each <= "~" else "?" for each in text)
    return plain[: _WIDTHS[column]]


def to_args(number: int, part: Part) -> TellNodes:
    """Part `number` as it travels: columns, because a map in an array is more than an argument may be."""
    rows = part.rows
    return TellNodes(
        part=number,
        tag=part.tag,
        names=tuple(row.name for row in rows),
        roles=tuple(row.roles for row in rows),
        kubelets=tuple(row.kubelet for row in rows),
        systems=tuple(row.system for row in rows),
        kernels=tuple(row.kernel for row in rows),
        architectures=tuple(row.architecture for row in rows),
        addresses=tuple(row.addresses for row in rows),
        zones=tuple(row.zone for row in rows),
        ready=tuple(row.is_ready for row in rows),
        fallback=tuple(row.is_fallback for row in rows),
    )


def from_args(args: TellNodes) -> tuple[NodeRow, ...]:
    """The rows of a part. Raises StreamReset PROTOCOL for columns that fit no table; the text quotes nothing."""
    texts = (
        args.names, args.roles, args.kubelets, args.systems, args.kernels, args.architectures, args.addresses,
        args.zones,
    )  # fmt: skip
    columns = (*texts, args.ready, args.fallback)
    if len({len(column) for column in columns}) > 1:
        raise StreamReset("the columns of a table are equally long", Code.PROTOCOL)
    if any(not text.isascii() or not (text.isprintable()) for column in texts for text in column):
        raise StreamReset("the texts of a table are printable ASCII", Code.PROTOCOL)
    if not all(args.names) or len(set(args.names)) < len(args.names):
        raise StreamReset("each node of a table has a name of its own", Code.PROTOCOL)
    return tuple(NodeRow(*row) for row in zip(*columns, strict=True))
