"""Each version builds on the one before, whole or not at all; the files are tried in tests/hub/store/test_sqlite.py."""

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from hub.store import migrations


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def test_from_nothing_and_again(connection: sqlite3.Connection) -> None:
    assert migrations.migrate(connection) == 0
    assert migrations.migrate(connection) == migrations.SCHEMA_VERSION
    assert connection.execute("PRAGMA application_id").fetchone() == (migrations.APPLICATION_ID,)
    versions = [version for (version,) in connection.execute("SELECT version FROM schema_version ORDER BY version")]
    assert versions == list(range(1, migrations.SCHEMA_VERSION + 1))


def test_an_older_database_is_brought_up(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations.migrate(connection)
    connection.execute("INSERT INTO resources VALUES ('thing', '', 'a', 'u', 1, NULL, '{}', '{}')")
    newer = (*migrations.MIGRATIONS, ("ALTER TABLE leases ADD COLUMN holder TEXT NOT NULL DEFAULT ''",))
    monkeypatch.setattr(migrations, "MIGRATIONS", newer)
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 2)
    assert migrations.migrate(connection) == 1
    assert connection.execute("SELECT name FROM resources").fetchall() == [("a",)]
    assert connection.execute("SELECT holder FROM leases").fetchall() == []


def test_every_table_is_strict(connection: sqlite3.Connection) -> None:
    migrations.migrate(connection)
    tables = connection.execute("PRAGMA table_list").fetchall()
    own = {row[1]: row[5] for row in tables if not row[1].startswith("sqlite_")}
    assert set(own.values()) == {1}
    assert set(own) == {"resources", "changes", "leases", "counters", "schema_version"}


class Full(sqlite3.Connection):
    """A disk that is full at the end of a migration. SQLite has rolled back by then."""

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        if sql.startswith("INSERT INTO schema_version"):
            super().execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *values)  # type: ignore[arg-type]


def test_a_full_disk_is_what_is_told() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=Full)
    with contextlib.closing(connection), pytest.raises(sqlite3.OperationalError, match="disk is full"):
        migrations.migrate(connection)
