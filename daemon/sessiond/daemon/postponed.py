"""Units that are captured only once another unit of their session is."""

from __future__ import annotations

from sessiond.daemon.backfill_exclusions import BackfillExclusions
from sessiond.daemon.sessionless import SessionlessFiles
from sessiond.ingest import Location, Outcome


class Postponed:
    """The units that `backfill` excludes, and side files without a session. Only the capture thread uses it."""

    def __init__(self) -> None:
        self.excluded = BackfillExclusions()
        self.sessionless = SessionlessFiles()

    def note(self, location: Location, outcome: Outcome, size: int) -> None:
        """Record the outcome of reading a unit of `size` bytes."""
        self.excluded.note(location, outcome, size)
        self.sessionless.note(location, outcome, size)

    def take(self) -> set[str]:
        """Remove and return the units to capture because another unit of their session was captured."""
        return self.excluded.take() | self.sessionless.take()
