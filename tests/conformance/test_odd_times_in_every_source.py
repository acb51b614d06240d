"""Times that no clock has, times of another type, and ids in upper case: no source loses a message to them."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from functools import cache
from typing import NamedTuple

from conformance import engine
from conformance.engine import NOW_MS
from sessiond.ingest import Index
from sessiond.ingest.pipeline import decode
from sessiond.session import Fold, session_id
from sessiond.sources.base import Source, Unit
from sessiond.sources.records import UUID
from sessiond.transcript.items import read_items
from support.each_tool import each_tool
from support.sample_tree import NAMES, built

TEXT = re.compile(rb'"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[\d.:+Z-]*)"')
NUMBER = re.compile(rb"(?<=[:\[,])( ?)(1[678]\d{8}(?:\d{3})?)((?:\.\d+)?)(?=[,}\]])")
Match = re.Match[bytes]


def in_the_future(content: bytes) -> bytes:
    """Set every clock ahead by more than a century."""
    content = TEXT.sub(lambda found: b'"21' + found[1][2:] + b'"', content)
    return NUMBER.sub(lambda found: found[1] + b"6" + found[2][1:] + found[3], content)


def in_the_past(content: bytes) -> bytes:
    """Set every clock to the first weeks of 1970, and texts to the year 1."""
    content = TEXT.sub(lambda found: b'"0001' + found[1][4:] + b'"', content)
    return NUMBER.sub(lambda found: found[1] + b"1" + found[2][-7:] + found[3], content)


def as_nonsense(content: bytes) -> bytes:
    """Replace times by texts that are none, and by negative numbers."""
    content = TEXT.sub(lambda found: b'"about ' + found[1] + b'"', content)
    return NUMBER.sub(lambda found: found[1] + b"-" + found[2] + found[3], content)


def as_the_other_type(content: bytes) -> bytes:
    """Replace texts by numbers of milliseconds, and numbers by texts."""

    def number(found: Match) -> bytes:
        return b"%d" % (datetime.fromisoformat(found[1].decode()).timestamp() * 1000)

    numbers = NUMBER.sub(lambda found: found[1] + b'"%b"' % (found[2] + found[3]), content)
    return TEXT.sub(number, numbers)


class Stream(NamedTuple):
    """A stream of a sample, in memory."""

    source: Source
    native_id: str | None
    name: str
    content: bytes


@cache
def streams_of(name: str) -> list[Stream]:
    """Return the streams of a sample that have records."""
    found = []
    for location in engine.locations(built(name)):
        with engine.streams(location) as streams:
            found += [Stream(location.source, each.native_id, each.name, engine.content(each)) for each in streams]
    return found


def understood(stream: Stream, content: bytes) -> tuple[int, int, int, list[str], str | None, int]:
    """Return what must not depend on times: messages, damage, models, directory, and what is shown."""
    fold = Fold()
    decode(stream.source, content, fold, NOW_MS)
    shown = sum(1 for _ in read_items(stream.source, content.removesuffix(b"\n").split(b"\n")))
    return len(fold.messages), fold.damaged, len(fold.unknown), fold.models, fold.cwd, shown


@each_tool(NAMES)
def test_a_message_counts_whatever_its_time_is(name: str) -> None:
    for stream in streams_of(name):
        usual = understood(stream, stream.content)
        for change in (in_the_future, in_the_past, as_nonsense, as_the_other_type):
            assert understood(stream, change(stream.content)) == usual, (stream.name, change.__name__)


UUIDS = re.compile(rf"(?<![0-9a-fA-F-]){UUID}(?![0-9a-fA-F-])")


@each_tool(NAMES)
def test_an_id_in_upper_case_is_the_same_id(name: str) -> None:
    """A tool keeps the case in which its user wrote an id. In the spool, a session's id has no case."""
    tree = built(name)
    index = Index(engine.roots(tree))
    for location in [*engine.locations(tree), *engine.side_files(tree)]:
        upper = UUIDS.sub(lambda found: found[0].upper(), location.path.removeprefix(tree))
        found = {each.source.tool: each.unit for each in index(tree + upper)}.get(location.source.tool)
        assert found is not None, upper
        assert (found.kind, found.thread) == (location.unit.kind, location.unit.thread)
        assert identities(location.source, found) == identities(location.source, location.unit), upper


def identities(source: Source, unit: Unit) -> list[uuid.UUID]:
    """Return the sessions that a unit's path names."""
    return [session_id(source.tool, name) for name in (unit.native_id, unit.parent) if name]
