"""Reads records that are messages with a role and content, as most tools write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from sessiond.session import Entry, Item, ItemKind, Speaker
from sessiond.sources.content import (
    blocks,
    call,
    find,
    name_of,
    result,
    speaker_of,
    summary,
    template,
    text_of,
    thought,
)
from sessiond.sources.tokens import usage

COMMAND_ROLES = ("bashExecution", "pythonExecution")
"""Roles of Pi's records of a command that the user ran in the session."""


def message_items(record: Any, entry: Entry) -> Iterator[Item]:
    """Iterate the items of a record that is a message, or that has one under `message`.

    Its content is text or blocks; calls may be beside it, as in Chat Completions. Text by the user in a record that
    does not count as a message is the tool's own. Nothing for a record without a role.
    """
    if not isinstance(record, Mapping):
        return
    message = record["message"] if isinstance(record.get("message"), Mapping) else record
    role = name_of(find(message, "role") or find(record, "role"))
    if role is None:
        if record.get("type") == "compaction":
            yield summary(text_of(record.get("summary")), template(entry, Speaker.ASSISTANT))
        return
    base = template(entry, speaker_of(role))
    if not base.counts:
        base = replace(base, key=base.key or name_of(find(record, "id", "message.id")))
    if role == "thinking":  # Continue keeps a thought as a message
        yield thought(text_of(message.get("content")), base)
        return
    if role in COMMAND_ROLES:
        yield from _command(message, base)
        return
    if base.speaker is Speaker.TOOL:
        yield from _results(message, base)
        return
    yield from content_items(message, base)
    yield from usage(find(message, "usage") or find(record, "usage", "metrics"), base, cost=_cost(message))


def _results(message: Mapping[str, Any], base: Item) -> Iterator[Item]:
    """Iterate the results in a message by a tool: it is one, or its blocks are."""
    inner = [item for item in blocks(message.get("content"), base) if item.kind is ItemKind.RESULT]
    yield from inner or [result(message, base)]


def content_items(message: Mapping[str, Any], base: Item) -> Iterator[Item]:
    """Iterate the items of a message's content, then of the thoughts and calls beside it."""
    injected = base.speaker is Speaker.USER and not base.counts
    if reasoning := text_of(find(message, "reasoning_content", "reasoning")):
        yield thought(reasoning, base)
    yield from blocks(message.get("content"), replace(base, injected=injected))
    for each in calls_beside(message):
        yield call(each, base)


def calls_beside(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Iterate the calls beside a message's content, as Chat Completions has them."""
    calls = find(message, "tool_calls", "toolCalls")
    for each in calls if isinstance(calls, list) else ():
        if isinstance(each, Mapping):
            yield each


def _command(message: Mapping[str, Any], base: Item) -> Iterator[Item]:
    """Iterate a command that the user ran, and its output."""
    name = "python" if message["role"] == "pythonExecution" else "bash"
    made = call({"id": base.key, "name": name, "input": {"command": find(message, "command", "code")}}, base)
    yield replace(made, speaker=Speaker.USER)
    yield result({"content": message.get("output"), "id": base.key, "isError": message.get("exitCode", 0) != 0}, base)


def _cost(message: Mapping[str, Any]) -> float | None:
    found = find(message, "usage.cost.total", "usage.cost", "cost")
    return found if isinstance(found, int | float) else None
