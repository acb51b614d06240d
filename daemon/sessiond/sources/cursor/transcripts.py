"""Transcripts of Cursor's command line: JSON lines, and before them a text (formats.md 2.4 Layout history)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sessiond.sources.base import Kind, Portrait, Unit
from sessiond.sources.objects import encode
from sessiond.sources.records import UUID

FILE = re.compile(rf"[^/\n]+/agent-transcripts/(?:({UUID})/)?(?:({UUID})|subagents/({UUID}))\.(jsonl|txt)", re.ASCII)
TURN = re.compile(r"^(user|assistant):$", re.MULTILINE)


def transcript_at(relative: str) -> Unit | None:
    """Tell a transcript by its path, flat or nested; a subagent's is below the session's."""
    found = FILE.fullmatch(relative)
    if not found or (found[3] and not found[1]):
        return None
    folder, own, subagent, kind = found.groups()
    return Unit(
        kind=Kind.LINES if kind == "jsonl" else Kind.DOCUMENT,
        native_id=folder or own,
        stream=f"subagent-{subagent}" if subagent else "transcript",
        thread=not subagent,
        timeless=True,
    )


def lay_out_text(content: bytes, unit: Unit) -> Iterator[Portrait]:
    """Split a transcript of the older kind into its `user:` and `assistant:` blocks."""
    _, *parts = TURN.split(content.decode("utf-8", "replace"))
    turns = zip(parts[::2], parts[1::2], strict=True)
    records = [encode({"role": role, "content": text.strip("\n")}) for role, text in turns]
    yield Portrait(native_id=unit.native_id or "", records=records, stream=unit.stream)
