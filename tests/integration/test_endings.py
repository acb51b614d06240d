"""Records without an end delay no other session, and are not read again and again."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from pathlib import Path

import pytest
from msgspec.structs import replace

from sessiond.daemon.retries import Retries
from sessiond.ingest import Outcome, Turn, endings, ingest, locate
from sessiond.reader import CHUNK
from sessiond.sources import find_sources
from sessiond.sources.base import Root
from support.capture import DAY, Lab, lab, session, write
from support.harness import claude, encode

MIB = 1 << 20
SLICE = 4 * MIB
LINUX = os.path.exists("/proc/self/io")


def read_bytes() -> int:
    """Return how many bytes this process has read by system calls so far."""
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def folded(harness: Lab, number: int) -> int:
    """Return how many bytes of a session are captured."""
    stream = harness.resources.spool.catalog.find_stream(uuid.UUID(session(number)), "main")
    return 0 if stream is None else stream.folded


def changed(harness: Lab, *paths: str, turns: int = 1) -> None:
    """Report changes of these paths as the watcher does, and run the loop once."""
    harness.report(*paths)
    for _ in range(turns):
        harness.turn()


def drain(harness: Lab, limit: int = 10_000) -> int:
    """Turn until nothing is left to read; return the number of turns."""
    for turn in range(limit):
        if not harness.queue.has_live and not harness.queue.backlog:
            return turn
        harness.turn()
    raise AssertionError("it never ends")


@pytest.fixture
def harness(tmp_path: Path) -> object:
    with lab(tmp_path) as made:
        made.capture_loop.turn = Turn(slice=SLICE)
        yield made


needs_counter = pytest.mark.skipif(not LINUX, reason="needs /proc/self/io")


@needs_counter
def test_a_sparse_file_of_ten_gigabytes_is_skipped_over(tmp_path: Path, harness: Lab) -> None:
    """Its hole is not read at all, and the sessions beside it are captured in the same turn."""
    sparse = write(tmp_path, 1, age=0, lines=0)
    os.truncate(sparse, 10 << 30)
    others = [write(tmp_path, number, age=0) for number in range(2, 23)]
    before = read_bytes()
    changed(harness, sparse, *others)
    drain(harness)
    assert all(folded(harness, number) == os.path.getsize(path) for number, path in enumerate(others, 2))
    assert folded(harness, 1) == 0
    for _ in range(3):
        harness.look()
    assert read_bytes() - before < 64 * MIB


@needs_counter
@pytest.mark.parametrize("known", [False, True], ids=["from its start", "after a record"])
def test_a_record_that_grows_is_read_once(tmp_path: Path, harness: Lab, known: bool) -> None:
    """It grows by steps of 1 MiB to 64 MiB: reading it from its start each time would be two gigabytes."""
    path = write(tmp_path, 1, age=0, lines=int(known))
    start = os.path.getsize(path)
    changed(harness, path)
    before = read_bytes()
    with open(path, "ab") as file:
        file.write(b'{"type":"user","text":"')
        for _ in range(64):
            file.write(b"x" * MIB)
            file.flush()
            changed(harness, path)
            drain(harness)
            assert folded(harness, 1) == start
        assert read_bytes() - before < 2 * 64 * MIB
        file.write(b'"}\n' + encode(claude(session(1), 7)))
    changed(harness, path)
    drain(harness)
    assert folded(harness, 1) == os.path.getsize(path), "its end and what comes after it are captured"
    assert read_bytes() - before < 6 * 64 * MIB


@needs_counter
def test_half_a_line_that_grows_by_little_is_read_once(tmp_path: Path, harness: Lab) -> None:
    """An answer is streamed into one line, a few bytes at a time and less than a chunk in all."""
    path = write(tmp_path, 1, age=0)
    changed(harness, path)
    with open(path, "ab") as file:
        file.write(b'{"text":"' + b"x" * (CHUNK - 100_000))
        file.flush()
        changed(harness, path)
        before = read_bytes()
        for _ in range(100):
            file.write(b"y" * 100)
            file.flush()
            changed(harness, path)
        assert read_bytes() - before < 20 * MIB
        file.write(b'"}\n')
    changed(harness, path)
    assert folded(harness, 1) == os.path.getsize(path)


def test_a_long_unended_file_of_the_backlog_comes_after_all_others(tmp_path: Path, harness: Lab) -> None:
    """It is the newest and would be read first, but the others must not wait until it is searched."""
    old = [write(tmp_path, number, age=2 * DAY) for number in range(2, 12)]
    hog = write(tmp_path, 1, age=0, lines=0)
    with open(hog, "wb") as file:
        for _ in range(40):
            file.write(b"x" * MIB)
    made = time.time() - DAY
    os.utime(hog, (made, made))
    harness.scan()
    for _ in range(3):
        harness.turn()
    assert all(folded(harness, number) == os.path.getsize(path) for number, path in enumerate(old, 2))
    assert harness.resources.ingest.endings.bytes_read < 4 * SLICE
    drain(harness)
    assert harness.resources.ingest.endings.bytes_read <= 40 * MIB


def test_the_search_gives_others_their_turn(tmp_path: Path, harness: Lab) -> None:
    """A line that is written while 40 MiB without an end are searched waits for one slice only."""
    hog, other = write(tmp_path, 1, age=0), write(tmp_path, 2, age=0)
    with open(hog, "ab") as file:
        file.write(b"x" * (40 * MIB))
    changed(harness, hog)
    for line in range(3):
        searched = harness.resources.ingest.endings.bytes_read
        with open(other, "ab") as file:
            file.write(encode(claude(session(2), 10 + line)))
        changed(harness, other)
        assert folded(harness, 2) == os.path.getsize(other)
        assert harness.resources.ingest.endings.bytes_read - searched <= SLICE
    assert harness.queue.has_live


def test_a_record_that_is_filled_into_a_hole_is_found(tmp_path: Path, harness: Lab) -> None:
    """A tool that allocates its file first writes far before the end of what was searched."""
    path = write(tmp_path, 1, age=0)
    start = os.path.getsize(path)
    with open(path, "ab") as file:
        file.write(b'{"text":"' + b"x" * 50_000)
        file.truncate(64 * MIB)
    changed(harness, path)
    drain(harness)
    assert folded(harness, 1) == start
    with open(path, "r+b") as file:
        file.seek(start + 9 + 50_000)
        file.write(b'"}\n')
        end = file.tell()
        file.seek(0, os.SEEK_END)
        file.write(b"\0")
    changed(harness, path)
    drain(harness)
    assert folded(harness, 1) == end


def test_a_newline_that_is_filled_into_a_hole_between_two_reads_is_found(tmp_path: Path, harness: Lab) -> None:
    """The hole begins where a read begins, so no zero of it was ever read."""
    path = write(tmp_path, 1, age=0, lines=0)
    with open(path, "ab") as file:
        file.write(encode(claude(session(1), 1))[:-1].ljust(4095) + b"\n")
    start = os.path.getsize(path)
    with open(path, "ab") as file:
        file.write(b"x" * CHUNK)
        file.truncate(start + CHUNK + 2 * MIB)
    changed(harness, path)
    drain(harness)
    assert folded(harness, 1) == start
    with open(path, "r+b") as file:
        file.seek(start + CHUNK + 10_000)
        file.write(b"\n")
        file.seek(0, os.SEEK_END)
        file.write(b"\0")
    changed(harness, path)
    drain(harness)
    assert folded(harness, 1) == start + CHUNK + 10_001


@pytest.mark.parametrize("written", [0, CHUNK], ids=["from its first byte", "from the first byte of a chunk"])
def test_a_newline_that_is_filled_into_zeros_is_found(tmp_path: Path, harness: Lab, written: int) -> None:
    """The zeros are on the disk, begin where a read begins, and both ends of what was searched stay as they are."""
    path = write(tmp_path, 1, age=0)
    start = os.path.getsize(path)
    changed(harness, path)
    with open(path, "ab") as file:
        file.write(b"x" * written + bytes(2 * MIB))
    changed(harness, path)
    drain(harness)
    assert folded(harness, 1) == start
    with open(path, "r+b") as file:
        file.seek(start + written + 10_000)
        file.write(b"\n")
        file.seek(0, os.SEEK_END)
        file.write(b"\0")
    changed(harness, path)
    drain(harness)
    assert folded(harness, 1) == start + written + 10_001


def test_a_restart_continues_a_long_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of gigabytes without a newline is not read again at each start, and a change of it is still noticed."""
    monkeypatch.setattr(endings, "SAVED", 8 * MIB)
    path = write(tmp_path, 1, age=0)
    start = os.path.getsize(path)
    with open(path, "ab") as file:
        for _ in range(40):
            file.write(b"x" * MIB)
    read = []
    for _ in range(6):  # as often as it crashes
        with lab(tmp_path) as harness:
            harness.capture_loop.turn = Turn(slice=SLICE)
            changed(harness, path, turns=3)
            read.append(harness.resources.ingest.endings.bytes_read)
    assert sum(read[:4]) >= 40 * MIB
    assert sum(read) <= 40 * MIB + 6 * (8 * MIB + SLICE)
    assert read[-1] <= 8 * MIB + SLICE
    with open(path, "r+b") as file:
        file.seek(start + MIB)
        file.write(b"\n")
    with lab(tmp_path) as harness:
        harness.capture_loop.turn = Turn(slice=SLICE)
        changed(harness, path)
        drain(harness)
        assert folded(harness, 1) == start + MIB + 1


@pytest.mark.parametrize("stored", ["[", '{"a": 1}', '{"x:y": {"start": 0, "searched": 1}}', '{"1:2": {"start": "a"}}'])
def test_a_stored_search_that_is_damaged_is_dropped(tmp_path: Path, stored: str) -> None:
    """The stored search only saves reading."""
    path = write(tmp_path, 1, age=0)
    with lab(tmp_path) as harness:
        harness.resources.spool.set_meta(endings.SEARCHES, stored)
    with lab(tmp_path) as harness:
        harness.look()
        assert folded(harness, 1) == os.path.getsize(path)


def test_an_edit_within_what_was_searched_is_found(tmp_path: Path, harness: Lab) -> None:
    """The newline comes in the middle of it, and the file has its old size."""
    path = write(tmp_path, 1, age=0)
    start = os.path.getsize(path)
    with open(path, "ab") as file:
        file.write(b"x" * (2 * MIB))
    changed(harness, path)
    drain(harness)
    with open(path, "r+b") as file:
        file.seek(start + MIB)
        file.write(b"\n")
    changed(harness, path)
    drain(harness)
    assert folded(harness, 1) == start + MIB + 1


def test_an_unended_file_that_changes_all_the_time_is_searched_at_a_bounded_rate(tmp_path: Path) -> None:
    """Each change may hide a newline anywhere; after a search of 32 MiB the next one from the start waits 2 s."""
    now = 0.0
    with lab(tmp_path) as harness:
        harness.capture_loop.turn = Turn(slice=SLICE)
        harness.resources.ingest = replace(harness.resources.ingest, endings=endings.Endings(lambda: now))
        path = write(tmp_path, 1, age=0)
        with open(path, "ab") as file:
            file.write(b"x" * (32 * MIB))
        changed(harness, path)
        drain(harness)
        first = harness.resources.ingest.endings.bytes_read

        def edit(mark: bytes) -> None:
            with open(path, "r+b") as file:
                file.seek(MIB)
                file.write(mark)
            changed(harness, path)
            drain(harness)

        edit(b"a")
        second = harness.resources.ingest.endings.bytes_read
        assert 0 < second - first <= 32 * MIB
        edit(b"b")
        assert harness.resources.ingest.endings.bytes_read == second
        assert harness.queue.retries.next() < math.inf, "it is not forgotten"
        now += 32 * MIB / endings.RATE
        edit(b"\n")
        assert folded(harness, 1) == MIB + 1


def test_a_very_long_unended_record_is_reported_until_it_ends(tmp_path: Path, harness: Lab) -> None:
    """It counts as skipped in `status`, with the reason; once its line ends, nothing is wrong any more."""
    path = write(tmp_path, 1, age=0)
    with open(path, "ab") as file:
        file.write(b'{"text":"')
        for _ in range(65):
            file.write(b"x" * MIB)
    changed(harness, path)
    drain(harness)
    (trouble,) = harness.resources.spool.stats.troubles(3)
    assert (trouble.path, "no end after 65 MiB" in trouble.reason) == (path, True)
    with open(path, "ab") as file:
        file.write(b'"}\n')
    changed(harness, path)
    drain(harness)
    assert harness.resources.spool.stats.troubles(3) == []
    assert folded(harness, 1) == os.path.getsize(path)


def test_a_restart_during_the_search_searches_on(tmp_path: Path) -> None:
    """What was searched is only in memory, and the checkpoint says that the file was not read to its end."""
    path = write(tmp_path, 1, age=0)
    with open(path, "ab") as file:
        file.write(b"x" * (20 * MIB) + b"\n")
    with lab(tmp_path) as harness:
        harness.capture_loop.turn = Turn(slice=SLICE)
        changed(harness, path)
        assert folded(harness, 1) < os.path.getsize(path)
    with lab(tmp_path) as harness:
        harness.look()
        assert folded(harness, 1) == os.path.getsize(path)


def test_a_large_document_that_is_rewritten_all_the_time_rests_between_two_reads(tmp_path: Path) -> None:
    """Each change means to read it as a whole: 64 MiB twice a second would be all that the daemon does."""
    now = 100.0
    retries = Retries()
    source = next(source for source in find_sources() if source.tool == "claude-code")
    (place,) = locate([(source, Root(path="/x"))], f"/x/-x/{session(1)}.jsonl")
    assert not retries.rests(place.path, place.path, now)
    retries.note(place.path, place, Outcome(cost=64 * MIB), now)
    reads = 0
    for _ in range(80):
        now += 0.25
        if not retries.rests(place.path, place.path, now) or retries.due(now):
            reads += 1
            retries.note(place.path, place, Outcome(cost=64 * MIB), now)
    assert 8 <= reads <= 10, "every two seconds in twenty"
    retries.rests(place.path, place.path, now)
    assert retries.next() < math.inf, "the last change is read too"
    now += 60
    assert retries.due(now) == [place.path]
    assert retries.due(now) == []
    retries.note(place.path, place, Outcome(cost=MIB), now)
    assert not retries.rests(place.path, place.path, now), "a small one is read with each change"


def test_what_a_document_costs_is_its_size(tmp_path: Path) -> None:
    """A document costs its size even if nothing in it is new; a file of lines costs what was added."""
    chat = tmp_path / "home/.continue/sessions/5f1d7c1e-0000-4000-8000-000000000009.json"
    chat.parent.mkdir(parents=True)
    chat.write_text(json.dumps({"sessionId": chat.stem, "title": "x", "workspaceDirectory": "/x", "history": []}))
    lines = write(tmp_path, 1, age=0)
    with lab(tmp_path) as harness:
        for path, cost in ((str(chat), chat.stat().st_size), (lines, 0)):
            (place,) = locate(harness.resources.roots, path)
            assert ingest(harness.resources.ingest, place).cost == cost
