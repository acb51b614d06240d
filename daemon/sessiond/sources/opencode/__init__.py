"""OpenCode: a database since 1.2, before that a JSON file for each message and part: docs/formats/opencode.md."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, Item, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Rows, SideFiles, Unit, UserDirs, Watch
from sessiond.sources.objects import encode
from sessiond.sources.opencode.items import read_items
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import ABSENT, compact, find_names, parse, unknown_type
from sessiond.sources.rows import as_json, columns, list_with_watermarks, select
from sessiond.sources.user_dirs import unique_paths

STORE = re.compile(r"([\w.-]+\.db)(?:-wal)?", re.ASCII)
# Before 1.2 `storage/session/<project>/<id>.json`; before that `project/<directory>/storage/session/info/<id>.json`.
SESSION_FILE = re.compile(r"(session/)[\w-]+/(ses_\w+)\.json|([^/]+/storage/session/)info/(ses_\w+)\.json", re.ASCII)
MESSAGE_FILE = re.compile(r"(?:.*/)?message/ses_\w+/(msg_\w+)\.json", re.ASCII)
PART_FILE = re.compile(r"(?:.*/)?part/(?:ses_\w+/)?(msg_\w+)/\w+\.json", re.ASCII)
NO_SESSIONS = frozenset(["message", "part", "session_share", "permission", "snapshot"])
PARTS = "text reasoning file tool step-start step-finish snapshot patch agent retry compaction subtask"
MESSAGES = "user assistant synthetic system shell compaction agent-switched model-switched"
KNOWN = frozenset([*PARTS.split(), *MESSAGES.split()])
# The fields of a session that are known from its start. `revert` is one: it hides messages that follow.
HEAD = ("id", "slug", "version", "projectID", "directory", "parentID", "revert")
OUTPUT = re.compile(rb"tool-output[/\\]+(tool_\w+)", re.ASCII)
PLACEHOLDER_TITLES = ("New session - ", "Child session - ")

# The columns of a session; the tables account, credential and session_share hold tokens and are never read.
START = columns("id slug version project_id directory parent_id revert title time_created")
# The columns that change while a session goes on, without those of its share link and of diffs, which its parts have.
STATE = columns(
    "agent model permission metadata path workspace_id cost tokens_input tokens_output tokens_reasoning"
    " tokens_cache_read tokens_cache_write summary_additions summary_deletions summary_files time_compacting"
    " time_archived"
)
JSON_STATE = ("model", "permission", "metadata")
FILE_STATE = ("agent", "model", "permission", "metadata", "path", "cost", "tokens", "summary")
TODO = ("content", "status", "priority")
# A subquery instead of `?1`: from Python 3.14 on, a numbered parameter can't be given by position.
WANTED = "FROM (SELECT ? AS wanted)"
COUNTS = """
    (SELECT count(*) FROM message WHERE session_id = wanted)
    || ' ' || (SELECT count(*) FROM part WHERE session_id = wanted)
"""
# Each change of a session, its messages and parts, including a deletion, is an event with the next number.
BY_EVENTS = """
    SELECT session.id, time_updated || ' ' || seq, seq IS NULL
    FROM session LEFT JOIN event_sequence ON aggregate_id = session.id
"""
# Before there were events, only a prompt changed its session's time; its answer may write rows for hours after that.
BY_TIMES = "SELECT id, time_updated, time_updated > (SELECT max(time_updated) FROM session) - 86400000 FROM session"
TIMES = """
    coalesce((SELECT max(time_updated) FROM message WHERE session_id = wanted), '')
    || ' ' || coalesce((SELECT max(time_updated) FROM part WHERE session_id = wanted), '')
"""
MESSAGE_ROWS = "SELECT id, data FROM message WHERE session_id = ? ORDER BY time_created, id"
PART_ROWS = "SELECT id, data FROM part WHERE message_id = ? ORDER BY id"
EVENT_MESSAGE_ROWS = "SELECT id, type, data FROM session_message WHERE session_id = ? ORDER BY seq"


class _Time(msgspec.Struct, frozen=True, gc=False):
    created: float | None = None
    completed: float | None = None
    end: float | None = None


class _Reference(msgspec.Struct, gc=False):
    """A model, or the message or part to which a session was reverted."""

    id: str | None = None
    message_id: str | None = msgspec.field(default=None, name="messageID")
    part_id: str | None = msgspec.field(default=None, name="partID")


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


class _Record(_Part, gc=False):
    """A session, a message, or a part of one, depending on its fields."""

    id: str = ""
    role: str | None = None
    message_id: str | None = msgspec.field(default=None, name="messageID")
    time: _Time = _Time()
    synthetic: bool | None = None
    ignored: bool | None = None
    summary: msgspec.Raw = ABSENT
    model_id: str | None = msgspec.field(default=None, name="modelID")
    model: _Reference | None = None
    content: list[_Part] = []
    directory: str | None = None
    parent_id: str | None = msgspec.field(default=None, name="parentID")
    version: str | None = None
    revert: _Reference | None = None


RECORD = msgspec.json.Decoder(_Record)
DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
TITLE = msgspec.json.Decoder(str | None)
TIME = msgspec.json.Decoder(_Time)


class OpenCode(BaseSource):
    """Sessions of OpenCode."""

    tool: ClassVar[str] = "opencode"
    variables: ClassVar[tuple[str, ...]] = ("OPENCODE_DB",)
    versions: ClassVar[tuple[str, ...]] = ("0.5", "1.1.65", "1.2", "1.18.33")
    id_columns = (("session", "id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "no branch is stored, and a prompt that waits to be sent (`session_input`) is not read",
        "in versions without events (1.2), an edit in a session older than a day is found within a day",
        "a database in OPENCODE_DB whose name does not end with .db is not read",
        "the diffs of a session's summary, which its parts have, and the link that opens a shared session to anybody",
        "left out: snapshot/, log/, prompt-history.jsonl, auth.json (keys), storage/migration, storage/project/",
    )
    session_like: ClassVar[str] = r"[^/]+\.db(?:\.[\w.-]+)?|(?:.*/)?session/.+\.json"
    projection_version: ClassVar[int] = 2
    folder: ClassVar[str] = "opencode"
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(r"tool-output/tool_\w+", "full outputs", media_type="text/plain"),
        SideFiles(r"(?:session_diff|todo)/(?P<id>ses_\w+)\.json", "diffs, lists of tasks"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the data directory, watched flat because of the git stores below it, and OPENCODE_DB's directory.

        No current version writes to the JSON trees, so they are scanned instead of watched.
        """
        base = f"{dirs.share}/{self.folder}"
        named = [os.path.dirname(dirs.from_variable(variable)) for variable in self.variables]
        for path in unique_paths(*named, base):
            yield Root(path=path, watch=Watch.FLAT)
        yield Root(path=f"{base}/tool-output", prefix="tool-output/", watch=Watch.FLAT, side=True)
        yield Root(path=f"{base}/storage", watch=Watch.SCAN, depth=2, skip=NO_SESSIONS)
        yield Root(path=f"{base}/project", watch=Watch.SCAN, depth=4, skip=NO_SESSIONS)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a database, whatever its release channel is called, or of an older session file.

        Both may have the same session, because the import keeps the files: they are two streams of it.
        """
        if found := STORE.fullmatch(relative):
            return Unit(kind=Kind.DATABASE, path=found[1])
        if found := SESSION_FILE.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT, native_id=found[2] or found[4], stream="json")
        return None

    def more_directories(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[str]:
        """Return the directory of a session's messages and, once these are read, those of their parts."""
        for name in files:
            if found := SESSION_FILE.fullmatch(name):
                yield f"{found[3] or ''}message/{unit.native_id}"
            elif found := MESSAGE_FILE.fullmatch(name):
                base, _, _ = name.rpartition("message/")
                yield f"{base}part/{unit.native_id}/{found[1]}" if base else f"part/{found[1]}"

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a session's files like its rows: the session, each message with its parts, and the title apart."""
        info = parse(DOCUMENT, next(iter(files.values())))
        parts: dict[str, list[bytes]] = {}
        for name in sorted(files):
            if found := PART_FILE.fullmatch(name):
                parts.setdefault(found[1], []).append(_on_one_line(files[name]))
        head: dict[str, Any] = {name: info[name] for name in HEAD if name in info}
        head["time"] = {"created": TIME.decode(info["time"]).created} if "time" in info else {}
        records = [compact(encode(head))]
        for name in sorted(files):
            if found := MESSAGE_FILE.fullmatch(name):
                records += [_on_one_line(files[name]), *parts.get(found[1], [])]
        title = _title(TITLE.decode(info["title"]) if "title" in info else None)
        native_id = unit.native_id or ""
        yield Projection(native_id=native_id, stream=unit.stream, records=records, metadata=title)
        if len(records) > 1:
            state = {name: msgspec.Raw(compact(info[name])) for name in FILE_STATE if name in info}
            yield session_projection(native_id, state, f"{unit.stream}-{SESSION}")

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by their events; in versions without events, by the times of their rows."""
        if database.has("session", "time_updated") and database.has("message") and database.has("part"):
            has_events = database.has("event_sequence")
            costly = COUNTS if has_events else f"{COUNTS} || ' ' || {TIMES}"
            cheap = BY_EVENTS if has_events else BY_TIMES
            yield from list_with_watermarks(database, cheap, " ".join(["SELECT", costly, WANTED]))

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a session's row, its messages and parts, and the messages of the newer event model."""
        for row in list(select(database, "session", START, "WHERE id = ?", native_id)):
            title, created = row.pop("title"), row.pop("time_created")
            row["revert"] = as_json(row["revert"])
            head = {name: value for name, value in zip(HEAD, row.values(), strict=True) if value is not None}
            first = encode({**head, "time": {"created": created}})
            records = list(_row_records(database, native_id, first))
            yield Projection(native_id=native_id, parent=head.get("parentID"), records=records, metadata=_title(title))
            if len(records) > 1:
                yield session_projection(native_id, _state(database, native_id))

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a record. A message counts with its first text, which is in a part after it."""
        line = parse(RECORD, record)
        if line.type == SESSION:
            return None
        created = parse_time(line.time.created)
        if line.message_id:
            mentions = find_names(OUTPUT, b"tool-output", record)
            return msgspec.structs.replace(_decode_part(line, memory), mentions=mentions)
        if line.role or line.type:
            role = line.role or line.type
            known = role if role in ("user", "assistant") and bytes(line.summary) != b"true" else ""
            model = line.model_id or (line.model.id if line.model and role == "assistant" else None)
            # A fork gives its copies new ids but keeps their times, so the times are the key.
            key = f"{line.time.created}.{line.time.completed or ''}"
            memory["message"] = None if _is_reverted(line.id, memory) else [line.id, known, key, model]
            has_text = line.text or any(part.type == "text" and part.text for part in line.content)
            done = Entry(time_ms=parse_time(line.time.completed))
            return Entry(
                time_ms=created,
                unknown=None if line.role or role in KNOWN else role,
                more=(_count(memory), done) if has_text else (done,),
            )
        if line.revert and line.revert.message_id:
            memory["hidden"] = [line.revert.message_id, line.revert.part_id or ""]
        return Entry(time_ms=created, version=line.version, cwd=line.directory, parent=line.parent_id)

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message or a part; a part comes after its message."""
        return read_items(record, entry, memory)


def _decode_part(part: _Record, memory: Memory) -> Entry:
    pending = memory.get("message")
    counts = part.type == "text" and part.text and not part.synthetic and not part.ignored
    entry = _count(memory) if counts and pending and pending[0] == part.message_id else Entry()
    return msgspec.structs.replace(entry, time_ms=parse_time(part.time.end), unknown=unknown_type(part.type, KNOWN))


def _count(memory: Memory) -> Entry:
    """Return the entry of the current message, once."""
    _, role, key, model = memory.get("message") or ("", "", "", None)
    memory["message"] = None
    return Entry(role=Role(role), key=key, model=model if role == "assistant" else None) if role else Entry()


def _is_reverted(message: str, memory: Memory) -> bool:
    """Return whether a revert hides a message. Message ids ascend with time."""
    first, part = memory.get("hidden", ("", ""))
    return bool(first) and (message > first or (message == first and not part))


def _state(database: Rows, session: str) -> dict[str, Any]:
    """Return what changes of a session, and its list of tasks."""
    state = next(select(database, "session", STATE, "WHERE id = ?", session), {})
    tasks = list(select(database, "todo", TODO, "WHERE session_id = ? ORDER BY rowid", session))
    return {**state, **{name: as_json(state.get(name)) for name in JSON_STATE}, "todos": tasks or None}


def _row_records(database: Rows, session: str, first: bytes) -> Iterator[bytes]:
    yield first
    seen = set()
    for message, data in list(database.rows(MESSAGE_ROWS, session)):
        seen.add(message)
        yield _row_record(data, id=message, sessionID=session)
        for part, content in database.rows(PART_ROWS, message):
            yield _row_record(content, id=part, sessionID=session, messageID=message)
    if database.has("session_message"):
        for message, kind, data in database.rows(EVENT_MESSAGE_ROWS, session):
            if message not in seen:  # a message may be in both tables
                yield _row_record(data, id=message, sessionID=session, type=kind)


def _row_record(data: str, **columns: str | None) -> bytes:
    """Return a row's columns followed by the fields of its `data`: the shape of the older JSON files."""
    own = msgspec.json.encode(columns)
    rest = data.encode("utf-8", "replace").replace(b"\n", b" ").strip()
    return own[:-1] + b"," + rest[1:] if rest.startswith(b"{") and rest != b"{}" else own


def _on_one_line(content: bytes) -> bytes:
    """Return a document on one line. A damaged one is kept as it is, so that its session is still uploaded."""
    try:
        return compact(content)
    except ValueError:
        return content.replace(b"\n", b" ")


def _title(title: str | None) -> Entry:
    """Return an entry with the title, unless it is a placeholder."""
    return Entry(title=None if (title or "").startswith(PLACEHOLDER_TITLES) else title)


SOURCES = (OpenCode(),)
