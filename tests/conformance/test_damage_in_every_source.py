"""Damage that tools survive: no source loses a message, a title or a model to it.

Each change is made to all samples, so a fault that was found in the files of one tool is looked for in those of every
other one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from conformance import engine
from conformance.engine import NOW_MS
from sessiond.ingest.content import Records
from sessiond.ingest.history_document import DocumentLines
from sessiond.ingest.pipeline import decode
from sessiond.ingest.prompt_lines import read_prompts
from sessiond.ingest.unit_facts import first_native_id, read_context
from sessiond.line_ends import split_lines
from sessiond.reader import Digest
from sessiond.session import Fold
from sessiond.sources import find_sources
from sessiond.sources.base import Kind, Source
from sessiond.transcript.items import read_items
from support.each_tool import each_tool
from support.sample_tree import NAMES, SAMPLES, WRITTEN_NS, build, built

Change = Callable[[bytes], bytes]


def with_mark(content: bytes) -> bytes:
    """Write a file as editors on Windows do."""
    return b"\xef\xbb\xbf" + content


def in_utf_16(content: bytes) -> bytes:
    """Write a file as redirected output of PowerShell is."""
    return content.decode("utf-8", "surrogatepass").encode("utf-16")


def in_utf_16_big_endian(content: bytes) -> bytes:
    """Write a file in the other order of bytes."""
    return b"\xfe\xff" + content.decode("utf-8", "surrogatepass").encode("utf-16-be")


def in_pairs(content: bytes) -> bytes:
    """Remove every second newline, as a crash before it does."""
    lines = content.splitlines()
    return b"".join(b"".join(lines[at : at + 2]) + b"\n" for at in range(0, len(lines), 2))


def on_one_line(content: bytes) -> bytes:
    """Remove all newlines but the last."""
    return b"".join(content.splitlines()) + b"\n"


def between_nul(content: bytes) -> bytes:
    """Write NUL bytes before and after each record, as a power cut does."""
    return b"".join(b"\0" * 40 + line + b"\0" * 9 + b"\n" for line in content.splitlines())


def after_truncated_copies(content: bytes) -> bytes:
    """Write the first half of each record before it, as a crash and a repeated write do."""
    return b"".join(line[: max(2, len(line) // 2)] + line + b"\n" for line in content.splitlines())


COMPLETE = (with_mark, in_utf_16, in_utf_16_big_endian, in_pairs, on_one_line, between_nul)
"""Changes that cost nothing."""


class LineFile(NamedTuple):
    """A file of JSON lines in a sample."""

    source: Source
    path: str

    @property
    def content(self) -> bytes:
        return Path(self.path).read_bytes()


@cache
def line_files(name: str, *kinds: Kind) -> list[LineFile]:
    """Return the files of a sample that are JSON lines, uncompressed."""
    found = [each for each in engine.locations(built(name)) if each.unit.kind in kinds]
    return [LineFile(each.source, each.path) for each in found if not (each.unit.packed or each.unit.projected)]


PROJECTED = ("copilot-chat/", "mistral-vibe/")
"""Samples whose `.jsonl` are parts of a document or of a folder."""
# Told by the names of files: to build all samples takes each process of a run a second.
WITH_LINES = [name for name in NAMES if any((SAMPLES / name).rglob("*.jsonl")) and not name.startswith(PROJECTED)]
WITH_HISTORIES = [name for name in NAMES if any((SAMPLES / name).rglob("*history.jsonl"))]


def facts(source: Source, content: bytes) -> dict[str, Any]:
    """Return what is known of a session from its lines: the facts of its record, its side files and what `show` has."""
    fold, mentions = Fold(), set[str]()
    decode(source, content, fold, NOW_MS, mentions)
    records = list(split_lines(content.removesuffix(b"\n")))
    shown = [each.item for each in read_items(source, records)]
    return {
        "messages": list(fold.messages),
        "models": fold.models,
        "record": (fold.started_ms, fold.last_ms, fold.version, fold.cwd, fold.branch, fold.parent, fold.ended),
        "title": (fold.title, fold.prompt),
        "native id": first_native_id(source, Records(records, Digest(0))),
        "side files": mentions,
        "unknown": fold.unknown,
        "damaged": fold.damaged,
        "shown": shown,
    }


@each_tool(WITH_LINES)
def test_lines_are_understood_whatever_surrounds_the_records(name: str) -> None:
    for file in line_files(name, Kind.LINES):
        content = file.content
        usual = facts(file.source, content)
        for change in COMPLETE:
            assert facts(file.source, change(content)) == usual, (file.path, change.__name__)


def with_letters(content: bytes) -> bytes:
    """Add letters of several scripts, whose two bytes in UTF-16 are both in use, to each text that has a space.

    Some of these bytes are that of a newline.
    """
    return re.sub(rb"(?<=[a-z]) (?=[a-z])", " ткань ą ůk 織る, ਕੱਪੜਾ વણાટ Ċਊ, ".encode(), content)


@each_tool(WITH_LINES)
def test_letters_of_any_script_are_read_from_utf_16(name: str) -> None:
    """A line after the first has no mark that says in which order its bytes are."""
    for file in line_files(name, Kind.LINES):
        content = with_letters(file.content)
        usual = facts(file.source, content)
        for change in (in_utf_16, in_utf_16_big_endian):
            assert facts(file.source, change(content)) == usual, (file.path, change.__name__)


@each_tool(WITH_LINES)
def test_a_truncated_record_costs_only_itself_in_every_source(name: str) -> None:
    """Each record follows half of itself on the same line. The losses are counted."""
    for file in line_files(name, Kind.LINES):
        whole, found = facts(file.source, file.content), facts(file.source, after_truncated_copies(file.content))
        lost = len(file.content.splitlines())
        assert found["damaged"] == sum("a damaged record of" in item.text for item in found["shown"]) == lost
        shown = [item for item in found["shown"] if "a damaged record of" not in item.text]
        assert {**found, "damaged": 0, "shown": shown} == whole, file.path


def test_every_source_of_lines_is_among_the_samples() -> None:
    sampled = {file.source.tool for name in WITH_LINES for file in line_files(name, Kind.LINES)}
    assert sampled == {source.tool for source in find_sources() if Kind.LINES in kinds_of(source)}
    assert {name for name in NAMES if line_files(name, Kind.LINES)} <= {*WITH_LINES}
    assert [name for name in NAMES if line_files(name, Kind.HISTORY)] == WITH_HISTORIES


def kinds_of(source: Source) -> Iterator[Kind]:
    """Iterate over the kinds of a source's units, as its samples have them."""
    for name in NAMES:
        if name.startswith(f"{source.tool}/"):
            yield from (each.unit.kind for each in engine.locations(built(name)))


def prompts(file: LineFile, content: bytes) -> list[tuple[Any, ...]]:
    """Return the prompts of a history, each with its session, its directory and its bytes without damage."""
    lines = DocumentLines(content.removesuffix(b"\n").split(b"\n"), Digest(0))
    found = read_prompts(file.source, lines)
    return [(each.native_id, each.time_ms, each.directory, each.typed) for each in found]


@each_tool(WITH_HISTORIES)
def test_each_prompt_stays_with_its_own_session(name: str) -> None:
    for file in line_files(name, Kind.HISTORY):
        for change in COMPLETE:
            found = prompts(file, change(file.content))
            assert found == prompts(file, file.content), (file.path, change.__name__)


@each_tool(WITH_HISTORIES)
def test_a_truncated_prompt_is_counted_as_one_without_a_session(name: str) -> None:
    """It may be of any session, so no other one gets it."""
    for file in line_files(name, Kind.HISTORY):
        whole, found = prompts(file, file.content), prompts(file, after_truncated_copies(file.content))
        assert [each for each in found if each != (None, 0, None, True)] == whole
        assert len(found) == 2 * len(whole)


def documents(tree: str) -> dict[str, Any]:
    """Return the streams of a tree's documents and folders, and what the files beside each unit say."""
    found: dict[str, Any] = {}
    for each in engine.locations(tree):
        path = each.path.removeprefix(tree)
        found[f"{path} beside"] = read_context(each)
        if each.unit.kind in (Kind.DOCUMENT, Kind.FOLDER):
            with engine.streams(each) as streams:
                for stream in streams:
                    content = engine.content(stream).replace(tree.encode(), b"~")
                    found[f"{path} {stream.native_id} {stream.name}"] = content, stream.metadata
    return found


WITH_DOCUMENTS = [name for name in NAMES if any((SAMPLES / name).rglob("*.json"))]


@each_tool(WITH_DOCUMENTS)
def test_documents_and_settings_are_read_in_any_encoding(name: str, tmp_path: Path) -> None:
    """Also the settings that say where sessions are, and small files beside a transcript."""
    whole = documents(built(name))
    tree = build(name, tmp_path)
    contents = {path: path.read_bytes() for path in [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.md")]}
    for change in (with_mark, in_utf_16, in_utf_16_big_endian):
        for path, content in contents.items():
            path.write_bytes(change(content))
            os.utime(path, ns=(WRITTEN_NS, WRITTEN_NS))
        assert documents(tree) == whole, change.__name__
