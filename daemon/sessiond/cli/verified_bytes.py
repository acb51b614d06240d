"""How `verify` reads the bytes of streams from the endpoint, and compares them with what was captured."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import msgspec

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import Forbidden, NotFound
from sessiond.ingest import Location
from sessiond.ingest.verify_files import FileChecker
from sessiond.spool import Spool
from sessiond.spool.confirmation import UNCERTAIN, Confirmations, Unconfirmed
from sessiond.spool.rows import StreamState
from sessiond.spool.verification import Claim, Claims
from sessiond.upload.confirm import contiguous_end, count_equal

Positions = dict[int, tuple[Claim, wire.RemotePosition]]
"""Streams that are called safe, and what the endpoint states of them, by the row of the stream."""


class EndpointBytes(msgspec.Struct, frozen=True, kw_only=True):
    """What reading needs."""

    spool: Spool
    client: ReadClient
    machine_id: str
    checker: FileChecker

    def compare_file(self, location: Location, positions: Positions) -> Iterator[tuple[int, bool | None]]:
        """Compare the streams of a tool's file; yield the row of each, and whether the endpoint has the same bytes.

        None: the file has other bytes than were captured of it.
        Raises: ReadError, Torn, OSError, EndpointError.
        """

        def remote(stream: StreamState) -> wire.RemotePosition | None:
            found = positions.get(stream.id)
            if found is None or (found[1].generation, found[1].length) != (stream.generation, stream.folded):
                return None
            return found[1]

        def fetch(stream: StreamState) -> Iterator[bytes]:
            claim = positions[stream.id][0]
            return self.client.stream(
                self.machine_id, UUID(claim.session), claim.name, generation=stream.generation, end=stream.folded
            )

        yield from self.checker.compare(location, remote, fetch)

    def compare_copy(self, claim: Claim) -> bool | None:
        """Return whether the endpoint has the bytes that were captured of a stream, by the digests of these.

        None: it is not known, because the token may not read, or not all digests are known, or the stream has changed.
        Raises: EndpointError.
        """
        assert claim.stream is not None
        with self.spool.reading():
            queued = Confirmations(self.spool.connection).queued(claim.stream, uncertain=True)
        extents = [each for each in queued if each.end <= claim.acked]
        stored = Unconfirmed(
            stream=claim.stream,
            session=UUID(claim.session),
            name=claim.name,
            generation=claim.generation,
            length=claim.acked,
        )
        try:
            equal = max(count_equal(self.client, self.machine_id, stored, extents, self.checker.reading.digest))
        except NotFound:
            equal = 0
        except Forbidden:
            return None
        known = contiguous_end(extents)
        if equal < known:
            with self.spool.reading():
                return False if Claims(self.spool.connection).stands(claim) else None
        sure = known == claim.acked and all(each.digest != UNCERTAIN for each in extents)
        return True if sure else None

    def compare_earlier(self, claim: Claim) -> bool | None:
        """Return the same of a stream of which the endpoint has more, or a later generation. Raises: EndpointError."""
        try:
            streams = self.client.streams(self.machine_id, UUID(claim.session))
        except NotFound:
            streams = []
        except Forbidden:
            return None
        lengths = {each.generation: each.length for it in streams if it.name == claim.name for each in it.generations}
        if lengths.get(claim.generation, 0) < claim.acked:
            return False
        return self.compare_copy(claim)
