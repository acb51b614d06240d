"""What `backfill` leaves out: it is counted for status, and taken in once its session is."""

from __future__ import annotations

from sessiond.ingest import Location, Outcome

Key = tuple[str, str]


class BackfillExclusions:
    """The units that are left out. Only the thread that captures uses it."""

    def __init__(self) -> None:
        self._units: dict[str, tuple[Key, int]] = {}
        self._sessions: dict[Key, set[str]] = {}
        self._wanted: set[str] = set()
        self.size = 0
        """Bytes of them all."""

    def __len__(self) -> int:
        return len(self._units)

    def note(self, location: Location, outcome: Outcome, size: int) -> None:
        """Take note of what came of a unit of so many bytes."""
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
            # A session is taken in whole; that one of its files was deleted is no reason to.
            self._wanted |= others if outcome.changed else set()
            if not others:
                del self._sessions[key]

    def take(self) -> set[str]:
        """Hand over the units that are to be taken in, since another one of their session was."""
        wanted, self._wanted = self._wanted, set()
        return wanted


def _key(location: Location) -> Key:
    # Where only the content tells the session, each file stands for itself.
    return location.source.tool, location.unit.native_id or location.path
