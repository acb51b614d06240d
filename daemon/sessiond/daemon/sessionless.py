"""Side files whose session is not captured. They are read again once it is."""

from __future__ import annotations

from collections import Counter

from sessiond.ingest import Location, Outcome
from sessiond.sources.base import Kind

Key = tuple[str, str]
"""The tool, and the native id of the session or the name by which its records mention the file."""


class SessionlessFiles:
    """The side files without a captured session. Only the capture thread uses it.

    They are kept in memory only: the session may be an excluded one, of which nothing is stored.
    """

    def __init__(self) -> None:
        self._files: dict[str, tuple[Key, int]] = {}
        self._by_key: dict[Key, set[str]] = {}
        self._wanted: set[str] = set()
        self.size = 0
        """Total bytes of the files."""

    def counts(self) -> dict[str, int]:
        """Return the number of files of each tool."""
        return dict(Counter(key[0] for key, _ in self._files.values()))

    def note(self, location: Location, outcome: Outcome, size: int) -> None:
        """Record the outcome of reading a unit of `size` bytes."""
        tool, unit = location.source.tool, location.unit
        if unit.kind is Kind.FILE:
            self._remove(location.path)
            if outcome.sessionless:
                key = tool, unit.native_id or location.file_name
                self._files[location.path] = key, size
                self._by_key.setdefault(key, set()).add(location.path)
                self.size += size
            return
        for name in outcome.sessions | outcome.mentions:
            self._wanted |= self._by_key.get((tool, name), set())

    def take(self) -> set[str]:
        """Remove and return the files to read because their session was captured."""
        wanted, self._wanted = self._wanted, set()
        for path in wanted:
            self._remove(path)
        return wanted

    def _remove(self, path: str) -> None:
        key, size = self._files.pop(path, (("", ""), 0))
        self.size -= size
        paths = self._by_key.get(key, set())
        paths.discard(path)
        if not paths:
            self._by_key.pop(key, None)
