"""Checks that the bytes of all files in a tool's session directories are in a stream or named in `gaps`.

Files elsewhere in the home are checked, too, if the model's answers are in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import msgspec

from lab.answers import answers, has_answer, lost_answers
from sessiond import zstd
from sessiond.ingest import Location
from sessiond.ingest.files import with_more_directories
from sessiond.sources.base import DocumentSource, Kind, Root, Source, Unit
from sessiond.sources.damaged import to_utf8
from sessiond.sources.side_files import PASSING

FILE_NAME = re.compile(r"[\w.*~/-]*[./*][\w.*~/-]*")
"""A word in a gap that may name a file or (with a slash at its end) a directory."""
LEAST_LETTERS = 3
"""How many letters a name in a gap needs. A version ("2.0.49") or "*" is no name."""
MASK = ord("*")
LOG = "-wal"
SHARED_MEMORY = "-shm"
"""How the names of SQLite's indexes of a -wal file end. They hold nothing of the database."""
ZSTD_LIMIT = 1 << 30
MASKED_SHARE = 0.5
"""How much of a file may be masked. A stream of nothing but asterisks is the copy of no file."""


class _Kept:
    """What was captured."""

    def __init__(
        self, streams: Collection[bytes], read: Collection[str], sessions: Collection[str], titles: Collection[str]
    ) -> None:
        self.read, self.sessions = frozenset(read), frozenset(sessions)
        self.by_length: dict[int, list[bytes]] = {}
        for content in streams:
            self.by_length.setdefault(len(content), []).append(content)
        self.lines = frozenset(line for content in streams for line in content.split(b"\n"))
        self.answers = frozenset(titles).union(*map(answers, streams))


class Check(msgspec.Struct, frozen=True):
    """What became of the files, as paths relative to the home."""

    captured: tuple[str, ...]
    """A stream has their bytes, or they were read for a projection."""
    named: tuple[str, ...]
    """A gap names them."""
    missing: tuple[str, ...]
    """Neither: bytes of a session that would be lost."""


def check_files(
    home: str,
    places: Sequence[tuple[Source, Root]],
    streams: Collection[bytes],
    read: Collection[str],
    sessions: Collection[str] = (),
    titles: Collection[str] = (),
) -> Check:
    """Check each file below the roots of a tool.

    `streams` has the contents of all streams at the endpoint, `read` the paths of the units that were captured and of
    the files that these are read with (see `files_beside`). A projection has other bytes than its file, so a document,
    folder or database only has to be among these. `sessions` has the ids of the captured sessions: a line of a history
    of prompts may be left out if its session is one of them.
    """
    kept = _Kept(streams, read, sessions, titles)
    fates: dict[str, set[str]] = {}
    gaps = dict.fromkeys(gap for source, _ in places for gap in source.gaps)
    for source, root in places:
        for path, relative in _files(root):
            unit = source.unit(relative)
            if _is_captured(path, root, unit, kept):
                fate = "captured"
            elif unit is None or (unit.kind is Kind.HISTORY and not _lines_lost(path, source, unit, kept)):
                fate = "named" if is_named(relative, source.gaps) else "missing"
            else:
                fate = "missing"
            fates.setdefault(os.path.relpath(path, home), set()).add(fate)
    for path in _with_answers(home):
        relative = os.path.relpath(path, home)
        if relative not in fates:
            fates[relative] = {"captured" if path in kept.read else "named" if is_named(relative, gaps) else "missing"}
    kinds = ("captured", "named", "missing")
    first = {path: next(kind for kind in kinds if kind in found) for path, found in fates.items()}
    return Check(*(tuple(sorted(path for path, kind in first.items() if kind == wanted)) for wanted in kinds))


def files_beside(location: Location, now_ms: int) -> Iterator[str]:
    """Iterate over the files that a unit is read with: those beside it, and those of a document in many files."""
    names: set[str] = set(location.unit.beside)
    if location.unit.kind is Kind.DOCUMENT:
        content = {location.name: to_utf8(Path(location.path).read_bytes())}
        with suppress(ValueError):  # a damaged document
            names |= with_more_directories(location, now_ms, cast(DocumentSource, location.source), content).keys()
    yield from (os.path.join(*location.resolve(name)) for name in names)


def is_named(relative: str, gaps: Iterable[str]) -> bool:
    """Return whether a gap names a file, one of its directories ("memory/"), or a pattern for its name ("*.html")."""
    folders, _, name = relative.rpartition("/")
    for word in FILE_NAME.findall(" ".join(gaps)):
        if sum(map(str.isalpha, word)) < LEAST_LETTERS:
            continue
        if word.endswith("/"):
            if f"/{word}" in f"/{folders}/":
                return True
        elif fnmatchcase(name, word.rstrip(".")) or fnmatchcase(f"/{relative}", f"*/{word.rstrip('.')}"):
            return True
    return False


def is_same(content: bytes, stream: bytes) -> bool:
    """Return whether a stream has the bytes of a file. Secrets are replaced by as many asterisks."""
    if len(content) != len(stream):
        return False
    if content == stream:
        return True
    masked = 0
    for theirs, ours in zip(content, stream, strict=True):
        if ours != theirs:
            if ours != MASK:
                return False
            masked += 1
    return masked <= len(content) * MASKED_SHARE


def _files(root: Root) -> Iterator[tuple[str, str]]:
    """Iterate over the files below a root, however deep: their paths, and those that the source sees."""
    first = root.only or ""
    for folder, _, names in os.walk(root.path):
        for name in names:
            path = os.path.join(folder, name)
            passing = PASSING.search(name) or name.endswith(SHARED_MEMORY)
            if name.startswith(first) and not passing and os.path.isfile(path) and os.path.getsize(path):
                yield path, root.prefix + os.path.relpath(path, root.path)
        if root.only or root.cwd:
            return  # the root is a directory with further files, which are no session's


def _with_answers(home: str) -> Iterator[str]:
    """Iterate over the files below a home that have an answer of the model: a part of a session."""
    for folder, _, names in os.walk(home):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path) and has_answer(Path(path).read_bytes()):
                yield path


def _is_captured(path: str, root: Root, unit: Unit | None, kept: _Kept) -> bool:
    if unit is None and (root.cwd or path in kept.read):
        return True  # a file of the user's project; one that another is read with
    if unit is not None and not unit.kind.verbatim and unit.kind is not Kind.HISTORY:
        known = path in kept.read or os.path.join(root.path, unit.path.removeprefix(root.prefix)) in kept.read
        return known and not lost_answers(path.removesuffix(LOG), kept.answers)
    content = Path(path).read_bytes()
    if unit is not None and unit.packed:
        content = b"".join(zstd.decompress_stream((content,), ZSTD_LIMIT, b""))
    if unit is not None and unit.kind is not Kind.FILE:
        content, rest = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
        if _is_record(rest):
            return False  # without its end, no record is captured; the tool was not killed while it wrote this one
    if unit is not None and unit.kind is Kind.HISTORY:
        return all(_has_line(line, kept.lines) for line in content.split(b"\n"))
    return not content or any(is_same(content, stream) for stream in kept.by_length.get(len(content), ()))


def _is_record(line: bytes) -> bool:
    """Return whether bytes are a whole record."""
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True


def _has_line(line: bytes, lines: Collection[bytes]) -> bool:
    return line in lines or any(is_same(line, each) for each in lines)


def _lines_lost(path: str, source: Source, unit: Unit, kept: _Kept) -> bool:
    """Return whether a line of a history is in no stream, and its session is not captured either."""
    content = Path(path).read_bytes()
    history: Iterable[bytes] = content.splitlines()
    if unit.projected:  # a document of prompts
        projections = source.project({unit.path: content}, unit)  # type: ignore[attr-defined]
        history = (record for projection in projections for record in projection.records)
    left_out = (line for line in history if not _has_line(line, kept.lines))
    entries = (source.decode(line, {}) for line in left_out)
    return any(entry is None or entry.native_id not in kept.sessions for entry in entries)
