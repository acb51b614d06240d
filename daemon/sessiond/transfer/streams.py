"""One stream of the archive: its masked bytes, where the endpoint stands in it, and what is pushed to complete it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from sessiond import zstd
from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import NotFound
from sessiond.privacy import Masking
from sessiond.spool.archived import ArchivedSession

PIECE = 1 << 20
"""Bytes that one append carries."""
LEVEL = 3


class StreamCopy(msgspec.Struct):
    """A stream in the archive, and what the endpoint was found to hold of it."""

    session: ArchivedSession
    name: str
    generations: list[wire.Generation]
    """Those of the archive, in order; the last one is the current one."""
    there: wire.RemotePosition
    shift: int = 0
    """Added to the archive's generation numbers, where the endpoint has used those for other bytes."""

    @property
    def current(self) -> wire.Generation:
        """The generation that readers get."""
        return self.generations[-1]


class StreamReader:
    """Reads streams of the archive as they are pushed: masked by the rules in force."""

    def __init__(self, archive: ReadClient, endpoint: ReadClient, masking: Masking) -> None:
        self._archive = archive
        self._endpoint = endpoint
        self._masking = masking

    def digest(self, copy: StreamCopy, generation: int, length: int) -> str:
        """Return the SHA-256 of the first `length` bytes of a generation, as they are pushed."""
        return _digest(self._masked(copy, generation, 0, length))

    def pushes(self, copy: StreamCopy) -> Iterator[wire.Push]:
        """Iterate over what brings the endpoint from where it stands to all that the archive holds.

        Where the endpoint holds other bytes under these numbers, the archive's generations get higher ones: nothing
        there is replaced.
        """
        missing = self._missing(copy)
        if missing is None:
            there = -1 if copy.there.generation is None else copy.there.generation
            copy.shift = max(there, copy.current.generation) + 1 - copy.generations[0].generation
            missing = [(each, None) for each in copy.generations]
        for each, offset in missing:
            begins = offset is None and (each.generation + copy.shift > 0)
            if begins:
                yield self._begin(copy, each)
            yield from self._appends(copy, each, (each.keep if begins else 0) if offset is None else offset)

    def _missing(self, copy: StreamCopy) -> list[tuple[wire.Generation, int | None]] | None:
        """Return the generations that the endpoint lacks, or lacks the end of, each with the offset to go on from.

        An offset of None is a generation that it does not have. Instead of a list, None means that it holds other
        bytes than the archive under one of these numbers, or has passed one of them over.
        """
        if copy.there.generation is None:
            return [(each, None) for each in copy.generations]
        session, missing = copy.session, list[tuple[wire.Generation, int | None]]()
        stored = self._endpoint.streams(session.machine_id, session.session)
        held = {
            each.generation: each.length for known in stored if known.name == copy.name for each in known.generations
        }
        for each in copy.generations:
            length = held.get(each.generation)
            if length is None:
                if each.generation < copy.there.generation:
                    return None
                missing.append((each, None))
            elif not self._agree(copy, each.generation, min(length, each.length)):
                return None
            elif length < each.length:
                missing.append((each, length))
        return missing

    def _agree(self, copy: StreamCopy, generation: int, length: int) -> bool:
        """Return whether the first bytes of a generation are equal on both sides.

        The endpoint tells the digest of its current generation; what it holds of another one is read back.
        """
        there, ours = copy.there, self.digest(copy, generation, length)
        if (generation, length) == (there.generation, there.length):
            return there.sha256 == ours
        session = copy.session
        try:
            held = self._endpoint.stream(
                session.machine_id, session.session, copy.name, generation=generation, end=length
            )
            return _digest(held) == ours
        except NotFound:
            return length == 0

    def complete(self, copy: StreamCopy) -> bool:
        """Return whether the endpoint holds the current generation, as `copy.there` says, byte for byte."""
        there, current = copy.there, copy.current
        number = current.generation + copy.shift
        if (there.generation, there.length) == (number, current.length):
            return there.sha256 == self.digest(copy, current.generation, current.length)
        went_on = there.generation is not None and there.generation >= number and not copy.shift
        return went_on and self._agree(copy, number, current.length)

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
            )
            offset += len(piece)

    def _masked(self, copy: StreamCopy, generation: int, start: int, end: int) -> Iterator[bytes]:
        """Iterate over the masked bytes from `start` to `end`, in pieces of at most PIECE bytes.

        It always reads from the beginning: a secret may begin anywhere before `start`.
        """
        position = 0
        for data in self._from_beginning(copy, generation, end) if start < end else ():
            piece = data[max(0, start - position) :]
            position += len(data)
            for at in range(0, len(piece), PIECE):
                yield piece[at : at + PIECE]

    def _from_beginning(self, copy: StreamCopy, generation: int, end: int) -> Iterator[bytes]:
        session, run = copy.session, self._masking.run()
        read = self._archive.stream(session.machine_id, session.session, copy.name, generation=generation, end=end)
        for data in _by_records(read):
            for _, masked in run.feed(0, data):
                yield masked.data
        if run.inside:  # it ends in the middle of a record
            yield b"".join(masked.data for _, masked in run.feed(0, b"\n"))[:-1]


def _by_records(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Cut bytes behind their last newline, so that whole records are masked at once."""
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


def _digest(parts: Iterable[bytes]) -> str:
    running = hashlib.sha256()
    for part in parts:
        running.update(part)
    return running.hexdigest()
