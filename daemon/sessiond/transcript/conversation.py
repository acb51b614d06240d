"""The streams of a session as one conversation: the main thread, with each subagent at its call."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from sessiond.session import Item, ItemKind, Speaker
from sessiond.transcript.items import LazyItems, Placed


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
    """Iterate over the threads. Of several main threads, a later one lacks the items that an earlier one has too.

    Items are the same if they have the same call, or messages of the same key.
    """
    ordered = sorted(threads, key=_begun)
    several = sum(thread.main and bool(thread.items) for thread in ordered) > 1
    seen: set[int] = set()
    for thread in ordered:
        if not thread.main or not several:
            yield thread
            continue
        # Numbers of items and hashes of names: a thread may have half a million of them.
        chosen, names = array("Q"), set[int]()
        for number, placed in enumerate(thread.items):
            own = {hash(name) for name in _names(placed.item)}
            if seen.isdisjoint(own):
                chosen.append(number)
            names |= own
        seen |= names
        whole = len(chosen) == len(thread.items)
        yield thread if whole else Thread(thread.name, thread.main, _Chosen(thread.items, chosen))


def _begun(thread: Thread) -> tuple[bool, float, bool]:
    """Sort by the time of the first item that has one; the transcript itself before further streams."""
    begun = next((placed.item.time_ms for placed in thread.items if placed.item.time_ms is not None), None)
    return not thread.main, float("inf") if begun is None else begun, thread.name != "main"


class _Chosen(LazyItems):
    """Some of the items of a thread, each with its model if `models` has it."""

    def __init__(self, items: Sequence[Placed], numbers: Sequence[int], models: _Models | None = None) -> None:
        self._items, self._numbers, self._models = items, numbers, models

    def __len__(self) -> int:
        return len(self._numbers)

    def _item(self, at: int) -> Placed:
        placed = self._items[self._numbers[at]]
        model = None if self._models is None else self._models[at]
        return placed if model is None else placed._replace(item=replace(placed.item, model=model))


class _Models:
    """The model of each item that lacks it, by number. There are few models, so they are numbered too."""

    def __init__(self, count: int) -> None:
        self._names: list[str | None] = [None]
        self._numbers = array("H", bytes(2 * count))

    def __getitem__(self, at: int) -> str | None:
        return self._names[self._numbers[at]]

    def set(self, at: int, model: str) -> None:
        """Set the model of an item. Those after the 65,535th have none: no session has so many."""
        if model not in self._names and len(self._names) <= 0xFFFF:
            self._names.append(model)
        self._numbers[at] = self._names.index(model) if model in self._names else 0


def _named(thread: Thread) -> Thread:
    """Return a thread in which each item of a model names it. Some tools name the model only in a turn's last item."""
    models, model, found = _Models(len(thread.items)), None, False
    for number in range(len(thread.items) - 1, -1, -1):
        item = thread.items[number].item
        if item.speaker is Speaker.USER:
            model = None
        elif item.speaker is Speaker.ASSISTANT and item.model is None and model is not None:
            models.set(number, model)
            found = True
        elif item.speaker is Speaker.ASSISTANT:
            model = item.model
    if not found:
        return thread
    return Thread(thread.name, thread.main, _Chosen(thread.items, range(len(thread.items)), models))


def _names(item: Item) -> Iterator[tuple[ItemKind | None, str]]:
    """Iterate the names by which an item is known in every stream: its call, or the key of its message.

    An item of usage has no such name. Usage is summed by its key, and one of the streams may lack it.
    """
    if item.kind is ItemKind.USAGE:
        return
    if item.call is not None:
        yield item.kind, item.call
    elif item.key is not None:
        yield None, item.key


def _steps(thread: Thread, depth: int, by_name: dict[str, Thread], shown: set[str]) -> Iterator[Step]:
    called = ((placed.item.call, placed.item.stream) for placed in thread.items) if len(by_name) > 1 else ()
    agents = {call: stream for call, stream in called if call and stream}
    for placed in thread.items:
        yield Step(thread, depth, placed)
        if placed.item.kind is not ItemKind.CALL:
            continue
        name = placed.item.stream or agents.get(placed.item.call or "")
        if name in by_name and name not in shown:
            shown.add(name)
            yield from _steps(by_name[name], depth + 1, by_name, shown)
