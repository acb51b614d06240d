"""Continue, its IDE extension and its CLI: formats.md 2.14, field-notes B.2 "Continue CLI 1.5.47"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar
from urllib.parse import unquote

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch, parse, speaks

# sessions.json beside them is the index: the only place with a time (field-notes B.2).
FILE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.json", re.ASCII)
ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
OTHER_ROLES = frozenset(["tool", "system", "thinking"])
NONE = msgspec.Raw(b"")


class _Document(msgspec.Struct, rename="camel"):
    history: list[msgspec.Raw]
    session_id: str | None = None
    title: str | None = None
    workspace_directory: str | None = None
    chat_model_title: str | None = None


class _Usage(msgspec.Struct, gc=False):
    model: str | None = None


class _Log(msgspec.Struct, gc=False):
    model: str | None = msgspec.field(name="modelTitle", default=None)


class _Message(msgspec.Struct, gc=False, rename="camel"):
    role: str = "?"
    content: msgspec.Raw = NONE
    tool_calls: list[msgspec.Raw] | None = None
    usage: _Usage | None = None


class _Item(msgspec.Struct, gc=False, rename="camel"):
    """An item of the history, or the session's own fields."""

    message: _Message | None = None
    prompt_logs: list[_Log] | None = None
    title: str | None = None
    workspace_directory: str | None = None
    chat_model_title: str | None = None


class _Indexed(msgspec.Struct, rename="camel"):
    session_id: str
    date_created: str | float | None = None
    title: str | None = None
    workspace_directory: str | None = None


DOCUMENT = msgspec.json.Decoder(_Document)
ITEM = msgspec.json.Decoder(_Item)
INDEX = msgspec.json.Decoder(list[_Indexed])


class Continue(BaseSource):
    """Sessions of Continue: whole JSON documents, whose items have neither ids nor times."""

    tool: ClassVar[str] = "continue"
    versions: ClassVar[tuple[str, ...]] = ("1.5.47 (CLI)", "June 2026 (extension)")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or times are kept: the index and the file's time stand in",
        "a fork counts the messages that it copied: nothing tells one, nor its parent",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name ~/.continue/sessions, and where CONTINUE_GLOBAL_DIR says."""
        given = places.environ.get("CONTINUE_GLOBAL_DIR", "").rstrip("/")
        for home in dict.fromkeys(filter(None, [given, f"{places.home}/.continue"])):
            yield Root(path=f"{home}/sessions", watch=Watch.FLAT, depth=0)

    def unit(self, relative: str) -> Unit | None:
        """Tell sessions from their index."""
        found = FILE.fullmatch(relative)
        if not found:
            return None
        return Unit(kind=Kind.DOCUMENT, native_id=found[1], timeless=True, beside=("sessions.json",))

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Tell when a session began; the index does not follow it later (field-notes B.2)."""
        for indexed in INDEX.decode(beside["sessions.json"]):
            if indexed.session_id == unit.native_id:
                date = indexed.date_created
                time_ms = parse_time(int(date) if isinstance(date, str) and date.isdecimal() else date)
                return Entry(time_ms=time_ms, title=_title(indexed.title), cwd=_path(indexed.workspace_directory))
        return None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out the history, an item a line; what changes of the session as a whole is a stream of its own."""
        for content in files.values():
            document = parse(DOCUMENT, content)
            native_id = unit.native_id or ""
            items = [bytes(msgspec.json.format(raw, indent=-1)) for raw in document.history]
            yield Portrait(native_id=native_id, records=items)
            document.history = []
            yield Portrait(native_id=native_id, stream="session", records=[msgspec.json.encode(document)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an item says."""
        item = parse(ITEM, record)
        message = item.message
        if message is None:
            return Entry(
                title=_title(item.title), cwd=_path(item.workspace_directory), model=item.chat_model_title or None
            )
        role = ROLES.get(message.role)
        if role and not message.tool_calls and not speaks(message.content, silent=("thinking",)):
            role = None
        model = next((log.model for log in item.prompt_logs or [] if log.model), None)
        return Entry(
            role=role,
            model=(message.usage.model if message.usage else None) or model,
            unknown=None if role or message.role in ROLES or message.role in OTHER_ROLES else message.role,
        )


def _title(title: str | None) -> str | None:
    return None if title in ("Untitled Session", "New Session") else title


def _path(directory: str | None) -> str | None:
    """Read a path, which may be a file:// URI (formats.md 2.14)."""
    if directory and directory.startswith("file://"):
        return unquote(directory.removeprefix("file://"))
    return directory


SOURCES = (Continue(),)
