"""Warp, a terminal with an agent: formats.md 2.23."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch
from sessiond.sources.records import parse

STORE = re.compile(r"(warp\.sqlite)(?:-wal)?")
GROUP = "Library/Group Containers/2BBY89MBSN.dev.warp/Library/Application Support"
FIELDS = ("exchange_id", "start_ts", "working_directory", "output_status", "model_id", "input")


class _Query(msgspec.Struct, gc=False):
    exchange_id: str = ""
    start_ts: str | float | None = None
    working_directory: str | None = None
    output_status: str | None = None
    model_id: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")
    last_modified_at: str | float | None = None


QUERY = msgspec.json.Decoder(_Query)


class Warp(BaseSource):
    """Questions to the agent. Its answers are only on the server, or in a form that nobody has described."""

    tool: ClassVar[str] = "warp"
    versions: ClassVar[tuple[str, ...]] = ("2026",)
    gaps: ClassVar[tuple[str, ...]] = (
        "the text of answers is on the server or in an undescribed form",
        "no version, branch, title or parent is stored",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name where each channel keeps its state (formats.md 2.23 Directory)."""
        if places.platform == "darwin":
            bases = [f"{places.home}/{GROUP}/dev.warp.Warp-{channel}" for channel in ("Stable", "Preview")]
        elif places.platform == "win32":
            bases = [f"{places.data}/warp/Warp/data"]
        else:
            bases = [f"{places.given('XDG_STATE_HOME') or f'{places.home}/.local/state'}/warp-terminal"]
        for base in bases:
            yield Root(path=base, watch=Watch.FLAT, depth=0)

    def unit(self, relative: str) -> Unit | None:
        """Tell the database; it is the whole terminal's history beside."""
        found = STORE.fullmatch(relative)
        return Unit(kind=Kind.DATABASE, path=found[1]) if found else None

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the conversations by when they changed."""
        yield from (
            (native_id, str(changed))
            for native_id, changed in database.rows("SELECT conversation_id, last_modified_at FROM agent_conversations")
        )

    def portraits(self, database: Rows, native_id: str) -> Iterable[Portrait]:
        """Lay out a conversation as its questions, in order; nothing else of the terminal is selected."""
        sql = f"SELECT {', '.join(FIELDS)} FROM ai_queries WHERE conversation_id = ? ORDER BY start_ts, exchange_id"  # noqa: S608
        rows = [dict(zip(FIELDS, row, strict=True)) for row in database.rows(sql, native_id)]
        yield Portrait(native_id=native_id, records=map(msgspec.json.encode, rows))
        if rows:
            sql = "SELECT last_modified_at FROM agent_conversations WHERE conversation_id = ?"
            times = [msgspec.json.encode({"last_modified_at": when}) for (when,) in database.rows(sql, native_id)]
            yield Portrait(native_id=native_id, records=times, stream="times")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an exchange says: a question with text, and an answer once it is finished."""
        query = parse(QUERY, record)
        if not query.exchange_id:
            return Entry(time_ms=parse_time(query.last_modified_at))
        answered = "Completed" in (query.output_status or "") or "completed" in (query.output_status or "")
        answer = Entry(role=Role.ASSISTANT, key=query.exchange_id, model=query.model_id) if answered else Entry()
        asked = bytes(query.input).strip(b'"[]{} \\') not in (b"", b"null")
        role, key = (Role.USER, query.exchange_id) if asked else (None, None)
        cwd, more = query.working_directory, (answer,)
        return Entry(time_ms=parse_time(query.start_ts), role=role, key=key, model=query.model_id, cwd=cwd, more=more)


SOURCES = (Warp(),)
