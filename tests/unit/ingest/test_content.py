"""Which bytes of a file or a projection are still as they were captured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessiond.ingest import content as content_module
from sessiond.ingest import line_reader
from sessiond.ingest.content import Lines, Records
from sessiond.ingest.endings import Endings
from sessiond.ingest.line_reader import CONTEXT, LONG_RECORD, MAX_RECORD
from sessiond.reader import CHUNK, Chunk, Digest, Extent
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def test_a_long_record_of_a_projection_stands_whole_or_not_at_all() -> None:
    """A record that changed at its end is not kept because its first pieces are the same. The same holds for lines."""
    digest = Digest(1)
    short, long = b"s" * 10, b"x" * (MAX_RECORD + 10)
    before = Records([short, long], digest)
    extents = [
        Extent(start=chunk.offset, length=len(chunk.data), digest=digest(chunk.data)) for chunk in before.chunks(0)
    ]
    assert before.unchanged_prefix(extents) == before.size
    assert Records([short, long[:-1] + b"y"], digest).unchanged_prefix(extents) == len(short) + 1


Both = Callable[[list[bytes]], tuple[Lines, Records]]


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    """Return records as a file of lines and as a projection."""
    opened: list[int] = []

    def make(records: list[bytes]) -> tuple[Lines, Records]:
        path = tmp_path / f"{len(opened)}"
        path.write_bytes(b"".join(record + b"\n" for record in records))
        opened.append(os.open(path, os.O_RDONLY))
        return Lines(opened[-1], Digest(1)), Records(records, Digest(1))

    yield make
    for descriptor in opened:
        os.close(descriptor)


def extent(chunk: Chunk) -> Extent:
    """Return the stored extent of a captured chunk."""
    return Extent(start=chunk.offset, length=len(chunk.data), digest=Digest(1)(chunk.data))


SHORT = [b"a" * 10, b"b" * 20]
LONG_RECORDS = [
    (bytes(range(251)) * (1 + LONG_RECORD // 200))[: LONG_RECORD + CHUNK // 2],
    b"\t" * (LONG_RECORD + 2 * CHUNK),
]
"""One that ends in the middle of a piece, and one with its last byte and newline in a piece of their own."""


def test_pieces_have_the_bytes_around_them_in_their_record(both: Both) -> None:
    """A secret at the border of two pieces is masked in both, in a file and in a projection. No other record is
    context.
    """
    records = [*SHORT, LONG_RECORDS[0].replace(b"\n", b" "), *SHORT, LONG_RECORDS[1], SHORT[0]]
    whole, ends = b"".join(record + b"\n" for record in records), []
    for record in records:
        ends.append((ends[-1] if ends else 0) + len(record) + 1)
    for content in both(records):
        chunks = list(content.chunks(0))
        assert b"".join(chunk.data for chunk in chunks) == whole
        assert content.size == len(whole)
        for chunk in chunks:
            assert content.slice(extent(chunk)) == chunk.data
            if not chunk.piece:
                continue
            end = next(end for end in ends if end >= chunk.end)
            start = max(0, *(end for end in ends if end <= chunk.offset))
            assert chunk.before == whole[max(start, chunk.offset - CONTEXT) : chunk.offset]
            assert chunk.after == whole[chunk.end : min(end, chunk.end + CONTEXT)]
            assert chunk.last == (chunk.end == end)
            assert chunk.record == (whole[start:end] if chunk.last else None)
            if not chunk.last:
                assert content.following(chunk.end) == chunk.after
        assert sum(chunk.piece for chunk in chunks) == 5 + 7


@pytest.mark.parametrize("before", [[], [b"a" * 10]], ids=["at the start of a file", "after a record"])
@pytest.mark.parametrize(("size", "decoded"), [(1001, True), (3000, True), (3001, False)])
def test_a_record_in_pieces_is_decoded_up_to_a_limit(
    both: Both, monkeypatch: pytest.MonkeyPatch, before: list[bytes], size: int, decoded: bool
) -> None:
    """The last piece comes with the whole record if the record is within the memory limit."""
    for module in (line_reader, content_module):
        monkeypatch.setattr(module, "MAX_RECORD", 3000)
        monkeypatch.setattr(module, "LONG_RECORD", 1000)
        monkeypatch.setattr(module, "CHUNK", 1000)
    record = b"x" * (size - 1)
    for content in both([*before, record, b"b"]):
        pieces = [chunk for chunk in content.chunks(0) if chunk.piece]
        assert b"".join(piece.data for piece in pieces) == record + b"\n"
        assert [piece.record for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1].record == (record + b"\n" if decoded else None)


@pytest.mark.parametrize(("size", "given"), [(3000, True), (3001, False)])
def test_records_are_given_up_to_a_limit(both: Both, monkeypatch: pytest.MonkeyPatch, size: int, given: bool) -> None:
    for module in (line_reader, content_module):
        monkeypatch.setattr(module, "LONG_RECORD", 1000)
        monkeypatch.setattr(module, "CHUNK", 1000)
    monkeypatch.setattr(line_reader, "MAX_RECORD", 3000)
    for content in both([b"a", b"x" * (size - 1), b"b"]):
        given_bytes = b"".join(chunk.data for chunk in content.records(0))
        assert (b"x" * (size - 1) in given_bytes) == given
        assert given_bytes.count(b"a") == given_bytes.count(b"b") == 1


@pytest.mark.parametrize(("parts", "decoded"), [(20, True), (21, False)])
def test_a_long_record_of_many_parts_is_not_decoded(
    both: Both, monkeypatch: pytest.MonkeyPatch, parts: int, decoded: bool
) -> None:
    """Millions of objects take a second to decode, in one step that stops every other thread, and much memory."""
    for module in (line_reader, content_module):
        monkeypatch.setattr(module, "LONG_RECORD", 1000)
        monkeypatch.setattr(module, "CHUNK", 1000)
    monkeypatch.setattr(line_reader, "MAX_PARTS", 20)
    record = b"[" + b"{}" * (parts - 1) + b"]" + b"x" * 2000
    short = b"[" + b"{}" * 99 + b"]"
    for content in both([record, short]):
        pieces = [chunk for chunk in content.chunks(0) if chunk.piece]
        assert b"".join(piece.data for piece in pieces) == record + b"\n"
        assert pieces[-1].record == (record + b"\n" if decoded else None)
        again = b"".join(chunk.data for chunk in content.records(0))
        assert again == (record + b"\n" if decoded else b"") + short + b"\n"


def test_only_records_without_an_end_are_remembered(tmp_path: Path) -> None:
    """A thousand files that end with a newline would push the search through a long record out of memory."""
    searches = Endings()
    for name, text in (("ended", b"a\nb\n"), ("empty", b""), ("open", b"a\nb")):
        (tmp_path / name).write_bytes(text)
        descriptor = os.open(tmp_path / name, os.O_RDONLY)
        try:
            list(Lines(descriptor, Digest(1), searches.of(descriptor, Digest(1), None)).chunks(0))
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        remembered = searches.get((found.st_dev, found.st_ino))
        assert (remembered is not None) == (name == "open")


def test_reading_goes_on_after_any_chunk(both: Both) -> None:
    """Even from inside a long record, the rest is the same as if all had been read in one go."""
    records = [*SHORT, LONG_RECORDS[0].replace(b"\n", b" "), *SHORT]
    for content in both(records):
        chunks = list(content.chunks(0))
        for number, chunk in enumerate(chunks):
            assert list(content.chunks(chunk.end)) == chunks[number + 1 :]


def test_a_changed_extent_is_no_part_of_the_file_any_more(both: Both) -> None:
    """An extent beyond the end of a file that was cut is no part of it either."""
    for content, other in zip(both(SHORT), both([SHORT[0], b"c" * 20]), strict=True):
        stored = Extent(start=11, length=21, digest=Digest(1)(SHORT[1] + b"\n"))
        assert content.slice(stored) == SHORT[1] + b"\n"
        assert other.slice(stored) is None
        beyond = Extent(start=32, length=11, digest=Digest(1)(SHORT[0] + b"\n"))
        assert content.slice(beyond) is None


def test_only_a_part_of_the_records_is_asked_for(both: Both) -> None:
    """A part goes from the end of one extent to the end of another."""
    records = [b"a", b"bb", b"ccc", b"dddd"]
    for content in both(records):
        assert b"".join(chunk.data for chunk in content.records(2)) == b"bb\nccc\ndddd\n"
        assert b"".join(chunk.data for chunk in content.records(2, 9)) == b"bb\nccc\n"
        assert b"".join(chunk.data for chunk in content.records(3)) == b"ccc\ndddd\n", "the rest of a record is none"
        assert b"".join(chunk.data for chunk in content.records(0, 0)) == b""
        assert b"".join(chunk.data for chunk in content.records(14)) == b""


def test_an_emptied_file_changes_nothing_until_it_has_a_record_again(harness: DaemonHarness) -> None:
    """Rule 8: half a rewrite is normal, however long the other half takes."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    content = Path(path).read_bytes()
    os.truncate(path, 0)
    assert [outcome.retry for outcome in harness.ingest(path)] == [True]
    harness.push()
    assert harness.held(SESSION) == content
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 1


def test_each_byte_of_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first chunk is read to find the project, and captured without reading it again."""
    content = b"".join(b'{"number": %d}\n' % number for number in range(10_000))
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    read: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        read.append(length)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lines = Lines(descriptor, Digest(0))
        next(iter(lines.records(0)))
        assert b"".join(chunk.data for chunk in lines.chunks(0)) == content
    finally:
        os.close(descriptor)
    assert sum(read) == len(content) + 3, "and the newline before the next record, with its neighbours"
