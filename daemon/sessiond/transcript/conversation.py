"""The streams of a session as one conversation: the main thread, with each subagent at its call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from sessiond.session import Item, ItemKind, Speaker
from sessiond.transcript.items import Placed


class Thread(msgspec.Struct, frozen=True):
    """The merged items of one stream."""

    name: str
    main: bool
    """Whether it belongs to the main thread, whose messages count."""
    items: Sequence[Placed]


class Step(NamedTuple):
    """An item of a conversation."""

    thread: Thread
    depth: int
    """0 in the main thread, 1 in a subagent that it called, and so on."""
    placed: Placed


def converse(threads: Sequence[Thread]) -> Iterator[Step]:
    """Iterate the items of all streams: main streams first, a subagent after its call, all others at the end.

    A stream without items has none here. No item comes twice: a tool may write the same messages into several streams,
    for example when it moves to another format.
    """
    by_name = {thread.name: _named(thread) for thread in distinct(threads) if thread.items}
    shown: set[str] = set()
    aside = 1 if any(thread.main for thread in by_name.values()) else 0
    for thread in sorted(by_name.values(), key=lambda each: not each.main):
        if thread.name not in shown:
            shown.add(thread.name)
            yield from _steps(thread, 0 if thread.main else aside, by_name, shown)


def distinct(threads: Sequence[Thread]) -> Iterator[Thread]:
    """Iterate the threads; those of the main thread without what an earlier one of them has by the same key or call."""
    seen: set[tuple[ItemKind | None, str]] = set()
    for thread in sorted(threads, key=_begun):
        if not thread.main:
            yield thread
            continue
        items = [placed for placed in thread.items if seen.isdisjoint(_names(placed.item))]
        seen |= {name for placed in thread.items for name in _names(placed.item)}
        yield thread if len(items) == len(thread.items) else Thread(thread.name, thread.main, items)


def _begun(thread: Thread) -> tuple[bool, float, bool]:
    """Sort by the time of the first item that has one; the transcript itself before further streams."""
    begun = next((placed.item.time_ms for placed in thread.items if placed.item.time_ms is not None), None)
    return not thread.main, float("inf") if begun is None else begun, thread.name != "main"


def _named(thread: Thread) -> Thread:
    """Return a thread with the model in each item of the model: some tools store it only with the last of a turn."""
    items, model = list(thread.items), None
    for index in range(len(items) - 1, -1, -1):
        item = items[index].item
        if item.speaker is Speaker.USER:
            model = None
        elif item.speaker is Speaker.ASSISTANT and item.model is None and model is not None:
            items[index] = items[index]._replace(item=replace(item, model=model))
        elif item.speaker is Speaker.ASSISTANT:
            model = item.model
    return Thread(thread.name, thread.main, items)


def _names(item: Item) -> Iterator[tuple[ItemKind | None, str]]:
    """Iterate the names by which an item is known in every stream: its call, or the key of its message.

    Usage has none: it is summed by its key, and one of the streams may lack it.
    """
    if item.kind is ItemKind.USAGE:
        return
    if item.call is not None:
        yield item.kind, item.call
    elif item.key is not None:
        yield None, item.key


def _steps(thread: Thread, depth: int, by_name: dict[str, Thread], shown: set[str]) -> Iterator[Step]:
    agents = {
        placed.item.call: placed.item.stream for placed in thread.items if placed.item.call and placed.item.stream
    }
    for placed in thread.items:
        yield Step(thread, depth, placed)
        if placed.item.kind is not ItemKind.CALL:
            continue
        name = placed.item.stream or agents.get(placed.item.call or "")
        if name in by_name and name not in shown:
            shown.add(name)
            yield from _steps(by_name[name], depth + 1, by_name, shown)
