"""Ingest: one changed path, from its file to a commit in the spool."""

from __future__ import annotations

from collections.abc import Collection

from sessiond.errors import ReadError, Torn
from sessiond.ingest.backfill import is_left_out
from sessiond.ingest.context import Index, IngestContext, Location, Outcome, locate
from sessiond.ingest.lines import ingest_lines
from sessiond.ingest.presence import note_gone, note_trouble, sweep_idle
from sessiond.ingest.projected import ingest_projected
from sessiond.sources.base import Kind

__all__ = ["Index", "IngestContext", "Location", "Outcome", "ingest", "locate", "sweep_idle"]


def ingest(
    context: IngestContext, location: Location, only: Collection[str] | None = None, *, changed: bool = False
) -> Outcome:
    """Bring the spool up to date with the file at a location.

    `only` names sessions of a container that are read even if it did not change. `changed`: the path was seen to
    change, so it is captured whatever its age (see backfill.py).

    Errors of reading become an outcome (rule 9: a bad file never stops the others).

    Raises: StateFull, SpoolDamaged, which concern every path.
    """
    with context.spool.reading():
        known = context.spool.catalog.file(location.path)
    try:
        if not changed and is_left_out(context, location, known):
            return Outcome(left_out=True)
        lines = location.unit.kind is Kind.LINES
        return ingest_lines(context, location, known) if lines else ingest_projected(context, location, known, only)
    except FileNotFoundError:
        return note_gone(context, known)
    except Torn as error:
        return Outcome(retry=True, trouble=str(error))
    except ReadError as error:
        return note_trouble(context, location, known, error)
    except OSError as error:
        return note_trouble(context, location, known, ReadError(f"not read: {error.strerror}"))
