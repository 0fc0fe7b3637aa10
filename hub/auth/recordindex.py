"""What the indexes of credentials have in common: records by id, fed by the store, and a word when one is gone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from hub.store.model import Event, Resource

logger = logging.getLogger(__name__)


class Record(Protocol):
    """A stored credential."""

    @property
    def id(self) -> str: ...

    @property
    def cluster_uid(self) -> str: ...


R = TypeVar("R", bound=Record)


class RecordIndex(Generic[R]):
    """Every record by id. `on_gone` hears the ids of records that were removed, to cut what runs on them."""

    def __init__(
        self, kind: str, of: Callable[[Resource], R], on_gone: Callable[[str], None] = lambda record_id: None
    ) -> None:
        """`of` reads a stored record; it raises KeyError, TypeError or ValueError for one that it cannot read."""
        self.kind = kind
        self.on_gone = on_gone
        self._of = of
        self._records: dict[str, R] = {}
        self._by_cluster: dict[str, dict[str, R]] = {}

    def get(self, record_id: str) -> R | None:
        return self._records.get(record_id)

    def __iter__(self) -> Iterator[R]:
        return iter(tuple(self._records.values()))

    def of_cluster(self, cluster_uid: str) -> list[R]:
        return list(self._by_cluster.get(cluster_uid, {}).values())

    def reset(self, resources: Iterable[Resource]) -> None:
        before, self._records, self._by_cluster = self._records, {}, {}
        for resource in resources:
            self._load(resource)
        for record_id, record in before.items():
            self._changed(record, self._records.get(record_id))

    def apply(self, event: Event) -> None:
        before = self._forget(event.resource.key.name)
        if not event.is_deleted:
            self._load(event.resource)
        if before is not None:
            self._changed(before, self._records.get(before.id))

    def _load(self, resource: Resource) -> None:
        try:
            record = self._of(resource)
        except (KeyError, TypeError, ValueError):
            # Fail closed: a credential that cannot be read proves nothing.
            logger.exception("record unreadable", extra={"kind": self.kind, "id": resource.key.name})
        else:
            self._records[record.id] = record
            self._by_cluster.setdefault(record.cluster_uid, {})[record.id] = record

    def _forget(self, record_id: str) -> R | None:
        record = self._records.pop(record_id, None)
        if record is not None:
            mates = self._by_cluster[record.cluster_uid]
            del mates[record_id]
            if not mates:
                del self._by_cluster[record.cluster_uid]
        return record

    def _changed(self, before: R, after: R | None) -> None:
        if after is None:
            self.on_gone(before.id)
