"""What the hub's agents know of its CAs: the question that decides whether a rotation may go on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from hub.auth.agentkeys import AgentKeyIndex
from hub.carotation import Phase
from hub.clusters.records import ClusterIndex
from hub.slices import in_slices
from proto import pins


@dataclasses.dataclass(slots=True)
class AgentTrust:
    """What one session's agent has answered."""

    pins: tuple[str, ...] = ()
    """Of the CAs that it trusts; empty until it has said so."""
    keeps: bool = False
    """They outlive its process."""
    problem: str = ""
    """Why it has not learnt."""
    told: str = ""
    """Digest of the last lesson that it answered."""
    missed: str = ""
    """Digest of the last lesson that it did not learn; empty once it has learnt one."""
    again_at: float = 0.0
    """When it is asked the last one of both again, on the links' clock."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lesson:
    """What agents are told: the CAs in PEM form, and every pin under which the hub may be known."""

    ca: bytes
    pins: tuple[str, ...]
    is_between: bool = False
    """There are two CAs: somebody waits for the answers."""

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"\0".join((self.ca, *(pin.encode() for pin in self.pins)))).hexdigest()


class Session(Protocol):
    """What is asked of a session (hub.tunnel.registry.TunnelStatus)."""

    @property
    def credential_id(self) -> str: ...
    @property
    def instance(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def trusts(self) -> tuple[str, ...]: ...
    @property
    def keeps_trust(self) -> bool: ...
    @property
    def trust_problem(self) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """One agent in a rotation."""

    agent: str
    cluster: str
    role: str
    node: str
    instance: str
    is_connected: bool
    knows: bool
    """It trusts the CA that the hub's certificate is or will be of, or a terminator in front that the hub knows of."""
    keeps: bool
    """Also after its next start."""
    problem: str

    @property
    def text(self) -> str:
        """As a person reads it."""
        at = f" on {self.node}" if self.node else ""
        why = self.problem or ("its settings do not name it" if self.knows else "it was not told yet")
        if not self.is_connected:
            why = "it is not connected"
        return f"{self.agent}{at} of {self.cluster} ({why})"


@dataclasses.dataclass(frozen=True, slots=True)
class Rotation:
    """Where a rotation is, and who knows what."""

    phase: Phase
    pin: str
    """Of the CA that agents need to know."""
    accepted: tuple[str, ...]
    """Every pin under which the hub may be known, the one of the CA that signs first."""
    agents: tuple[Standing, ...]

    def unready(self) -> list[Standing]:
        """Who keeps the next step from being taken: who does not know the CA before the switch, and before the old one
        is given up also who would not know it after its next start."""
        if self.phase is Phase.SWITCHED:
            return [each for each in self.agents if not each.keeps]
        return [each for each in self.agents if not each.knows]


async def standings(
    clusters: ClusterIndex,
    keys: AgentKeyIndex,
    sessions: Callable[[str], Iterable[Session]],
    wanted: str,
    named: Collection[str],
) -> list[Standing]:
    """Every connected agent, and every enrolled one that is not. `wanted`: pin of the CA that they need; `named`: pins
    of terminators, good instead. Made in slices."""
    found: list[Standing] = []
    async for cluster in in_slices(clusters):
        here = list(sessions(cluster.uid))
        for each in here:
            knows = wanted in each.trusts or bool(set(each.trusts) & set(named))
            found.append(
                Standing(
                    agent=each.credential_id,
                    cluster=cluster.name,
                    role=each.role,
                    node=each.node,
                    instance=each.instance,
                    is_connected=True,
                    knows=knows,
                    keeps=knows and each.keeps_trust,
                    problem=each.trust_problem,
                )
            )
        connected = {each.credential_id for each in here}
        found += [
            Standing(record.id, cluster.name, record.role, "", "", False, False, False, "")
            for record in keys.of_cluster(cluster.uid)
            if record.id not in connected and not record.is_revoked
        ]
    return found


def lesson(ca: bytes, accepted: Collection[str], *, is_over: bool) -> Lesson | None:
    """What there is to tell: while there are two CAs, and once one was given up or may have been (`is_over`)."""
    own = list(dict.fromkeys(pins.pins_of_pem(ca))) if ca else []
    if not own or (len(own) < 2 and not is_over):
        return None
    others = sorted(set(accepted) - set(own))
    plain = pins.pem_of(pins.certificates_of_pem(ca))  # an operator's file may have notes in it, in any encoding
    return Lesson(plain, tuple([*own, *others][:8]), is_between=len(own) > 1)
