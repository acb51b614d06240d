"""The document that a thread of Amp is, laid out as records (formats.md 2.16)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sessiond.sources.base import Portrait
from sessiond.sources.places import path_of
from sessiond.sources.records import compact, parse


class _Repository(msgspec.Struct):
    ref: str | None = None


class _Tree(msgspec.Struct):
    uri: str | None = None
    repository: _Repository | None = None


class _Platform(msgspec.Struct, rename="camel"):
    client_version: str | None = None


class _Initial(msgspec.Struct):
    trees: list[_Tree] = []
    platform: _Platform | None = None


class _Env(msgspec.Struct):
    initial: _Initial | None = None


class _Event(msgspec.Struct):
    timestamp: str | float | None = None
    model: str | None = None


class _Ledger(msgspec.Struct):
    events: list[_Event] = []


class _Document(msgspec.Struct, rename="camel"):
    messages: list[msgspec.Raw]
    created: float | str | None = None
    title: str | None = None
    env: _Env | None = None
    usage_ledger: _Ledger | None = None


DOCUMENT = msgspec.json.Decoder(_Document)


def lay_out(content: bytes, native_id: str) -> Iterator[Portrait]:
    """Lay out the messages, and as a stream of its own what the thread says of itself and each time.

    A stub has no messages, and nothing is what the engine leaves the streams as they were for (formats.md 2.16 Traps).
    Raises: msgspec.DecodeError.
    """
    document = parse(DOCUMENT, content)
    known = [_thread(document), *_usage(document)] if document.messages else []
    yield Portrait(native_id=native_id, records=map(compact, document.messages))
    yield Portrait(native_id=native_id, stream="thread", records=known)


def _thread(document: _Document) -> bytes:
    initial = (document.env.initial if document.env else None) or _Initial()
    tree = initial.trees[0] if initial.trees else _Tree()
    thread = {
        "type": "thread",
        "created": document.created,
        "title": document.title,
        "cwd": path_of(tree.uri),
        "branch": (tree.repository.ref or "").removeprefix("refs/heads/") or None if tree.repository else None,
        "version": initial.platform.client_version if initial.platform else None,
    }
    return msgspec.json.encode(thread)


def _usage(document: _Document) -> Iterator[bytes]:
    for event in document.usage_ledger.events if document.usage_ledger else ():
        yield msgspec.json.encode({"type": "usage", "timestamp": event.timestamp, "model": event.model})
