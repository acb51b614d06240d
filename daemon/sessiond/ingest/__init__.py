"""Ingest: one changed path, from its file to a commit in the spool."""

from __future__ import annotations

from msgspec.structs import replace

from sessiond.errors import Busy, ReadError, Torn
from sessiond.ingest.backfill import is_left_out
from sessiond.ingest.context import FileSnapshot, IngestContext, Outcome, Turn
from sessiond.ingest.history import capture_history
from sessiond.ingest.lines import capture_lines
from sessiond.ingest.location import Index, Location, locate
from sessiond.ingest.presence import note_gone, note_trouble, sweep_idle
from sessiond.ingest.projected import capture_projected
from sessiond.ingest.side_files import capture_side_file
from sessiond.ingest.titles import capture_titles
from sessiond.ingest.units import HistoryUnit, OpenUnit, open_unit
from sessiond.sources.base import Kind

__all__ = ["Index", "IngestContext", "Location", "Outcome", "Turn", "ingest", "locate", "sweep_idle"]


_CAPTURES = {Kind.LINES: capture_lines, Kind.FILE: capture_side_file}

ONCE = Turn()
"""The turn of a caller that reads each file to its end."""


def ingest(context: IngestContext, location: Location, turn: Turn = ONCE) -> Outcome:
    """Bring the spool up to date with the file at a location.

    Errors of reading become an outcome (rule 9: a bad file never stops the others).

    Raises: StateFull, SpoolDamaged, which concern every path.
    """
    with context.spool.reading():
        known = context.spool.catalog.file(location.path)
    try:
        side_file = location.unit.kind is Kind.FILE  # it is captured if its session is, whatever its age
        if not (turn.changed or side_file) and is_left_out(context, location, known):
            return Outcome(left_out=True)
        with open_unit(location, context.reading(turn, location.unit)) as unit:
            snapshot = FileSnapshot(context=context, turn=turn, location=location, known=known, stat=unit.stat)
            return _capture(snapshot, unit)
    except FileNotFoundError:
        return note_gone(context, known, turn.live)
    except Torn as error:
        # A lock may last for hours, and nothing of the database is captured until then. So `status` has to name it.
        busy = isinstance(error, Busy)
        noted = note_trouble(context, location, known, error) if busy else Outcome(trouble=str(error))
        return replace(noted, retry=True)
    except ReadError as error:
        return note_trouble(context, location, known, error)
    except OSError as error:
        return note_trouble(context, location, known, ReadError(str(error.strerror)))


def _capture(snapshot: FileSnapshot, unit: OpenUnit) -> Outcome:
    kind = snapshot.location.unit.kind
    if isinstance(unit, HistoryUnit):
        return capture_history(snapshot, unit) if kind is Kind.HISTORY else capture_titles(snapshot, unit)
    return _CAPTURES.get(kind, capture_projected)(snapshot, unit)
