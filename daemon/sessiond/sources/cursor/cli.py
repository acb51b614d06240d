"""Cursor's command line: a `store.db` for each chat, and transcripts (docs/formats/cursor.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from sessiond.sources.base import Kind, Projection, Rows, Unit
from sessiond.sources.objects import OBJECT, encode
from sessiond.sources.records import UUID, digest, parse
from sessiond.sources.rows import as_bytes, as_line

TRANSCRIPT = re.compile(
    rf"[^/\n]+/agent-transcripts/(?:({UUID})/)?(?:({UUID})|subagents/({UUID}))\.(jsonl|txt)", re.ASCII
)
TURN = re.compile(r"^(user|assistant):$", re.MULTILINE)


def transcript_unit(relative: str) -> Unit | None:
    """Return the unit of a transcript, flat or nested; a subagent's is below its session's directory."""
    found = TRANSCRIPT.fullmatch(relative)
    if not found or (found[3] and not found[1]):
        return None
    folder, own, subagent, suffix = found.groups()
    return Unit(
        kind=Kind.LINES if suffix == "jsonl" else Kind.DOCUMENT,
        native_id=folder or own,
        stream=f"subagent-{subagent}" if subagent else "transcript",
        thread=not subagent,
        timeless=True,
    )


def project_text(content: bytes, unit: Unit) -> Iterator[Projection]:
    """Project a transcript of the older kind: `user:` and `assistant:` blocks of text."""
    _, *parts = TURN.split(content.decode("utf-8", "replace"))
    turns = zip(parts[::2], parts[1::2], strict=True)
    records = [encode({"role": role, "content": text.strip("\n")}) for role, text in turns]
    yield Projection(native_id=unit.native_id or "", records=records, stream=unit.stream)


def is_store(database: Rows) -> bool:
    """Return whether a database is a `store.db`, not one of the editor's."""
    return database.has("blobs", "id", "data") and database.has("meta", "key", "value")


def list_store(database: Rows) -> Iterator[tuple[str, str]]:
    """List the one chat of a store."""
    for meta in _meta(database):
        yield str(meta["agentId"]), digest(encode(meta).decode())


def project_store(database: Rows, native_id: str) -> Iterator[Projection]:
    """Project the chat's own fields, then a message a record."""
    for meta in _meta(database):
        head = {key: value for key, value in meta.items() if key != "latestRootBlobId"}
        yield Projection(native_id=native_id, records=[encode(head), *_messages(database, meta)])


def _meta(database: Rows) -> Iterator[dict[str, Any]]:
    """Read the chat's own fields: JSON in hex, in row 0."""
    for (value,) in list(database.rows("SELECT value FROM meta WHERE key = '0'")):
        meta = parse(OBJECT, bytes.fromhex(as_bytes(value).decode()))
        if meta.get("agentId"):
            yield meta


def _messages(database: Rows, meta: dict[str, Any]) -> Iterator[bytes]:
    """Walk the graph of blobs from its newest root. Leaves are messages in JSON; inner nodes list hashes of blobs.

    Blobs that are not reachable belong to older branches.
    """
    pending, seen = [str(meta.get("latestRootBlobId"))], set[str]()
    while pending:
        name = pending.pop()
        for (data,) in list(database.rows("SELECT data FROM blobs WHERE id = ?", name)):
            if data[:1] in (b"{", "{"):
                yield as_line(data)
            elif name not in seen:
                seen.add(name)
                hashes = [field.hex() for field in _fields(as_bytes(data)) if len(field) == sha256().digest_size]
                pending += reversed(hashes)


def _fields(data: bytes) -> Iterator[bytes]:
    """Iterate over the length-delimited fields of a protobuf message. Stops at damage."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while position < len(data):
            byte = data[position]
            value, shift, position = value | (byte & 127) << shift, shift + 7, position + 1
            if byte < 128:
                break
        return value

    while position < len(data):
        match varint() & 7:
            case 0:
                varint()
            case 2:
                size = varint()
                yield data[position : position + size]
                position += size
            case 1 | 5 as wire_type:
                position += 8 if wire_type == 1 else 4
            case _:
                return
