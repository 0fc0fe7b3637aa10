"""What the main process and its workers say to each other. Both run the same code, so there are no versions: a worker
whose code is another one (an upgrade on the disk) is refused at its first word."""

from __future__ import annotations

import json

import msgspec

from hub.store.model import Event, Key, Listing, Resource
from proto.facts import NO_FACTS, NodeFacts


class Word(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything below."""


class Place(Word, frozen=True):
    """A Key on the way."""

    kind: str
    cluster: str
    name: str

    @staticmethod
    def of(key: Key) -> Place:
        return Place(key.kind, key.cluster, key.name)

    def key(self) -> Key:
        return Key(self.kind, self.cluster, self.name)


class Record(Word, frozen=True):
    """A Resource on the way; documents as JSON."""

    place: Place
    spec: str
    status: str
    uid: str
    revision: int
    is_deleted: bool = False

    @staticmethod
    def of(resource: Resource, *, is_deleted: bool = False) -> Record:
        spec, status = (json.dumps(part, ensure_ascii=False) for part in (resource.spec, resource.status))
        return Record(Place.of(resource.key), spec, status, resource.uid, resource.revision, is_deleted)

    def resource(self) -> Resource:
        return Resource(self.place.key(), json.loads(self.spec), json.loads(self.status), self.uid, self.revision)


# Questions of a worker to the main process: its store, and what only the main process knows.


class Get(Word, frozen=True):
    place: Place


class List(Word, frozen=True):
    kind: str
    cluster: str | None


class ClustersOf(Word, frozen=True):
    kind: str


class Put(Word, frozen=True):
    record: Record
    lease: int


class Delete(Word, frozen=True):
    place: Place
    revision: int | None


class Changes(Word, frozen=True):
    """The next batch of changes after a revision; answered when there is one."""

    since: int


class GrantLease(Word, frozen=True):
    ttl_s: float


class KeepLease(Word, frozen=True):
    lease: int


class RevokeLease(Word, frozen=True):
    lease: int


class ReachedEverywhere(Word, frozen=True):
    """Answered when every worker that serves has this revision in its indexes."""

    revision: int


# Questions of the main process to a worker.


class Reached(Word, frozen=True):
    """Answered when this worker has the revision in its indexes."""

    revision: int


class Ping(Word, frozen=True):
    """Does its loop run?"""


class Measure(Word, frozen=True):
    """Its metrics."""


class Drain(Word, frozen=True):
    """Drain as its settings say; answered when it is done."""


class Look(Word, frozen=True):
    """How the tunnels of a cluster are ('' for all); of a worker its own, of the main process those of all others."""

    cluster_uid: str


class RotateKey(Word, frozen=True):
    """Have the agent that is known by this id replace its key; of a worker over a tunnel of its own, of the main
    process at whichever other worker has one."""

    agent_id: str


# Answers.


class Done(Word, frozen=True):
    pass


class Number(Word, frozen=True):
    number: int | None


class Records(Word, frozen=True):
    records: tuple[Record, ...]
    revision: int = 0


class ClusterUids(Word, frozen=True):
    uids: tuple[str, ...]


class Live(Word, frozen=True):
    """How a tunnel is. Ages in seconds."""

    session_id: str
    last_received_age_s: float
    rtt_s: float | None
    streams: int
    trusts: tuple[str, ...] = ()
    keeps_trust: bool = False
    trust_problem: str = ""
    kubernetes: str = ""


class Lives(Word, frozen=True):
    tunnels: tuple[Live, ...]


class Outcome(Word, frozen=True):
    """Why something was not done; empty when it was. None: nobody could be asked."""

    why: str | None


class Family(Word, frozen=True):
    """One metric with its samples: (name, label pairs, value)."""

    name: str
    kind: str
    text: str
    samples: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...]


class Measured(Word, frozen=True):
    """A Family each, or a part of one, written as hub.workers.metrics does: nobody on the way reads it."""

    pieces: tuple[bytes, ...]


# News, without an answer.


class Hello(Word, frozen=True):
    """First word of a worker: its code."""

    build: str


class Start(Word, frozen=True):
    """First word to a worker, with its listening sockets. Settings as `hub.config.effective` has them."""

    number: int
    hub_id: str
    settings: str
    sockets: int = 0
    """How many were sent with it."""


class Loaded(Word, frozen=True):
    """The worker's indexes follow the store."""


class Serve(Word, frozen=True):
    """Accept connections: from here on `ReachedEverywhere` counts this worker."""


class Stop(Word, frozen=True):
    """Send the agents away and end."""


class Reload(Word, frozen=True):
    """The certificate's files may have changed."""

    is_asked: bool
    """They are to be read in any case."""


class Opened(Word, frozen=True):
    """A worker owns a new tunnel. `worker` is filled in by the main process."""

    worker: int
    session_id: str
    cluster_uid: str
    cluster_name: str
    role: str
    instance: bytes
    epoch: int
    address: str
    version: str
    kubernetes: str
    connected_at: float
    compresses: bool
    """The agent may compress bodies; who asked reads them, the owner passes them on as they are."""
    credential_id: str = ""
    node: str = ""
    """Name of the agent's node, for the role node."""
    is_eligible: bool = False
    """Requests may take it."""
    is_control_plane: bool = False
    facts: NodeFacts = NO_FACTS


class Draining(Word, frozen=True):
    session_id: str


class Closed(Word, frozen=True):
    session_id: str


class Gone(Word, frozen=True):
    """A worker has ended, and its tunnels with it."""

    worker: int


class Hop(Word, frozen=True):
    """With one socket: the way to a tunnel of `worker`. At the worker itself: somebody's way to its own tunnel."""

    worker: int
    session_id: str


Question = (
    Get | List | ClustersOf | Put | Delete | Changes | GrantLease | KeepLease | RevokeLease | ReachedEverywhere
    | Reached | Ping | Measure | Drain | Look | RotateKey
)  # fmt: skip
Reply = Done | Number | Records | ClusterUids | Lives | Outcome | Measured
News = Hello | Start | Loaded | Serve | Stop | Reload | Opened | Draining | Closed | Gone | Hop


def listing_of(records: Records) -> Listing:
    return Listing(tuple(record.resource() for record in records.records), records.revision)


def events_of(records: Records) -> tuple[Event, ...]:
    return tuple(Event(record.resource(), record.is_deleted) for record in records.records)
