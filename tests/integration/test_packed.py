"""Compressed transcripts (Codex' `.jsonl.zst`): the stream stays the same, whatever happens to the file."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from sessiond import zstd
from sessiond.errors import ReadError, Torn
from sessiond.ingest.compressed import decompress_file
from sessiond.reader import LARGEST_DOCUMENT
from support.harness import SESSION, daemon_harness

ROLLOUT = f".codex/sessions/2026/09/01/rollout-2026-09-01T10-00-00-{SESSION}.jsonl.zst"


def rollout(count: int) -> bytes:
    """Return lines as Codex writes them, with text that does not compress well."""
    meta = f'{{"id":"{SESSION}","timestamp":"2026-09-01T10:00:00Z","cwd":"/home/dev/project"}}'
    lines = [f'{{"timestamp":"2026-09-01T10:00:00.000Z","type":"session_meta","payload":{meta}}}']
    for number in range(count):
        said = (
            f'{{"type":"message","role":"user","content":[{{"type":"input_text","text":"{os.urandom(1500).hex()}"}}]}}'
        )
        moment = f"2026-09-01T10:{number // 60:02d}:{number % 60:02d}.000Z"
        lines.append(f'{{"timestamp":"{moment}","type":"response_item","payload":{said}}}')
    return "".join(f"{line}\n" for line in lines).encode()


def test_a_packed_file_that_waits_is_unpacked_from_its_pin(tmp_path: Path) -> None:
    """Its tool deletes it before there was room: the link keeps the compressed file."""
    content = rollout(400)
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = harness.write(ROLLOUT, zstd.compress(content))
        harness.scan()
        assert os.listdir(harness.ingesting.pins.directory)
        os.unlink(path)
        harness.settle(200)
        assert harness.held(SESSION) == content
        assert harness.spool.stats.totals().lost_bytes == 0
        assert os.listdir(harness.ingesting.pins.directory) == []


def unpacked(path: Path, largest: int) -> bytes:
    packed = os.open(path, os.O_RDONLY)
    try:
        plain = decompress_file(packed, str(path.parent), largest)
        try:
            return os.pread(plain, 1 << 24, 0)
        finally:
            os.close(plain)
    finally:
        os.close(packed)


def test_a_packed_file_has_a_bound(tmp_path: Path) -> None:
    """A small file may declare or contain terabytes: it must not fill the disk, and is reported."""
    path = tmp_path / "bomb.zst"
    path.write_bytes(zstd.compress(bytes(1 << 20)))  # says its size
    assert len(unpacked(path, 1 << 20)) == 1 << 20
    for packed in (path.read_bytes(), zstd.compress(bytes(1 << 19)) * 3):
        path.write_bytes(packed)
        with pytest.raises(ReadError, match="decompresses to more than") as refused:
            unpacked(path, (1 << 20) - 1)
        assert not isinstance(refused.value, Torn)  # it is not tried over and over
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Torn):
        unpacked(path, 1 << 22)


def test_a_packed_file_takes_no_more_than_half_of_the_free_disk(tmp_path: Path) -> None:
    """The spool is on the same disk. A file that would fill it is refused for the size in its header."""
    disk = os.statvfs(tmp_path)
    declared = disk.f_bavail * disk.f_frsize
    path = tmp_path / "large.zst"
    # RFC 8878, 3.1.1: the magic number, a descriptor for a size of eight bytes, a window, the size; then one byte.
    head = b"\x28\xb5\x2f\xfd\xc0\x58" + declared.to_bytes(8, "little")
    path.write_bytes(head + b"\x09\x00\x00x")
    with pytest.raises(ReadError, match="decompresses to more than"):
        unpacked(path, 1 << 62)


def written() -> int:
    """Count the bytes that this process has written so far."""
    return int(re.search(rb"wchar: (\d+)", Path("/proc/self/io").read_bytes())[1])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="only Linux counts what a process writes")
@pytest.mark.parametrize("damaged", [False, True])
def test_a_packed_file_that_was_refused_is_unpacked_again_only_when_it_changes(tmp_path: Path, damaged: bool) -> None:
    """Each scan would otherwise write as much as may be unpacked: gigabytes, once a minute."""
    content = rollout(400)
    half = content.index(b"\n", len(content) // 2) + 1
    packed = zstd.compress(content[:half]) + zstd.compress(content[half:])  # that are two sizes, and none of the whole
    with daemon_harness(tmp_path) as harness:
        harness.ingesting.compressed.largest = 1 << 24 if damaged else 1 << 20
        path = harness.write(ROLLOUT, packed[:-1] if damaged else packed)
        os.utime(path, (1_700_000_000,) * 2)
        said, costs = set(), []
        for _ in range(3):
            before = written()
            (outcome,) = harness.ingest(path)
            costs.append(written() - before)
            said.add(outcome.trouble)
            if damaged:  # more space makes it no less damaged
                harness.ingesting.compressed.largest *= 2
        assert costs[0] >= (1 << 20) - zstd.SLICE
        assert max(costs[1:]) < 1 << 16
        assert len(said) == 1
        assert None not in said
        if damaged:
            harness.write(ROLLOUT, packed, mode="wb")
        else:
            harness.ingesting.compressed.largest = 1 << 22  # now there is room
        harness.settle()
        assert harness.held(SESSION) == content


def test_a_packed_thread_in_a_database_has_a_bound(tmp_path: Path) -> None:
    """Zed compresses each thread, which is parsed as a whole. One that is too large for memory is reported, the others
    are read.
    """
    with daemon_harness(tmp_path) as harness:
        path = Path(harness.home) / ".local/share/zed/threads/threads.db"
        path.parent.mkdir(parents=True)
        said = '{"version":"0.2.0","messages":[{"id":0,"role":"user","segments":[{"type":"text","text":"%s"}]}]}'
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE threads (id TEXT, summary TEXT, updated_at TEXT, data_type TEXT, data BLOB)")
            for number, padding in enumerate((0, LARGEST_DOCUMENT, 0)):
                thread = (said % number).encode() + b" " * padding
                identity, packed = str(UUID(int=number)), zstd.compress(thread)
                row = (identity, "", f"2026-05-27T10:0{number}:00Z", "zstd", packed)
                database.execute("INSERT INTO threads VALUES (?, ?, ?, ?, ?)", row)
        (outcome,) = harness.ingest(str(path))
        assert f"session {UUID(int=1)}: it can't be parsed" in (outcome.trouble or "")
        harness.settle()
        assert set(harness.held_sessions()) == {str(UUID(int=0)), str(UUID(int=2))}
