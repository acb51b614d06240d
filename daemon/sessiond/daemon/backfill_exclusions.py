"""Counts the files that `backfill` excludes. One is captured after all once another file of its session is."""

from __future__ import annotations

from sessiond.ingest import Location, Outcome

Key = tuple[str, str]


class BackfillExclusions:
    """The excluded units. Only the capture thread uses it."""

    def __init__(self) -> None:
        self._units: dict[str, tuple[Key, int]] = {}
        self._sessions: dict[Key, set[str]] = {}
        self._wanted: set[str] = set()
        self.size = 0
        """Total bytes of the excluded units."""

    def __len__(self) -> int:
        return len(self._units)

    def note(self, location: Location, outcome: Outcome, size: int) -> None:
        """Record the outcome of reading a unit of `size` bytes."""
        path, key = location.path, _key(location)
        if outcome.left_out:
            self.size += size - self._units.get(path, (key, 0))[1]
            self._units[path] = key, size
            self._sessions.setdefault(key, set()).add(path)
            return
        self.size -= self._units.pop(path, (key, 0))[1]
        others = self._sessions.get(key)
        if others is not None:
            others.discard(path)
            # A session is captured whole, so its other files follow. The deletion of a file is no reason for that.
            self._wanted |= others if outcome.changed else set()
            if not others:
                del self._sessions[key]

    def take(self) -> set[str]:
        """Remove and return the units to capture because another unit of their session was captured."""
        wanted, self._wanted = self._wanted, set()
        return wanted


def _key(location: Location) -> Key:
    # If only the content names the session, each file counts as a session of its own.
    return location.source.tool, location.unit.native_id or location.path
