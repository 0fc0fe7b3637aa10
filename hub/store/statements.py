"""What the SQLite backend does inside a transaction: plain functions of a connection, without threads or time.

Every change takes the next revision, is written to `resources` and to the change log, and is returned as an Event.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from typing import Final

from hub.store.model import (
    DOCUMENT_BYTES_MAX,
    Compacted,
    Document,
    Event,
    Key,
    Listing,
    Resource,
    RevisionConflict,
    UnknownLease,
)

_COLUMNS: Final = "kind, cluster, name, uid, revision, spec, status"
_LOG_COLUMNS: Final = f"{_COLUMNS}, is_deleted"
_BYTES: Final = "length(CAST(spec AS BLOB)) + length(CAST(status AS BLOB))"
_AT: Final = "WHERE kind = ? AND cluster = ? AND name = ?"


def encode(document: Document) -> str:
    """A JSON object as it is stored. Raises ValueError when it is none, or too big."""
    if not isinstance(document, dict):
        raise ValueError("a document is a JSON object")
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, RecursionError, ValueError) as exc:
        raise ValueError("the document cannot be written as JSON") from exc
    if size > DOCUMENT_BYTES_MAX:
        raise ValueError(f"the document has more than {DOCUMENT_BYTES_MAX} bytes as JSON")
    return text


def get(connection: sqlite3.Connection, key: Key) -> Resource | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM resources {_AT}", _at(key)).fetchone()  # noqa: S608 constants
    return None if row is None else _resource(row)


def listing(connection: sqlite3.Connection, kind: str, cluster: str | None) -> Listing:
    """One read transaction, so that items and revision belong together."""
    where, values = ("", (kind,)) if cluster is None else ("AND cluster = ?", (kind, cluster))
    connection.execute("BEGIN")
    try:
        query = f"SELECT {_COLUMNS} FROM resources WHERE kind = ? {where} ORDER BY cluster, name"  # noqa: S608
        rows = connection.execute(query, values).fetchall()
        return Listing(tuple(_resource(row) for row in rows), counter(connection, "revision"))
    finally:
        connection.execute("COMMIT")


def clusters_of(connection: sqlite3.Connection, kind: str) -> frozenset[str]:
    rows = connection.execute("SELECT DISTINCT cluster FROM resources WHERE kind = ?", (kind,)).fetchall()
    return frozenset(cluster for (cluster,) in rows)


def put(connection: sqlite3.Connection, resource: Resource, spec: str, status: str, lease: int) -> Event:
    """Raises RevisionConflict, UnknownLease."""
    current = _check(connection, resource.key, resource.revision)
    if lease and connection.execute("SELECT 1 FROM leases WHERE id = ?", (lease,)).fetchone() is None:
        raise UnknownLease(f"lease {lease} is unknown or expired")
    uid = current.uid if current else str(uuid.uuid4())
    revision = _next_revision(connection)
    connection.execute(
        f"INSERT INTO resources ({_COLUMNS}, lease) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 constants
        " ON CONFLICT DO UPDATE SET revision = excluded.revision, lease = excluded.lease, spec = excluded.spec,"
        " status = excluded.status",
        (*_at(resource.key), uid, revision, spec, status, lease or None),
    )
    stored = Resource(resource.key, json.loads(spec), json.loads(status), uid, revision)
    return _log(connection, stored, spec, status, is_deleted=False)


def delete(connection: sqlite3.Connection, key: Key, revision: int | None) -> Event | None:
    """None if there is no such record. Raises RevisionConflict."""
    current = get(connection, key) if revision is None else _check(connection, key, revision)
    if current is None:
        return None
    connection.execute(f"DELETE FROM resources {_AT}", _at(key))  # noqa: S608 constants
    gone = Resource(key, current.spec, current.status, current.uid, _next_revision(connection))
    return _log(connection, gone, encode(current.spec), encode(current.status), is_deleted=True)


def changes(connection: sqlite3.Connection, since: int, limit: int) -> tuple[Event, ...]:
    """At most `limit` changes after `since`. Raises Compacted."""
    connection.execute("BEGIN")
    try:
        oldest = counter(connection, "compacted")
        if since < oldest:
            raise Compacted(since, oldest)
        query = f"SELECT {_LOG_COLUMNS} FROM changes WHERE revision > ? ORDER BY revision LIMIT ?"  # noqa: S608
        rows = connection.execute(query, (since, limit)).fetchall()
    finally:
        connection.execute("COMMIT")
    return tuple(Event(_resource(row[:-1]), bool(row[-1])) for row in rows)


def compact(connection: sqlite3.Connection, keep: int, bytes_max: int) -> int:
    """Forget all but the last `keep` revisions of the log, and of these what is over `bytes_max` of documents. Returns
    the revision up to which it is now forgotten."""
    upto = max(counter(connection, "revision") - keep, _last_over(connection, bytes_max))
    if upto > counter(connection, "compacted"):
        connection.execute("DELETE FROM changes WHERE revision <= ?", (upto,))
        connection.execute("UPDATE counters SET value = ? WHERE name = 'compacted'", (upto,))
    return counter(connection, "compacted")


def logged_bytes(connection: sqlite3.Connection, revision: int) -> int:
    """Of documents that one change has in the log."""
    query = f"SELECT {_BYTES} FROM changes WHERE revision = ?"  # noqa: S608 constants
    return int(connection.execute(query, (revision,)).fetchone()[0])


def _last_over(connection: sqlite3.Connection, bytes_max: int) -> int:
    """The last revision of the log that is more than `bytes_max` together with all later ones, 0 without one. Reads no
    further."""
    rows = connection.execute(f"SELECT revision, {_BYTES} FROM changes ORDER BY revision DESC")  # noqa: S608 constants
    total = 0
    for revision, taken in rows:
        total += taken
        if total > bytes_max:
            return int(revision)
    return 0


def grant_lease(connection: sqlite3.Connection, ttl_s: float, now: float) -> int:
    cursor = connection.execute("INSERT INTO leases (ttl_s, expires_at) VALUES (?, ?)", (ttl_s, now + ttl_s))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def keep_lease(connection: sqlite3.Connection, lease: int, now: float) -> None:
    """Raises UnknownLease, also for one that expired but was not swept yet."""
    query = "UPDATE leases SET expires_at = ? + ttl_s WHERE id = ? AND expires_at > ?"
    if connection.execute(query, (now, lease, now)).rowcount == 0:
        raise UnknownLease(f"lease {lease} is unknown or expired")


def end_lease(connection: sqlite3.Connection, lease: int) -> list[Event]:
    """Delete a lease and the records bound to it."""
    rows = connection.execute("SELECT kind, cluster, name FROM resources WHERE lease = ?", (lease,)).fetchall()
    events = [delete(connection, Key(*row), None) for row in rows]
    connection.execute("DELETE FROM leases WHERE id = ?", (lease,))
    return [event for event in events if event is not None]


def expire_leases(connection: sqlite3.Connection, now: float) -> list[Event]:
    """End every lease whose time is over."""
    rows = connection.execute("SELECT id FROM leases WHERE expires_at <= ?", (now,)).fetchall()
    return [event for (lease,) in rows for event in end_lease(connection, lease)]


def next_expiry(connection: sqlite3.Connection) -> float | None:
    (moment,) = connection.execute("SELECT min(expires_at) FROM leases").fetchone()
    return None if moment is None else float(moment)


def counter(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return int(value)


def _check(connection: sqlite3.Connection, key: Key, expected: int) -> Resource | None:
    current = get(connection, key)
    actual = current.revision if current else 0
    if actual != expected:
        raise RevisionConflict(key, expected, actual)
    return current


def _next_revision(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'revision'")
    return counter(connection, "revision")


def _log(connection: sqlite3.Connection, resource: Resource, spec: str, status: str, *, is_deleted: bool) -> Event:
    connection.execute(
        f"INSERT INTO changes ({_LOG_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 constants
        (*_at(resource.key), resource.uid, resource.revision, spec, status, int(is_deleted)),
    )
    return Event(resource, is_deleted)


def _at(key: Key) -> tuple[str, str, str]:
    return key.kind, key.cluster, key.name


def _resource(row: tuple[str, str, str, str, int, str, str]) -> Resource:
    kind, cluster, name, uid, revision, spec, status = row
    return Resource(Key(kind, cluster, name), json.loads(spec), json.loads(status), uid, revision)
