"""Read a session for people: the items of its streams, masked, from the tool's files or from the endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from sessiond.cli.masked import mask_pieces
from sessiond.cli.streams import lines, pieces
from sessiond.config import Config
from sessiond.session import ItemKind
from sessiond.sources import find_sources
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState, StreamState
from sessiond.transcript import Placed, Thread, merge, read_items

if TYPE_CHECKING:
    from sessiond.redact import Redactor


class Reader(msgspec.Struct, frozen=True):
    """What reading a session needs."""

    spool: Spool
    config: Config
    environ: Mapping[str, str]
    redactor: Redactor | None
    """None: nothing is masked, as the user asked for."""

    def content(self, session: SessionState, stream: StreamState) -> Iterator[bytes]:
        """Iterate the bytes of a stream, masked. Raises: EndpointError, NotFound."""
        path = next((file.path for file in self.spool.catalog.files(stream.id)), "")
        return mask_pieces(self.redactor, pieces(self.spool, self.config, self.environ, session, stream), path)

    def threads(self, session: SessionState) -> Iterator[Thread]:
        """Iterate the streams of a session that have records, each with its items in their last state.

        Raises: EndpointError, NotFound.
        """
        for stream in self.spool.catalog.streams(session.id):
            yield Thread(stream.name, stream.thread, merge(self._items(session, stream)))

    def _items(self, session: SessionState, stream: StreamState) -> list[Placed]:
        """Return the items of a stream. A tool may have a source for each of its formats: the one that fits is used."""
        found: list[Placed] = []
        for source in find_sources():
            if source.tool == session.tool:
                found = list(read_items(source, lines(self.content(session, stream))))
                if any(placed.item.kind is ItemKind.MESSAGE for placed in found):
                    break
        return found
