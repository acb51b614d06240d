"""What ingest works with, where a path lies, and what comes of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

import msgspec

from sessiond.ingest.compressed import CompressedFiles
from sessiond.ingest.endings import Endings
from sessiond.ingest.pins import Pins
from sessiond.privacy import Exclusion, Masking
from sessiond.reader import Checkpoint, Digest
from sessiond.session import Rules
from sessiond.sources.base import Root, Source, Unit
from sessiond.spool import Spool
from sessiond.spool.rows import FileState


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where a path lies: below which root of which source, and what the source makes of it."""

    source: Source
    root: str
    relative: str
    unit: Unit
    cwd: str = ""

    @property
    def below(self) -> str:
        """What is read, below the root: the unit's own path, which may be the database of a changed -wal."""
        return self.unit.path or self.relative

    @property
    def path(self) -> str:
        """The same as a whole path."""
        # os.path.join() would say the same and take ten times as long; a look asks for each file several times.
        return f"{self.root}{'' if self.root.endswith('/') else '/'}{self.below}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a path. `retry`: it was met in a rewrite, come back soon; `trouble`: why it can't be read."""

    read: int = 0
    changed: bool = False
    retry: bool = False
    trouble: str | None = None
    damaged: int = 0
    left_out: bool = False
    """It is older than what is filled in; see `backfill`."""
    more: bool = False
    """It was read in part, a slice of it: come back when the others had their turn."""
    searched: int = 0
    """Bytes that were read in search of a record's end, and not captured."""
    cost: int = 0
    """Bytes that had to be read whatever had changed: of a document, a folder, a packed file."""


class IngestContext(msgspec.Struct, kw_only=True):
    """What ingest works with."""

    spool: Spool
    roots: Sequence[tuple[Source, Root]]
    machine_id: str
    dormant: Sequence[tuple[Source, Root]] = ()
    """Roots of sources that are switched off: what was captured there is read again for a new endpoint, nothing new."""
    digest: Digest
    pins: Pins
    budget: int
    idle_after_ms: int
    now_ms: Callable[[], int]
    masking: Masking = msgspec.field(default_factory=Masking)
    exclusion: Exclusion = msgspec.field(default_factory=Exclusion)
    compressed: CompressedFiles = msgspec.field(default_factory=CompressedFiles)
    endings: Endings = msgspec.field(default_factory=Endings)
    records_only: frozenset[str] = frozenset()
    """Tools of which no transcript is kept."""
    live: frozenset[tuple[str, str]] = frozenset()
    """(tool, native id) of sessions whose process runs."""
    oldest_ms: int | None = None
    """What was changed last before then, and is not captured yet, is left out; None: nothing is."""
    here_ms: int | None = None
    """What has come since then is not left out, however old it is."""
    settle_ms: int = 1000
    """A file that lost bytes is left alone until it was quiet for so long: it may be half a rewrite."""
    slice: int | None = None
    """Bytes of a file of lines that one look reads, about; then others have their turn. None: all there are."""

    @property
    def budget_of_lines(self) -> int:
        """Bytes of the outbox for files of lines: they can wait under a hard link, what else there is can't."""
        return self.budget // 4 * 3

    def rules(self) -> Rules:
        """What a record needs beside its folds."""
        return Rules(machine_id=self.machine_id, now_ms=self.now_ms(), idle_after_ms=self.idle_after_ms)

    def scope(self, source: Source) -> str:
        """The scope of the tool's native ids."""
        return self.machine_id if source.local_ids else ""


class FileSnapshot(msgspec.Struct, kw_only=True):
    """One look at a location: what was known of it before, and how it looks now."""

    context: IngestContext
    location: Location
    known: FileState | None
    now: os.stat_result

    @property
    def unchanged(self) -> bool:
        """Tell, without reading, that nothing happened."""
        known = self.known
        return known is not None and known.checkpoint is not None and known.checkpoint.unchanged(self.now)

    def checkpoint(self, offset: int = 0, probe: bytes = b"", **changes: int) -> Checkpoint:
        """Make the checkpoint of what was read; `changes` replace parts of it."""
        made = Checkpoint(
            dev=self.now.st_dev,
            ino=self.now.st_ino,
            size=self.now.st_size,
            mtime_ns=self.now.st_mtime_ns,
            ctime_ns=self.now.st_ctime_ns,
            offset=offset,
            probe=probe,
        )
        return msgspec.structs.replace(made, **changes) if changes else made

    def save(
        self, stream: int | None, checkpoint: Checkpoint | None, pin: str | None = None, trouble: str | None = None
    ) -> None:
        """Move the checkpoint; runs inside the transaction that stores what was read (rule 1)."""
        self.context.spool.catalog.save_file(
            FileState(
                path=self.location.path,
                tool=self.location.source.tool,
                stream=stream,
                checkpoint=checkpoint,
                pin=pin,
                trouble=trouble,
            )
        )


_STRANGE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|^$|(?:^|/)\.{0,2}(?:/|$)")
_ROOM = 180
"""Characters of a stream's name: a mark behind it must fit too (wire.MAX_NAME)."""


def as_text(name: str) -> str:
    """Spell a name that may have bytes which are no UTF-8 as text; any other one stays as it is."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def stream_name(name: str) -> str:
    """Name a stream so that the endpoint takes it: of an odd or long name its plain part and a digest."""
    if len(name) <= _ROOM and not _STRANGE.search(name):
        return name
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:100] + "~" + digest


def _tame(unit: Unit) -> Unit:
    """Spell what a unit takes from a file's name as text that can be stored and sent."""
    native_id = None if unit.native_id is None else as_text(unit.native_id)
    parent = None if unit.parent is None else as_text(unit.parent)
    names = native_id, parent, stream_name(unit.stream)
    if names == (unit.native_id, unit.parent, unit.stream):
        return unit
    return msgspec.structs.replace(unit, native_id=names[0], parent=names[1], stream=names[2])


def inner_path(path: str, native_id: str, stream: str = "main") -> str:
    """Name what a container holds: `<file>::<native id>` a session, with `::<stream>` what is not its main stream.

    The native id is empty where the file has one session only.
    """
    return f"{path}::{native_id}::{'' if stream == 'main' else stream}".rstrip(":")


def outer_path(path: str) -> tuple[str, str]:
    """Split what `inner_path` made into the file and the native id."""
    if os.path.lexists(path):
        return path, ""  # the sign may stand in a name of the tool's
    file, native_id, *_ = f"{path}::".split("::")
    return file, native_id


class Index:
    """Whose path it is, found by the directories above it: roots are many, and a path is below few of them."""

    def __init__(self, roots: Sequence[tuple[Source, Root]]) -> None:
        """`roots` may grow later."""
        self._all_roots = roots
        self._known = 0
        self._below: dict[str, list[int]] = {}
        self._last: tuple[str, list[tuple[Source, Root, int]]] = "", []
        """The directory that was asked for last, and what lies there: files come by directories."""

    def __call__(self, path: str) -> list[Location]:
        """Name the roots of a path in the order of their roots: sources may share one, and most paths are none's."""
        return [
            Location(source=source, root=root.path, relative=relative, unit=_tame(unit), cwd=root.cwd)
            for source, root, relative, unit in self.units(path)
        ]

    def units(self, path: str) -> Iterator[tuple[Source, Root, str, Unit]]:
        """Name the units of a path as their sources spell them, each with its root and the path below that."""
        directory, last = path[: path.rfind("/") + 1], self._last
        if directory != last[0] or self._known != len(self._all_roots):
            last = self._last = directory, self._roots_above(directory)
        for source, root, length in last[1]:
            relative = path[length:]
            unit = source.unit(relative)
            if unit is not None:
                yield source, root, relative, unit

    def _roots_above(self, directory: str) -> list[tuple[Source, Root, int]]:
        """List the roots that a directory lies in or is, each with the length of its name and a slash."""
        for number in range(self._known, len(self._all_roots)):
            self._below.setdefault(self._all_roots[number][1].path.rstrip("/"), []).append(number)
        self._known = len(self._all_roots)
        numbers, cut = list[int](), directory.rfind("/")
        while cut >= 0:
            numbers += self._below.get(directory[:cut], ())
            cut = directory.rfind("/", 0, cut)
        found = (self._all_roots[number] for number in sorted(numbers))
        return [(source, root, len(root.path.rstrip("/")) + 1) for source, root in found]


def locate(roots: Sequence[tuple[Source, Root]], path: str) -> list[Location]:
    """Find once whose path it is; see Index."""
    return Index(roots)(path)
