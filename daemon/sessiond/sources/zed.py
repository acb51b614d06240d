"""Zed's own agent: docs/formats/zed.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from sessiond import zstd
from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources import content
from sessiond.sources.base import DATABASES, BaseSource, Memory, Projection, Root, Rows, UserDirs, Watch
from sessiond.sources.content import blocks, call, result, template, text_of
from sessiond.sources.objects import OBJECT, as_text, encode, get_in, without_nulls
from sessiond.sources.records import parse

COLUMNS = ("updated_at", "created_at", "folder_paths", "folder_paths_order", "parent_id")
# What changes of a thread. Without a prompt that was not sent yet, and where the window was scrolled to.
STATE = (
    "cumulative_token_usage request_token_usage detailed_summary detailed_summary_state profile completion_mode speed"
    " thinking_enabled thinking_effort subagent_context exceeded_window_error tool_use_limit_reached imported"
)
THREAD_LIMIT = 256 << 20
"""Bytes of an unpacked thread, which is parsed as a whole."""


class Zed(BaseSource):
    """Threads of Zed's agent. Threads of external agents are in those agents' own stores."""

    tool: ClassVar[str] = "zed"
    variables: ClassVar[tuple[str, ...]] = ("FLATPAK_XDG_DATA_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("0.1", "0.2", "0.3")
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("threads", "id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored, and messages have no times",
        "threads of external agents are not read: they are in those agents' own stores",
        "text threads and the store of early 2025 are not read",
        "a prompt that was not sent yet",
    )
    session_like: ClassVar[str] = DATABASES
    projection_version: ClassVar[int] = 3
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?P<store>threads\.db)(?:-wal)?")

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the directory of threads; a Flatpak has its own."""
        flatpak = dirs.from_variable("FLATPAK_XDG_DATA_HOME") or f"{dirs.home}/.var/app/dev.zed.Zed/data"
        linux = [f"{dirs.share}/zed", f"{flatpak}/zed"]
        for base in [f"{dirs.data}/Zed"] if dirs.platform in ("darwin", "win32") else linux:
            yield Root(path=f"{base}/threads", watch=Watch.FLAT, depth=0)

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List threads. Each save changes `updated_at`; reading a BLOB's length does not read the BLOB."""
        if database.has("threads", "id", "updated_at", "data"):
            for native_id, updated, size in database.rows("SELECT id, updated_at, length(data) FROM threads"):
                yield native_id, f"{updated} {size}"

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a thread: its own fields, then a message a record. What changes, with its time, is another stream."""
        existing = [column for column in COLUMNS if database.has("threads", column)]
        columns = ", ".join(["summary", "data_type", "data", *existing])
        for summary, kind, data, *more in list(
            database.rows(f"SELECT {columns} FROM threads WHERE id = ?", native_id)  # noqa: S608 - our own names
        ):
            row = dict(zip(existing, more, strict=True))
            thread = parse(OBJECT, _unpack(kind, data))
            head = {"id": native_id, "summary": summary, "cwd": _folder(row, thread)}
            head |= {key: value for key, value in row.items() if key != "updated_at"}
            head |= {key: thread.get(key) for key in ("version", "model", "initial_project_snapshot")}
            if messages := thread.get("messages"):
                records = [encode({message: None} if isinstance(message, str) else message) for message in messages]
                parent = row.get("parent_id")
                yield Projection(native_id=native_id, records=[encode(head), *records], parent=parent)
                state = {name: thread.get(name) for name in STATE.split()}
                changed = encode(without_nulls({"updated_at": row["updated_at"], **state}))
                yield Projection(native_id=native_id, records=[changed], stream="times")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a record. Documents of 0.3 wrap a message in its kind; older ones have a role."""
        match parse(OBJECT, record):
            case {"updated_at": str() | int() | float() as updated}:
                return Entry(time_ms=parse_time(updated))
            case {"id": str(), "version": _} as head:
                return _decode_head(head, memory)
            case {"User": dict() as message} | {"role": "user", **message}:
                # In 0.1, tool results are messages of the user.
                only_results = message.get("tool_results") and not any(map(_has_content, _parts(message)))
                return Entry() if only_results else Entry(role=Role.USER, key=_key(message, memory))
            case {"Agent": dict() as message} | {"role": "assistant", **message}:
                counts = message.get("tool_uses") or any(map(_has_content, _parts(message)))
                key, model = _key(message, memory), memory.get("model")
                return Entry(role=Role.ASSISTANT, key=key, model=model) if counts else Entry()
            case {"Compaction": _} | {"Resume": _} | {"role": "system"}:
                return Entry()
            case other:
                return Entry(unknown=str(next(iter(other), ""))[:40])

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message, with the results of its calls."""
        match record:
            case {"User": dict() as message} | {"role": "user", **message}:
                base = template(entry, Speaker.USER)
            case {"Agent": dict() as message} | {"role": "assistant", **message}:
                base = template(entry, Speaker.ASSISTANT)
            case {"Compaction": compaction}:
                yield content.summary(text_of(compaction), template(entry, Speaker.ASSISTANT))
                return
            case _:
                return
        said: Any = message
        yield from blocks(_parts(said), base)
        uses: Any = message.get("tool_uses") or ()
        for each in uses:
            yield call(each, base)
        results: Any = message.get("tool_results") or ()
        for each in results.values() if isinstance(results, dict) else results:
            yield result(each, base)


def _unpack(kind: str, data: str | bytes) -> bytes:
    content = data.encode() if isinstance(data, str) else data
    if kind != "zstd":
        return content
    try:
        return b"".join(zstd.decompress_stream(iter([content]), THREAD_LIMIT))
    except zstd.Undecodable as error:
        raise ValueError(f"the thread can't be unpacked: {error}") from error


def _folder(row: dict[str, Any], thread: dict[str, Any]) -> str | None:
    if paths := as_text(row.get("folder_paths")):
        return paths.split("\n")[0]
    trees = _worktrees(thread.get("initial_project_snapshot"))
    return next((as_text(tree.get("worktree_path")) for tree in trees), None)


def _worktrees(snapshot: Any) -> Iterator[dict[str, Any]]:
    """Iterate over the projects that were open when the thread began."""
    yield from (tree for tree in get_in(snapshot, "worktree_snapshots") or () if isinstance(tree, dict))


def _decode_head(head: dict[str, Any], memory: Memory) -> Entry:
    memory.update(id=head["id"], model=as_text(get_in(head, "model", "model")))
    trees = _worktrees(head.get("initial_project_snapshot"))
    branches = (get_in(tree, "git_state", "current_branch") for tree in trees)
    return Entry(
        time_ms=parse_time(as_text(head.get("created_at"))),
        title=as_text(head.get("summary")),
        cwd=as_text(head.get("cwd")),
        parent=as_text(head.get("parent_id")),
        branch=next(filter(None, map(as_text, branches)), None),
    )


def _parts(message: dict[str, Any]) -> list[Any]:
    """Return the parts of a message: `content` since 0.3, `segments` in 0.2, `text` in 0.1."""
    content = message.get("content", message.get("segments", message.get("text")))
    return content if isinstance(content, list) else [content]


def _has_content(part: Any) -> bool:
    """Return whether a part is more than thinking or blank text. Documents of 0.3 wrap a part in its kind."""
    match part:
        case str(text) | {"Text": str(text)} | {"type": "text", "text": str(text)}:
            return bool(text.strip())
        case None | {"Thinking": _} | {"RedactedThinking": _} | {"type": "thinking" | "redacted_thinking"}:
            return False
    return True


def _key(message: dict[str, Any], memory: Memory) -> str:
    """Return the key of a message: its id if that is unique (0.3, prompts only), else its position in the thread."""
    memory["count"] = memory.get("count", 0) + 1
    return as_text(message.get("id")) or f"{memory.get('id')}.{memory['count']}"


SOURCES = (Zed(),)
