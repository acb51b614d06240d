"""The items of a stream, each with the position of its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from sessiond.session import Item, ItemKind, Speaker
from sessiond.sources.base import Memory, Source
from sessiond.sources.damaged import DAMAGED, split_records
from sessiond.transcript.texts import LONG, Span, Texts

LARGEST = 64 << 20
"""Size in bytes of the largest record that is decoded; of a larger one only the size is shown."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """The position of a record in a stream: the permalink of its items."""

    offset: int
    length: int
    """Bytes, without the newline."""


class Placed(NamedTuple):
    """An item and its position. If its long texts are kept elsewhere, `item` lacks them, and `whole` has them."""

    place: Place
    item: Item
    kept: tuple[Span, ...] = ()
    """The parts of its text."""
    arguments: Span | None = None
    texts: Texts | None = None

    @property
    def whole(self) -> Item:
        """The item with all its text. Raises: OSError."""
        if self.texts is None:
            return self.item
        item = self.item
        if self.kept:
            item = replace(item, text="".join(self.texts.get_text(span) for span in self.kept))
        if self.arguments is not None:
            item = replace(item, arguments=msgspec.Raw(self.texts.get(self.arguments)))
        return item

    def keep(self, texts: Texts) -> Placed:
        """Return the item with its long texts in `texts`. Raises: OSError."""
        item, arguments = self.item, self.item.arguments
        kept = (texts.put_text(item.text),) if len(item.text) > LONG else ()
        span = texts.put(bytes(arguments)) if arguments is not None and len(bytes(arguments)) > LONG else None
        if not kept and span is None:
            return self
        item = replace(item, text="" if kept else item.text, arguments=None if span else arguments)
        return Placed(self.place, item, kept, span, texts)


def read_items(
    source: Source, records: Iterable[bytes], memory: Memory | None = None, offset: int = 0
) -> Iterator[Placed]:
    """Iterate the items of a stream, as its records have them.

    `records` are the stream's lines without newlines: from its beginning, or from `offset` on with the `memory` of what
    was read before. Items that a later one retracts, replaces or
    continues are among them: see `merge`. A record that can't be decoded gives a note with its size.
    """
    memory = {} if memory is None else memory
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
    item = {name: value for name, value in msgspec.structs.asdict(placed.whole).items() if value}
    if "stream" in item:
        item["subagent"] = item.pop("stream")
    return {"stream": stream, "offset": placed.place.offset, "length": placed.place.length} | item


class Merger:
    """Brings the items of a stream into their last state, one after the other."""

    def __init__(self, texts: Texts | None = None) -> None:
        """`texts` keeps the long texts; None: the items have them."""
        self._texts = texts
        self._found: list[Placed | None] = []
        self._by_key: dict[str, list[int]] = {}

    @property
    def items(self) -> list[Placed]:
        """The items so far: retracted ones are gone, texts that continue are joined."""
        return [placed for placed in self._found if placed is not None]

    def add(self, each: Placed) -> None:
        """Add the next item. Raises: OSError."""
        item = each.item
        if item.rewind is not None:
            self._rewind(item.rewind)
            return
        if item.replaces and item.key is not None:
            for index in self._by_key.pop(item.key, ()):
                self._found[index] = None
        while self._found and self._found[-1] is None:
            self._found.pop()
        last = self._found[-1] if self._found else None
        if item.continues and last and (last.item.kind, last.item.speaker) == (item.kind, item.speaker):
            self._found[-1] = self._join(last, item)
            return
        if item.key is not None:
            self._by_key.setdefault(item.key, []).append(len(self._found))
        self._found.append(each if self._texts is None else each.keep(self._texts))

    def _rewind(self, key: str) -> None:
        first = min(self._by_key.get(key, ()), default=0)
        del self._found[first:]
        kept = ((key, [index for index in numbers if index < first]) for key, numbers in self._by_key.items())
        self._by_key = {key: numbers for key, numbers in kept if numbers}

    def _join(self, last: Placed, item: Item) -> Placed:
        """Return an item with the text of another one behind its own."""
        if self._texts is None:
            return last._replace(item=replace(last.item, text=last.item.text + item.text))
        kept = last.kept or (self._texts.put_text(last.item.text),)
        more = self._texts.put_text(item.text)
        return last._replace(item=replace(last.item, text=""), kept=(*kept, more), texts=self._texts)


def merge(placed: Iterable[Placed]) -> list[Placed]:
    """Return the items of a stream in their last state: retracted ones are gone, texts that continue are joined."""
    merger = Merger()
    for each in placed:
        merger.add(each)
    return merger.items


def _items(source: Source, record: bytes, memory: Memory) -> list[Item]:
    """Return the items of a line, which may be damaged or hold several records."""
    if len(record) > LARGEST:
        return [_note(f"a record of {len(record)} bytes, too large to show")]
    try:
        return list(source.read(record, memory))
    except DAMAGED:
        return _recovered_items(source, record, memory)


def _recovered_items(source: Source, line: bytes, memory: Memory) -> list[Item]:
    """Return the items of what is left of a damaged line, and a note if something of it is lost."""
    items: list[Item] = []
    records, complete = split_records(line)
    for record in records:
        try:
            items += source.read(record, memory)
        except DAMAGED:
            complete = False
    if complete:
        return items
    part = "part of " if items else ""
    return [*items, _note(f"{part}a damaged record of {len(line)} bytes")]


def _note(text: str) -> Item:
    return Item(kind=ItemKind.NOTE, speaker=Speaker.SYSTEM, text=text)
