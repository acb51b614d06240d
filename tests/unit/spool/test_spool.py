"""The spool's own files: what it writes, and where."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from sessiond.errors import SpoolDamaged
from sessiond.spool import Spool, check


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which files are open")
def test_what_a_transaction_may_take_back_is_in_no_file_elsewhere(tmp_path: Path) -> None:
    """Files that share a commit are stored in transactions of their own; to undo one, its pages are kept in memory.

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


def test_a_schema_that_is_no_text_is_damage(tmp_path: Path) -> None:
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
