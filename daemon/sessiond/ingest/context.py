"""What ingest works with: its context, a turn, a snapshot of a file, and the outcome."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property

import msgspec

from sessiond.ingest.compressed import CompressedFiles
from sessiond.ingest.endings import Endings
from sessiond.ingest.location import Index
from sessiond.ingest.location import Location as Location  # noqa: PLC0414
from sessiond.ingest.pins import Pins
from sessiond.privacy import Exclusion, Masking
from sessiond.reader import Checkpoint, Digest
from sessiond.restored import RestoredSessions
from sessiond.session import Rules
from sessiond.sources.base import Root, Source, Unit
from sessiond.spool import Spool
from sessiond.spool.rows import FileState

PROMPTS = "prompts"
"""The name of the stream of a session that is known from its prompts only (see history.py)."""
LONG_WORK = 1 << 20
"""Bytes that take longer to read, decode and mask than a transaction may be open: 20 ms and more."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ingesting a path."""

    read: int = 0
    changed: bool = False
    retry: bool = False
    """Whether to read the path again soon: it may be half of a rewrite, or the rest of its session is to come."""
    trouble: str | None = None
    """Why the path can't be read."""
    damaged: int = 0
    """Records that could not be decoded."""
    left_out: bool = False
    """Whether the path is too old to be captured; see backfill.py."""
    more: bool = False
    """Whether only a slice of the file was read; go on after other files had their turn."""
    searched: int = 0
    """Bytes that were read to find the end of a record, and not captured."""
    cost: int = 0
    """Bytes that had to be read however small the change: all of a document, a folder or a compressed file."""
    sessionless: bool = False
    """Whether the path is a side file whose session is not captured, or not yet. Nothing of the file is stored."""
    sessions: frozenset[str] = frozenset()
    """Native ids of sessions of which a file was captured: their side files can be captured now."""
    mentions: frozenset[str] = frozenset()
    """Names of side files in the records that were read; see `Entry.mentions`."""


class ReadContext(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a unit needs."""

    digest: Digest
    now_ms: int
    scratch: str
    """The directory for the unnamed files into which compressed ones are decompressed."""
    compressed: CompressedFiles = msgspec.field(default_factory=CompressedFiles)
    endings: Endings | None = None
    """The searches for the ends of long records; None: each search begins at the start of its record."""
    slice: int | None = None
    """About how many bytes are searched for such an end at once; None: all."""
    settle_ms: int = 0
    """How long a side file must be unchanged before its last line is read: it may be half of one."""
    side_file_max_bytes: int | None = None
    """How many bytes of a side file are read at most."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from one call of ingest to the next; all else is in the context."""

    changed: bool = False
    """Whether the path was seen to change, so that it is captured whatever its age (see backfill.py)."""
    only: frozenset[str] = frozenset()
    """Sessions of a container that are read even if it did not change: their transcripts wait."""
    live: frozenset[tuple[str, str]] = frozenset()
    """(tool, native id) of the sessions whose process runs. They have not ended, however long they are idle."""
    slice: int | None = None
    """About how many bytes of a file of lines are read before other files have their turn. None: all."""


class IngestContext(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The dependencies and settings of ingest. They stay the same for one run of the daemon; see Turn for the rest."""

    spool: Spool
    roots: Sequence[tuple[Source, Root]]
    machine_id: str
    dormant: Sequence[tuple[Source, Root]] = ()
    """Roots of disabled sources. Captured bytes are read there again if an endpoint lacks them; nothing new is read."""
    digest: Digest
    pins: Pins
    budget: int
    idle_after_ms: int
    now_ms: Callable[[], int]
    masking: Masking = msgspec.field(default_factory=Masking)
    exclusion: Exclusion = msgspec.field(default_factory=Exclusion)
    compressed: CompressedFiles = msgspec.field(default_factory=CompressedFiles)
    endings: Endings = msgspec.field(default_factory=Endings)
    restored: RestoredSessions = msgspec.field(default_factory=RestoredSessions)
    """The messages of restored sessions that were written on another machine."""
    records_only: frozenset[str] = frozenset()
    """Tools whose transcripts are not kept."""
    oldest_ms: int | None = None
    """Files last changed before this time are left out unless captured already; None: none is left out."""
    here_ms: int | None = None
    """Files that appeared after this time are not left out, however old they are."""
    settle_ms: int = 1000
    """How long a file that lost bytes must be unchanged before it is read: it may be half of a rewrite."""
    side_file_max_bytes: int = 64 << 20
    """How many bytes of a side file are captured at most."""

    @cached_property
    def index(self) -> Index:
        """The index of `roots`, which includes roots that are added later. Only the capture thread uses it."""
        return Index(self.roots)

    @cached_property
    def dormant_index(self) -> Index:
        """The index of `dormant`."""
        return Index(self.dormant)

    @property
    def budget_of_lines(self) -> int:
        """Bytes of the outbox for files of lines. The rest is for units that no hard link can protect meanwhile."""
        return self.budget // 4 * 3

    def begin_work(self, size: int) -> None:
        """Commit what small files before this one have stored, if `size` bytes have to be read and decoded now.

        Otherwise the other thread could not write to the spool until that is done.
        """
        if size > LONG_WORK:
            self.spool.end_group()

    def reading(self, turn: Turn, unit: Unit) -> ReadContext:
        """Return what reading a unit needs."""
        return ReadContext(
            digest=self.digest,
            now_ms=self.now_ms(),
            scratch=self.pins.directory,
            compressed=self.compressed,
            endings=self.endings,
            # A compressed file is decompressed again for each scan, so a search could not go on where it stopped.
            slice=None if unit.packed else turn.slice,
            settle_ms=self.settle_ms,
            side_file_max_bytes=self.side_file_max_bytes,
        )

    def rules(self) -> Rules:
        """Return what a record needs besides its folds."""
        return Rules(machine_id=self.machine_id, now_ms=self.now_ms(), idle_after_ms=self.idle_after_ms)

    def scope(self, source: Source) -> str:
        """Return the scope of the tool's native ids: the machine if they are unique on one machine only."""
        return self.machine_id if source.local_ids else ""


class FileSnapshot(msgspec.Struct, kw_only=True):
    """A location as it is now, with what the spool knows of it."""

    context: IngestContext
    turn: Turn
    location: Location
    known: FileState | None
    stat: os.stat_result

    @property
    def mtime_ms(self) -> int:
        """When the file was last written, in unix ms."""
        return self.stat.st_mtime_ns // 1_000_000

    @property
    def unchanged(self) -> bool:
        """Whether the file is unchanged since its checkpoint, judged without reading it."""
        known = self.known
        return known is not None and known.checkpoint is not None and known.checkpoint.unchanged(self.stat)

    @property
    def only_projection_changed(self) -> bool:
        """Whether the file is unchanged since it was captured by an earlier version of its source's projection."""
        known = self.known
        return known is not None and known.checkpoint is not None and known.checkpoint.only_outdated(self.stat)

    def checkpoint(self, offset: int = 0, probe: bytes = b"", **changes: int) -> Checkpoint:
        """Return the checkpoint after `offset` bytes; `changes` replace fields of it."""
        made = Checkpoint(
            dev=self.stat.st_dev,
            ino=self.stat.st_ino,
            size=self.stat.st_size,
            mtime_ns=self.stat.st_mtime_ns,
            ctime_ns=self.stat.st_ctime_ns,
            offset=offset,
            probe=probe,
        )
        return msgspec.structs.replace(made, **changes) if changes else made

    def save(self, stream: int | None, checkpoint: Checkpoint | None, trouble: str | None = None) -> None:
        """Move the checkpoint of the unit. Runs inside a transaction, after all of its streams were stored (rule 1).

        A kill before that reads all of them again.
        """
        tool = self.location.source.tool
        self.context.spool.catalog.save_file(
            FileState(path=self.location.path, tool=tool, stream=stream, checkpoint=checkpoint, trouble=trouble)
        )
