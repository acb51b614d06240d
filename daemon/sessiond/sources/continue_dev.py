"""Continue, its IDE extension and its command line, which share a directory: docs/formats/continue.md.

The module is not named `continue`, because that is a keyword of Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs, Watch
from sessiond.sources.objects import encode
from sessiond.sources.records import ABSENT, ROLES, UUID, compact, message_role, parse, unknown_type
from sessiond.sources.user_dirs import path_from_uri, unique_paths

KNOWN = frozenset([*ROLES, "tool", "system", "thinking"])
PLACEHOLDER_TITLES = ("Untitled Session", "New Session")
INDEX_FILE = "sessions.json"


class _Model(msgspec.Struct, gc=False):
    """The model in a prompt log or in a message's usage; PearAI's logs have it in their options."""

    model: str | None = None
    title: str | None = msgspec.field(name="modelTitle", default=None)
    options: _Model | None = msgspec.field(name="completionOptions", default=None)


class _Message(msgspec.Struct, gc=False, rename="camel"):
    role: str = "?"
    content: msgspec.Raw = ABSENT
    tool_calls: list[msgspec.Raw] | None = None
    usage: _Model | None = None


class _Item(msgspec.Struct, gc=False, rename="camel"):
    """An item of the history, or the session's own fields."""

    message: _Message | None = None
    prompt_logs: list[_Model] | None = None
    title: str | None = None
    workspace_directory: str | None = None
    chat_model_title: str | None = None


class _Document(msgspec.Struct, rename="camel", omit_defaults=True):
    history: list[msgspec.Raw]
    session_id: str | None = None
    title: str | None = None
    workspace_directory: str | None = None
    chat_model_title: str | None = None
    mode: Any = None
    usage: Any = None


class _IndexEntry(msgspec.Struct, rename="camel"):
    session_id: str | None = None
    date_created: str | float | None = None
    title: str | None = None
    workspace_directory: str | None = None


ITEM = msgspec.json.Decoder(_Item)
DOCUMENT = msgspec.json.Decoder(_Document)
INDEX = msgspec.json.Decoder(list[_IndexEntry])


class Continue(BaseSource):
    """Sessions of Continue: whole JSON documents, whose items have neither ids nor times."""

    tool: ClassVar[str] = "continue"
    variables: ClassVar[tuple[str, ...]] = ("CONTINUE_GLOBAL_DIR",)
    versions: ClassVar[tuple[str, ...]] = ("1.5.47 (CLI)", "June 2026 (extension)")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or times are stored: the times of the index (sessions.json) and the file are used",
        "a fork counts the messages that it copied: nothing marks a fork or names its parent",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"sessions\.json",)
    projection_version: ClassVar[int] = 2
    files: ClassVar[re.Pattern[str]] = re.compile(rf"(?P<id>{UUID})\.json", re.ASCII)
    kind: ClassVar[Kind] = Kind.DOCUMENT
    timeless: ClassVar[bool] = True
    beside: ClassVar[tuple[str, ...]] = (INDEX_FILE,)
    folder: ClassVar[str] = ".continue"

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the sessions of CONTINUE_GLOBAL_DIR and ~/.continue."""
        named = [dirs.from_variable(variable) for variable in self.variables]
        for home in unique_paths(*named, f"{dirs.home}/{self.folder}"):
            yield Root(path=f"{home}/sessions", watch=Watch.FLAT, depth=0)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return when a session began, which only the index has; it is not updated later."""
        for indexed in parse(INDEX, beside.get(INDEX_FILE, b"[]")):
            if indexed.session_id == unit.native_id:
                date = indexed.date_created
                time_ms = parse_time(int(date) if isinstance(date, str) and date.isdecimal() else date)
                cwd = path_from_uri(indexed.workspace_directory)
                return Entry(time_ms=time_ms, title=_title(indexed.title), cwd=cwd)
        return None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project the history, one item a record; the session's own fields, which change, are another stream."""
        for content in files.values():
            document, native_id = parse(DOCUMENT, content), unit.native_id or ""
            yield Projection(native_id=native_id, records=[compact(item) for item in document.history])
            document.history = []
            yield Projection(native_id=native_id, stream="session", records=[encode(document)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an item. An answer may consist of tool calls only."""
        item = parse(ITEM, record)
        message = item.message
        if message is None:
            cwd, model = path_from_uri(item.workspace_directory), item.chat_model_title
            return Entry(title=_title(item.title), cwd=cwd, model=model or None)
        logs = item.prompt_logs or []
        logged = next(filter(None, (log.title or (log.options.model if log.options else None) for log in logs)), None)
        caller = ROLES.get(message.role) if message.tool_calls else None
        return Entry(
            role=caller or message_role(message.role, message.content, silent=("thinking",)),
            model=(message.usage.model if message.usage else None) or logged,
            unknown=unknown_type(message.role, KNOWN),
        )


def _title(title: str | None) -> str | None:
    """Return the title, unless it is a placeholder."""
    return None if title in PLACEHOLDER_TITLES else title


SOURCES = (Continue(),)
