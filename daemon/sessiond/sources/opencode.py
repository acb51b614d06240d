"""OpenCode, and its forks with the same store: formats.md 2.8 and 2.11, field-notes B.2."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch, listed, parse

STORE = re.compile(r"([\w.-]+\.db)(?:-wal)?", re.ASCII)
# Before 1.2 `storage/session/<project>/<id>.json`; before that `project/<directory>/storage/session/info/<id>.json`.
SESSION_FILE = re.compile(r"(session/)[\w-]+/(ses_\w+)\.json|([^/]+/storage/session/)info/(ses_\w+)\.json", re.ASCII)
MESSAGE_FILE = re.compile(r"(?:.*/)?message/ses_\w+/(msg_\w+)\.json", re.ASCII)
PART_FILE = re.compile(r"(?:.*/)?part/(?:ses_\w+/)?(msg_\w+)/\w+\.json", re.ASCII)
ELSEWHERE = frozenset(["message", "part", "session_diff", "session_share", "todo", "permission", "snapshot"])
# What a session is from its start on; `revert` hides messages, so it is known before them.
HEAD = ("id", "slug", "version", "projectID", "directory", "parentID", "revert")
PARTS = "text reasoning file tool step-start step-finish snapshot patch agent retry compaction subtask"
MESSAGES = "user assistant synthetic system shell compaction agent-switched model-switched"
KNOWN = frozenset([*PARTS.split(), *MESSAGES.split()])
UNNAMED = ("New session - ", "Child session - ")
# A row's columns, and nothing of the tables beside them: account, credential and session_share hold tokens.
SESSION = "SELECT id, slug, version, project_id, directory, parent_id, revert, title, time_created FROM session"
COUNTS = """
    (SELECT count(*) FROM message WHERE session_id = ?1) || ' ' || (SELECT count(*) FROM part WHERE session_id = ?1)
"""
# Each change of a session, its messages and parts, a deletion too, is an event with the next number.
BY_EVENTS = """
    SELECT session.id, time_updated || ' ' || seq, seq IS NULL
    FROM session LEFT JOIN event_sequence ON aggregate_id = session.id
"""
# Before there were events, only a prompt moved the time of its session; what came of it wrote rows for hours.
BY_TIMES = "SELECT id, time_updated, time_updated > (SELECT max(time_updated) FROM session) - 86400000 FROM session"
TIMES = """
    coalesce((SELECT max(time_updated) FROM message WHERE session_id = ?1), '')
    || ' ' || coalesce((SELECT max(time_updated) FROM part WHERE session_id = ?1), '')
"""
NEXT = "SELECT id, type, data FROM session_message WHERE session_id = ? ORDER BY seq"
NONE = msgspec.Raw(b"")


class _Time(msgspec.Struct, frozen=True, gc=False):
    created: float | None = None
    completed: float | None = None
    end: float | None = None


class _Ref(msgspec.Struct, gc=False):
    """A model, or a place to revert to."""

    id: str | None = None
    message_id: str | None = msgspec.field(default=None, name="messageID")
    part_id: str | None = msgspec.field(default=None, name="partID")


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


class _Record(_Part, gc=False):
    id: str = ""
    role: str | None = None
    message_id: str | None = msgspec.field(default=None, name="messageID")
    time: _Time = _Time()
    synthetic: bool | None = None
    ignored: bool | None = None
    summary: msgspec.Raw = NONE
    model_id: str | None = msgspec.field(default=None, name="modelID")
    model: _Ref | None = None
    content: list[_Part] = []
    directory: str | None = None
    parent_id: str | None = msgspec.field(default=None, name="parentID")
    version: str | None = None
    revert: _Ref | None = None


RECORD = msgspec.json.Decoder(_Record)
DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
TITLE = msgspec.json.Decoder(str | None)
TIME = msgspec.json.Decoder(_Time)


def _compact(content: bytes) -> bytes:
    """Put a document on a line. A damaged one is carried as it is: it must not stop its session (rule 9)."""
    try:
        return bytes(msgspec.json.format(content, indent=-1))
    except ValueError:
        return content.replace(b"\n", b" ")


def _titled(title: str | None) -> Entry:
    return Entry(title=None if (title or "").startswith(UNNAMED) else title)


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
        """Name the directories of a session's messages and, once these are read, of their parts."""
        for name in files:
            if found := SESSION_FILE.fullmatch(name):
                yield f"{found[3] or ''}message/{unit.native_id}"
            elif found := MESSAGE_FILE.fullmatch(name):
                base, _, _ = name.rpartition("message/")
                yield f"{base}part/{unit.native_id}/{found[1]}" if base else f"part/{found[1]}"

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay a session's files out as its rows are: what it is, its messages with their parts, its title."""
        info = parse(DOCUMENT, next(iter(files.values())))
        parts: dict[str, list[bytes]] = {}
        for name in sorted(files):
            if found := PART_FILE.fullmatch(name):
                parts.setdefault(found[1], []).append(_compact(files[name]))
        head: dict[str, Any] = {name: info[name] for name in HEAD if name in info}
        head["time"] = {"created": TIME.decode(info["time"]).created} if "time" in info else {}
        records = [_compact(msgspec.json.encode(head))]
        for name in sorted(files):
            if found := MESSAGE_FILE.fullmatch(name):
                records += [_compact(files[name]), *parts.get(found[1], [])]
        told = _titled(TITLE.decode(info["title"]) if "title" in info else None)
        yield Portrait(native_id=unit.native_id or "", stream=unit.stream, records=records, told=told)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by their events; versions without them are asked for the times of rows."""
        if database.has("session", "time_updated") and database.has("message") and database.has("part"):
            events = database.has("event_sequence")
            rest = f"SELECT {COUNTS}" if events else f"SELECT {COUNTS} || ' ' || {TIMES}"
            yield from listed(database, BY_EVENTS if events else BY_TIMES, rest)

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row, messages and parts, and the messages of the newer event model."""
        for row in database.rows(f"{SESSION} WHERE id = ?", native_id):
            *columns, title, created = row
            info = {name: value for name, value in zip(HEAD, columns, strict=True) if value is not None}
            if "revert" in info:
                info["revert"] = msgspec.Raw(info["revert"].encode())
            records = self._records(database, native_id, {**info, "time": {"created": created}})
            yield Portrait(native_id=native_id, parent=info.get("parentID"), records=records, told=_titled(title))

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
        """Tell what a row says. A message counts with its first text, which stands in a part after it."""
        line = parse(RECORD, record)
        created = parse_time(line.time.created)
        if line.message_id:
            return self._part(line, memory)
        if line.role or line.type:
            role = line.role or line.type
            known = role if role in ("user", "assistant") and bytes(line.summary) != b"true" else ""
            model = line.model_id or (line.model.id if line.model and role == "assistant" else None)
            # A fork gives its copies new ids and keeps their times (field-notes B.1.6).
            key = f"{line.time.created}.{line.time.completed or ''}"
            memory["message"] = None if self._hidden(line.id, memory) else [line.id, known, key, model]
            said = line.text or any(part.type == "text" and part.text for part in line.content)
            done = Entry(time_ms=parse_time(line.time.completed))
            return Entry(
                time_ms=created,
                unknown=None if line.role or role in KNOWN else role,
                more=(self._count(memory), done) if said else (done,),
            )
        if line.revert and line.revert.message_id:
            memory["hidden"] = [line.revert.message_id, line.revert.part_id or ""]
        return Entry(time_ms=created, version=line.version, cwd=line.directory, parent=line.parent_id)

    def _part(self, part: _Record, memory: Memory) -> Entry:
        pending = memory.get("message")
        says = part.type == "text" and part.text and not part.synthetic and not part.ignored
        entry = self._count(memory) if says and pending and pending[0] == part.message_id else Entry()
        unknown = None if part.type in KNOWN else part.type or "?"
        return msgspec.structs.replace(entry, time_ms=parse_time(part.time.end), unknown=unknown)

    def _count(self, memory: Memory) -> Entry:
        """Count the message that is met, once."""
        _, role, key, model = memory.get("message") or ("", "", "", None)
        memory["message"] = None
        return Entry(role=Role(role), key=key, model=model if role == "assistant" else None) if role else Entry()

    def _hidden(self, message: str, memory: Memory) -> bool:
        """Tell whether a revert hides a message: ids ascend with time (formats.md 2.8 message_count)."""
        first, part = memory.get("hidden", ("", ""))
        return bool(first) and (message > first or (message == first and not part))


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
