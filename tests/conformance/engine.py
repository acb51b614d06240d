"""The smallest engine that can fold a tree of samples: roots, units, decode, fold, summarize.

The one seam is `capture`: what runs here with a dictionary in memory, the daemon does with its spool.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sessiond.database import open_database
from sessiond.session import Entry, Fold, Folds, Rules, Session, is_positional, session_id, summarize
from sessiond.sources import find_sources
from sessiond.sources.base import DatabaseSource, DocumentSource, Kind, Projection, Source, Unit, UserDirs

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOW_MS = 1_800_000_000_000
RULES = Rules(machine_id="testbox", now_ms=NOW_MS, idle_after_ms=1_800_000)


class Found(msgspec.Struct):
    """A session, and what goes beside its record."""

    session: Session
    streams: list[str]
    parent: str | None
    title: str | None
    unknown: list[str]
    """Record types that the source does not know."""
    damaged: int


class Stream(msgspec.Struct):
    """One stream of a session, as far as it is folded."""

    native_id: str
    name: str
    thread: bool
    fold: Fold
    path: str = ""


def places(tree: str) -> UserDirs:
    """Stand in for a home directory on Linux."""
    return UserDirs(home=tree, environ={}, platform="linux")


def files(source: Source, tree: str) -> Iterator[tuple[str, Unit, str]]:
    """Walk the source's roots in a tree: (path, unit, root), each unit once."""
    seen: set[str] = set()
    for root in source.roots(places(tree)):
        for folder, _, names in sorted(os.walk(root.path)):
            for name in sorted(names):
                path = os.path.join(folder, name)
                unit = source.unit(os.path.relpath(path, root.path))
                if unit is not None and unit.path and os.path.join(root.path, unit.path) != path:
                    path = os.path.join(root.path, unit.path)
                    unit = None if path in seen else source.unit(unit.path)
                if unit is not None:
                    seen.add(path)
                    yield path, unit, root.path


def fold_lines(source: Source, fold: Fold, content: bytes) -> tuple[str | None, bytes]:
    """Fold whole lines in; return the native id that they name, and the rest of the content."""
    lines = content.split(b"\n")
    named = None
    for line in lines[:-1]:
        try:
            entry = source.decode(line, fold.memory)
        except ValueError:
            fold.damaged += 1
            continue
        fold.add([entry], NOW_MS)
        named = named or (entry.native_id if entry else None)
    return named, lines[-1]


def unpacked(path: str, unit: Unit) -> bytes:
    """Read a unit's file."""
    with open(path, "rb") as file:
        return zstd.decompress(file.read()) if unit.packed else file.read()


def begun(source: Source, unit: Unit, root: str) -> Fold:
    """Begin a fold with what the unit's path says, and what stands beside it."""
    fold, beside = Fold(parent=unit.parent), {}
    for name in unit.beside:
        if os.path.isfile(os.path.join(root, name)):
            with open(os.path.join(root, name), "rb") as file:
                beside[name] = file.read()
    if beside:
        fold.add([source.context(beside, unit)], NOW_MS)
    return fold


def read(source: Source, path: str, unit: Unit, root: str) -> list[Stream]:
    """Read one unit as a whole."""
    if unit.kind is Kind.LINES:
        fold = begun(source, unit, root)
        named, _ = fold_lines(source, fold, unpacked(path, unit))
        if unit.native_id and unit.thread:
            fold.mark_as_copy_of(unit.native_id)
        return [Stream(unit.native_id or named or "", unit.stream, unit.thread, timed(fold, path, unit.timeless), path)]
    streams = []
    for projection in projections(source, path, unit, root):
        fold = begun(source, unit, root)
        fold.parent = fold.parent or projection.parent
        records = [record + b"\n" for record in projection.records]
        assert not any(b"\n" in record[:-1] for record in records)
        fold_lines(source, fold, b"".join(records))
        if projection.metadata is not None:
            fold.apply_metadata(projection.metadata, NOW_MS)
        timeless = unit.timeless or projection.timeless
        if records:
            streams.append(
                Stream(projection.native_id, projection.stream, projection.thread, timed(fold, path, timeless), path)
            )
    return streams


def projections(source: Source, path: str, unit: Unit, root: str) -> Iterator[Projection]:
    """Project a document, a folder or a database."""
    if unit.kind is Kind.DATABASE:
        database = open_database(path)
        stored: DatabaseSource = source  # type: ignore[assignment]
        for native_id, _ in list(stored.sessions(database)):
            yield from stored.projections(database, native_id)
        database.close()
        return
    names = [os.path.relpath(path, root)]
    if unit.kind is Kind.FOLDER:
        names = [str(found.relative_to(path)) for found in sorted(Path(path).rglob("*")) if found.is_file()]
    content = {name: (Path(path) / name if unit.kind is Kind.FOLDER else Path(path)).read_bytes() for name in names}
    document: DocumentSource = source  # type: ignore[assignment]
    while folders := [Path(root, name) for name in document.more_directories(content, unit)]:
        before = len(content)
        content |= {
            str(f.relative_to(root)): f.read_bytes() for d in folders if d.is_dir() for f in sorted(d.iterdir())
        }
        if len(content) == before:
            break
    yield from document.project(content, unit)


def timed(fold: Fold, path: str, timeless: bool) -> Fold:
    """Use the file's times in place of those of its records."""
    if timeless:
        fold.add([Entry(time_ms=os.stat(path).st_mtime_ns // 1_000_000)], NOW_MS)
    return fold


def sessions(source: Source, streams: list[Stream]) -> dict[uuid.UUID, Found]:
    """Make the records out of all streams of a tool."""
    tool, scope = source.tool, RULES.machine_id if source.local_ids else ""
    by_id: dict[str, list[Stream]] = {}
    for stream in streams:
        by_id.setdefault(stream.native_id, []).append(stream)
    main = {native: [s.fold for s in group if s.thread] for native, group in by_id.items()}
    found: dict[uuid.UUID, Found] = {}
    for native, group in by_id.items():
        parent = next((fold.parent for fold in main[native] if fold.parent and fold.parent != native), None)
        older = [] if source.own_keys else elders_of(native, parent, main)
        ancestors = [fold.messages for other in older for fold in main[other] if not is_positional(fold.messages)]
        others = [s.fold for s in group if not s.thread]
        identity = session_id(tool, native, scope)
        parent = parent or min(older, key=lambda other: age(other, main[other]), default=None)
        folds = Folds(threads=main[native], others=others, ancestors=ancestors)
        session = summarize(identity, tool, folds, rules=RULES, source_path=None)
        if session is not None:
            found[identity] = Found(
                session=session,
                streams=sorted({s.name for s in group}),
                parent=parent and str(session_id(tool, parent, scope)),
                title=next((fold.title for fold in reversed(main[native]) if fold.title), None),
                unknown=sorted({name for s in group for name in s.fold.unknown}),
                damaged=sum(s.fold.damaged for s in group),
            )
    return found


def elders_of(native: str, parent: str | None, main: dict[str, list[Fold]]) -> list[str]:
    """Return the sessions whose history this one may have copied: its parent, and older ones with the same opening."""
    openings = {fold.first_answer_key for fold in main[native] if fold.first_answer_key is not None}
    return [
        other
        for other, folds in main.items()
        if other == parent
        or (any(fold.first_answer_key in openings for fold in folds) and age(other, folds) < age(native, main[native]))
    ]


def age(native: str, folds: list[Fold]) -> tuple[int, bool, str]:
    """Order sessions that share an opening: the one that began first is the original, then the one not copied."""
    started = min((fold.started_ms for fold in folds if fold.started_ms is not None), default=1 << 62)
    return started, any(fold.copied for fold in folds), native


def capture(tree: str) -> dict[uuid.UUID, Found]:
    """Fold every session of every tool in a tree."""
    found: dict[uuid.UUID, Found] = {}
    for source in find_sources():
        cwds = {root.path: root.cwd or None for root in source.roots(places(tree))}
        streams = []
        for path, unit, root in files(source, tree):
            for stream in read(source, path, unit, root):
                stream.fold.cwd = stream.fold.cwd or cwds[root]
                streams.append(stream)
        found.update(sessions(source, streams))
    for item in found.values():
        directory = item.session.working_directory.replace(tree, "~")
        item.session = msgspec.structs.replace(item.session, working_directory=directory)
    return found
