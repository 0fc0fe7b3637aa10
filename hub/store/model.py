"""The one shape of everything that is stored: resources, their events, and what can go wrong (design D7)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

Document = Mapping[str, Any]
"""A JSON object. Secrets appear in it only hashed or sealed."""

KIND_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}")
DOCUMENT_BYTES_MAX: Final = 256 * 1024
"""Bound of spec and of status, each, as JSON: a record is configuration, never a blob."""


class StoreError(Exception):
    """Something that the store refuses or could not do; nothing was changed."""


class StoreUnavailable(StoreError):
    """The backend failed (disk full, I/O error, closed): an operator has to look."""


class RevisionConflict(StoreError):
    """Compare-and-swap lost: the resource is at another revision than the caller thought."""

    def __init__(self, key: Key, expected: int, actual: int) -> None:
        super().__init__(f"{key}: expected revision {expected}, found {actual}")
        self.key = key
        self.expected = expected
        self.actual = actual


class Compacted(StoreError):
    """The change log no longer reaches back to the wanted revision: list again, then watch from the listing's."""

    def __init__(self, wanted: int, oldest: int) -> None:
        super().__init__(f"revision {wanted} is compacted, the oldest one kept is {oldest}")
        self.wanted = wanted
        self.oldest = oldest


class UnknownLease(StoreError):
    """The lease expired or never was: whatever was bound to it is gone."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Key:
    """Where a resource lives. `cluster` is a cluster uid, or empty for what belongs to the whole hub."""

    kind: str
    cluster: str
    name: str

    def __post_init__(self) -> None:
        if not KIND_PATTERN.fullmatch(self.kind):
            raise ValueError(f"bad kind {self.kind!r}")
        if self.cluster and not NAME_PATTERN.fullmatch(self.cluster):
            raise ValueError(f"bad cluster {self.cluster!r}")
        if not NAME_PATTERN.fullmatch(self.name):
            raise ValueError(f"bad name {self.name!r}")

    def __str__(self) -> str:
        return "/".join((self.kind, self.cluster, self.name)) if self.cluster else f"{self.kind}/{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """One stored record. `revision` is the store-wide revision of its last change; 0 for a draft that is to be made.

    `uid` is given by the store at creation and never changes: a record that is deleted and made anew has another.
    """

    key: Key
    spec: Document
    status: Document = dataclasses.field(default_factory=dict)
    uid: str = ""
    revision: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One change. For a deletion `resource` is the last state, at the revision of the deletion."""

    resource: Resource
    is_deleted: bool

    @property
    def revision(self) -> int:
        return self.resource.revision


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """A consistent snapshot and the revision at which it was true: watch from there without a gap."""

    items: tuple[Resource, ...]
    revision: int
