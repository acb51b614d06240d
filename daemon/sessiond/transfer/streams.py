"""One stream of the archive: its masked bytes, and what has to be pushed to complete it at the endpoint."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from sessiond import zstd
from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.stream_digest import digest_like, known_digest
from sessiond.errors import NotFound
from sessiond.privacy import Masking
from sessiond.spool.archived import ArchivedSession, CopiedStream

PIECE = 256 << 10
"""Bytes of one append. A proxy may accept bodies of up to 1 MB only."""
LEVEL = 3
SHIFTS = 8
"""How many of the endpoint's highest generations are compared, to find a copy that was begun under other numbers."""

Missing = tuple[wire.Generation, int | None]
"""A generation, and the offset from which the endpoint lacks it; None if it lacks the whole generation."""


class StreamCopy(msgspec.Struct):
    """A stream in the archive, and the endpoint's position in it."""

    session: ArchivedSession
    name: str
    generations: list[wire.Generation]
    """Those of the archive, in order; the last one is the current one."""
    remote: wire.RemotePosition
    media_type: str | None = None
    """The media type of a side file; None for records."""
    shift: int = 0
    """Added to the archive's generation numbers, because the endpoint has other bytes under those."""

    @property
    def current(self) -> wire.Generation:
        """The current generation in the archive."""
        return self.generations[-1]

    def copied(self) -> CopiedStream:
        """Return what to store about the stream once the endpoint has all of it."""
        lengths = {each.generation: each.length for each in self.generations}
        return CopiedStream(name=self.name, lengths=lengths, shift=self.shift)


class StreamReader:
    """Reads streams of the archive, masked by the rules in force, and compares them with the endpoint."""

    def __init__(self, archive: ReadClient, endpoint: ReadClient, masking: Masking) -> None:
        self._archive = archive
        self._endpoint = endpoint
        self._masking = masking

    def digest(self, copy: StreamCopy, generation: int, length: int) -> str:
        """Return the digest of the first `length` masked bytes of a generation, as the endpoint computes it."""
        return digest_like(copy.remote, self._masked(copy, generation, 0, length))

    def pushes(self, copy: StreamCopy) -> Iterator[wire.Push]:
        """Iterate over the lines that complete the stream at the endpoint.

        If the endpoint has other bytes under these numbers, the archive's generations get higher ones. Nothing that the
        endpoint has is replaced.
        """
        for each, offset in self._missing(copy):
            begins = offset is None and (each.generation + copy.shift > 0)
            if begins:
                yield self._begin(copy, each)
            yield from self._appends(copy, each, (each.keep if begins else 0) if offset is None else offset)

    def _missing(self, copy: StreamCopy) -> list[Missing]:
        """Return the missing parts of generations. Sets `copy.shift` if they are pushed under other numbers."""
        if copy.remote.generation is None:
            return [(each, None) for each in copy.generations]
        session = copy.session
        stored = self._endpoint.streams(session.machine_id, session.session)
        held = {each.generation: each for known in stored if known.name == copy.name for each in known.generations}
        # An earlier attempt may have copied a part under higher numbers. It is continued, not begun again.
        first = copy.generations[0].generation
        shifts = [0, *(number - first for number in sorted(held, reverse=True) if number > copy.current.generation)]
        for shift in shifts[: 1 + SHIFTS]:
            missing = self._behind(copy, held, shift)
            if missing is not None:
                copy.shift = shift
                return missing
        copy.shift = max(copy.remote.generation, copy.current.generation) + 1 - first
        return [(each, None) for each in copy.generations]

    def _behind(self, copy: StreamCopy, held: dict[int, wire.Generation], shift: int) -> list[Missing] | None:
        """Return what the endpoint lacks of the archive's generations, under numbers that are higher by `shift`.

        Return None if that is impossible: the endpoint has other bytes under one of these numbers, or skipped one.
        """
        assert copy.remote.generation is not None
        missing: list[Missing] = []
        for each in copy.generations:
            number = each.generation + shift
            known = held.get(number)
            if known is None:
                if number < copy.remote.generation:
                    return None
                missing.append((each, None))
            elif not self._agree(copy, each.generation, min(known.length, each.length), shift):
                return None
            elif known.length < each.length:
                missing.append((each, known.length))
        return missing

    def _agree(self, copy: StreamCopy, generation: int, length: int, shift: int = 0) -> bool:
        """Return whether the first `length` bytes of a generation are equal on both sides.

        Its number at the endpoint is higher by `shift`. The endpoint reports the digest of its current generation;
        the bytes of other generations are read back.
        """
        remote, ours = copy.remote, self.digest(copy, generation, length)
        if (generation + shift, length) == (remote.generation, remote.length):
            return known_digest(remote) == ours
        session = copy.session
        try:
            held = self._endpoint.stream(
                session.machine_id, session.session, copy.name, generation=generation + shift, end=length
            )
            return digest_like(remote, held) == ours
        except NotFound:
            return length == 0

    def is_complete(self, copy: StreamCopy) -> bool:
        """Return whether the endpoint, at `copy.remote`, has the current generation byte for byte."""
        remote, current = copy.remote, copy.current
        number = current.generation + copy.shift
        if (remote.generation, remote.length) == (number, current.length):
            return known_digest(remote) == self.digest(copy, current.generation, current.length)
        went_on = remote.generation is not None and remote.generation >= number and not copy.shift
        return went_on and self._agree(copy, current.generation, current.length)

    def is_whole(self, copy: StreamCopy) -> bool:
        """Return whether the endpoint has all generations byte for byte, under these or higher numbers."""
        return not self._missing(copy)

    def _begin(self, copy: StreamCopy, each: wire.Generation) -> wire.PushGeneration:
        return wire.PushGeneration(
            machine_id=copy.session.machine_id,
            session=copy.session.session,
            stream=copy.name,
            generation=each.generation + copy.shift,
            previous=None if each.previous is None else each.previous + copy.shift,
            keep=each.keep,
        )

    def _appends(self, copy: StreamCopy, each: wire.Generation, offset: int) -> Iterator[wire.PushAppend]:
        for piece in self._masked(copy, each.generation, offset, each.length):
            frame = zstd.compress(piece, LEVEL)
            yield wire.PushAppend(
                machine_id=copy.session.machine_id,
                session=copy.session.session,
                stream=copy.name,
                generation=each.generation + copy.shift,
                offset=offset,
                length=len(piece),
                sha256=hashlib.sha256(frame).hexdigest(),
                data=base64.b64encode(frame).decode(),
                encoding="zstd",
                media_type=copy.media_type,
            )
            offset += len(piece)

    def _masked(self, copy: StreamCopy, generation: int, start: int, end: int) -> Iterator[bytes]:
        """Iterate over the masked bytes from `start` to `end`, in pieces of at most PIECE bytes.

        It reads from the beginning of the generation, because a secret may begin before `start`.
        """
        position = 0
        for data in self._from_beginning(copy, generation, end) if start < end else ():
            piece = data[max(0, start - position) :]
            position += len(data)
            for at in range(0, len(piece), PIECE):
                yield piece[at : at + PIECE]

    def _from_beginning(self, copy: StreamCopy, generation: int, end: int) -> Iterator[bytes]:
        session, raw = copy.session, copy.media_type is not None
        run = self._masking.run(raw=raw)
        read = self._archive.stream(session.machine_id, session.session, copy.name, generation=generation, end=end)
        for data in read if raw else _by_records(read):
            for _, masked in run.feed(0, data):
                yield masked.data
        yield run.finish()  # it may end in the middle of a record


def _by_records(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Split bytes after newlines, so that whole records are masked at once. Longer records are split anywhere."""
    rest = b""
    for part in parts:
        cut = part.rfind(b"\n") + 1
        if cut:
            yield rest + part[:cut]
            rest = part[cut:]
        elif len(rest) + len(part) > PIECE:
            yield rest + part
            rest = b""
        else:
            rest += part
    if rest:
        yield rest
