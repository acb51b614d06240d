"""Compares a tool's files with what was captured of them. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec

from sessiond.endpoint.stream_digest import digest_like, known_digest
from sessiond.endpoint.wire import RemotePosition
from sessiond.errors import Forbidden, NotFound, ReadError, Torn
from sessiond.ingest.content import Content
from sessiond.ingest.context import Location, ReadContext
from sessiond.ingest.files import is_superseded
from sessiond.ingest.masked import mask_chunk, read_extents
from sessiond.ingest.unit_facts import first_directory, first_native_id, outer_directory
from sessiond.ingest.units import HistoryUnit, OpenUnit, StreamSource, open_unit
from sessiond.privacy import Exclusion, Masking
from sessiond.restored import RestoredSessions
from sessiond.session import session_id
from sessiond.sources.damaged import DAMAGED
from sessiond.spool import Spool
from sessiond.spool.confirmation import UNCERTAIN, Confirmations
from sessiond.spool.rows import StreamState

_MASK = b"*0123456789abcdef"
"""The bytes that replace a secret: stars, or a star and a hash."""


class FileVerdict(StrEnum):
    """How a file compares with what was captured of it."""

    CAPTURED = "captured"
    CHANGED = "changed"
    """It has changed since it was captured."""
    NEW = "new"
    """It was not captured yet."""
    UNREADABLE = "unreadable"
    NONE = "none"
    """Nothing of it is to be captured: it is excluded, erased, too old, empty or has no session."""


class FileChecker(msgspec.Struct, frozen=True, kw_only=True):
    """What checking files needs."""

    spool: Spool
    reading: ReadContext
    masking: Masking
    exclusion: Exclusion
    restored: RestoredSessions
    machine_id: str
    oldest_ms: int | None
    """Files last changed before this time are left out, unless captured already; None: none is."""

    def check(self, location: Location) -> tuple[FileVerdict, str]:
        """Return the verdict on a file, and why it can't be read."""
        known = self.spool.catalog.file(location.path)
        if is_superseded(location):
            return FileVerdict.NONE, ""
        if known is not None and known.checkpoint is None and known.trouble is not None:
            return FileVerdict.UNREADABLE, known.trouble
        try:
            with open_unit(location, self.reading) as unit:
                if known is None or known.checkpoint is None:
                    return (FileVerdict.NEW if self._is_wanted(location, unit) else FileVerdict.NONE), ""
                # An emptied file may be the first half of a rewrite.
                same = known.checkpoint.unchanged(unit.stat) or unit.stat.st_size == 0
                return (FileVerdict.CAPTURED if same else FileVerdict.CHANGED), ""
        except FileNotFoundError:
            return FileVerdict.NONE, ""
        except (ReadError, Torn, OSError, *DAMAGED) as error:
            return FileVerdict.UNREADABLE, (error.strerror if isinstance(error, OSError) else None) or str(error)

    def _is_wanted(self, location: Location, unit: OpenUnit) -> bool:
        """Return whether a file without a checkpoint is to be captured."""
        too_old = self.oldest_ms is not None and unit.stat.st_mtime_ns < self.oldest_ms * 1_000_000
        if unit.stat.st_size == 0 or too_old or isinstance(unit, HistoryUnit) or location.unit.media_type is not None:
            return False  # a side file without a session waits for it; `sources` shows how many there are
        return any(self._stream_is_wanted(location, source) for source in unit.streams())

    def _stream_is_wanted(self, location: Location, source: StreamSource) -> bool:
        native_id = source.native_id or first_native_id(location.source, source.content)
        if native_id is None or source.content.size == 0:
            return False
        scope = self.machine_id if location.source.local_ids else ""
        identity = session_id(location.source.tool, native_id, scope)
        if self.spool.forgotten.has(str(identity)) or self.restored.find(identity) is not None:
            return False
        directory = outer_directory(location) or first_directory(location.source, source.content)[0]
        return not self.exclusion.excludes(directory)

    def compare(
        self,
        location: Location,
        remote: Callable[[StreamState], RemotePosition | None],
        fetch: Callable[[StreamState], Iterator[bytes]],
    ) -> Iterator[tuple[int, bool | None]]:
        """Read a file and compare it with the endpoint; yield (row of the stream, whether the bytes are equal).

        None: the file has other bytes than were captured, although it is as long.

        `remote` returns the endpoint's position in a stream, and `fetch` its bytes. The digest that an endpoint states
        is believed only if the token may not read. The stream may have been masked by other rules; then it is fetched
        once more. Only streams are compared of which the endpoint acknowledged everything.

        Raises: ReadError, Torn, OSError, EndpointError.
        """
        with open_unit(location, self.reading) as unit:
            if isinstance(unit, HistoryUnit):
                return
            for source in unit.streams():
                file = self.spool.catalog.file(source.path)
                if file is None or file.stream is None:
                    continue
                stream = self.spool.catalog.stream(file.stream)
                held = remote(stream)
                if held is None or stream.skipped is not None or stream.acked != stream.folded:
                    continue
                digest = self._digest(stream, source.content, location.path, held)
                if digest is None:
                    if source.content.size >= stream.folded:
                        yield stream.id, None
                    continue
                sent = _sent_digest(held, fetch(stream))
                same = sent == digest
                if not same and sent is not None:
                    same = self._same_but_masked(stream, source.content, fetch(stream))
                yield stream.id, same

    def _digest(self, stream: StreamState, content: Content, path: str, held: RemotePosition) -> str | None:
        """Return the digest of a stream's bytes as they are sent; None if the file has other bytes by now."""
        end = 0

        def masked() -> Iterator[bytes]:
            nonlocal end
            for chunk in read_extents(content, self.spool.catalog.extents(stream.id)):
                yield mask_chunk(self.masking, chunk, path).data
                end = chunk.end

        digest = digest_like(held, masked())
        return digest if end == stream.folded else None

    def _same_but_masked(self, stream: StreamState, content: Content, parts: Iterator[bytes]) -> bool:
        """Return whether the endpoint has the bytes that were queued, which may have been masked by other rules.

        An earlier version stored no digests of masked bytes. What it queued may differ from the file in any byte that
        looks like a mask.
        """
        held = bytearray()
        queued = Confirmations(self.spool.connection).queued(stream.id, uncertain=True)
        digests = {extent.start: extent.digest for extent in queued}
        for chunk in read_extents(content, self.spool.catalog.extents(stream.id)):
            while len(held) < len(chunk.data) and (part := next(parts, b"")):
                held += part
            sent = bytes(held[: len(chunk.data)])
            del held[: len(chunk.data)]
            digest = digests.get(chunk.offset, UNCERTAIN)
            same = _differs_by_mask(sent, chunk.data) if digest == UNCERTAIN else self.reading.digest(sent) == digest
            if len(sent) < len(chunk.data) or not same:
                return False
        return not held and not next(parts, b"")


def _sent_digest(held: RemotePosition, parts: Iterator[bytes]) -> str | None:
    """Return the digest of the bytes that the endpoint sends; None if it has none.

    With a token that may not read, it is the digest that the endpoint states.
    """
    try:
        return digest_like(held, parts)
    except Forbidden:
        return known_digest(held)
    except NotFound:
        return None


def _differs_by_mask(sent: bytes, raw: bytes) -> bool:
    if sent == raw:
        return True
    return all(byte in _MASK for byte, original in zip(sent, raw, strict=True) if byte != original)
