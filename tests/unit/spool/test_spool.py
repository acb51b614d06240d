"""The spool's files: when they are written, and where."""

from __future__ import annotations

import os
import sqlite3
import sys
import uuid
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sessiond.errors import SpoolDamaged, StateError, StateFull
from sessiond.spool import NAME, Spool
from sessiond.spool.archive_file import archive_bytes
from sessiond.spool.damaged import check
from sessiond.spool.schema import VERSION
from sessiond.spool.scrub import DUE, scrub
from sessiond.spool.translation import translated


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which files are open")
def test_undoing_a_part_of_a_transaction_uses_no_temporary_file(tmp_path: Path) -> None:
    """Files that share a commit are stored in nested transactions; to undo one, its pages are kept in memory.

    SQLite would put them into /var/tmp, where other users' programs are, and write as much as into its log.
    """
    spool = Spool(str(tmp_path))

    def add(first: int, last: int) -> None:
        for number in range(first, last):
            native_id = f"{number}-{'x' * 500}"
            session = spool.catalog.add_session(uuid.uuid5(uuid.NAMESPACE_OID, native_id), "codex", native_id)
            spool.catalog.add_stream(session, "main", thread=True, known=True)

    with spool.transaction():
        add(0, 1000)
    try:
        with spool.transaction(), spool.transaction():
            add(1000, 1400)
            spool.connection.execute("UPDATE session SET active_ms = 1")
            opened = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)]
    finally:
        spool.close()
    assert not [path for path in opened if "etilqs" in path]


def _is_open(descriptor: str) -> bool:
    """Return whether a descriptor is still open; the one that lists the directory is not."""
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


def test_a_schema_that_is_not_text_is_damage(tmp_path: Path) -> None:
    """SQLite quotes the schema in its error, and Python can't decode that: neither may end the daemon."""
    with closing(Spool(str(tmp_path))) as spool:
        spool.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    path = tmp_path / "spool.db"
    content = path.read_bytes()
    assert content.count(b"CREATE TABLE meta") == 1
    path.write_bytes(content.replace(b"CREATE TABLE meta", b"CREATE TABLE \x88\xff\xfe("))
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"spool.db{suffix}").unlink(missing_ok=True)
    with pytest.raises(SpoolDamaged):
        Spool(str(tmp_path))
    with pytest.raises(SpoolDamaged):
        check(str(tmp_path))


def test_a_group_ends_with_its_block_or_before(tmp_path: Path) -> None:
    """A transaction after the group is committed by itself."""
    with closing(Spool(str(tmp_path))) as spool, closing(Spool(str(tmp_path), readonly=True)) as other:
        for early in (False, True):
            with spool.group():
                assert spool.in_group
                with spool.transaction():
                    spool.set_meta("first", str(early))
                    spool.end_group()  # not inside one of its transactions
                    assert spool.in_group
                assert other.meta("first") != str(early)
                if early:
                    spool.end_group()
                    assert other.meta("first") == str(early)
                assert spool.in_group != early
            assert other.meta("first") == str(early)
            with spool.transaction():
                assert not spool.in_group
                spool.end_group()
                spool.set_meta("second", str(early))
                assert other.meta("second") != str(early)
            assert other.meta("second") == str(early)


def test_a_failed_transaction_takes_back_its_own_part(tmp_path: Path) -> None:
    """The cached size of the outbox is corrected too."""
    with closing(Spool(str(tmp_path))) as spool:
        stream = spool.catalog.add_stream(
            spool.catalog.add_session(uuid.UUID(int=1), "codex", "one"), "main", thread=True, known=True
        )
        with spool.transaction():
            spool.outbox.add(stream.id, 0, 0, 9, b"four", 1)
            with suppress(KeyError), spool.transaction():
                spool.outbox.add(stream.id, 0, 9, 9, b"eight888", 1)
                assert spool.outbox.size == 12
                raise KeyError
            assert spool.outbox.size == 4
        assert [item.length for item in spool.outbox.segments(9, 99)] == [9]


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (sqlite3.SQLITE_FULL, StateFull),
        (sqlite3.SQLITE_IOERR, StateFull),
        (sqlite3.SQLITE_IOERR | 4 << 8, StateFull),
        (sqlite3.SQLITE_CORRUPT, SpoolDamaged),
        (sqlite3.SQLITE_BUSY, StateError),
    ],
)
def test_errors_of_the_disk_get_their_own_names(code: int, raised: type[StateError]) -> None:
    """A full disk makes the daemon wait, damage makes it rebuild the spool, and anything else is reported."""
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    with pytest.raises(raised) as found, translated():
        raise error
    assert type(found.value) is raised


def test_a_spool_of_an_older_version_is_not_read_before_it_is_updated(tmp_path: Path) -> None:
    """After an upgrade, commands that read name the cause instead of a missing column."""
    Spool(str(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / NAME)) as old:
        old.execute(f"PRAGMA user_version = {VERSION - 1}")
    with pytest.raises(StateError, match="older version of sessiond") as raised:
        Spool(str(tmp_path), readonly=True)
    assert "restart" in (raised.value.hint or "")


def test_erased_data_stays_to_be_removed_while_another_process_reads(tmp_path: Path) -> None:
    """It reads from the write-ahead log, which can't be emptied then."""
    with closing(Spool(str(tmp_path))) as spool, closing(sqlite3.connect(spool.path)) as other:
        with spool.erasing():
            spool.set_meta("a key", "erased")
        spool.connection.execute("PRAGMA busy_timeout = 0").fetchall()
        other.execute("BEGIN")
        other.execute("SELECT * FROM meta").fetchall()
        with spool.transaction():
            spool.set_meta("a key", "another value")
        assert not scrub(spool)
        assert spool.meta(DUE) is not None
        other.execute("COMMIT")
        assert scrub(spool)
        assert spool.meta(DUE) is None


def test_free_pages_of_the_archive_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    with closing(sqlite3.connect(tmp_path / "archive" / "endpoint.db", isolation_level=None)) as store:
        store.execute("CREATE TABLE data (value)")
        used = archive_bytes(str(tmp_path))
        store.execute("INSERT INTO data VALUES (zeroblob(1000000))")
        assert archive_bytes(str(tmp_path)) > 1_000_000
        store.execute("DELETE FROM data")
        assert archive_bytes(str(tmp_path)) == used
