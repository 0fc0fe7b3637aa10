"""The rotation of the hub's CA as the main process sees it: audit events, a metric, and a file with who knows what.

`riata-hub ca` reads the file: it works on the hub's directory while the hub runs, and asks nobody for a token.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Final

from hub import audit, carotation, certificate, tls
from hub.audit import Audit
from hub.auth.agentkeys import AgentKeyIndex
from hub.carotation import Phase
from hub.catrust import Lesson, Rotation, Session, Standing, lesson, standings
from hub.clock import Clock, rfc3339
from hub.clusters.records import ClusterIndex
from hub.config import Settings
from hub.metrics import Metrics
from proto import pins

logger = logging.getLogger(__name__)

FILE: Final = "rotation.json"
GIVEN_UP: Final = "given-up"
"""Its being there says that agents were told of a CA that is in the hub's files no longer: one of the operator's own
that was taken out again, or one that was taken back. Whoever comes is told to forget it."""
REWRITE_S: Final = 10.0
"""How often the file is written while nothing in it changes, so that its reader knows that the hub lives."""
FRESH_S: Final = 30.0
"""How old it may be for its reader."""

_NEXT: Final = {
    Phase.STEADY: (Phase.INTRODUCED, Audit.CA_INTRODUCED),
    Phase.INTRODUCED: (Phase.SWITCHED, Audit.CA_SWITCHED),
    Phase.SWITCHED: (Phase.STEADY, Audit.CA_RETIRED),
}
"""Phase → the next one, and how its beginning is told."""

Sessions = Callable[[str], Iterable[Session]]


class CaView:
    """What the hub knows of its CAs: what to tell agents, and where a rotation is. Files are read at each question."""

    def __init__(self, settings: Settings, clusters: ClusterIndex, keys: AgentKeyIndex) -> None:
        self._settings = settings
        self._clusters = clusters
        self._keys = keys
        self._named = tuple(map(pins.parse_pin, settings.agent_pins))
        self._directory = settings.data / tls.DIRECTORY

    def lesson(self) -> Lesson | None:
        """What agents are told now; None for nothing."""
        if self._settings.plain_http:
            return None
        try:
            ca = self._own()
            is_over = any((self._directory / name).exists() for name in (carotation.RETIRED, GIVEN_UP))
            return lesson(ca, self._named, is_over=is_over)
        except (OSError, pins.PinError):
            return None

    async def rotation(self, sessions: Sessions | None) -> Rotation:
        """`sessions` None: without the agents. Raises OSError, PinError."""
        own = _pins(self._own())
        if self._is_self_made:
            phase = carotation.phase(self._directory)
        else:
            phase = Phase.INTRODUCED if len(own) > 1 else Phase.STEADY
        wanted = "" if not own else own[-1] if phase is Phase.INTRODUCED else own[0]
        found: list[Standing] = []
        if sessions is not None:
            found = await standings(self._clusters, self._keys, sessions, wanted, self._named)
        return Rotation(phase, wanted, (*own, *self._named), tuple(found))

    def own_end(self) -> float | None:
        """When the CA that signs the hub's certificate ends, in seconds since the epoch; None where the hub has not
        made it. Raises TlsError, OSError."""
        if not self._is_self_made:
            return None
        return carotation.end_of(self._directory / tls.CA_CERT).timestamp()

    def joining_pins(self) -> tuple[str, ...]:
        """Pins that new agents are given, at most two: of a terminator first, never of a CA that is on its way out.
        Raises OSError, PinError."""
        own = _pins(self._own())
        if self._is_self_made and carotation.phase(self._directory) is Phase.SWITCHED:
            own = own[:1]
        return (*self._named, *own)[:2]

    def joining_ca(self) -> bytes:
        """PEM of the CAs by which new agents may verify the hub: a terminator's, or its own. Raises OSError."""
        file = self._settings.agent_ca
        return self._own() if file is None else file.read_bytes()

    def given_out(self) -> bytes:
        """PEM of every CA that is met in front of the hub or at it, for /v1/ca. Raises OSError, PinError."""
        own = self._own()
        if self._settings.agent_ca is None:
            return own
        bundles = [self.joining_ca(), *([own] if own else [])]
        return pins.pem_of(dict.fromkeys(each for bundle in bundles for each in pins.certificates_of_pem(bundle)))

    def _own(self) -> bytes:
        return b"" if self._settings.plain_http else tls.read_ca(certificate.tls_files(self._settings))

    @property
    def _is_self_made(self) -> bool:
        return certificate.is_self_made(self._settings)


class RotationWatch:
    """`look` every few seconds, in the main process."""

    def __init__(
        self,
        directory: Path,
        view: CaView,
        metrics: Metrics,
        sessions: Callable[[], Awaitable[Sessions]],
        clock: Clock,
    ) -> None:
        self._file = directory / FILE
        self._view = view
        self._metrics = metrics
        self._sessions = sessions
        self._clock = clock
        self._written: tuple[float, Rotation] | None = None
        self._told: tuple[Phase, str] | None = None
        """Phase and pin of which everything was told, also while the file cannot be written."""

    async def look(self) -> None:
        """Raises OSError, PinError, TlsError."""
        phase, pin = self._known()
        rotation = await self._view.rotation(None)
        if rotation.phase is not Phase.STEADY or _passed(phase, pin, rotation):  # else the agents concern nobody
            rotation = await self._view.rotation(await self._sessions())
        unready = rotation.unready() if rotation.phase is not Phase.STEADY else []
        self._metrics.ca_rotation(rotation.phase.value, len(unready))
        if (end := self._view.own_end()) is not None:
            self._metrics.certificate_end("ca").set(end)
        if passed := _passed(phase, pin, rotation):
            if rotation.phase is Phase.STEADY:
                tls.write_private(self._file.parent / GIVEN_UP, b"")
            for event in passed:
                audit.record(event, pin=rotation.pin, unready=[each.agent for each in rotation.unready()][:20])
        self._told = rotation.phase, rotation.pin
        if rotation.phase is Phase.STEADY:  # who is connected changes all the time and concerns nobody now
            rotation = dataclasses.replace(rotation, agents=())
        # A clock that was set back: the reader takes what lies in the future for old too.
        before = self._written[1] if self._written is not None else None
        is_due = self._written is None or abs(self._clock() - self._written[0]) >= REWRITE_S
        if rotation != before or (is_due and rotation.phase is not Phase.STEADY):
            await self._write(rotation)

    def _known(self) -> tuple[Phase, str]:
        """Phase and pin at the last look, of an earlier process if need be; no pin if there was none."""
        if self._told is not None:
            return self._told
        document = read(self._file.parent)
        try:
            return Phase(str(document.get("phase"))), str(document.get("pin", ""))
        except ValueError:
            return Phase.STEADY, ""

    async def _write(self, rotation: Rotation) -> None:
        """In a thread: thousands of agents make megabytes, and the disk takes its time."""
        now = self._clock()
        await asyncio.to_thread(lambda: tls.write_private(self._file, _content(now, rotation)))
        self._written = now, rotation


def _content(at: float, rotation: Rotation) -> bytes:
    return json.dumps({"at": at, **document(rotation)}).encode() + b"\n"


def _passed(phase: Phase, pin: str, now: Rotation) -> list[Audit]:
    """What has happened since `phase`, in which agents needed to know the CA of `pin`. Steps may have been taken one
    right behind the other; which CA is left tells whether the next one has signed or was taken back."""
    is_same = now.pin == pin or not (pin and now.pin)  # a hub whose settings name no CA has none
    found: list[Audit] = []
    if phase is Phase.INTRODUCED and now.phase is not Phase.SWITCHED and not is_same:
        found, phase = [Audit.CA_TAKEN_BACK], Phase.STEADY
    elif phase is now.phase is Phase.STEADY and not is_same:
        phase = Phase.INTRODUCED  # in one step, as an operator's own files may be replaced
    while phase is not now.phase:
        phase, event = _NEXT[phase]
        found.append(event)
    return found


def document(rotation: Rotation) -> dict[str, Any]:
    """As it is shown and kept."""
    return {
        "phase": rotation.phase.value,
        "pin": rotation.pin,
        "accepted": list(rotation.accepted),
        "agents": [dataclasses.asdict(each) for each in rotation.agents],
    }


def read(directory: Path) -> dict[str, Any]:
    """What the hub has written last; empty if it never has, or if it is damaged."""
    try:
        found = json.loads((directory / FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def of_document(found: dict[str, Any]) -> Rotation | None:
    """Of what `read` gave; None when it is none."""
    try:
        agents = tuple(Standing(**each) for each in found["agents"])
        return Rotation(Phase(found["phase"]), str(found["pin"]), tuple(found["accepted"]), agents)
    except (KeyError, TypeError, ValueError):
        return None


def when(found: dict[str, Any]) -> str:
    """When it was written, for people."""
    return rfc3339(float(found.get("at", 0)))


def _pins(ca: bytes) -> list[str]:
    return list(dict.fromkeys(pins.pins_of_pem(ca))) if ca else []


def named(agents: Collection[Standing], most: int = 20) -> str:
    """Agents in a sentence."""
    texts = [each.text for each in agents]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more
