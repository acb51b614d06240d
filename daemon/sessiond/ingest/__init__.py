"""Ingest: one dirty path, from a change on the disk to a commit in the spool."""

from __future__ import annotations

from collections.abc import Collection

from sessiond.errors import ReadError, Torn
from sessiond.ingest.backfill import is_left_out
from sessiond.ingest.gone import note_gone, note_trouble, sweep_idle
from sessiond.ingest.lines import ingest_lines
from sessiond.ingest.projected import ingest_projected
from sessiond.ingest.setting import Index, Outcome, Place, Setting, locate
from sessiond.sources.base import Kind

__all__ = ["Index", "Outcome", "Place", "Setting", "ingest", "locate", "sweep_idle"]


def ingest(setting: Setting, place: Place, only: Collection[str] | None = None, *, changed: bool = False) -> Outcome:
    """Bring what the spool has of a path up to what stands there now.

    `only` names sessions in a container that are read even if it did not change. `changed`: the path was seen to
    change, so that it is taken in however old it looks (see `backfill`).
    Errors of reading are an outcome (rule 9: one bad file never stops another); errors of the spool
    (StateFull, SpoolDamaged) are raised, for they concern every path.
    """
    with setting.spool.reading():
        known = setting.spool.catalog.file(place.path)
    try:
        if not changed and is_left_out(setting, place, known):
            return Outcome(left_out=True)
        lines = place.unit.kind is Kind.LINES
        return ingest_lines(setting, place, known) if lines else ingest_projected(setting, place, known, only)
    except FileNotFoundError:
        return note_gone(setting, known)
    except Torn as error:
        return Outcome(retry=True, trouble=str(error))
    except ReadError as error:
        return note_trouble(setting, place, known, error)
    except OSError as error:
        return note_trouble(setting, place, known, ReadError(f"not read: {error.strerror}"))
