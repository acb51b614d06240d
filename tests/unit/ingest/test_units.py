"""How a unit is read: its records, and the facts that decide whether it is captured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond.ingest import locate
from sessiond.ingest.content import Lines
from sessiond.ingest.context import ReadContext
from sessiond.ingest.line_reader import LONG_RECORD
from sessiond.ingest.unit_facts import HEAD, first_directory, first_native_id
from sessiond.ingest.units import open_unit
from sessiond.reader import Digest
from sessiond.sources import find_sources
from sessiond.sources.base import Root
from support.harness import SESSION, claude, daemon_harness, encode

CLAUDE = next(source for source in find_sources() if source.tool == "claude-code")
LONG = b'{"x": "' + b"x" * LONG_RECORD + b'"}'


def records(base: Path, content: bytes) -> list[bytes]:
    """Return the records of a file of Claude Code with this content, as `show` reads them."""
    path = base / "-home" / f"{SESSION}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (location,) = locate([(CLAUDE, Root(path=str(base)))], str(path))
    with open_unit(location, ReadContext(digest=Digest(1), now_ms=0, scratch=str(base))) as unit:
        (source,) = unit.streams()
        return list(source.records())


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"{}"],
        [b'{"a": 1}', b'{"b": 2}', b'{"c": 3}'],
        [LONG],
        [b'{"a": 1}', b'{"b": 2}', LONG, b'{"c": 3}', LONG, LONG, b'{"d": 4}'],
        [b'{"a": "\xe2\x80\xa8\xc2\x85\r"}', b'{"b": 2}'],
    ],
)
def test_records_are_lines_however_long(tmp_path: Path, lines: list[bytes]) -> None:
    """A long record is read in pieces and returned as one. A record without an end is still being written, and is the
    last.
    """
    content = b"".join(line + b"\n" for line in lines)
    assert records(tmp_path, content) == lines
    assert records(tmp_path, content + b'{"half') == [*lines, b'{"half']


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[int]]:
    """Close descriptors at the end."""
    made: list[int] = []
    yield made
    for descriptor in made:
        os.close(descriptor)


class Writer:
    """Writes files of lines and opens them."""

    def __init__(self, base: Path, opened: list[int]) -> None:
        self.base, self.opened = base, opened

    def __call__(self, *lines: bytes | dict) -> Lines:
        """Return the content of a file with these lines."""
        path = self.base / f"{len(self.opened)}.jsonl"
        path.write_bytes(b"".join(line if isinstance(line, bytes) else encode(line) for line in lines))
        self.opened.append(os.open(path, os.O_RDONLY))
        return Lines(self.opened[-1], Digest(1))


@pytest.fixture
def content(tmp_path: Path, opened: list[int]) -> Writer:
    """Return a writer of files."""
    return Writer(tmp_path, opened)


def summary() -> dict:
    """Return a record without a directory, a session or a message."""
    return {"type": "summary", "summary": "A title", "leafUuid": "1"}


def test_the_first_directory_decides(content: Writer) -> None:
    """Later records do not change it. Every line is searched, in the first chunk and behind it."""
    there = claude(SESSION, 1, cwd="/one"), claude(SESSION, 2, cwd="/two")
    assert first_directory(CLAUDE, content(*there)) == ("/one", True)
    assert first_directory(CLAUDE, content(summary(), summary(), *there)) == ("/one", True)
    assert first_directory(CLAUDE, content(b"\n\n", b"not json\n", summary(), b"\n", *there)) == ("/one", True)
    assert first_directory(CLAUDE, content(LONG + b"\n", *there)) == ("/one", True)


def test_a_message_without_a_directory_decides_too(content: Writer) -> None:
    """A tool that writes such a message never writes a directory. Before the first message, one may still come."""
    message = claude(SESSION, 1)
    del message["cwd"]
    assert first_directory(CLAUDE, content(summary(), message, claude(SESSION, 2))) == (None, True)
    assert first_directory(CLAUDE, content(summary())) == (None, False)
    assert first_directory(CLAUDE, content()) == (None, False)


def test_only_the_slice_is_searched_for_a_directory(content: Writer) -> None:
    """Searched records are not read again, and those beyond the slice are left to the next one."""
    first, second = encode(summary()), encode(claude(SESSION, 1, cwd="/one"))
    made = content(first, second, claude(SESSION, 2, cwd="/two"))
    assert first_directory(CLAUDE, made, len(first)) == ("/one", True)
    assert first_directory(CLAUDE, made, len(first) + len(second)) == ("/two", True)
    long = content(LONG + b"\n", claude(SESSION, 1, cwd="/one"))
    assert first_directory(CLAUDE, long, 0, 1) == (None, False)


def test_the_native_id_is_searched_at_the_beginning_alone(content: Writer) -> None:
    """A log of gigabytes beside the sessions is not read whole."""
    assert first_native_id(CLAUDE, content(summary(), b"\n", b"not json\n", claude(SESSION, 1))) == SESSION
    assert first_native_id(CLAUDE, content(summary())) is None
    block = encode({"x": "x" * (1 << 20)})
    before = content(*[block] * (HEAD // len(block)), claude(SESSION, 1))
    assert first_native_id(CLAUDE, before) == SESSION
    behind = content(*[block] * (HEAD // len(block) + 4), claude(SESSION, 1))
    assert first_native_id(CLAUDE, behind) is None


def test_the_native_id_is_found_behind_zeros(content: Writer) -> None:
    """A power cut leaves zeros. The id is in a later chunk than they are."""
    block = encode({"x": "x" * (1 << 20)})
    assert first_native_id(CLAUDE, content(b"\0" * 9 + b"\n", block, block, claude(SESSION, 1))) == SESSION


@pytest.mark.parametrize(("tool", "scope"), [("elia", "laptop"), ("claude-code", "")])
def test_ids_that_are_unique_on_one_machine_only_belong_to_it(tmp_path: Path, tool: str, scope: str) -> None:
    """Two machines may both have a chat 1 of elia. An id of Claude Code is the same session wherever it is."""
    source = next(each for each in find_sources() if each.tool == tool)
    with daemon_harness(tmp_path) as harness:
        assert msgspec.structs.replace(harness.ingesting, machine_id="laptop").scope(source) == scope
