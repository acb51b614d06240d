"""Files that could not be read as they were met: when each is looked at again, and what is said of it."""

from __future__ import annotations

import time

from sessiond.ingest import Outcome, Place
from sessiond.logs import log

TORN_WAITS = (0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)  # seconds until a file met in a rewrite is looked at again


class Retries:
    """What is to be read again. Only the thread that captures uses it."""

    def __init__(self) -> None:
        self._torn: dict[str, tuple[int, float]] = {}
        self._troubled: set[str] = set()

    def __len__(self) -> int:
        return len(self._torn)

    def next(self) -> float | None:
        """Tell in how many seconds the next one is due; None where none is."""
        due = min((due for _, due in self._torn.values()), default=None)
        return None if due is None else max(0.0, due - time.monotonic())

    def due(self) -> list[str]:
        """List the files that are to be looked at again now."""
        now = time.monotonic()
        return [path for path, (_, due) in self._torn.items() if due <= now]

    def note(self, path: str, place: Place, outcome: Outcome) -> None:
        """Take note of what came of a path, and log what is worth it; what lasts is said once."""
        tool = place.source.tool
        if outcome.retry:
            tries = self._torn.get(path, (0, 0.0))[0]
            self._torn[path] = (tries + 1, time.monotonic() + TORN_WAITS[min(tries, len(TORN_WAITS) - 1)])
        else:
            self._torn.pop(path, None)
        if outcome.trouble is None:
            self._troubled.discard(path)
        elif path not in self._troubled and (not outcome.retry or self._torn[path][0] > len(TORN_WAITS)):
            self._troubled.add(path)
            log.warning("ingest.skipped", tool=tool, path=path, reason=outcome.trouble)
        if outcome.damaged:
            log.warning("ingest.damaged", tool=tool, path=path, records=outcome.damaged)
        if outcome.read:
            log.debug("ingest.captured", tool=tool, bytes=outcome.read)
