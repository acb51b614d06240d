"""The tables in PostgreSQL: `sessiond serve migrate` creates and changes them, and nothing else does.

The migrations are the numbered files in the folder `sql`. Each runs in one transaction together with its number in
`schema_version`.
"""

from __future__ import annotations

import re
import uuid
from importlib import resources
from typing import Any
from uuid import UUID

import psycopg

from sessiond.endpoint.server.postgres_database import lock_key
from sessiond.errors import StateError

HINT = "run: sessiond serve migrate --store URL"
_LOCK = lock_key("migration")


def migrations() -> list[tuple[int, str]]:
    """Return the numbers and the statements of all migrations, in order."""
    folder = resources.files("sessiond.endpoint.server").joinpath("sql")
    found = [(int(each.name[:4]), each.read_text("utf-8")) for each in folder.iterdir() if _is_migration(each.name)]
    return sorted(found)


def check_version(connection: psycopg.Connection[Any]) -> UUID:
    """Return the endpoint's id.

    Raises:
        StateError: the tables are missing, or are not those of this version.
    """
    found, latest = _version(connection), migrations()[-1][0]
    if found == 0:
        raise StateError("the database has no tables of sessiond", hint=HINT)
    if found < latest:
        raise StateError(f"the database has the tables of an older sessiond ({found}, not {latest})", hint=HINT)
    if found > latest:
        raise StateError(
            f"the database has the tables of a newer sessiond ({found}, not {latest})", hint="upgrade sessiond"
        )
    row = connection.execute("SELECT value FROM facts WHERE name = 'endpoint_id'").fetchone()
    assert row is not None
    return UUID(row[0])


def migrate(url: str) -> list[int]:
    """Create the tables, or change them to those of this version. Return the numbers of the migrations that ran.

    Raises:
        StateError: the database can't be reached or changed, or a newer sessiond changed it.
    """
    ran: list[int] = []
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            for number, script in migrations():
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                    if _version(connection) < number:
                        _run(connection, number, script)
                        ran.append(number)
            check_version(connection)
    except psycopg.Error as error:
        raise StateError(f"the database can't be migrated: {error}", hint="check the address in --store") from error
    return ran


def _run(connection: psycopg.Connection[Any], number: int, script: str) -> None:
    connection.execute(script)
    if number == 1:
        connection.execute("CREATE TABLE schema_version (version bigint PRIMARY KEY)")
        connection.execute("INSERT INTO facts VALUES ('endpoint_id', %s)", (str(uuid.uuid4()),))
    connection.execute("INSERT INTO schema_version VALUES (%s)", (number,))


def _version(connection: psycopg.Connection[Any]) -> int:
    """Return the number of the last migration that ran; 0: none."""
    row = connection.execute("SELECT to_regclass('schema_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
    assert row is not None
    return int(row[0])


def _is_migration(name: str) -> bool:
    return re.fullmatch(r"\d{4}\.sql", name) is not None
