"""Which nodes are fallback nodes: nodes in, labels out. A pure function; nothing is asked and nothing remembered.

Chosen nodes stay as long as they are fit, so that pods do not move for nothing: an unfit one is given a moment, and a
better one replaces a worse one only when it has been fit for a while, one at a time. Better: more control-plane nodes,
then more on which node agents run, then more zones.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

LABEL: Final = "riata.io.node-restriction.kubernetes.io/fallback"
"""A kubelet may not put a label of this prefix on its own node (NodeRestriction)."""
VALUE: Final = "true"
NODES_MAX: Final = 3
SETTLED_S: Final = 60.0
"""A node that has been fit for less comes last among its equals."""
BETTER_AFTER_S: Final = 300.0
"""Seconds that a node has been fit before it takes the place of a fit one that is worse."""
NOT_READY: Final = "not ready"
CORDONED: Final = "cordoned"
DELETED: Final = "being deleted"
NO_AGENT: Final = "no node agent runs on it"
REFUSED: Final = "its label may not be set"
GRACE_S: Final[dict[str, float]] = {NOT_READY: 30.0, CORDONED: 0.0, DELETED: 0.0, NO_AGENT: 120.0}
"""Seconds that a chosen node stays chosen after it became unfit, by reason. Kubernetes itself waits 40 to 50 s before
it calls a silent node not ready; a node agent that has to change from one DaemonSet to the other needs its moment."""
STAYS: Final = frozenset({CORDONED, NO_AGENT})
"""Reasons for which a chosen node is lost to others only: where nobody else is to have its label, it keeps it."""


@dataclass(frozen=True, slots=True)
class Node:
    """What the choice needs to know of a node."""

    name: str
    is_control_plane: bool = False
    zone: str = ""
    is_chosen: bool = False
    """It has the label now."""
    unfit: str = ""
    """Why it is unfit, a key of GRACE_S; empty: it is fit."""
    since_s: float = 0.0
    """Seconds that it has been fit, or unfit."""
    is_proven: bool = True
    """A node agent runs on it: a chosen one's is the fallback's, any other's the one that the fallback's would replace.
    Both have the same tolerations and selector."""

    @property
    def is_lost(self) -> bool:
        """Unfit for longer than a chosen node is given."""
        return bool(self.unfit) and self.since_s >= GRACE_S[self.unfit]


@dataclass(frozen=True, slots=True)
class Change:
    """One label to set (`gains`) or to take away, and why."""

    node: str
    gains: bool
    why: str
    behind: str = ""
    """Nothing without the change of this node, which goes first."""


def choose(nodes: Iterable[Node]) -> list[Change]:
    """The labels to change: those that go first. Applying them and choosing again changes nothing more, but that one
    improvement at a time may follow."""
    known = sorted(nodes, key=lambda node: node.name)
    lost = [node for node in known if node.is_chosen and node.is_lost]
    kept = _best([node for node in known if node.is_chosen and not node.is_lost])
    surplus = [node for node in known if node.is_chosen and not node.is_lost and node not in kept]
    free = [node for node in known if not node.is_chosen and not node.unfit]
    waiting = [node for node in lost if node.unfit in STAYS]
    added = _best([*free, *waiting], kept)[len(kept) :]
    changes = [Change(node.name, gains=False, why=node.unfit) for node in lost if node not in added]
    changes += [Change(node.name, gains=False, why=f"{NODES_MAX} others are chosen") for node in surplus]
    changes += [Change(node.name, gains=True, why=_merits(node)) for node in added if not node.is_chosen]
    if not changes:
        changes = _improved(kept, free)
    return changes


def _best(nodes: Sequence[Node], kept: Sequence[Node] = ()) -> list[Node]:
    """`kept`, filled up from `nodes`, the best first."""
    found, left = list(kept), list(nodes)
    while left and len(found) < NODES_MAX:
        zones = {node.zone for node in found}
        best = min(left, key=lambda node: (*_rank(node, zones), node.name))
        found.append(best)
        left.remove(best)
    return found


def _rank(node: Node, zones: set[str]) -> tuple[int, bool, bool, bool, bool]:
    """Control plane, then where a node agent runs, then a zone without one, then who has been fit for a while."""
    return (
        _doubt(node),
        not node.is_control_plane,
        not node.is_proven,
        node.zone in zones,
        node.since_s < SETTLED_S,
    )


def _doubt(node: Node) -> int:
    """How little is to be expected of it.

    A node of the control plane is tried before any agent has been seen there: they are few, and who taints them on
    purpose has the node agents tolerate it. A cordoned one's agent goes on (a DaemonSet's pod is not evicted), and is
    worth more than a try. Where none runs, the label is better anywhere else; but one that comes and goes would change
    nothing but where those that do run are moved from and to.
    """
    if not node.unfit:
        return 0 if node.is_proven or node.is_control_plane else 2
    return 1 if node.unfit == CORDONED and node.is_proven else 3


def _improved(kept: Sequence[Node], free: Sequence[Node]) -> list[Change]:
    """The one exchange that gains most, or none."""
    if len(kept) < NODES_MAX or any(node.unfit for node in kept):
        return []
    now = _score(kept)
    swaps = [
        (_score([*(node for node in kept if node is not out), into]), out, into)
        for out, into in itertools.product(kept, (node for node in free if node.since_s >= BETTER_AFTER_S))
    ]
    better = [swap for swap in swaps if swap[0] > now]
    if not better:
        return []
    _, out, into = max(better, key=lambda swap: swap[0])  # the first of equals, by name
    return [
        Change(into.name, gains=True, why=_merits(into)),
        Change(out.name, gains=False, why=f"{into.name} is better", behind=into.name),
    ]


def _score(nodes: Sequence[Node]) -> tuple[int, int, int]:
    return (
        sum(node.is_control_plane for node in nodes),
        sum(node.is_proven for node in nodes),
        len({node.zone for node in nodes}),
    )


def _merits(node: Node) -> str:
    return ("control plane" if node.is_control_plane else "worker") + (f", zone {node.zone}" if node.zone else "")
