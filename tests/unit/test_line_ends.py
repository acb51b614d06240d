"""Lines of UTF-16 end at newlines only, wherever reading stops and goes on."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.ingest.line_reader import read_lines, read_records
from sessiond.line_ends import join_lines, split_lines
from sessiond.reader import CHUNK, Chunk
from sessiond.sources.damaged import to_utf8

LETTERS = 'Ċਊਅઅ\u0b0a\u0aff ĀāẊ a{}"\\ 紊笊糊\U0001040a'
"""In UTF-16, most of them contain the byte of a newline, or may stand beside one that does."""
ENCODINGS = pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])


def records_of(*lengths: int) -> list[str]:
    """Return records with random texts. Of a long text, one letter in seventeen is one of `LETTERS`."""
    choice, found = random.Random(7), []
    for length in lengths:
        letters = LETTERS if length < CHUNK else LETTERS + "text" * 4 * len(LETTERS)
        part = "".join(choice.choices(letters, k=min(length, 10_007)))
        text = (part * (length // max(1, len(part)) + 1))[:length]
        found.append(json.dumps({"text": text}, ensure_ascii=False))
    return found


def encoded(records: list[str], encoding: str, end: str = "\n") -> bytes:
    return ("\ufeff" + "".join(record + end for record in records)).encode(encoding)


def decoded(lines: Iterator[bytes]) -> list[dict[str, str]]:
    return [json.loads(text) for line in lines if (text := to_utf8(line).strip(b"\0\r\n "))]


def read(path: Path, *, stop: bool) -> Iterator[Chunk]:
    """Read a file to its end; with `stop`, only one chunk at once."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size, offset = path.stat().st_size, 0
        while True:
            chunk = None
            for chunk in read_lines(descriptor, offset, size):
                yield chunk
                if stop:
                    break
            if chunk is None or not stop:
                return
            offset = chunk.end
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@ENCODINGS
def test_lines_of_utf_16_are_joined_to_their_ends(encoding: str, end: str) -> None:
    records = records_of(*range(200))
    lines = split_lines(encoded(records, encoding, end))
    assert decoded(iter(lines)) == [json.loads(record) for record in records]


@pytest.mark.parametrize("stop", [False, True])
@ENCODINGS
def test_a_file_in_utf_16_is_cut_between_its_records(tmp_path: Path, encoding: str, stop: bool) -> None:
    """Many short records; one that is longer than a chunk; one that is captured in pieces; and lines in UTF-8."""
    records = records_of(*[300] * 2000, CHUNK, 3 * CHUNK, 40)
    path = tmp_path / "lines.jsonl"
    added = '{"text":"Ċ in UTF-8"}\n{"text":"ਊ"}\n'
    path.write_bytes(encoded(records, encoding) + added.encode())
    found, whole = [], b""
    for chunk in read(path, stop=stop):
        assert chunk.offset == len(whole)
        whole += chunk.data
        found += decoded(iter(split_lines(chunk.decodable or b"")))
    assert whole == path.read_bytes()
    assert found == [json.loads(record) for record in (*records, *added.splitlines())]


@ENCODINGS
def test_whole_records_are_read_from_any_piece_of_a_long_one(tmp_path: Path, encoding: str) -> None:
    records = records_of(10, 3 * CHUNK, 20, 30)
    path = tmp_path / "lines.jsonl"
    path.write_bytes(encoded(records, encoding))
    inside = [chunk.end for chunk in read(path, stop=False) if not chunk.last]
    descriptor = os.open(path, os.O_RDONLY)
    for offset in inside:
        chunks = read_records(descriptor, offset, path.stat().st_size)
        found = [each for chunk in chunks for each in decoded(iter(split_lines(chunk.data)))]
        assert found == [json.loads(record) for record in records[2:]]
    os.close(descriptor)
    assert len(inside) > 4


def test_zeros_in_utf_8_end_no_line(tmp_path: Path) -> None:
    """A power cut leaves them, and a byte order mark of UTF-16 is missing."""
    lines = [b"\0\0\0{}", b"{}\0", b"", b"\0", b"{}"]
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    assert b"".join(chunk.data for chunk in read(path, stop=True)) == path.read_bytes()
    assert list(join_lines(lines)) == lines
