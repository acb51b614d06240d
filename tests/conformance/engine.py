"""Reads samples with the engine's own units, decoders, spool and records."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import msgspec

from sessiond import zstd
from sessiond.cli.conversation import LocalReader
from sessiond.config import Config
from sessiond.ingest import Index, IngestContext, Location, ingest
from sessiond.ingest.context import ReadContext
from sessiond.ingest.pins import Pins
from sessiond.ingest.pipeline import decode
from sessiond.ingest.unit_facts import first_native_id
from sessiond.ingest.units import StreamSource, open_unit
from sessiond.reader import Digest
from sessiond.session import Fold, Session, session_id
from sessiond.sources import find_sources
from sessiond.sources.base import Kind, Memory, Root, Source, UserDirs
from sessiond.sources.damaged import decode_all
from sessiond.sources.links import Link, linked_root
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState
from sessiond.watch.scan import ScanStats, scan
from support.empty_spool import put_spool
from support.sample_tree import is_shared

NOW_MS = 1_800_000_000_000


class Found(msgspec.Struct):
    """A session with its streams and side files."""

    session: Session
    streams: list[str]
    parent: str | None
    title: str | None
    unknown: list[str]
    """Record types that the source does not know."""
    damaged: int
    side_files: dict[str, str | None]
    """The media type of each side file, by the name of its stream."""


class Units(msgspec.Struct):
    """The roots of a tree, those of links among them, and the units below them, each once."""

    roots: list[tuple[Source, Root]]
    locations: list[Location]
    side_files: list[Location]


def roots(tree: str) -> list[tuple[Source, Root]]:
    """Return the roots of all sources in a tree that is used as a home directory on Linux."""
    dirs = UserDirs(home=tree, environ={}, platform="linux")
    return [(source, root) for source in find_sources() for root in source.roots(dirs)]


def units(tree: str) -> Units:
    """Return the units in a tree. In the tree of a sample that tests only read they are looked for once."""
    return _units_once(tree) if is_shared(tree) else _find_units(tree)


def locations(tree: str) -> list[Location]:
    """Return the units with records in a tree, each once."""
    return units(tree).locations


def side_files(tree: str) -> list[Location]:
    """Return the side files in a tree, each once."""
    return units(tree).side_files


def _find_units(tree: str) -> Units:
    known = roots(tree)
    found = Units(known, [], [])
    paths, seen = sorted(set(_scan(known, tree)), key=os.path.split), set[tuple[str, str]]()
    index = Index(known)
    for path in paths:
        for location in index(path):
            key = type(location.source).__name__, location.path
            if key not in seen:
                seen.add(key)
                (found.side_files if location.unit.kind is Kind.FILE else found.locations).append(location)
    return found


_units_once = cache(_find_units)


def _scan(known: list[tuple[Source, Root]], tree: str) -> Iterator[str]:
    """Iterate over the files below roots, and below those that links lead to, which are added."""
    present = set(os.listdir(tree))
    for source, root in known:
        if root.path.startswith(f"{tree}/") and root.path[len(tree) + 1 :].partition("/")[0] not in present:
            continue  # of the hundreds of roots few exist, and asking the system for each takes long
        stats = ScanStats()
        for path, _ in scan(root, stats=stats):
            yield path
        for path in stats.links:
            target = linked_root(Link(source, root, path), known, f"{tree}/../state")
            known += [(source, target)] if target is not None else []


@contextmanager
def streams(location: Location) -> Iterator[list[StreamSource]]:
    """Open the streams of a unit."""
    with tempfile.TemporaryDirectory() as scratch:
        context = ReadContext(digest=Digest(0), now_ms=NOW_MS, scratch=scratch)
        with open_unit(location, context) as unit:
            yield list(unit.streams())


def content(stream: StreamSource) -> bytes:
    """Return the bytes of a stream."""
    return b"".join(chunk.data for chunk in stream.content.chunks(0))


def fold_lines(source: Source, fold: Fold, data: bytes) -> bytes:
    """Fold the whole lines of `data`; return the rest of it."""
    end = data.rfind(b"\n") + 1
    decode(source, data[:end], fold, NOW_MS)
    return data[end:]


def capture(tree: str) -> dict[uuid.UUID, Found]:
    """Capture every session of every tool in a tree, once if tests only read it."""
    return _capture_once(tree) if is_shared(tree) else _capture(tree)


def _capture(tree: str) -> dict[uuid.UUID, Found]:
    found = units(tree)
    with opened(found.roots) as context:
        unknown: dict[uuid.UUID, set[str]] = {}
        for location in found.locations:
            ingest(context, location)
            for identity, names in _unknown(context, location):
                unknown.setdefault(identity, set()).update(names)
        for location in found.side_files:
            ingest(context, location)
        return dict(_found(context.spool, tree, unknown))


_capture_once = cache(_capture)


class CapturedReader(LocalReader):
    """A captured session whose bytes come from the outbox: folders are not read from the tool's files."""

    def __init__(self, spool: Spool, config: Config, tree: str, session: SessionState) -> None:
        super().__init__(spool, config, {"HOME": tree}, None, session)
        self._segments = spool.connection

    def content(self, name: str, start: int = 0) -> Iterator[bytes]:
        rows = self._segments.execute(
            "SELECT data FROM segment JOIN stream ON stream.id = segment.stream JOIN session ON session.id = session"
            " WHERE uuid = ? AND name = ? AND data IS NOT NULL ORDER BY segment.generation, offset",
            (str(self.record.id), name),
        )
        for (data,) in rows:
            part = b"".join(zstd.decompress_stream((data,), 1 << 30))
            yield part[start:]
            start = max(0, start - len(part))


@contextmanager
def readers(tree: str) -> Iterator[list[CapturedReader]]:
    """Capture a tree, and open what `show` reads each of its sessions with, oldest first. Nothing is masked."""
    found = units(tree)
    with opened(found.roots) as context:
        for location in [*found.locations, *found.side_files]:
            ingest(context, location)
        config = Config(state_dir=os.path.dirname(context.pins.directory))
        sessions = sorted(context.spool.catalog.sessions(), key=lambda each: (each.record.started_at, each.uuid))
        yield [CapturedReader(context.spool, config, tree, session) for session in sessions]


@contextmanager
def opened(known: list[tuple[Source, Root]]) -> Iterator[IngestContext]:
    """Open a spool in a new state directory to capture what is below these roots."""
    with tempfile.TemporaryDirectory() as state:
        put_spool(state)
        spool = Spool(state)
        try:
            yield IngestContext(
                spool=spool,
                roots=known,
                machine_id="testbox",
                digest=Digest(0),
                pins=Pins(os.path.join(state, "pins")),
                budget=1 << 30,
                idle_after_ms=1_800_000,
                now_ms=lambda: NOW_MS,
            )
        finally:
            spool.close()


def _unknown(context: IngestContext, location: Location) -> Iterator[tuple[uuid.UUID, set[str]]]:
    """Iterate over the record types of each session that its source does not know, also those without a message."""
    source = location.source
    if location.unit.media_type is not None:
        return  # a side file has no records
    with streams(location) as found:
        for stream in found:
            memory: Memory = {}
            native_id = stream.native_id or first_native_id(source, stream.content) or ""
            entries = [entry for record in stream.records() for entry in decode_all(source.decode, record, memory)]
            names = {name for entry in entries if (name := entry.unknown)}
            yield session_id(source.tool, native_id, context.scope(source)), names


def _found(spool: Spool, tree: str, unknown: dict[uuid.UUID, set[str]]) -> Iterator[tuple[uuid.UUID, Found]]:
    for state in spool.catalog.sessions():
        if state.record is None:
            continue
        kept = spool.catalog.streams(state.id)
        directory = state.record.working_directory.replace(tree, "~")
        yield (
            state.uuid,
            Found(
                session=msgspec.structs.replace(state.record, working_directory=directory),
                streams=sorted(stream.name for stream in kept),
                parent=state.parent and str(state.parent),
                title=state.title,
                unknown=sorted(unknown.get(state.uuid, ())),
                damaged=sum(stream.fold.damaged for stream in kept),
                side_files={stream.name: stream.media_type for stream in spool.catalog.side_streams(state.id)},
            ),
        )
