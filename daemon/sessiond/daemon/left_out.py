"""What `backfill` leaves out: it is counted for status, and taken in once its session is."""

from __future__ import annotations

from sessiond.ingest import Place

Key = tuple[str, str]


class LeftOut:
    """The units that are left out. Only the thread that captures uses it."""

    def __init__(self) -> None:
        self._units: dict[str, tuple[Key, int]] = {}
        self._sessions: dict[Key, set[str]] = {}
        self.size = 0
        """Bytes of them all."""

    def __len__(self) -> int:
        return len(self._units)

    def add(self, place: Place, size: int) -> None:
        """Note a unit that is left out."""
        self.discard(place)
        key = _key(place)
        self._units[place.path] = key, size
        self._sessions.setdefault(key, set()).add(place.path)
        self.size += size

    def discard(self, place: Place) -> set[str]:
        """Note that a unit was taken in, or is gone; return the others of its session, which is taken in whole."""
        key, size = self._units.pop(place.path, (_key(place), 0))
        self.size -= size
        others = self._sessions.get(key)
        if others is None:
            return set()
        others.discard(place.path)
        if not others:
            del self._sessions[key]
        return set(others)


def _key(place: Place) -> Key:
    # Where only the content tells the session, each file stands for itself.
    return place.source.tool, place.unit.native_id or place.path
