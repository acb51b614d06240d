"""OpenCode: formats.md 2.8, field-notes B.2."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch
from sessiond.sources.opencode.files import SESSION_FILE, directories, lay_out
from sessiond.sources.opencode.messages import entry_of
from sessiond.sources.opencode.store import list_sessions, project_session
from sessiond.sources.places import distinct

STORE = re.compile(r"([\w.-]+\.db)(?:-wal)?", re.ASCII)
ELSEWHERE = frozenset(["message", "part", "session_diff", "session_share", "todo", "permission", "snapshot"])


class OpenCode(BaseSource):
    """Sessions of OpenCode: rows since 1.2, before that a file for each message and part."""

    tool: ClassVar[str] = "opencode"
    versions: ClassVar[tuple[str, ...]] = ("0.5", "1.1.65", "1.2", "1.18.33")
    gaps: ClassVar[tuple[str, ...]] = (
        "no branch is stored",
        "before events (1.2) an edit in a session of more than a day ago is found within a day",
        "a database that OPENCODE_DB names otherwise than *.db",
    )
    folder: ClassVar[str] = "opencode"
    variable: ClassVar[str] = "OPENCODE_DB"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the data directory, flat: below it lie git stores (`snapshot/`); and the directory of OPENCODE_DB."""
        base = f"{places.share}/{self.folder}"
        for path in distinct(os.path.dirname(places.given(self.variable)), base):
            yield Root(path=path, watch=Watch.FLAT)
        # What no version writes to any more has a directory for each message: no watches are spent on it.
        yield Root(path=f"{base}/storage", watch=Watch.SCAN, depth=2, skip=ELSEWHERE)
        yield Root(path=f"{base}/project", watch=Watch.SCAN, depth=4, skip=ELSEWHERE)

    def unit(self, relative: str) -> Unit | None:
        """Tell a database, whatever its release channel is called, and the file of a session from before.

        Both may have the same session, for the import left the files (formats.md 1.2): they are two streams of it.
        """
        if found := STORE.fullmatch(relative):
            return Unit(kind=Kind.DATABASE, path=found[1])
        if found := SESSION_FILE.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT, native_id=found[2] or found[4], stream="json")
        return None

    def further(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[str]:
        """Name the directories of a session's messages and parts."""
        return directories(files, unit)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay a session's files out as its rows are."""
        return lay_out(files, unit)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the sessions of a database."""
        return list_sessions(database)

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Lay a session's rows out as records."""
        return project_session(database, native_id)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a row says."""
        return entry_of(record, memory)
