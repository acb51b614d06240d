"""GitHub Copilot Chat in VS Code and its relatives: formats.md 2.5, field-notes B.3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch
from sessiond.sources.copilot_chat.log import replay
from sessiond.sources.copilot_chat.requests import entry_of
from sessiond.sources.editors import folder_of, user_data
from sessiond.sources.objects import OBJECT, encode
from sessiond.sources.records import parse

ID = r"([0-9A-Za-z][\w.-]{7,80})"
CHAT = re.compile(rf"(?:([^/\n]+)/chatSessions/)?{ID}\.jsonl?", re.ASCII)
TRANSCRIPT = re.compile(rf"[^/\n]+/GitHub\.copilot-chat/transcripts/{ID}\.jsonl", re.ASCII)
HEAD = ("version", "sessionId", "creationDate", "customTitle", "initialLocation")


class CopilotChat(BaseSource):
    """Chats of the editor: a document, or since 2026 the log of what changed in it; both give the same records."""

    tool: ClassVar[str] = "copilot-chat"
    versions: ClassVar[tuple[str, ...]] = ("schema 3",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch are stored; a parent neither: subagents are inside of their session",
        "chats of before chatSessions/, in the editor's database",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the chats of workspaces, of which there may be thousands, and those of windows without a folder."""
        skip = frozenset(["chatEditingSessions", "state", "images"])
        for user in user_data(places):
            yield Root(path=f"{user}/workspaceStorage", watch=Watch.SCAN, depth=3, skip=skip)
            yield Root(path=f"{user}/globalStorage/emptyWindowChatSessions", watch=Watch.FLAT, depth=0)

    def unit(self, relative: str) -> Unit | None:
        """Tell chats; the extension's own transcript of one has the same messages once more, under other ids."""
        if found := TRANSCRIPT.fullmatch(relative):
            return Unit(native_id=found[1], stream="transcript", thread=False)
        if found := CHAT.fullmatch(relative):
            beside = (f"{found[1]}/workspace.json",) if found[1] else ()
            return Unit(kind=Kind.DOCUMENT, native_id=found[2], beside=beside)
        return None

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Take the workspace's folder (formats.md 2.5 working_directory)."""
        return Entry(cwd=next(filter(None, map(folder_of, beside.values())), None))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out a chat as its head, without what changes at each message, and a request with its response a record.

        One without requests is an opened panel, not a session.
        """
        for name, content in files.items():
            chat = replay(content) if name.endswith(".jsonl") else parse(OBJECT, content)
            requests = chat.get("requests")
            if requests and isinstance(requests, list):
                head = {key: chat[key] for key in HEAD if chat.get(key) is not None}
                yield Portrait(native_id=unit.native_id or "", records=[encode(head), *map(encode, requests)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a request and its response say."""
        return entry_of(record)


SOURCES = (CopilotChat(),)
