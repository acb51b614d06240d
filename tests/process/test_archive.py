"""The built-in archive, with other processes beside it and a power cut after them."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress

from process_lab import World, session, until


def test_a_backup_of_the_archive_and_a_power_cut_lose_nothing(world: World) -> None:
    """The archive's file has sessions that were acknowledged after the backup and deleted by their tool."""
    world.configure(url='""')
    world.write(1, 1)
    daemon = world.start()
    archive = until(lambda: world.events("endpoint.started"), "endpoint.started")[0]
    until(lambda: "upload.acked" in world.said() and not world.waiting(), "the first push")
    store = os.path.join(world.state, "archive", "endpoint.db")
    script = (
        "import sqlite3, sys\nsource, copy = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[2])\n"
        "source.backup(copy)\ncopy.close(), source.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, store, os.path.join(world.base, "copy.db")], check=True, timeout=60)
    for number in (2, 3):
        world.write(number, 1)
    until(lambda: world.captured(2) and world.captured(3) and not world.waiting(), "the second push")
    os.unlink(world.path(2))
    daemon.kill()
    with suppress(ProcessLookupError):
        os.kill(archive["pid"], signal.SIGKILL)
    daemon.wait()
    until(lambda: not os.path.exists(f"/proc/{archive['pid']}"), "the archive's end")
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        held = {row[0] for row in db.execute("SELECT session FROM streams JOIN generations USING (stream)")}
    assert held == {session(1), session(2), session(3)}
