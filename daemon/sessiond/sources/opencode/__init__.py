"""OpenCode, and its forks with the same store: formats.md 2.8 and 2.11, field-notes B.2."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch, listed
from sessiond.sources.opencode.files import HEAD, SESSION_FILE, directories, lay_out
from sessiond.sources.opencode.records import entry_of, titled

STORE = re.compile(r"([\w.-]+\.db)(?:-wal)?", re.ASCII)
ELSEWHERE = frozenset(["message", "part", "session_diff", "session_share", "todo", "permission", "snapshot"])
# A row's columns, and nothing of the tables beside them: account, credential and session_share hold tokens.
SESSION = "SELECT id, slug, version, project_id, directory, parent_id, revert, title, time_created FROM session"
# Named once: Python 3.14 takes no `?1`, which would name it in each place.
WANTED = "FROM (SELECT ? AS wanted)"
COUNTS = """
    (SELECT count(*) FROM message WHERE session_id = wanted)
    || ' ' || (SELECT count(*) FROM part WHERE session_id = wanted)
"""
# Each change of a session, its messages and parts, a deletion too, is an event with the next number.
BY_EVENTS = """
    SELECT session.id, time_updated || ' ' || seq, seq IS NULL
    FROM session LEFT JOIN event_sequence ON aggregate_id = session.id
"""
# Before there were events, only a prompt moved the time of its session; what came of it wrote rows for hours.
BY_TIMES = "SELECT id, time_updated, time_updated > (SELECT max(time_updated) FROM session) - 86400000 FROM session"
TIMES = """
    coalesce((SELECT max(time_updated) FROM message WHERE session_id = wanted), '')
    || ' ' || coalesce((SELECT max(time_updated) FROM part WHERE session_id = wanted), '')
"""
NEXT = "SELECT id, type, data FROM session_message WHERE session_id = ? ORDER BY seq"


def _line(data: str, **first: str | None) -> bytes:
    """Put a row's columns before what its `data` holds: the shape of the older JSON files (field-notes B.2)."""
    own = msgspec.json.encode(first)
    rest = data.encode("utf-8", "replace").replace(b"\n", b" ").strip()
    return own[:-1] + b"," + rest[1:] if rest.startswith(b"{") and rest != b"{}" else own


class OpenCode(BaseSource):
    """Sessions of OpenCode: rows since 1.2, before that a file for each message and part."""

    tool: ClassVar[str] = "opencode"
    versions: ClassVar[tuple[str, ...]] = ("0.5", "1.1.65", "1.2", "1.18.33")
    gaps: ClassVar[tuple[str, ...]] = (
        "no branch is stored",
        "before events (1.2) an edit in a session of more than a day ago is found within a day",
    )
    folder: ClassVar[str] = "opencode"
    variable: ClassVar[str] = "OPENCODE_DB"

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the data directory, flat: below it lie git stores (`snapshot/`); and the directory of OPENCODE_DB."""
        base = f"{places.share}/{self.folder}"
        given = os.path.dirname(places.environ.get(self.variable, ""))
        for path in dict.fromkeys(filter(os.path.isabs, [given, base])):
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
        """List sessions by their events; versions without them are asked for the times of rows."""
        if database.has("session", "time_updated") and database.has("message") and database.has("part"):
            events = database.has("event_sequence")
            rest = COUNTS if events else f"{COUNTS} || ' ' || {TIMES}"
            yield from listed(database, BY_EVENTS if events else BY_TIMES, " ".join(["SELECT", rest, WANTED]))

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row, messages and parts, and the messages of the newer event model."""
        for row in database.rows(f"{SESSION} WHERE id = ?", native_id):
            *columns, title, created = row
            info = {name: value for name, value in zip(HEAD, columns, strict=True) if value is not None}
            if "revert" in info:
                info["revert"] = msgspec.Raw(info["revert"].encode())
            records = self._records(database, native_id, {**info, "time": {"created": created}})
            yield Portrait(native_id=native_id, parent=info.get("parentID"), records=records, told=titled(title))

    def _records(self, database: Rows, session: str, info: dict[str, Any]) -> Iterator[bytes]:
        yield msgspec.json.encode(info)
        told = set()
        messages = "SELECT id, data FROM message WHERE session_id = ? ORDER BY time_created, id"
        for message, data in list(database.rows(messages, session)):
            told.add(message)
            yield _line(data, id=message, sessionID=session)
            for part, content in database.rows("SELECT id, data FROM part WHERE message_id = ? ORDER BY id", message):
                yield _line(content, id=part, sessionID=session, messageID=message)
        if database.has("session_message"):
            for message, kind, data in database.rows(NEXT, session):
                if message not in told:  # read both and union by id (formats.md 2.8 Storage)
                    yield _line(data, id=message, sessionID=session, type=kind)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a row says."""
        return entry_of(record, memory)


class KiloCode(OpenCode):
    """Sessions of Kilo Code since 7, a fork of OpenCode with the same tables (formats.md 2.11)."""

    tool: ClassVar[str] = "kilo-code"
    versions: ClassVar[tuple[str, ...]] = ("7.7.7",)
    gaps: ClassVar[tuple[str, ...]] = ("no branch is stored; a parent is that of OpenCode's schema, none was seen",)
    folder: ClassVar[str] = "kilo"
    variable: ClassVar[str] = "KILO_DB"


class MiMoCode(OpenCode):
    """Sessions of MiMoCode, whose schema agentsview found to be OpenCode's (formats.md 2.8 Traps)."""

    tool: ClassVar[str] = "mimocode"
    versions: ClassVar[tuple[str, ...]] = ("OpenCode's schema",)
    gaps: ClassVar[tuple[str, ...]] = ("no branch is stored; a parent is that of OpenCode's schema, none was seen",)
    folder: ClassVar[str] = "mimocode"
    variable: ClassVar[str] = ""


class ICodeMate(MiMoCode):
    """Sessions of ICodeMate, likewise."""

    tool: ClassVar[str] = "icodemate"
    versions: ClassVar[tuple[str, ...]] = ("OpenCode's schema",)
    gaps: ClassVar[tuple[str, ...]] = ("no branch is stored; a parent is that of OpenCode's schema, none was seen",)
    folder: ClassVar[str] = "icodemate"


SOURCES = (OpenCode(), KiloCode(), MiMoCode(), ICodeMate())
