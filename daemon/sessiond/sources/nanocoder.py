"""Nanocoder: docs/formats/nanocoder.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Retention, Root, Unit, UserDirs, Watch
from sessiond.sources.content import blocks, template
from sessiond.sources.messages import message_items
from sessiond.sources.objects import OBJECT, as_text, encode, get_in
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import ROLES, UUID, message_role, parse, unknown_type
from sessiond.sources.user_dirs import read_settings, unique_paths

HEAD = "head"
STATE = ("lastAccessedAt", "messageCount", "provider", "model", "titleManuallySet")
KNOWN = frozenset([*ROLES, "system", "tool"])
RETENTION_DAYS = 30
"""The default of `retentionDays`."""
SETTINGS = "nanocoder-preferences.json"


class Nanocoder(BaseSource):
    """Sessions of Nanocoder: a JSON document each, whose messages have neither ids nor times."""

    tool: ClassVar[str] = "nanocoder"
    variables: ClassVar[tuple[str, ...]] = ("NANOCODER_DATA_DIR", "NANOCODER_CONFIG_DIR")
    versions: ClassVar[tuple[str, ...]] = ("1.30.0",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or parent is stored; messages have no times or models",
        "a compaction shortens the messages before it, in the tool's own file too",
        "a directory in a project's own settings is not found: add it to the roots in the configuration",
        "`nanocoder --plain run` saves nothing; sessions.json repeats all but the messages",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"sessions\.json",)
    files: ClassVar[re.Pattern[str]] = re.compile(rf"(?P<id>{UUID})\.json", re.ASCII)
    kind: ClassVar[Kind] = Kind.DOCUMENT

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the directory in the settings, and the sessions of NANOCODER_DATA_DIR and of the data directory."""
        named = as_text(_settings(dirs).get("directory")) or ""
        own = dirs.from_variable("NANOCODER_DATA_DIR", "/sessions")
        xdg = dirs.from_variable("XDG_DATA_HOME", "/nanocoder/sessions")
        base = dirs.share if dirs.platform not in ("darwin", "win32") else dirs.config
        for path in unique_paths(dirs.absolute(named), own, xdg, f"{base}/nanocoder/sessions"):
            yield Root(path=path, watch=Watch.FLAT, depth=0)

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return `retentionDays` of the settings."""
        value = _settings(dirs).get("retentionDays")
        days = min(int(value), 36_500) if isinstance(value, int | float) and value >= 1 else RETENTION_DAYS
        hint = f'to have it keep them itself: "retentionDays" and "maxSessions" of "sessions" in {SETTINGS}'
        return Retention(days=days, hint=hint)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a head and the messages, and apart what changes with each save."""
        for content in files.values():
            document, native_id = parse(OBJECT, content), unit.native_id or ""
            messages = document.get("messages")
            if not isinstance(messages, list):
                raise msgspec.DecodeError("no session: it has no messages")
            head = {"type": HEAD, "createdAt": document.get("createdAt"), "cwd": document.get("workingDirectory")}
            records = [encode(each) for each in (head, *messages)] if messages else []
            known = Entry(title=as_text(document.get("title")), model=as_text(document.get("model")))
            yield Projection(native_id=native_id, records=records, metadata=known)
            if messages:
                yield session_projection(native_id, {name: document.get(name) for name in STATE})

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message, the head or the state. An answer may consist of calls only, a prompt of an image."""
        line = parse(OBJECT, record)
        kind, name = line.get("type"), as_text(line.get("role"))
        if name is None and kind in (HEAD, SESSION):
            time = as_text(line.get("createdAt")) or as_text(line.get("lastAccessedAt"))
            return Entry(time_ms=parse_time(time), cwd=as_text(line.get("cwd")))
        role = message_role(name, msgspec.Raw(encode(line.get("content"))))
        if name in ROLES and (line.get("tool_calls") if name == Role.ASSISTANT else line.get("images")):
            role = ROLES[str(name)]
        return Entry(role=role, unknown=unknown_type(name, KNOWN))

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message, and the images beside its text."""
        yield from message_items(record, entry)
        images = get_in(record, "images")
        for each in images if isinstance(images, list) else ():
            if isinstance(each, dict):
                yield from blocks({**each, "type": "image"}, template(entry, Speaker.USER))


def _settings(dirs: UserDirs) -> dict[str, Any]:
    """Return the part of the user's settings that is about sessions."""
    usual = f"{dirs.home}/Library/Preferences" if dirs.platform == "darwin" else dirs.config
    own = dirs.from_variable("NANOCODER_CONFIG_DIR")
    found = get_in(read_settings(f"{own or f'{usual}/nanocoder'}/{SETTINGS}"), "nanocoder", "sessions")
    return found if isinstance(found, dict) else {}


SOURCES = (Nanocoder(),)
