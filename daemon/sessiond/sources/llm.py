"""llm, a command line for language models by Simon Willison: docs/formats/llm.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.content import blocks, call, result, template, thought
from sessiond.sources.messages import message_items
from sessiond.sources.objects import OBJECT, as_text, encode, get_in, without_nulls
from sessiond.sources.records import message_role, parse, unknown_type
from sessiond.sources.rows import columns, select
from sessiond.sources.tokens import usage
from sessiond.sources.user_dirs import unique_paths

THREADS = """
    SELECT thread_id, max(turns.rowid) || ' ' || count(*) || ' ' || coalesce(name, '')
    FROM turns LEFT JOIN threads ON threads.id = thread_id GROUP BY thread_id
"""
RESPONSES = "SELECT id, coalesce(conversation_id, id), rowid FROM responses ORDER BY rowid"
BESIDE = ("tool_calls", "tool_results", "prompt_attachments", "prompt_fragments", "system_fragments")
"""What belongs to a response is written after it, row by row."""
BESIDE_RESULTS = """
    SELECT response_id, count(*) FROM tool_results_attachments JOIN tool_results ON tool_results.id = tool_result_id
    GROUP BY 1
"""
RESPONSE = columns(
    "id model resolved_model prompt system response reasoning datetime_utc duration_ms input_tokens output_tokens"
    " token_details options_json"
)
TURN = columns(
    "id parent_message_hash tip_message_hash model resolved_model options_json input_tokens output_tokens token_details"
    " duration_ms datetime_utc"
)
CALL = columns("name arguments tool_call_id")
RESULT = columns("id name output tool_call_id exception")
KNOWN = frozenset(["response", "message", "turn"])
SILENT = ("reasoning", "tool_result")
ATTACHMENT_LIMIT, RECORD_LIMIT, CONVERSATION_LIMIT = 16 << 20, 32 << 20, 64 << 20
"""Bytes of one attachment, of those of a record, and of a conversation, up to which their content is kept. What is in a
file or behind a link has no content here."""
FILE = "SELECT id, type, path, url, length(content)"
ATTACHED = FILE + ' FROM {table} JOIN attachments ON id = attachment_id WHERE {owner} = ? ORDER BY "order"'
ATTACHMENT = f"{FILE} FROM attachments WHERE id = ?"
FRAGMENTS = """
    SELECT content FROM {table} JOIN fragments ON id = fragment_id WHERE response_id = ? ORDER BY "order"
"""


class Llm(BaseSource):
    """Conversations of llm: a tree of messages since 0.32, and a table of prompts with their answers before."""

    tool: ClassVar[str] = "llm"
    variables: ClassVar[tuple[str, ...]] = ("LLM_USER_PATH",)
    versions: ClassVar[tuple[str, ...]] = ("0.31 (responses)", "0.36 (threads)")
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("conversations", "id"), ("threads", "id"))
    own_keys: ClassVar[bool] = True  # a hash of a message and those before it: two threads may begin alike
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, folder or branch is stored",
        "the content of attachments above 16 MiB, and of all above 32 MiB in a message and 64 MiB in a conversation",
        "requests, answers and schemas as the API's JSON",
        "the table `log` of versions before 0.9 is not read",
        "settings beside the database: keys.json, which holds keys, *.yaml and *.txt",
    )
    session_like: ClassVar[str] = r"logs[^/]*\.db(?:\.[\w.-]+)?"
    projection_version: ClassVar[int] = 2
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>logs\.db)(?:-wal)?")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return LLM_USER_PATH and the application's directory."""
        for path in unique_paths(dirs.from_variable("LLM_USER_PATH"), f"{dirs.config}/io.datasette.llm"):
            yield Root(path=path, watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List conversations by the number of their turns and the last of them. Rows are only ever added."""
        found = dict(_older_marks(database))
        if database.has("turns", "thread_id") and database.has("threads", "name"):
            for native_id, mark in database.rows(THREADS):
                found[native_id] = f"{found.get(native_id, '')} / {mark}"
        yield from found.items()

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project the responses of older versions, and the messages and turns of the thread with the same id."""
        files = _Files(database)
        older = list(_responses(database, native_id, files))
        names = [row["name"] for row in select(database, "conversations", ("name",), "WHERE id = ?", native_id)]
        threads = list(select(database, "threads", ("name", "forked_from"), "WHERE id = ?", native_id))
        parent = next((row["forked_from"] for row in threads), None)
        metadata = Entry(title=next(filter(None, [*(row["name"] for row in threads), *names]), None))
        turns = list(_turns(database, native_id, files, continued=bool(older or parent)))
        if older:
            yield Projection(native_id=native_id, records=older, metadata=metadata)
        if turns:
            stream = "turns" if older else "main"
            yield Projection(native_id=native_id, stream=stream, records=turns, parent=parent, metadata=metadata)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a prompt with its answer, a message, or what is known of the turn that a message belongs to."""
        line = parse(OBJECT, record)
        kind, key, model = as_text(line.get("type")), as_text(line.get("id")), as_text(line.get("model"))
        time_ms = parse_time(as_text(line.get("datetime_utc")))
        if kind == "message":
            content = msgspec.Raw(encode(line.get("content")))
            history = line.get("history") is True
            role = None if history else message_role(as_text(line.get("role")), content, silent=SILENT)
            return Entry(time_ms=None if history else time_ms, role=role, key=key, copied=history)
        if kind != "response":
            return Entry(time_ms=time_ms, model=model, unknown=unknown_type(kind, KNOWN))
        asked = _has_text(line, "prompt") or line.get("fragments") or line.get("attachments")
        answered = _has_text(line, "response") or line.get("tool_calls")
        return Entry(
            time_ms=time_ms,
            role=Role.USER if asked else None,
            key=f"{key}.prompt",
            more=(Entry(role=Role.ASSISTANT if answered else None, key=f"{key}.response", model=model),),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message, or of a prompt and its answer, and the tokens of a turn."""
        if not isinstance(record, Mapping):
            return
        if record.get("type") == "response":
            yield from _asked(record, template(entry, Speaker.USER))
            for more in entry.more:
                yield from _answered(record, replace(template(more, Speaker.ASSISTANT), time_ms=entry.time_ms))
        elif record.get("type") == "message":
            yield from message_items(record, entry)
        if record.get("type") in ("response", "turn"):
            yield from usage(record, replace(template(entry), key=None))


def _older_marks(database: Rows) -> Iterator[tuple[str, str]]:
    """Iterate the native id and the watermark of each conversation in the older tables."""
    if not database.has("responses", "conversation_id"):
        return
    conversations, marks = {}, dict[str, list[int]]()
    for response, native_id, row in database.rows(RESPONSES):
        conversations[response] = native_id
        last, count, beside = marks.get(native_id, (0, 0, 0))
        marks[native_id] = [max(last, row), count + 1, beside]
    form = "SELECT response_id, count(*) FROM {} GROUP BY 1"
    counts = [form.format(table) for table in BESIDE if database.has(table, "response_id")]
    if database.has("tool_results_attachments") and database.has("tool_results", "id"):
        counts.append(BESIDE_RESULTS)
    for sql in counts:
        for response, count in database.rows(sql):
            if response in conversations:
                marks[conversations[response]][2] += count
    yield from ((native_id, " ".join(map(str, mark))) for native_id, mark in marks.items())


def _asked(record: Mapping[str, Any], base: Item) -> Iterator[Item]:
    for each in _listed(record, "tool_results"):
        yield result({**each, "is_error": bool(each.get("exception"))}, base)
        yield from blocks(each.get("attachments"), replace(base, speaker=Speaker.TOOL, counts=False))
    for name in ("prompt", "fragments", "attachments"):
        yield from blocks(record.get(name), base)


def _answered(record: Mapping[str, Any], base: Item) -> Iterator[Item]:
    if text := as_text(record.get("reasoning")):
        yield thought(text, base)
    yield from blocks(record.get("response"), base)
    for each in _listed(record, "tool_calls"):
        yield call(each, base)


def _listed(record: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    found = record.get(name)
    yield from (each for each in found if isinstance(each, Mapping)) if isinstance(found, list) else ()


def _has_text(line: Mapping[str, Any], name: str) -> bool:
    return bool((as_text(line.get(name)) or "").strip())


class _Files:
    """The attachments of a conversation, as content blocks.

    A session is in memory as a whole, and a record that is too long is not decoded. So what exceeds a limit is without
    its content, in the order of the records: what is added later takes nothing from what is there.
    """

    def __init__(self, database: Rows) -> None:
        self._database = database
        self._left, self._record_left = CONVERSATION_LIMIT, RECORD_LIMIT

    def begin_record(self) -> None:
        """Begin the next record."""
        self._record_left = RECORD_LIMIT

    def blocks(self, sql: str, owner: object) -> list[dict[str, Any]]:
        """Return what a SELECT of `FILE` finds. The content is base64."""
        return [self._block(*each) for each in list(self._database.rows(sql, owner))]

    def _block(
        self, number: object, kind: str | None, path: str | None, url: str | None, size: int | None
    ) -> dict[str, Any]:
        content, room = None, min(ATTACHMENT_LIMIT, self._record_left, self._left)
        if size is not None and size <= room:
            ((content,),) = self._database.rows("SELECT content FROM attachments WHERE id = ?", number)
            self._record_left -= size
            self._left -= size
        return without_nulls({"type": "file", "mime_type": kind, "name": path or url, "data": content})

    def of(self, table: str, owner: str, number: object) -> list[dict[str, Any]] | None:
        """Return the attachments of a prompt or of a result; None without any."""
        if not (self._database.has(table) and self._database.has("attachments")):
            return None
        return self.blocks(ATTACHED.format(table=table, owner=owner), number) or None


def _responses(database: Rows, native_id: str, files: _Files) -> Iterator[bytes]:
    """Iterate the records of the responses of a conversation, in the order in which they were logged."""
    clauses = "WHERE coalesce(conversation_id, id) = ? ORDER BY rowid"
    for row in list(select(database, "responses", RESPONSE, clauses, native_id)):
        files.begin_record()
        record: dict[str, Any] = {"type": "response", **row}
        record["attachments"] = files.of("prompt_attachments", "response_id", row["id"])
        for name, table in (("fragments", "prompt_fragments"), ("system_fragments", "system_fragments")):
            if database.has(table) and database.has("fragments"):
                found = database.rows(FRAGMENTS.format(table=table), row["id"])
                record[name] = [content for (content,) in found] or None
        clauses = "WHERE response_id = ? ORDER BY id"
        calls = select(database, "tool_calls", CALL, clauses, row["id"])
        record["tool_calls"] = [without_nulls(each) for each in calls] or None
        results = list(select(database, "tool_results", RESULT, clauses, row["id"]))
        for each in results:
            each["attachments"] = files.of("tool_results_attachments", "tool_result_id", each.pop("id"))
        record["tool_results"] = [without_nulls(each) for each in results] or None
        yield encode(without_nulls(record))


def _turns(database: Rows, native_id: str, files: _Files, *, continued: bool) -> Iterator[bytes]:
    """Iterate the records of a thread: the new messages of each turn, then the turn.

    `continued`: the first turn was given messages that were counted before, in older tables or in another thread.
    """
    seen: set[str] = set()
    for row in list(select(database, "turns", TURN, "WHERE thread_id = ? ORDER BY rowid", native_id)):
        asked = _chain(database, row["parent_message_hash"], seen)
        answered = _chain(database, row["tip_message_hash"], seen)
        last = max((index for index, (_, role) in enumerate(asked) if role == "assistant"), default=-1)
        for index, (message, role) in enumerate(asked + answered):
            history = True if continued and index <= last else None
            record = {"type": "message", "id": message, "role": role, "datetime_utc": row["datetime_utc"]}
            yield encode(without_nulls({**record, "history": history, "content": _parts(database, message, files)}))
        continued = False
        yield encode(without_nulls({"type": "turn", **row}))


def _chain(database: Rows, tip: str | None, seen: set[str]) -> list[tuple[str, str]]:
    """Return hash and role of the messages that lead to `tip`, oldest first, without those seen before."""
    found = []
    while tip and tip not in seen:
        seen.add(tip)
        row = next(select(database, "messages", ("parent_hash", "role"), "WHERE hash = ?", tip), None)
        if row is None:
            break
        found.append((tip, row["role"] or ""))
        tip = row["parent_hash"]
    return found[::-1]


def _parts(database: Rows, message: str, files: _Files) -> list[dict[str, Any]]:
    """Return the parts of a message as content blocks, with the text of fragments in its place."""
    found = []
    files.begin_record()
    clauses = "WHERE message_hash = ? ORDER BY position"
    for row in list(select(database, "parts", ("type", "text", "payload"), clauses, message)):
        payload = parse(OBJECT, (row["payload"] or "{}").encode())
        pieces = payload.pop("text_ref", None)
        text = row["text"]
        if isinstance(pieces, list):
            text = "".join(_piece(database, piece) for piece in pieces if isinstance(piece, dict))
        block = {**payload, "type": row["type"], "text": text}
        if attached := as_text(get_in(payload, "attachment", "id")):
            for each in files.blocks(ATTACHMENT, attached):
                block = {**each, "id": attached}
        found.append(without_nulls(block))
    return found


def _piece(database: Rows, piece: dict[str, Any]) -> str:
    if isinstance(literal := piece.get("literal"), str):
        return literal
    rows = database.rows("SELECT content FROM fragments WHERE id = ?", piece.get("fragment"))
    return next((content for (content,) in rows if isinstance(content, str)), "")


SOURCES = (Llm(),)
