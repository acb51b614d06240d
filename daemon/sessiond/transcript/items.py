"""The items of a stream, each with the position of its record."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import msgspec
from msgspec.structs import replace

from sessiond.line_ends import join_lines
from sessiond.session import Item, ItemKind, Media, Speaker, Usage
from sessiond.sources.base import Memory, Source
from sessiond.sources.damaged import DAMAGED, split_records
from sessiond.transcript.spilled import Spilled
from sessiond.transcript.texts import LONG, Span, Texts

LARGEST = 64 << 20
"""Size in bytes of the largest record that is decoded; of a larger one only the size is shown."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """The position of a record in a stream: the permalink of its items."""

    offset: int
    length: int
    """Bytes, without the newline."""


class Placed(NamedTuple):
    """An item and its position. Long texts may be kept in `texts`: then `whole` has them, and `item` does not."""

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

    `records` are the stream's lines without newlines: from its beginning, or from `offset` on with the `memory` of the
    lines before. Items that a later one retracts, replaces or continues are returned too: see `merge`. A record that
    can't be decoded becomes a note with its size.
    """
    memory = {} if memory is None else memory
    for record in join_lines(records):
        place = Place(offset, len(record))
        offset += len(record) + 1
        if record.strip():
            for item in _items(source, record, memory):
                yield Placed(place, item)


def fields(stream: str, placed: Placed) -> dict[str, object]:
    """Return an item for JSON: its stream, the position of its record, and its fields that are not empty.

    `Item.stream`, the stream of the subagent that a call began, becomes `subagent`.
    """
    item = {name: value for name, value in msgspec.structs.asdict(placed.whole).items() if value}
    if "stream" in item:
        item["subagent"] = item.pop("stream")
    return {"stream": stream, "offset": placed.place.offset, "length": placed.place.length} | item


class LazyItems(Sequence[Placed], ABC):
    """A sequence of items, each of which is built or read when it is accessed."""

    @overload
    def __getitem__(self, at: int) -> Placed: ...
    @overload
    def __getitem__(self, at: slice) -> list[Placed]: ...
    def __getitem__(self, at: int | slice) -> Placed | list[Placed]:
        """Return an item, or several. Raises: OSError."""
        positions = range(len(self))[at]
        return self._item(positions) if isinstance(positions, int) else [self._item(each) for each in positions]

    @abstractmethod
    def _item(self, at: int) -> Placed:
        """Return the item at a position."""


class Items(LazyItems):
    """The items of a stream in their last state, which are read from a file where they are many.

    `numbers` are those of the items in `store`; None: all of them.
    """

    def __init__(self, store: Spilled[Placed], numbers: Sequence[int] | None = None) -> None:
        self._store = store
        self._numbers: Sequence[int] = range(len(store)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def _item(self, at: int) -> Placed:
        found = self._store[self._numbers[at]]
        assert found is not None
        return found


class Merger:
    """Brings the items of a stream into their last state, one after the other."""

    def __init__(self, texts: Texts | None = None) -> None:
        """`texts` keeps the long texts, and the items where they are many; None: all of them are in memory."""
        self._texts = texts
        self._found = Spilled[Placed](texts, _encode, self._decode)
        self._by_key: dict[int, int | list[int]] = {}
        """The numbers of the items with a key, by its hash: the keys of a long session would take much memory."""
        self._gone = False

    @property
    def items(self) -> Sequence[Placed]:
        """The items so far: retracted ones are gone, texts that continue are joined. They end with the next `add`."""
        if not self._gone:
            return Items(self._found)
        return Items(self._found, array("Q", (at for at in range(len(self._found)) if not self._found.is_gone(at))))

    def add(self, each: Placed) -> None:
        """Add the next item. Raises: OSError."""
        item, found = each.item, self._found
        if item.rewind is not None:
            self._rewind(item.rewind)
            return
        if item.replaces and item.key is not None:
            for index in _listed(self._by_key.pop(hash(item.key), [])):
                found[index] = None
                self._gone = True
        count = len(found)
        while count and found.is_gone(count - 1):
            count -= 1
        if count < len(found):
            found.truncate(count)
        if item.continues and count:
            last = found[count - 1]
            if last is not None and (last.item.kind, last.item.speaker) == (item.kind, item.speaker):
                found[count - 1] = self._join(last, item)
                return
        if item.key is not None:
            known = self._by_key.get(hash(item.key))
            self._by_key[hash(item.key)] = count if known is None else [*_listed(known), count]
        found.append(each if self._texts is None else each.keep(self._texts))

    def _rewind(self, key: str) -> None:
        first = min(_listed(self._by_key.get(hash(key), [])), default=0)
        self._found.truncate(first)
        kept = {key: [index for index in _listed(numbers) if index < first] for key, numbers in self._by_key.items()}
        self._by_key = {key: numbers[0] if len(numbers) == 1 else numbers for key, numbers in kept.items() if numbers}

    def _join(self, last: Placed, item: Item) -> Placed:
        """Return an item with the text of another one behind its own."""
        if self._texts is None:
            return last._replace(item=replace(last.item, text=last.item.text + item.text))
        kept = last.kept or (self._texts.put_text(last.item.text),)
        more = self._texts.put_text(item.text)
        return last._replace(item=replace(last.item, text=""), kept=(*kept, more), texts=self._texts)

    def _decode(self, encoded: bytes) -> Placed:
        plain = pickle.loads(encoded) if encoded[0] == _PICKLED else msgspec.msgpack.decode(encoded)  # noqa: S301 - this process wrote it, to a file without a name
        offset, length, kept, span, arguments, usage, media, kind, speaker, *values = plain
        # Without a validation: a source may have read a value of another type, which is shown all the same.
        item = Item(
            kind=ItemKind(kind),
            speaker=Speaker(speaker),
            arguments=None if arguments is None else msgspec.Raw(arguments),
            usage=None if usage is None else Usage(**usage),
            media=tuple(Media(**each) for each in media),
            **dict(zip(_PLAIN, values, strict=True)),
        )
        texts = self._texts if kept or span else None
        spans = tuple(Span(*each) for each in kept)
        return Placed(Place(offset, length), item, spans, None if span is None else Span(*span), texts)


_PICKLED = 0x80
"""The first byte of a pickle. An array in MessagePack begins with another one."""
_STRUCTURED = {"kind", "speaker", "arguments", "usage", "media"}
_PLAIN = tuple(name for name in Item.__struct_fields__ if name not in _STRUCTURED)
"""The fields of an item that have plain values."""


def _encode(placed: Placed) -> bytes:
    item = placed.item
    plain = [
        placed.place.offset,
        placed.place.length,
        placed.kept,
        placed.arguments,
        None if item.arguments is None else bytes(item.arguments),
        None if item.usage is None else msgspec.structs.asdict(item.usage),
        [msgspec.structs.asdict(each) for each in item.media],
        item.kind.value,
        item.speaker.value,
        *(getattr(item, name) for name in _PLAIN),
    ]
    try:
        return msgspec.msgpack.encode(plain)
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, or a number of more than 64 bits
        return pickle.dumps(plain, pickle.HIGHEST_PROTOCOL)


def _listed(numbers: int | list[int]) -> list[int]:
    return [numbers] if isinstance(numbers, int) else numbers


def merge(placed: Iterable[Placed]) -> list[Placed]:
    """Return the items of a stream in their last state: retracted ones are gone, texts that continue are joined."""
    merger = Merger()
    for each in placed:
        merger.add(each)
    return list(merger.items)


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
