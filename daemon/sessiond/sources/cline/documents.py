"""The documents of Cline's family, laid out as records: what went to the model, and what is known beside it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sessiond.sources.records import compact, parse

FINAL = frozenset(["completed", "cancelled", "failed", "error"])


class _Item(msgspec.Struct, rename="camel"):
    """A history item: Cline's in taskHistory.json, Roo Code's beside the task."""

    id: str = ""
    ts: float | None = None
    task: str | None = None
    workspace: str | None = None
    cwd_on_task_initialization: str | None = None
    model_id: str | None = None
    status: str | None = None
    parent_task_id: str | None = None


class _Used(msgspec.Struct):
    ts: float | None = None
    model: str | None = msgspec.field(name="model_id", default=None)
    version: str | None = msgspec.field(name="cline_version", default=None)


class _Metadata(msgspec.Struct):
    model_usage: list[_Used] = []
    environment_history: list[_Used] = []


class _Git(msgspec.Struct):
    branch: str | None = None
    version: str | None = None


class _Details(msgspec.Struct):
    git: _Git | None = None
    origin: _Git | None = msgspec.field(name="sessionHistoryOrigin", default=None)
    title: str | None = None


class _Manifest(msgspec.Struct):
    session_id: str
    started_at: str | None = None
    ended_at: str | None = None
    status: str | None = None
    model: str | None = None
    cwd: str | None = None
    metadata: _Details | None = None


class _Messages(msgspec.Struct):
    messages: list[msgspec.Raw]


class _Partial(msgspec.Struct, gc=False):
    partial: bool | None = None


LIST, ITEM = msgspec.json.Decoder(list[msgspec.Raw]), msgspec.json.Decoder(_Item)
METADATA, MANIFEST = msgspec.json.Decoder(_Metadata), msgspec.json.Decoder(_Manifest)
MESSAGES, PARTIAL = msgspec.json.Decoder(_Messages), msgspec.json.Decoder(_Partial)


def records_of(content: bytes, stream: str) -> Iterable[bytes]:
    """Lay out a list of messages, one a line; of the rest, take the few fields that are looked at."""
    if stream == "metadata":
        metadata = parse(METADATA, content)
        for used in (*metadata.model_usage, *metadata.environment_history):
            yield msgspec.json.encode({"type": "used", "ts": used.ts, "model": used.model, "version": used.version})
    elif stream == "history":
        item = parse(ITEM, content)
        cwd = item.workspace or item.cwd_on_task_initialization
        task = {"title": item.task and item.task[:200], "model": item.model_id, "parent": item.parent_task_id}
        yield msgspec.json.encode({"type": "task", "ts": item.ts, "cwd": cwd, **task})
        if item.status == "completed":
            yield msgspec.json.encode({"type": "end", "ts": item.ts})
    elif stream == "session":
        manifest = parse(MANIFEST, content)
        details = manifest.metadata or _Details()
        own = {"at": manifest.started_at, "model": manifest.model, "cwd": manifest.cwd, "title": details.title}
        git = {"branch": details.git and details.git.branch, "version": details.origin and details.origin.version}
        yield msgspec.json.encode({"type": "session", **own, **git})
        if manifest.status in FINAL:
            yield msgspec.json.encode({"type": "end", "at": manifest.ended_at})
    else:
        raws = parse(LIST, content) if content.lstrip().startswith(b"[") else parse(MESSAGES, content).messages
        # The user interface's last one is left out while it grows.
        yield from (compact(raw) for raw in raws if not parse(PARTIAL, bytes(raw)).partial)
