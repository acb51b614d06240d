"""The items of a stream, each with the position of its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from sessiond.session import Item, ItemKind, Speaker
from sessiond.sources.base import Memory, Source
from sessiond.sources.damaged import DAMAGED, split_records

LARGEST = 64 << 20
"""Size in bytes of the largest record that is decoded; of a larger one only the size is shown."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """The position of a record in a stream: the permalink of its items."""

    offset: int
    length: int
    """Bytes, without the newline."""


class Placed(NamedTuple):
    """An item and its position."""

    place: Place
    item: Item


def read_items(source: Source, records: Iterable[bytes]) -> Iterator[Placed]:
    """Iterate the items of a stream, as its records have them.

    `records` are the stream's lines from its beginning, without newlines. Items that a later one retracts, replaces or
    continues are among them: see `merge`. A record that can't be decoded gives a note with its size.
    """
    memory: Memory = {}
    offset = 0
    for record in records:
        place = Place(offset, len(record))
        offset += len(record) + 1
        if record.strip():
            for item in _items(source, record, memory):
                yield Placed(place, item)


def fields(stream: str, placed: Placed) -> dict[str, object]:
    """Return an item for JSON: its stream, the position of its record, and the fields that it has.

    The stream of the subagent that a call began is `subagent` here.
    """
    item = {name: value for name, value in msgspec.structs.asdict(placed.item).items() if value}
    if "stream" in item:
        item["subagent"] = item.pop("stream")
    return {"stream": stream, "offset": placed.place.offset, "length": placed.place.length} | item


def merge(placed: Iterable[Placed]) -> list[Placed]:
    """Return the items of a stream in their last state: retracted ones are gone, texts that continue are joined."""
    found: list[Placed] = []
    for each in placed:
        item = each.item
        if item.rewind is not None:
            del found[_first(found, item.rewind) :]
            continue
        if item.replaces and item.key is not None:
            found = [old for old in found if old.item.key != item.key]
        last = found[-1].item if found else None
        if item.continues and last and (last.kind, last.speaker) == (item.kind, item.speaker):
            found[-1] = Placed(found[-1].place, replace(last, text=_join(last, item)))
        else:
            found.append(each)
    return found


def _items(source: Source, record: bytes, memory: Memory) -> list[Item]:
    """Return the items of a line, which may be damaged or hold several records."""
    if len(record) > LARGEST:
        return [_note(f"a record of {len(record)} bytes, too large to show")]
    try:
        return list(source.read(record, memory))
    except DAMAGED:
        items: list[Item] = []
        for part in split_records(record)[0]:
            try:
                items += source.read(part, memory)
            except DAMAGED:
                items.append(_note(f"a damaged record of {len(part)} bytes"))
        return items or [_note(f"a damaged record of {len(record)} bytes")]


def _note(text: str) -> Item:
    return Item(kind=ItemKind.NOTE, speaker=Speaker.SYSTEM, text=text)


def _first(found: list[Placed], key: str) -> int:
    """Return the index of the first item with a key; 0 if there is none."""
    return next((index for index, each in enumerate(found) if each.item.key == key), 0)


def _join(last: Item, item: Item) -> str:
    """Return the texts of two items that belong together."""
    return last.text + item.text
