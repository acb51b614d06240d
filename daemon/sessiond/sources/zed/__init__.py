"""Zed's own agent: formats.md 2.15."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

from sessiond import zstd
from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Memory, Places, Portrait, Root, Rows, Watch
from sessiond.sources.objects import OBJECT, encode, text
from sessiond.sources.records import parse
from sessiond.sources.zed.messages import entry_of, trees_of

COLUMNS = ("updated_at", "created_at", "folder_paths", "parent_id")
LARGEST = 256 << 20
"""Bytes that a thread may unpack to; it is parsed as a whole."""


class Zed(BaseSource):
    """Threads of Zed's agent. Those of external agents are in the agents' own stores (formats.md 1.2)."""

    tool: ClassVar[str] = "zed"
    versions: ClassVar[tuple[str, ...]] = ("0.1", "0.2", "0.3")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored, and messages have no times",
        "external agents' threads: they are in the agents' own stores",
        "text threads and the store of early 2025",
    )

    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>threads\.db)(?:-wal)?")

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the threads' directory; a Flatpak has its own (formats.md 2.15 Directory)."""
        flatpak = places.given("FLATPAK_XDG_DATA_HOME") or f"{places.home}/.var/app/dev.zed.Zed/data"
        usual = [f"{places.share}/zed", f"{flatpak}/zed"]
        for base in [f"{places.data}/Zed"] if places.platform in ("darwin", "win32") else usual:
            yield Root(path=f"{base}/threads", watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the threads; each save moves `updated_at`, and the length of the document is in the row's head."""
        if database.has("threads", "id", "updated_at", "data"):
            for native_id, updated, size in database.rows("SELECT id, updated_at, length(data) FROM threads"):
                yield native_id, f"{updated} {size}"

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Lay out a thread as its head and a message a record."""
        there = [column for column in COLUMNS if database.has("threads", column)]
        columns = ", ".join(["summary", "data_type", "data", *there])
        for summary, kind, data, *more in list(
            database.rows(f"SELECT {columns} FROM threads WHERE id = ?", native_id)  # noqa: S608 - of our own names
        ):
            row = dict(zip(there, more, strict=True))
            thread = parse(OBJECT, _unpacked(kind, data))
            head = {"id": native_id, "summary": summary, "cwd": _folder(row, thread)}
            head |= {key: value for key, value in row.items() if key != "updated_at"}
            head |= {key: thread.get(key) for key in ("version", "model", "initial_project_snapshot")}
            if messages := thread.get("messages"):
                said = [encode({message: None} if isinstance(message, str) else message) for message in messages]
                yield Portrait(native_id=native_id, records=[encode(head), *said], parent=row.get("parent_id"))
                yield Portrait(native_id=native_id, records=[encode({"updated_at": row["updated_at"]})], stream="times")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a message says."""
        return entry_of(record, memory)


def _unpacked(kind: str, data: str | bytes) -> bytes:
    content = data.encode() if isinstance(data, str) else data
    if kind != "zstd":
        return content
    try:
        return b"".join(zstd.decompress_stream(iter([content]), LARGEST))
    except zstd.Undecodable as error:
        raise ValueError(f"the thread can't be unpacked: {error}") from error


def _folder(row: dict[str, Any], thread: dict[str, Any]) -> str | None:
    if paths := text(row.get("folder_paths")):
        return paths.split("\n")[0]
    trees = trees_of(thread.get("initial_project_snapshot"))
    return next((text(tree.get("worktree_path")) for tree in trees), None)


SOURCES = (Zed(),)
