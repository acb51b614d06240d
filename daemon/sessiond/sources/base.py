"""The interface of a source: where a tool's sessions are stored, and how to decode their records.

A source knows one tool's format and nothing else. It keeps no state, sends nothing, and opens no transcript; it may
read a tool's settings or list of projects to find its roots. The engine (`ingest/`) finds the files below the roots
and reads what was added; the source maps a path to a unit and a record to an entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import msgspec

from sessiond.session import Entry, Item, ItemKind, Speaker

# The types of what a source is given; helpers to implement one are in records.py, rows.py, objects.py and user_dirs.py.
from sessiond.sources.memory import Memory as Memory  # noqa: PLC0414
from sessiond.sources.messages import message_items
from sessiond.sources.records import parse
from sessiond.sources.root import Root as Root  # noqa: PLC0414
from sessiond.sources.root import Watch as Watch  # noqa: PLC0414
from sessiond.sources.rows import Rows as Rows  # noqa: PLC0414
from sessiond.sources.side_files import SideFiles as SideFiles  # noqa: PLC0414
from sessiond.sources.user_dirs import UserDirs as UserDirs  # noqa: PLC0414

STORE = r"\.(?:jsonl|ndjson|json|db|sqlite3?|vscdb)(?:[. (][^/]*)?"
"""How the names of JSON, JSON lines and databases end, also compressed and set aside (`.jsonl.zst`, `.jsonl.bak`)."""
DATABASES = r".+\.(?:db|sqlite3?)(?:\.[\w.-]+)?"
"""Paths of databases, for tools that have JSON for other purposes beside theirs."""
ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Kind(StrEnum):
    """How a unit stores its records."""

    LINES = "lines"
    """JSON lines: the stream is the file's bytes, up to the last newline."""
    DOCUMENT = "document"
    """A file that is rewritten as a whole: the stream is its projection, one record a line."""
    FOLDER = "folder"
    """A directory of small files, written once or rewritten: projected like a document."""
    DATABASE = "database"
    """An SQLite file with many sessions: the rows of each session are projected."""
    HISTORY = "history"
    """JSON lines with the prompts of many sessions (`Entry.native_id`), or a document of them (`Unit.projected`); see
    ingest/history.py."""
    TITLES = "titles"
    """JSON lines with the titles of many sessions; see sources/titles.py."""
    FILE = "file"
    """A side file: the stream is all of the file's bytes, and nothing in it is decoded. See side_files.py."""

    @property
    def verbatim(self) -> bool:
        """Whether the stream is the file itself, so that it can be read again from a hard link to the file."""
        return self in (Kind.LINES, Kind.FILE)


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """After how long a tool deletes sessions by itself."""

    days: int
    """Days without a change, at least 1."""
    hint: str | None = None
    """How a user makes the tool keep its sessions."""


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A file, folder or database that is read as one, and what its path says about the session.

    `native_id` is None if only the content has it. Then the first entry that has one decides (lines), or each
    projection has its own (document, folder, database).
    """

    kind: Kind = Kind.LINES
    path: str = ""
    """The unit's path relative to the root; "" is the path that was asked for. It is the database for a -wal file and
    the directory for a file in a folder; `unit()` of this path returns the same unit."""
    native_id: str | None = None
    stream: str = "main"
    thread: bool = True
    """Whether the stream belongs to the main thread, whose messages count."""
    parent: str | None = None
    directory: str | None = None
    """The session's working directory."""
    id_prefix: str | None = None
    """How the native id begins, if the path has only its beginning."""
    projected: bool = False
    """Whether a history is a document, which its source projects to lines."""
    packed: bool = False
    """Whether the file is a zstd frame around the lines."""
    timeless: bool = False
    """Whether the records have no times, so that the file's times are used."""
    beside: tuple[str, ...] = ()
    """Small files with facts that the unit lacks (its working directory), relative to the root; see `context`."""
    media_type: str | None = None
    """The media type of a side file; None: records."""


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of a session, projected from a document, folder or database to records.

    Records are JSON texts without newlines, in a stable order: as long as the tool only adds, records are only added at
    the end, and only these are uploaded.
    """

    native_id: str
    records: Iterable[bytes]
    stream: str = "main"
    thread: bool = True
    parent: str | None = None
    timeless: bool = False
    """Whether the file's time is used for the last record, because it has none."""
    metadata: Entry | None = None
    """Facts about the whole session that the tool may change (title, model). A change of them rewrites no record."""


class Source(Protocol):
    """A tool's format. A module of this package lists its sources in SOURCES."""

    tool: ClassVar[str]
    """The tool's name in session records: "claude-code"."""
    local_ids: ClassVar[bool]
    """Whether native ids are unique on one machine only."""
    own_keys: ClassVar[bool]
    """Whether message keys are unique in one session only, so that equal keys in two sessions are no sign of a copy."""
    landmark: ClassVar[str | None]
    """A file in a project's directory that makes it a root. Projects are known from the sessions of other tools."""
    views: ClassVar[bool]
    """Whether `decode` accepts a memoryview of a line, which saves a copy."""
    variables: ClassVar[tuple[str, ...]]
    """The tool's own environment variables that decide where its sessions are stored (not XDG's)."""
    versions: ClassVar[tuple[str, ...]]
    """The versions of the tool (or of its format) that the samples have the shape of."""
    projection_version: ClassVar[int]
    """The version of `project` and `projections`. What an earlier version captured is read again, once."""
    gaps: ClassVar[tuple[str, ...]]
    """Fields that the tool does not store, or the source does not read, for docs/sources.md."""
    side_files: ClassVar[tuple[SideFiles, ...]]
    """The side files of its sessions."""
    calling: ClassVar[str | None]
    """The member of a subagent's first record that is its call in the parent. None: the parent names its subagents."""
    session_like: ClassVar[str]
    """A regular expression for the paths of files that may be sessions, whether or not the source reads them."""
    other_files: ClassVar[tuple[str, ...]]
    """Regular expressions for the paths of files among them that are known to be no sessions, or that `gaps` names."""

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the directories where sessions are stored, including those from the tool's environment variables."""
        ...

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return after how long the tool deletes sessions; None if it keeps them."""
        ...

    def unit(self, relative: str) -> Unit | None:
        """Return the unit that a path below a root belongs to; None if it is no session's."""
        ...

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode one record.

        Raises: msgspec.DecodeError (or ValueError) for a damaged record, which is uploaded all the same and counted.
        """
        ...

    def read(self, record: bytes, memory: Memory) -> Iterable[Item]:
        """Iterate what a reader sees of one record. `decode` is for capture; they never share a memory.

        Raises: as `decode`.
        """
        ...

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterable[Item]:
        """Iterate the items of a decoded record, for which `decode` returned `entry`."""
        ...

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return facts about a unit's session from the files beside it. Called until the working directory is known.

        `beside` has those of `unit.beside` that exist. They are not part of the transcript.
        Raises: ValueError for a file in the middle of a rewrite.
        """
        ...

    def live(self, dirs: UserDirs) -> Iterable[str]:
        """Return the native ids of sessions whose process is running. They have not ended, however long idle."""
        ...


class BaseSource:
    """The defaults of most sources: random ids, one pattern for their files, no retention, no running processes."""

    tool: ClassVar[str]
    files: ClassVar[re.Pattern[str]]
    """The paths of sessions below a root. Group `id` is the native id, if the path has it; group `store` is a
    database, which may have a -wal file. A source whose paths say more overrides `unit`."""
    kind: ClassVar[Kind] = Kind.LINES
    timeless: ClassVar[bool] = False
    beside: ClassVar[tuple[str, ...]] = ()
    local_ids: ClassVar[bool] = False
    own_keys: ClassVar[bool] = False
    landmark: ClassVar[str | None] = None
    views: ClassVar[bool] = False
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ()
    projection_version: ClassVar[int] = 1
    gaps: ClassVar[tuple[str, ...]] = ()
    side_files: ClassVar[tuple[SideFiles, ...]] = ()
    calling: ClassVar[str | None] = None
    session_like: ClassVar[str] = f".+{STORE}"
    other_files: ClassVar[tuple[str, ...]] = ()
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = ()

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return None: most tools keep their sessions."""
        return None

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a path that `files` matches: a database, or one of the source's kind."""
        found = self.files.fullmatch(relative)
        if not found:
            return None
        groups = found.groupdict()
        path, native_id = groups.get("store") or "", groups.get("id")
        kind = Kind.DATABASE if path else self.kind
        return Unit(kind=kind, path=path, native_id=native_id, timeless=self.timeless, beside=self.beside)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode one record: each source does."""
        raise NotImplementedError

    def read(self, record: bytes, memory: Memory) -> Iterator[Item]:
        """Iterate what a reader sees of one record. The facts are from `decode`, so both agree on what counts."""
        entry = self.decode(record, memory) or Entry()
        for each in (entry, *entry.more):
            if each.rewind is not None:
                yield Item(kind=ItemKind.NOTE, speaker=Speaker.SYSTEM, rewind=each.rewind)
        yield from self.items(parse(ANYTHING, record), entry, memory)

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterable[Item]:
        """Iterate the items of a decoded record; by default of a message with a role.

        `memory` is as `decode` left it; keys that begin with "items." are this method's own.
        """
        return message_items(record, entry)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return None: most units need no files beside them."""
        return None

    def live(self, dirs: UserDirs) -> Iterable[str]:
        """Return nothing: most tools do not record which sessions are open."""
        return ()

    def more_directories(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[str]:
        """Return nothing: most documents are one file."""
        return ()


class DocumentSource(Source, Protocol):
    """A source with units of kind DOCUMENT or FOLDER."""

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Split a document into its sessions and records.

        `files` maps relative names to content: one item for a document, all files that were read for a folder.
        Raises: ValueError (msgspec.DecodeError is one) for a document in the middle of a rewrite.
        """
        ...

    def more_directories(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[str]:
        """Return further directories, relative to the root, whose files belong to a document.

        For a session that is spread over a tree. Called again with the files that were read, until it returns nothing
        new. Only a change of the unit itself makes the session be read again.
        """
        ...


class DatabaseSource(Source, Protocol):
    """A source with units of kind DATABASE."""

    id_columns: ClassVar[tuple[tuple[str, str], ...]]
    """Tables and columns with native ids, from which sessions are listed if damage ends the usual listing."""

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """Return (native id, watermark) of each session, by index only.

        The watermark changes whenever a row of the session is added, changed or deleted. If finding that out would
        need every row (or every row's index), see `list_with_watermarks`, which reads the rows of sessions that
        changed and of all sessions once a day.
        """
        ...

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project the rows of one session. Select only the columns that are needed: these files hold tokens too."""
        ...
