"""The spool's own files: what it writes, and where."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import pytest

from sessiond.spool import Spool


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
