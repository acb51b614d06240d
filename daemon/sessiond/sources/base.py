"""What a source is: where a tool's sessions lie, and what its records say.

A source knows one tool's format and nothing else: it opens no file, keeps no state and sends nothing.
The engine (ingest.py) finds the files below its roots, reads what was added, and asks it three things:
where are the roots, what is this path, what does this record say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import msgspec

from sessiond.session import Entry

# Of what a source is given; what it is made of stands in records.py, rows.py, objects.py and places.py.
from sessiond.sources.places import Places as Places  # noqa: PLC0414
from sessiond.sources.rows import Rows as Rows  # noqa: PLC0414

Memory = dict[str, Any]
"""What a source keeps between two records of a stream; small, and made of JSON types only."""


class Kind(StrEnum):
    """How a unit keeps its records."""

    LINES = "lines"
    """JSON lines: the stream is the file's bytes, up to the last newline."""
    DOCUMENT = "document"
    """One file that is rewritten as a whole: the stream is its projection, a record a line."""
    FOLDER = "folder"
    """A directory of small files, each written once or rewritten: projected like a document."""
    DATABASE = "database"
    """An SQLite file with many sessions: each session's rows are projected."""


class Watch(StrEnum):
    """How closely a root is watched."""

    TREE = "tree"
    """The directory and all below it."""
    FLAT = "flat"
    """The directory alone."""
    SCAN = "scan"
    """Not watched: the rescan finds what changes (stores with thousands of directories)."""


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that a source watches; it need not exist."""

    path: str
    watch: Watch = Watch.TREE
    depth: int = 8
    """How many levels of directories below it are looked into."""
    skip: frozenset[str] = frozenset()
    """Names of directories that hold no sessions; a scan does not go into them."""
    cwd: str = ""
    """The working directory of all sessions below it, where the tool keeps them in the project and does not say it."""
    registry: str = ""
    """The name of a file in it that lists further roots: when it changes, the source is asked for its roots anew."""

    def covers(self, path: str) -> bool:
        """Tell whether a look at the root sees a path, as far as the depth goes."""
        prefix = self.path.rstrip("/") + "/"
        depth = 0 if self.watch is Watch.FLAT else self.depth
        return path.startswith(prefix) and path.count("/", len(prefix)) <= depth


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What a path below a root is: a thing that is read as one, and what its path says about the session.

    `native_id` is None where only the content says it: then the first entry that has one decides (lines),
    or each projected record set names its own (document, folder, database).
    """

    kind: Kind = Kind.LINES
    path: str = ""
    """Relative to the root; "" means the path itself. Names the database for its -wal, the directory for its files;
    `unit()` of that path gives the same unit."""
    native_id: str | None = None
    stream: str = "main"
    thread: bool = True
    """Whether the stream is (part of) the main thread, whose messages count."""
    parent: str | None = None
    packed: bool = False
    """Whether the file is a zstd frame around the lines."""
    timeless: bool = False
    """Whether the records carry no times, so that the file's own stand in for them."""
    beside: tuple[str, ...] = ()
    """Small files that say what the unit does not (its working directory), relative to the root; see `context`."""


class Portrait(msgspec.Struct, frozen=True, kw_only=True):
    """One session's stream out of a document, folder or database, projected to records.

    Records are JSON texts without newlines, in an order that only ever grows at its end as long as the tool
    does not rewrite the past: what changed is then sent, not the whole.
    """

    native_id: str
    records: Iterable[bytes]
    stream: str = "main"
    thread: bool = True
    parent: str | None = None
    timeless: bool = False
    """Whether its last record was written when the file was, for want of a time of its own."""
    told: Entry | None = None
    """What the tool says of the session as a whole and changes at any time (its title, its model): beside the records,
    so that a change of it is no rewrite of them."""


class Source(Protocol):
    """A tool's formats. Modules of this package hold the sources; SOURCES finds them."""

    tool: ClassVar[str]
    """The tool's name in records: "claude-code"."""
    local_ids: ClassVar[bool]
    """Whether native ids are unique on one machine only (formats.md 1.1)."""
    own_keys: ClassVar[bool]
    """Whether keys tell the messages of one session apart, and no more: the same in another is no sign of a copy."""
    landmark: ClassVar[str | None]
    """A file in a project's directory that makes it a root. Projects are known from the sessions of other tools."""
    views: ClassVar[bool]
    """Whether `decode` takes a memoryview of a line too, which saves copying each."""
    versions: ClassVar[tuple[str, ...]]
    """The versions of the tool (or of its format) whose sessions the samples have the shape of."""
    gaps: ClassVar[tuple[str, ...]]
    """What of the tool is known not to be read, or not to be in its store, for docs/sources.md."""

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the directories where sessions lie, the tool's own environment overrides included."""
        ...

    def unit(self, relative: str) -> Unit | None:
        """Tell what a path below a root is; None for what is no session's."""
        ...

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what one record says.

        Raises: msgspec.DecodeError (or ValueError) for a damaged record; it is carried and counted.
        """
        ...

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Tell what the files beside a unit say of it; asked as long as its working directory is not known.

        `beside` has those of `unit.beside` that are there. It is no part of the transcript.
        Raises: ValueError for one met in the middle of a rewrite.
        """
        ...

    def live(self, places: Places) -> Iterable[str]:
        """Name the native ids of sessions whose process is known to run; they have not ended however idle."""
        ...


class BaseSource:
    """What most sources share: random ids, one pattern for their files, and no word about running processes."""

    tool: ClassVar[str]
    files: ClassVar[re.Pattern[str]]
    """The paths of what holds sessions, below a root. Its group `id` is the native id where the path says it; its group
    `store` is a database, beside which a -wal may lie. A source whose paths say more has a `unit` of its own."""
    kind: ClassVar[Kind] = Kind.LINES
    timeless: ClassVar[bool] = False
    beside: ClassVar[tuple[str, ...]] = ()
    local_ids: ClassVar[bool] = False
    own_keys: ClassVar[bool] = False
    landmark: ClassVar[str | None] = None
    views: ClassVar[bool] = False
    versions: ClassVar[tuple[str, ...]] = ()
    gaps: ClassVar[tuple[str, ...]] = ()

    def unit(self, relative: str) -> Unit | None:
        """Tell the paths that `files` matches: a database, or all of one kind."""
        found = self.files.fullmatch(relative)
        if not found:
            return None
        groups = found.groupdict()
        path, native_id = groups.get("store") or "", groups.get("id")
        kind = Kind.DATABASE if path else self.kind
        return Unit(kind=kind, path=path, native_id=native_id, timeless=self.timeless, beside=self.beside)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Know of nothing beside a unit."""
        return None

    def live(self, places: Places) -> Iterable[str]:
        """Know of no running session."""
        return ()

    def further(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[str]:
        """Know of no directories beside a document."""
        return ()


class DocumentSource(Source, Protocol):
    """A source with units of kind DOCUMENT or FOLDER."""

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Split a document into its sessions and records.

        `files` maps relative names to content: one item for a document, all read files for a folder.
        Raises: ValueError (msgspec.DecodeError is one) for a document met in the middle of a rewrite.
        """
        ...

    def further(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[str]:
        """Name directories, relative to the root, whose files belong to it as well: a session spread over a tree.

        Asked again with what was read, until it names nothing new. The unit itself tells when there is something new.
        """
        ...


class DatabaseSource(Source, Protocol):
    """A source with units of kind DATABASE."""

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List (native id, watermark) of each session, cheaply: by index, without its rows.

        The watermark changes whenever a row of the session is added, changed or deleted. Where telling that would
        cost a look at every row (or at every row's index), `listed` looks at what is new only, and lists the rest as
        it was; what that misses is found once a day.
        """
        ...

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project one session's rows, selected columns only: these files hold tokens beside chats."""
        ...
