"""Backfill: how much of what was there before the first start is taken in.

A unit that nothing is captured of is left out where it was changed last before the first start less the age in the
configuration, and lay there already when this state directory was first used where it is: an old file that was copied
or restored since, with its old time, did not. It is looked at again with each change, and when the configuration
changes: nothing of it is stored.
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
"""Meta key: when sessiond was started first with this state directory, in unix ms."""
HERE = "backfill.here"
"""Meta key: which copy of the state directory this is, and when it was used first, in unix ms."""


def oldest_ms(spool: Spool, backfill: str, began_ms: int) -> int | None:
    """Tell from when on a change counts; None where all is taken in.

    The first start is pinned in the spool: it is `began_ms` unless that was told before. A later one than is pinned
    would leave out what was written meanwhile; an earlier one means that the clock was wrong when it was pinned.
    """
    pinned = spool.meta(BEGAN)
    if pinned is None or int(pinned) > began_ms:
        spool.set_meta(BEGAN, str(began_ms))
    else:
        began_ms = int(pinned)
    age = parse_backfill(backfill)
    return None if age is None else began_ms - int(age * 1000)


def here_ms(spool: Spool, installation: int, now_ms: int) -> int:
    """Tell when the state directory was first used where it is.

    `installation` is another one for a copy of it: with it came all files of the home, which makes none of them new.
    """
    known = (spool.meta(HERE) or "").split()
    if known[:1] == [str(installation)]:
        return int(known[1])
    spool.set_meta(HERE, f"{installation} {now_ms}")
    return now_ms


def is_left_out(context: IngestContext, location: Location, known: FileState | None) -> bool:
    """Tell whether a unit is too old to be taken in; what belongs to a session that was taken in never is.

    Raises: OSError, FileNotFoundError among them, and ReadError.
    """
    if context.oldest_ms is None or (known is not None and known.checkpoint is not None):
        return False
    if location.unit.native_id is not None:
        identity = session_id(location.source.tool, location.unit.native_id, context.scope(location.source))
        with context.spool.reading():
            if context.spool.catalog.session(identity) is not None:
                return False
    found = _look(location)
    # The ctime, which nobody can set, says when it came.
    came = context.here_ms is not None and found.st_ctime_ns // 1_000_000 > context.here_ms
    return found.st_mtime_ns < context.oldest_ms * 1_000_000 and not came


def _look(location: Location) -> os.stat_result:
    match location.unit.kind:
        case Kind.DATABASE:
            return database_stat(location.path)
        case Kind.FOLDER:
            return list_folder(location)[1]
        case _:
            return os.stat(location.path, follow_symlinks=False)
