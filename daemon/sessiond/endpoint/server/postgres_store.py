"""A store in PostgreSQL, which several processes may serve at the same time.

A transaction of pushes locks the machines and devices that it names, so two processes never decide about the same
session at the same time. It locks them in one order, so two processes never wait for each other. An erasure locks the
user, which excludes all pushes of the user. All locks end with the transaction, however it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout

from sessiond.endpoint.server import loading, saving
from sessiond.endpoint.server.blobs import Blobs
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.digests import KnownDigests
from sessiond.endpoint.server.postgres_database import PostgresDatabase, TextDumper, lock_key
from sessiond.endpoint.server.postgres_migration import check_version
from sessiond.endpoint.server.state import Changes, Quota, State, Touched
from sessiond.endpoint.server.store import StoreBusy
from sessiond.errors import StateError, StateFull

CONNECTIONS = 16
TIMEOUT = 10.0
"""Seconds that a request waits for a connection or a lock."""
PACKING = lock_key("packing")
"""The lock of those that replace or erase chunks."""


class PostgresStore:
    """The data of the endpoint in the PostgreSQL database that `url` names."""

    blocking = True

    def __init__(self, url: str) -> None:
        """Connect.

        Raises:
            StateError: the database can't be reached, or its tables are not of this version.
        """
        self.blobs: Blobs | None = None
        self.digests = KnownDigests()
        self.lost = False
        self.on_lost: Callable[[], None] = lambda: None
        with _translated():
            with psycopg.connect(url, autocommit=True, connect_timeout=int(TIMEOUT)) as connection:
                self.endpoint_id: UUID = check_version(connection)
            self._pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
                url,
                min_size=1,
                max_size=CONNECTIONS,
                timeout=TIMEOUT,
                kwargs={"autocommit": True, "prepare_threshold": 2},
                configure=_configure,
                open=True,
            )

    @contextmanager
    def write(self) -> Iterator[Database]:
        """Return a context with a write transaction, which is on the disk when it ends."""
        done = False
        try:
            with self._transaction("BEGIN") as db:
                yield db
            done = True
        finally:
            if not done:
                # The hashes may include bytes of this transaction, which are not stored after all.
                self.digests.clear()

    def without_waiting(self) -> AbstractContextManager[bool]:
        """Return False: each statement waits for the network."""
        return nullcontext(False)

    @contextmanager
    def read(self) -> Iterator[Database]:
        """Return a context with a read transaction, which sees one consistent state while others write."""
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as db:
            yield db

    @contextmanager
    def _transaction(self, begin: LiteralString) -> Iterator[Database]:
        done = False
        with _translated(), self._pool.connection() as connection:
            connection.execute(begin)
            try:
                yield PostgresDatabase(connection)
                connection.execute("COMMIT")
                done = True
            finally:
                if not done and not connection.closed:
                    with suppress(psycopg.Error):  # the connection is lost; the server rolls back
                        connection.execute("ROLLBACK")

    def load(self, db: Database, touched: Touched) -> State:
        """Lock what a batch of pushes names, and return its stored state."""
        users = sorted({lock_key("user", user) for user, _ in touched.devices})
        db.execute("SELECT pg_advisory_xact_lock_shared(key) FROM unnest(?::bigint[]) AS key", (users,)).fetchall()
        # Of devices as well: two pushes that both find no row of their device would both count one (`usage`).
        keys = {lock_key("machine", *each) for each in touched.machines}
        keys |= {lock_key("device", *each) for each in touched.devices}
        db.execute("SELECT pg_advisory_xact_lock(key) FROM unnest(?::bigint[]) AS key", (sorted(keys),)).fetchall()
        # A command that revokes or releases a token waits for this transaction; other pushes with the token do not.
        db.execute(
            "SELECT 1 FROM tokens WHERE sha256 = ANY(?) ORDER BY name FOR KEY SHARE", (sorted(touched.tokens),)
        ).fetchall()
        return loading.load(db, touched, Quota(), self.digests.streams)

    def save(self, db: Database, changes: Changes) -> None:
        """Save the changes of a batch of pushes."""
        saving.save(db, self.digests, changes)

    def lock_user(self, db: Database, user: str) -> None:
        """Keep pushes of a user, and the packer, from changing anything until the transaction ends."""
        db.execute("SELECT pg_advisory_xact_lock(?)", (lock_key("user", user),)).fetchall()
        self.lock_chunks(db)

    def lock_chunks(self, db: Database) -> None:
        """Keep others from replacing or erasing chunks until the transaction ends."""
        db.execute("SELECT pg_advisory_xact_lock(?)", (PACKING,)).fetchall()

    def retire_streams(self, db: Database, numbers: list[int]) -> None:
        """Never use the numbers of erased streams again. A sequence does not."""

    def remaining_quota(self, db: Database) -> int | None:
        """Return None: there is no quota for the database."""

    def expect_scrub(self, db: Database) -> None:
        """Do nothing: VACUUM is PostgreSQL's own work."""

    def scrub(self) -> None:
        """Do nothing: VACUUM is PostgreSQL's own work."""

    def size(self) -> int:
        """Return the bytes of the database."""
        with self.read() as db:
            return int(db.execute("SELECT pg_database_size(current_database())").fetchone()[0])

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


def _configure(connection: psycopg.Connection[Any]) -> None:
    connection.adapters.register_dumper(str, TextDumper)
    connection.execute("SET lock_timeout = '10s'")
    connection.execute("SET synchronous_commit = on")  # an acknowledged push must survive a power cut


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise StoreBusy("the database can't be reached, or all connections to it are in use") from error
    except errors.DiskFull as error:
        raise StateFull(f"the database is full: {error}", hint="free space on the database's disk") from error
    except (psycopg.OperationalError, errors.UniqueViolation) as error:
        # The connection was lost, or another transaction was first. The client sends the same again.
        raise StoreBusy(f"the database can't be used now: {error}", hint="check the address in --store") from error
    except psycopg.Error as error:
        raise StateError(f"the database failed: {error}", hint="check the database's log") from error
