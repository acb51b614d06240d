"""The records of OpenCode, whether they were rows or files: their shape (formats.md 2.8, field-notes B.2)."""

from __future__ import annotations

import msgspec

from sessiond.session import Entry
from sessiond.sources.records import NONE

PARTS = "text reasoning file tool step-start step-finish snapshot patch agent retry compaction subtask"
MESSAGES = "user assistant synthetic system shell compaction agent-switched model-switched"
KNOWN = frozenset([*PARTS.split(), *MESSAGES.split()])
# What a session is from its start on; `revert` hides messages, so it is known before them.
HEAD = ("id", "slug", "version", "projectID", "directory", "parentID", "revert")
UNNAMED = ("New session - ", "Child session - ")


class _Time(msgspec.Struct, frozen=True, gc=False):
    created: float | None = None
    completed: float | None = None
    end: float | None = None


class _Ref(msgspec.Struct, gc=False):
    """A model, or a place to revert to."""

    id: str | None = None
    message_id: str | None = msgspec.field(default=None, name="messageID")
    part_id: str | None = msgspec.field(default=None, name="partID")


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


class Record(_Part, gc=False):
    """A message, a part of one, or a session; which, its fields tell."""

    id: str = ""
    role: str | None = None
    message_id: str | None = msgspec.field(default=None, name="messageID")
    time: _Time = _Time()
    synthetic: bool | None = None
    ignored: bool | None = None
    summary: msgspec.Raw = NONE
    model_id: str | None = msgspec.field(default=None, name="modelID")
    model: _Ref | None = None
    content: list[_Part] = []
    directory: str | None = None
    parent_id: str | None = msgspec.field(default=None, name="parentID")
    version: str | None = None
    revert: _Ref | None = None


RECORD = msgspec.json.Decoder(Record)


def titled(title: str | None) -> Entry:
    """Tell the title, unless the tool made it up for want of one."""
    return Entry(title=None if (title or "").startswith(UNNAMED) else title)
