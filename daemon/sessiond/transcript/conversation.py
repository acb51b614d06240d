"""The streams of a session as one conversation: the main thread, with each subagent at its call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from sessiond.session import ItemKind
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

    A stream without items has none here. No item is left out, and none comes twice.
    """
    by_name = {thread.name: thread for thread in threads if thread.items}
    shown: set[str] = set()
    aside = 1 if any(thread.main for thread in by_name.values()) else 0
    for thread in sorted(by_name.values(), key=lambda each: not each.main):
        if thread.name not in shown:
            shown.add(thread.name)
            yield from _steps(thread, 0 if thread.main else aside, by_name, shown)


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
