"""A record of a task or a session of Cline's family, and whether a human said it (field-notes B.2)."""

from __future__ import annotations

import re

import msgspec

from sessiond.sources import records
from sessiond.sources.records import BLOCKS, NONE, speaks

# What the extension says in the user's name; tool results were text before native tool calls.
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:<environment_details>|<explicit_instructions|<hook_context|\[ERROR\]|\[TASK RESUMPTION\]'
    rb"|\[[\w-]+(?: for [^\]]*)?\] Result:|Warning: this is a legacy conversation)"
)
# It ends what a session of the SDK took over from a task of the extension (legacy-task-handling.ts).
TAKEN_OVER = b"Warning: this is a legacy conversation, which means tool names may have changed."
HUMAN = re.compile(rb"<(?:task|feedback|user_message|user_input|answer)\b")
SILENT = (*records.SILENT, "reasoning")


class _Model(msgspec.Struct, gc=False):
    """A message's model: `modelId` the extension's, `id` the SDK's."""

    id: str | None = None
    model: str | None = msgspec.field(name="modelId", default=None)


class Record(msgspec.Struct, gc=False):
    """A message of a model's conversation, one of the user interface's, or what `project` took from elsewhere."""

    id: str | None = None
    role: str | None = None
    content: msgspec.Raw = NONE
    ts: float | None = None
    modelInfo: _Model | None = None  # noqa: N815 - as it is written
    isSummary: bool = False  # noqa: N815
    type: str | None = None
    at: str | None = None
    model: str | None = None
    cwd: str | None = None
    branch: str | None = None
    version: str | None = None
    title: str | None = None
    parent: str | None = None


RECORD = msgspec.json.Decoder(Record)


def is_prompt(content: msgspec.Raw) -> bool:
    """Tell whether a human wrote some of a user's message; in older ones a tool's answer is text, the next text too."""
    source = bytes(content)
    if not source.startswith(b"["):
        return speaks(content, injected=INJECTED)
    texts = [
        bytes(block.text) for block in BLOCKS.decode(source) if not isinstance(block, str) and block.type == "text"
    ]
    if any(HUMAN.search(text[:400]) for text in texts):
        return True
    return bool(texts) and not INJECTED.match(texts[0][:256]) and speaks(content, silent=SILENT, injected=INJECTED)
