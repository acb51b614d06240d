"""Backfill: decides how many of the sessions that existed before the first start are captured.

A unit of which nothing is captured yet is left out if it was last changed earlier than the configured age before the
first start, and if it was already there when this state directory was first used on this machine. The second condition
captures an old file that was copied or restored since then, with its old time. Nothing is stored of what is left out:
it is judged again when it or the configuration changes.
"""

from __future__ import annotations

import os

from sessiond.config.units import parse_backfill
from sessiond.ingest.context import IngestContext, Location
from sessiond.ingest.files import database_stat, list_folder
from sessiond.session import session_id
from sessiond.sources.base import Kind
from sessiond.spool import Spool
from sessiond.spool.rows import FileState

BEGAN = "backfill.began_ms"
"""Meta key: when sessiond was first started with this state directory, in unix ms."""
HERE = "backfill.here"
"""Meta key: which copy of the state directory this is, and when it was first used, in unix ms."""


def oldest_ms(spool: Spool, backfill: str, began_ms: int) -> int | None:
    """Return the time before which unchanged files are left out, in unix ms; None if all files are captured.

    The spool keeps the earliest `began_ms` as the time of the first start. A later one would leave out files that were
    written in between; an earlier one means that the clock was wrong before.
    """
    stored = spool.meta(BEGAN)
    if stored is None or int(stored) > began_ms:
        spool.set_meta(BEGAN, str(began_ms))
    else:
        began_ms = int(stored)
    age = parse_backfill(backfill)
    return None if age is None else began_ms - int(age * 1000)


def here_ms(spool: Spool, installation: int, now_ms: int) -> int:
    """Return when this copy of the state directory was first used, in unix ms.

    `installation` identifies the copy. A user who copies a state directory copies the home too; that makes none of
    its files new.
    """
    known = (spool.meta(HERE) or "").split()
    if known[:1] == [str(installation)]:
        return int(known[1])
    spool.set_meta(HERE, f"{installation} {now_ms}")
    return now_ms


def is_left_out(context: IngestContext, location: Location, known: FileState | None) -> bool:
    """Return whether a unit is too old to be captured. Files of a captured session never are.

    Raises: OSError, FileNotFoundError among them, and ReadError.
    """
    if context.oldest_ms is None or (known is not None and known.checkpoint is not None):
        return False
    if location.unit.native_id is not None:
        identity = session_id(location.source.tool, location.unit.native_id, context.scope(location.source))
        with context.spool.reading():
            if context.spool.catalog.session(identity) is not None:
                return False
    found = _stat(location)
    # Programs can set the mtime, but not the ctime: it says when the file appeared.
    is_new = context.here_ms is not None and found.st_ctime_ns // 1_000_000 > context.here_ms
    return found.st_mtime_ns < context.oldest_ms * 1_000_000 and not is_new


def _stat(location: Location) -> os.stat_result:
    match location.unit.kind:
        case Kind.DATABASE:
            return database_stat(location.path)
        case Kind.FOLDER:
            return list_folder(location)[1]
        case _:
            return os.stat(location.path, follow_symlinks=False)
