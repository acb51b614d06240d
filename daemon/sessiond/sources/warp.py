"""Warp, a terminal with an agent: docs/formats/warp.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import DATABASES, BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.content import blocks, find, note, template
from sessiond.sources.objects import OBJECT, as_text, encode, without_nulls
from sessiond.sources.records import ABSENT, parse
from sessiond.sources.rows import as_bytes, column_or, columns, select

GROUP = "Library/Group Containers/2BBY89MBSN.dev.warp/Library/Application Support"
FIELDS = columns(
    "exchange_id start_ts working_directory output_status model_id input planning_model_id coding_model_id"
)
# A newer version adds the summary to the rows of an older one, without changing their time.
SESSIONS = "SELECT conversation_id, printf('%s %s', last_modified_at, {summary}) FROM agent_conversations"
QUERIES = "WHERE conversation_id = ? ORDER BY start_ts, exchange_id"
CONVERSATION = columns("conversation_data last_modified_at summary")
# What is known of a conversation as a whole. Without its id on the server, with which it may be read there.
STATE = columns("conversation_usage_metadata agent_name artifacts_json reverted_action_ids")


class _Query(msgspec.Struct, gc=False):
    exchange_id: str = ""
    start_ts: str | float | None = None
    working_directory: str | None = None
    output_status: str | None = None
    model_id: str | None = None
    input: msgspec.Raw = ABSENT
    last_modified_at: str | float | None = None


QUERY = msgspec.json.Decoder(_Query)


ANSWER = "(Warp keeps this answer on its servers only)"


class Warp(BaseSource):
    """Questions to Warp's agent. Its answers are on the server, or in a form that is not documented."""

    tool: ClassVar[str] = "warp"
    versions: ClassVar[tuple[str, ...]] = ("2026",)
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("ai_queries", "conversation_id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "the text of answers is on the server or in an undocumented form, in which no secret could be masked",
        "no version or branch is stored",
    )
    session_like: ClassVar[str] = DATABASES
    projection_version: ClassVar[int] = 3
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>warp\.sqlite)(?:-wal)?")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the state directories of the release channels."""
        if dirs.platform == "darwin":
            bases = [f"{dirs.home}/{GROUP}/dev.warp.Warp-{channel}" for channel in ("Stable", "Preview")]
        elif dirs.platform == "win32":
            bases = [f"{dirs.data}/warp/Warp/data"]
        else:
            bases = [f"{dirs.state}/warp-terminal"]
        for base in bases:
            yield Root(path=base, watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List conversations by the time of their last change, and by the summary that is added later."""
        if database.has("agent_conversations", "conversation_id", "last_modified_at"):
            summary = column_or(database, "agent_conversations", "summary", "length(summary)")
            yield from database.rows(SESSIONS.format(summary=summary))

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a conversation's questions in order. The rest of the database is the terminal's history."""
        rows = list(select(database, "ai_queries", FIELDS, QUERIES, native_id))
        for row in list(select(database, "agent_conversations", CONVERSATION, "WHERE conversation_id = ?", native_id)):
            known, summary = _object(row["conversation_data"]), _object(row["summary"])
            records = [encode(without_nulls(each)) for each in rows]
            parent, title = as_text(known.get("parent_conversation_id")), as_text(summary.get("title"))
            metadata = Entry(title=title or None)
            yield Projection(native_id=native_id, records=records, parent=parent, metadata=metadata)
            if rows:
                state = {"last_modified_at": row["last_modified_at"], **{name: known.get(name) for name in STATE}}
                yield Projection(native_id=native_id, records=[encode(without_nulls(state))], stream="times")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an exchange: a question if it has text, and an answer once it is completed."""
        query = parse(QUERY, record)
        if not query.exchange_id:
            return Entry(time_ms=parse_time(query.last_modified_at))
        answered = "Completed" in (query.output_status or "") or "completed" in (query.output_status or "")
        answer = Entry(role=Role.ASSISTANT, key=query.exchange_id, model=query.model_id) if answered else Entry()
        has_text = bytes(query.input).strip(b'"[]{} \\') not in (b"", b"null")
        return Entry(
            time_ms=parse_time(query.start_ts),
            role=Role.USER if has_text else None,
            key=query.exchange_id if has_text else None,
            model=query.model_id,
            cwd=query.working_directory,
            more=(answer,),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the prompts of an exchange. Its answer is not on the disk, only that there was one."""
        prompt = template(entry, Speaker.USER)
        try:
            asked = msgspec.json.decode(record.get("input") or "[]")
        except ValueError:
            asked = record["input"]
        for each in asked if isinstance(asked, list) else [asked]:
            yield from blocks(find(each, "Query.text") if isinstance(each, dict) else each, prompt)
        for answer in entry.more:
            if answer.role is not None:
                yield replace(note(ANSWER, template(answer)), speaker=Speaker.ASSISTANT, counts=True)


def _object(value: str | None) -> dict[str, Any]:
    """Return a column that holds a JSON object; a damaged one is empty, because the questions are in another table."""
    with suppress(ValueError):
        return parse(OBJECT, as_bytes(value or "{}"))
    return {}


SOURCES = (Warp(),)
