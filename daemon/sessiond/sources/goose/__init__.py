"""Goose: formats.md 2.17."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Memory, Places, Portrait, Root, Rows, Unit, Watch
from sessiond.sources.goose.records import entry_of
from sessiond.sources.goose.rows import portraits_of, sessions_of
from sessiond.sources.places import distinct


class Goose(BaseSource):
    """Sessions of Goose: rows since 1.10; the JSON lines from before stay where they are after their import."""

    tool: ClassVar[str] = "goose"
    versions: ClassVar[tuple[str, ...]] = ("1.0 (lines)", "1.10", "schema 15")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is stored",
        "a message that is shown or hidden in a session of more than a day ago is found within a day",
    )
    local_ids: ClassVar[bool] = True  # every machine has a 20260822_1 (formats.md 1.1)
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>sessions\.db)(?:-wal)?|(?P<id>[\w-]+)\.jsonl", re.ASCII)

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `sessions` of the data directory, which is XDG's on macOS too, and of GOOSE_PATH_ROOT."""
        windows = places.platform == "win32"
        usual = f"{places.config}/Block/goose/data/sessions" if windows else f"{places.share}/goose/sessions"
        older = f"{places.config}/Block/goose/sessions" if places.platform == "darwin" else ""
        for path in distinct(places.given("GOOSE_PATH_ROOT", "/data/sessions"), usual, older):
            yield Root(path=path, watch=Watch.FLAT)

    def unit(self, relative: str) -> Unit | None:
        """Tell the database and the older JSON lines, which are a stream of the same session (formats.md 1.2)."""
        unit = super().unit(relative)
        return msgspec.structs.replace(unit, stream="jsonl") if unit and unit.native_id else unit

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by the index of their messages."""
        return sessions_of(database)

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Project a session's row and messages into the lines that it had before 1.10."""
        return portraits_of(database, native_id)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a line says."""
        return entry_of(record)


SOURCES = (Goose(),)
