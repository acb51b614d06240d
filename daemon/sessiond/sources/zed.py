"""Zed's own agent: formats.md 2.15."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import msgspec

from sessiond import zstd
from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Rows, Unit, Watch, parse

STORE = re.compile(r"(threads\.db)(?:-wal)?")
COLUMNS = ("updated_at", "created_at", "folder_paths", "parent_id")
LARGEST = 256 << 20
"""Bytes that a thread may unpack to; it is parsed as a whole."""
OBJECT = msgspec.json.Decoder(dict[str, Any])
encode = msgspec.json.Encoder().encode


class Zed(BaseSource):
    """Threads of Zed's agent. Those of external agents are in the agents' own stores (formats.md 1.2)."""

    tool: ClassVar[str] = "zed"
    versions: ClassVar[tuple[str, ...]] = ("0.2", "0.3")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored, and messages have no times",
        "external agents' threads: they are in the agents' own stores",
        "text threads and the store of early 2025",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the threads' directory; a Flatpak has its own (formats.md 2.15 Directory)."""
        bases = {
            "darwin": [f"{places.config}/Zed"],
            "win32": [f"{places.environ.get('LOCALAPPDATA', places.home)}/Zed"],
        }
        flatpak = places.environ.get("FLATPAK_XDG_DATA_HOME") or f"{places.home}/.var/app/dev.zed.Zed/data"
        for base in dict.fromkeys(bases.get(places.platform, [f"{places.share}/zed", f"{flatpak}/zed"])):
            yield Root(path=f"{base}/threads", watch=Watch.FLAT, depth=0)

    def unit(self, relative: str) -> Unit | None:
        """Tell the database."""
        found = STORE.fullmatch(relative)
        return Unit(kind=Kind.DATABASE, path=found[1]) if found else None

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List the threads; each save moves `updated_at`, and the length of the document is in the row's head."""
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
                records = [
                    encode(head),
                    *(encode({said: None} if isinstance(said, str) else said) for said in messages),
                ]
                yield Portrait(native_id=native_id, records=records, parent=row.get("parent_id"))
                yield Portrait(native_id=native_id, records=[encode({"updated_at": row["updated_at"]})], stream="times")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a message says: 0.3 names its kind around it, before it had a role. Messages have no times."""
        match parse(OBJECT, record):
            case {"updated_at": str() as updated}:
                return Entry(time=updated)
            case {"id": str(), "version": _} as head:
                model = head.get("model")
                memory["id"] = head["id"]
                memory["model"] = _str(model.get("model")) if isinstance(model, dict) else None
                texts = {key: _str(head.get(key)) for key in ("cwd", "parent_id")}
                title, branch = _str(head.get("summary")), _branch(head.get("initial_project_snapshot"))
                time_ms = parse_time(_str(head.get("created_at")))
                return Entry(time_ms=time_ms, title=title, cwd=texts["cwd"], parent=texts["parent_id"], branch=branch)
            case {"User": dict() as said} | {"role": "user", **said}:
                return Entry(role=Role.USER, key=_key(said, memory))
            case {"Agent": dict() as said} | {"role": "assistant", **said}:
                spoken = any(map(_says, _parts(said)))
                model = memory.get("model")
                return Entry(role=Role.ASSISTANT, key=_key(said, memory), model=model) if spoken else Entry()
            case {"Compaction": _} | {"Resume": _} | {"role": "system"}:
                return Entry()
            case dict() as other:
                return Entry(unknown=str(next(iter(other), ""))[:40])


def _unpacked(kind: str, data: str | bytes) -> bytes:
    content = data.encode() if isinstance(data, str) else data
    if kind != "zstd":
        return content
    try:
        return b"".join(zstd.decompress_stream(iter([content]), LARGEST))
    except zstd.Undecodable as error:
        raise ValueError(f"the thread can't be unpacked: {error}") from error


def _folder(row: dict[str, Any], thread: dict[str, Any]) -> str | None:
    if isinstance(paths := row.get("folder_paths"), str) and paths:
        return paths.split("\n")[0]
    return next((_str(tree.get("worktree_path")) for tree in _trees(thread.get("initial_project_snapshot"))), None)


def _branch(snapshot: Any) -> str | None:
    for tree in _trees(snapshot):
        if isinstance(state := tree.get("git_state"), dict):
            return _str(state.get("current_branch"))
    return None


def _trees(snapshot: Any) -> Iterator[dict[str, Any]]:
    trees = snapshot.get("worktree_snapshots") if isinstance(snapshot, dict) else None
    yield from (tree for tree in trees or () if isinstance(tree, dict))


def _parts(said: dict[str, Any]) -> list[Any]:
    content = said.get("content", said.get("segments"))
    return content if isinstance(content, list) else [content]


def _says(part: Any) -> bool:
    """Tell whether a part is more than a thought; 0.3 names a part's kind around it."""
    return not (isinstance(part, dict) and ("Thinking" in part or part.get("type") == "thinking"))


def _key(said: dict[str, Any], memory: Memory) -> str:
    memory["count"] = memory.get("count", 0) + 1
    return str(said.get("id") or f"{memory.get('id')}.{memory['count']}")


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


SOURCES = (Zed(),)
