"""The SQLite schema, from version 1 on. A migration is never edited once released; a change is a new one."""

from __future__ import annotations

import sqlite3
from typing import Final

from hub.store.model import StoreError

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE resources (
            kind     TEXT NOT NULL,
            cluster  TEXT NOT NULL,
            name     TEXT NOT NULL,
            uid      TEXT NOT NULL UNIQUE,
            revision INTEGER NOT NULL,
            lease    INTEGER REFERENCES leases (id),
            spec     TEXT NOT NULL,
            status   TEXT NOT NULL,
            PRIMARY KEY (kind, cluster, name)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX resources_by_lease ON resources (lease) WHERE lease IS NOT NULL",
        """
        CREATE TABLE changes (
            revision   INTEGER PRIMARY KEY,
            kind       TEXT NOT NULL,
            cluster    TEXT NOT NULL,
            name       TEXT NOT NULL,
            uid        TEXT NOT NULL,
            is_deleted INTEGER NOT NULL,
            spec       TEXT NOT NULL,
            status     TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE leases (
            id         INTEGER PRIMARY KEY AUTOINCREMENT,
            ttl_s      REAL NOT NULL,
            expires_at REAL NOT NULL
        ) STRICT
        """,
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "INSERT INTO counters VALUES ('revision', 0), ('compacted', 0)",
    ),
)
"""One tuple of statements per schema version; index 0 makes version 1."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
APPLICATION_ID: Final = 0x72696174
"""`riat` in the file's header: a database of something else is refused instead of written to."""


class SchemaTooNew(StoreError):
    """The database was written by a newer riata-hub; running on would lose what this one does not know."""


def migrate(connection: sqlite3.Connection) -> int:
    """Bring a database to SCHEMA_VERSION, each step in its own transaction. Returns the version found at first.

    Raises SchemaTooNew, and StoreError for a file that is not ours. The connection is in autocommit mode.
    """
    found = _version(connection)
    if found > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the database has schema version {found}, this riata-hub knows up to {SCHEMA_VERSION}: "
            "run the newer riata-hub again, or restore a backup from before its first start"
        )
    for version, statements in enumerate(MIGRATIONS[found:], start=found + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version (version) VALUES (?)", (version,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has rolled back by itself, and is what is to be told
                connection.execute("ROLLBACK")
            raise
    return found


def _version(connection: sqlite3.Connection) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if application not in (0, APPLICATION_ID) or (application == 0 and tables):
        raise StoreError("the file is a database of another program")
    if not tables:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version ("
        "version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT"
    )
    (version,) = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    return int(version)
