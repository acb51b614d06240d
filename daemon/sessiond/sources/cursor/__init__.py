"""Cursor, the editor and its command line: formats.md 2.3 and 2.4, field-notes B.3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch
from sessiond.sources.cursor.chats import is_chat, lay_out_chat, list_chats
from sessiond.sources.cursor.composers import lay_out_composer
from sessiond.sources.cursor.items import lay_out_items, list_items
from sessiond.sources.cursor.listing import list_composers
from sessiond.sources.cursor.records import entry_of
from sessiond.sources.cursor.transcripts import lay_out_text, transcript_at
from sessiond.sources.editors import folder_of
from sessiond.sources.records import UUID

STORE = re.compile(rf"((?:([^/]+)/)?state\.vscdb|[0-9a-f]+/({UUID})/store\.db)(?:-wal)?", re.ASCII)


class Cursor(BaseSource):
    """Composers and chats of the editor, chats and transcripts of the command line."""

    tool: ClassVar[str] = "cursor"
    own_keys: ClassVar[bool] = True
    versions: ClassVar[tuple[str, ...]] = ("2 (workspace heads)", "3", "3.12", "CLI of June 2026")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch are stored",
        "the folder of a chat of the command line is kept as a hash only",
        "a transcript has no times: those of its file stand in",
        "a row that is edited in place, in a chat that is not among the newest eight, is found within a day",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the global and the workspaces' storage, and the command line's chats and projects.

        A workspace's database is small and old, and there may be thousands of them: they are left to the rescan.
        """
        for user in (f"{places.config}/Cursor/User", f"{places.home}/.cursor-server/data/User"):
            yield Root(path=f"{user}/globalStorage", watch=Watch.FLAT, depth=0)
            yield Root(path=f"{user}/workspaceStorage", watch=Watch.SCAN, depth=1)
        for home in places.homes("CURSOR_CONFIG_DIR", f"{places.home}/.cursor"):
            yield Root(path=f"{home}/chats", depth=2)
            yield Root(path=f"{home}/projects", depth=4)

    def unit(self, relative: str) -> Unit | None:
        """Tell the databases from what changed of them, and transcripts; a `.txt` is an older one (formats.md 2.4)."""
        if found := STORE.fullmatch(relative):
            path, workspace, chat = found.groups()
            beside = (f"{workspace}/workspace.json",) if workspace else ()
            return Unit(kind=Kind.DATABASE, path=path, native_id=chat, timeless=bool(chat), beside=beside)
        return transcript_at(relative)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Take the folder of a workspace (formats.md 2.3 working_directory)."""
        return Entry(cwd=next(filter(None, map(folder_of, beside.values())), None))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Split a transcript of the older kind into what was said."""
        for content in files.values():
            yield from lay_out_text(content, unit)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the chat of a `store.db`, or the composers and the old chats of an editor's database."""
        if is_chat(database):
            yield from list_chats(database)
            return
        if database.has("cursorDiskKV", "key", "value"):
            yield from list_composers(database)
        yield from list_items(database)

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project one chat: first what is known of it as a whole, then a message a record."""
        if is_chat(database):
            yield from lay_out_chat(database, native_id)
            return
        if database.has("cursorDiskKV", "key", "value"):
            yield from lay_out_composer(database, native_id)
        yield from lay_out_items(database, native_id)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a bubble, a message or the head of a chat says."""
        return entry_of(record, memory)


SOURCES = (Cursor(),)
