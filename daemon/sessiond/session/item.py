"""Items: what a reader sees of a transcript. One record gives none, one or several."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ItemKind(StrEnum):
    """What an item is."""

    MESSAGE = "message"
    THOUGHT = "thought"
    """Reasoning of the model, as far as the tool stores it."""
    CALL = "call"
    """A call of a tool by the model, or a command that the user ran in the session."""
    RESULT = "result"
    """The result of a call."""
    SUMMARY = "summary"
    """What replaces earlier messages for the model after a compaction."""
    NOTE = "note"
    """A line of the tool itself: an error, a switch of the model."""
    USAGE = "usage"
    """Tokens and costs, see `Usage`."""


class Speaker(StrEnum):
    """The author of an item."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    """The AI coding tool."""
    TOOL = "tool"
    """A tool that the model called."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens of one model call, and what it cost."""

    input: int = 0
    """Tokens of the input that were neither read from nor written to the cache."""
    output: int = 0
    """Tokens of the output, with those of the reasoning."""
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    """The part of `output` that is reasoning."""
    cost: float | None = None
    """US dollars, if the tool states it. It is never computed from prices."""
    total: bool = False
    """Whether it is a running total of the session: a check of the calls' sum, never added to it."""


class Media(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An image or a file in a message, without its bytes."""

    type: str
    """The media type (image/png), or the tool's own name for it."""
    size: int | None = None
    """Bytes of its decoded content, if the record has it."""
    name: str | None = None


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a reader sees of a record.

    - `key` is that of `Entry`: the tool's id of the message, the same in every copy of it.
    - `counts` marks an item of a message that counts (`Entry.role`): the distinct keys of a session's counted items are
      as many as its messages.
    - `call` ties a result to its call. `name` and `arguments` are those of a call; the arguments stay JSON.
    - `failed` is a result that reports an error.
    - `injected` marks text that the tool wrote in the user's name: reminders, the environment, skills.
    - `copied` marks an item that a fork or a resume copied from another session.
    - `stream` of a call or its result is the stream of the subagent behind it.
    - `replaces` marks the first item of a later state of the message with this key: it replaces the earlier state.
    - `continues` marks text that continues that of the item before, if both have the same kind and speaker.
    - `rewind` retracts the item with that key and all later ones, or all items if there is no such key.
    """

    kind: ItemKind
    speaker: Speaker
    text: str = ""
    time_ms: int | None = None
    key: str | None = None
    model: str | None = None
    counts: bool = False
    call: str | None = None
    name: str | None = None
    arguments: msgspec.Raw | None = None
    failed: bool = False
    injected: bool = False
    copied: bool = False
    media: tuple[Media, ...] = ()
    stream: str | None = None
    usage: Usage | None = None
    replaces: bool = False
    continues: bool = False
    rewind: str | None = None
