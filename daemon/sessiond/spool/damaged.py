"""Damaged spools: how damage is found; each is set aside under a name of its own, and a few of them are kept."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress

from sessiond.errors import SpoolDamaged
from sessiond.spool import NAME
from sessiond.spool.forgotten import Forgotten
from sessiond.spool.translation import translated

KEPT = 3
"""How many damaged spools are kept besides the first one."""


def set_aside(directory: str) -> str:
    """Rename a damaged spool and return its new path. A new spool is then built from the sources."""
    path, taken = os.path.join(directory, NAME), damaged_spools(directory)
    aside = base = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    number = 1
    while any(name.startswith(aside) for name in taken):  # two within one second must not overwrite each other
        number += 1
        aside = f"{base}.{number:03d}"
    for suffix in (
        "-wal",
        "-shm",
        "",
    ):  # the database last: after a kill, the next start still finds it and moves the rest
        if os.path.exists(path + suffix):
            os.replace(path + suffix, aside + suffix)
    return aside


def damaged_spools(directory: str) -> list[str]:
    """Return the paths of the damaged spools that were set aside, the oldest first."""
    start = f"{NAME}.damaged-"
    names = sorted(name for name in os.listdir(directory) if name.startswith(start))
    return [os.path.join(directory, name) for name in names if not name.endswith(("-wal", "-shm"))]


def read_tombstones(path: str) -> list[tuple[object, ...]]:
    """Return the tombstones of a damaged spool, as far as they can be read: what was erased must stay so.

    Those that can't be read are learned again from the endpoint, when the session is pushed.
    """
    try:
        with closing(sqlite3.connect(path, timeout=5.0)) as db:
            return Forgotten(db).rows()
    except (sqlite3.Error, UnicodeDecodeError):
        return []


def drop_damaged(directory: str) -> list[str]:
    """Remove all damaged spools but the first and the newest KEPT, and return the paths of those removed.

    The first one is the most likely to hold bytes that were never sent: each later spool was built from the sources and
    from what the endpoint holds.
    """
    later = damaged_spools(directory)[1:]
    dropped = later[: max(0, len(later) - KEPT)]
    for path in dropped:
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                os.unlink(path + suffix)
    return dropped


def check(directory: str) -> None:
    """Check the whole file for damage, which SQLite otherwise notices only where it reads. Raises: SpoolDamaged."""
    path = os.path.join(directory, NAME)
    if not os.path.exists(path):
        return
    with translated():
        connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except UnicodeDecodeError:
            found = "its schema is not text"
        finally:
            connection.close()
    if found != "ok":
        raise SpoolDamaged(f"the spool {path} is damaged: {found}")
