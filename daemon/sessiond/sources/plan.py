"""What restoring a session needs: the archived session, the target, and the plan that a recipe makes of both.

A recipe (see recipes/) is pure: it reads the archived streams and what `Target` returns, and writes nothing. The engine
(`restore/`) checks, shows, carries out and undoes the plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from sessiond.session import Session
from sessiond.sources.user_dirs import UserDirs

RECORDS = "application/x-ndjson"
"""The media type of a stream of records, as in the protocol."""
IMPORT_FILE = "{file}"
"""Stands for the path of the file to import, in the arguments of an import."""
PRIVATE = 0o600
_PLAIN = re.compile(r"[^\x00-\x1f\x7f/]+")


class Unrestorable(Exception):
    """The session can't be restored into its tool. The message is for the user: why, without a final period."""


class ArchivedStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of an archived session. `read` iterates all of its bytes, and may be called again."""

    name: str
    media_type: str
    length: int
    read: Callable[[], Iterator[bytes]]

    @property
    def has_records(self) -> bool:
        """Whether it is a transcript. Otherwise it is a side file."""
        return self.media_type == RECORDS

    def lines(self) -> Iterator[bytes]:
        """Iterate the records, without their newlines."""
        rest = b""
        for piece in self.read():
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        if rest:
            yield rest


class ArchivedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the archive has it. The texts in it are masked."""

    record: Session
    title: str | None
    streams: tuple[ArchivedStream, ...]
    """Without a record that was cut: a transcript ends with the end of a record."""
    parent: UUID | None = None
    """The session that it was forked from, or that called it."""

    def stream(self, name: str = "main") -> ArchivedStream:
        """Return a transcript by its name. Raises: Unrestorable."""
        for stream in self.streams:
            if stream.name == name and stream.has_records and stream.length:
                return stream
        raise Unrestorable(f"the archive has no transcript {name!a} of this session")

    @property
    def file_name(self) -> str:
        """The last part of the path that the session had; "" if that is not known (`hash_paths`)."""
        return (self.record.source_path or "").rpartition("/")[2]

    @property
    def active_ms(self) -> int:
        """The last activity as far as the record has it, in unix milliseconds."""
        return int((self.record.ended_at or self.record.started_at).timestamp() * 1000)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The target of a restored session.

    All functions look at this machine. `read` and `read_linked` return b"" for no file, `names` nothing for no
    directory. `read` is for files that the plan changes, and refuses a link. `read_linked` is for others, and follows
    it as the tool does.
    """

    dirs: UserDirs
    directory: str
    """The project's directory on this machine."""
    exists: Callable[[str], bool]
    read: Callable[[str], bytes]
    read_linked: Callable[[str], bytes]
    names: Callable[[str], Iterable[str]] = lambda _: ()
    """The names in a directory."""


class PlannedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file to create. Of a transcript that exists as the first part of `content`, the rest is appended."""

    path: str
    content: Callable[[], Iterator[bytes]]
    mtime_ms: int
    mode: int = PRIVATE
    transcript: bool = True
    """Whether it has messages. A side file that exists is kept as it is."""


class PlannedEdit(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a file that is here. `change` gets b"" if there is no file yet, and may raise Unrestorable."""

    path: str
    change: Callable[[bytes], bytes]
    mode: int = PRIVATE
    transcript: bool = False
    """Whether it is a document with the messages of the session. Otherwise, sessions share it, as an index."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command of the tool, to be run in `directory`. `environ` are variables that it needs besides."""

    argv: tuple[str, ...]
    directory: str
    environ: dict[str, str] = {}


class PlannedImport(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the tool imports by its own command, with IMPORT_FILE in its arguments."""

    command: Command
    content: Callable[[], Iterator[bytes]]
    suffix: str = ".json"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What restores a session."""

    resume: Command
    base: str
    """The tool's directory. All files and edits are below it."""
    files: tuple[PlannedFile, ...] = ()
    """The files in the order of their creation: the one by which the tool finds the session comes last."""
    edits: tuple[PlannedEdit, ...] = ()
    imports: tuple[PlannedImport, ...] = ()
    fork: Command | None = None
    """Continues in a copy with a new id; None if the tool can't."""
    notes: tuple[str, ...] = ()
    """Notes for the user, such as missing files."""
    native_id: str | None = None
    """The id that the tool has for the session here, of a tool whose ids are unique on one machine only."""
    programs: tuple[str, ...] = ()
    """Names of the tool's processes, which must not run while a file that exists is changed."""


class Recipe:
    """How sessions of one tool are restored."""

    parents: ClassVar[bool] = False
    """Whether a fork needs the session that it was forked from."""
    children: ClassVar[bool] = False
    """Whether subagents are sessions of their own, which come along."""
    threads: ClassVar[tuple[str, ...]] = ("main",)
    """The streams that may have a session's messages, besides those of subagents. If it has none of these: all."""

    def is_subagent(self, session: ArchivedSession) -> bool:
        """Return whether a session that names a parent is a subagent of the parent, and not a fork."""
        return True

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        raise NotImplementedError


def below(base: str, name: str) -> str:
    """Return the path of a stream's name below a directory.

    Names come from the endpoint, so one that leads elsewhere is refused. Raises: Unrestorable.
    """
    parts = name.split("/")
    if all(_PLAIN.fullmatch(part) and part not in (".", "..") for part in parts):
        return "/".join([base, *parts])
    raise Unrestorable(f"the stream {name!a} has a name that is no path")


def verbatim(stream: ArchivedStream, path: str, mtime_ms: int) -> PlannedFile:
    """Return a file with the bytes of a stream."""
    return PlannedFile(path=path, content=stream.read, mtime_ms=mtime_ms, transcript=stream.has_records)


def with_first_line(stream: ArchivedStream, change: Callable[[bytes], bytes]) -> Callable[[], Iterator[bytes]]:
    """Return the content of a stream with its first record changed."""

    def content() -> Iterator[bytes]:
        for number, line in enumerate(stream.lines()):
            yield (line if number else change(line)) + b"\n"

    return content


def with_field(stream: ArchivedStream, name: str, value: str) -> Callable[[], Iterator[bytes]]:
    """Return the content of a stream with a field of its first record changed. Raises: Unrestorable, it is damaged."""

    def change(line: bytes) -> bytes:
        try:
            record = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        except msgspec.MsgspecError as error:
            raise Unrestorable("its first record is damaged") from error
        return msgspec.json.encode(record | {name: value})

    return with_first_line(stream, change)


def first_record(stream: ArchivedStream) -> dict[str, Any]:
    """Return the first record of a stream. Raises: Unrestorable, it is damaged."""
    try:
        return msgspec.json.decode(next(stream.lines(), b""), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Unrestorable("its first record is damaged") from error


def last_record(stream: ArchivedStream) -> dict[str, Any]:
    """Return the last record of a stream: the state of a document whose every change is a record.

    Raises: Unrestorable, it is damaged.
    """
    last = b""
    for line in stream.lines():
        last = line
    try:
        return msgspec.json.decode(last, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Unrestorable(f"the last record of {stream.name!a} is damaged") from error


def document(fields: Mapping[str, Any]) -> Callable[[], Iterator[bytes]]:
    """Return the content that is a JSON object, indented as tools do."""
    return lambda: iter([msgspec.json.format(msgspec.json.encode(fields), indent=2)])


def joined(lines: Callable[[], Iterable[bytes]]) -> Callable[[], Iterator[bytes]]:
    """Return the content that consists of lines."""

    def content() -> Iterator[bytes]:
        for line in lines():
            yield line + b"\n"

    return content
