"""The items of a session's streams: all of them, and later only what was added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sessiond.cli.conversation import Position, Reader
from sessiond.session import ItemKind
from sessiond.sources import find_sources
from sessiond.sources.base import Memory, Source
from sessiond.transcript import Merger, Texts, Thread, read_items


class Threads:
    """Reads the streams of a session that have records. A further `read` reads only what was added since the last."""

    def __init__(self, reader: Reader) -> None:
        """Read nothing yet."""
        self._reader = reader
        self._streams: dict[str, _Stream] = {}

    def read(self, positions: Mapping[str, Position]) -> Iterator[Thread]:
        """Iterate the streams, each with its items in their last state.

        `positions` is the state of the reader. A stream without one is read from its beginning.

        Raises: EndpointError, NotFound, OSError.
        """
        called: set[str] = set()
        streams = [stream for stream in self._reader.streams() if stream.media_type is None]
        for stream in streams:
            found = self._streams.get(stream.name)
            if found is None:
                found = self._streams[stream.name] = _Stream(self._reader, stream.name)
            found.read(positions.get(stream.name))
            items = found.merger.items
            if stream.main and len(streams) > 1:
                called |= {placed.item.stream for placed in items if placed.item.stream}
            yield Thread(stream.name, stream.main and stream.name not in called, items)


class _Stream:
    """The items of one stream, and how far it was read."""

    def __init__(self, reader: Reader, name: str) -> None:
        self._reader, self._name = reader, name
        self._position: Position | None = None
        self._offset, self._complete = 0, True
        self._memory: Memory = {}
        self._source: Source | None = None
        """The source that fits the stream: a tool may have a source for each of its formats."""
        self.merger = Merger()

    def read(self, position: Position | None) -> None:
        """Read what is new at this position; all of it, unless the stream certainly only grew."""
        before = self._position
        if position is not None and position == before:
            return
        if self._source is not None and self._complete and self._grew(before, position):
            self._add(self._source)
        else:
            self._read_all()
        self._position = position

    def _grew(self, before: Position | None, now: Position | None) -> bool:
        same = before is not None and now is not None and now.generation == before.generation
        return same and self._reader.is_verbatim(self._name)

    def _read_all(self) -> None:
        self._source = None
        for source in find_sources():
            if source.tool == self._reader.record.tool:
                self._offset, self._memory = 0, {}
                self.merger = Merger(Texts(self._reader.scratch))
                self._add(source)
                if any(placed.item.kind is ItemKind.MESSAGE for placed in self.merger.items):
                    self._source = source
                    return

    def _add(self, source: Source) -> None:
        for placed in read_items(source, self._records(), self._memory, self._offset):
            self.merger.add(placed)

    def _records(self) -> Iterator[bytes]:
        """Iterate the lines that were not read yet. After an incomplete one, the whole stream is read the next time."""
        parts: list[bytes] = []
        for part in self._reader.content(self._name, self._offset):
            first, *more = part.split(b"\n")
            parts.append(first)
            for following in more:
                line, parts = b"".join(parts), [following]
                self._offset += len(line) + 1
                yield line
        rest = b"".join(parts)
        self._complete = not rest
        if rest:
            yield rest


def threads(reader: Reader) -> Iterator[Thread]:
    """Iterate the streams of a session that have records, each with its items in their last state.

    Raises: EndpointError, NotFound, OSError.
    """
    return Threads(reader).read({})
