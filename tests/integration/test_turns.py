"""A session is captured and pushed in turn, even if another one grows faster than it is read or pushed."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path

from msgspec.structs import replace

from sessiond.ingest import Turn
from sessiond.ingest.pipeline import STEP
from sessiond.spool.fair_lock import FairLock
from sessiond.spool.rows import StreamState
from sessiond.upload import upload
from support.capture import DAY, Lab, lab, session, write
from support.harness import NOW_MS, SESSION, claude, daemon_harness, encode

OTHER = "5f1d7c1e-0000-4000-8000-000000000002"
LINE = 60_000


def lengthen(path: str, number: int, count: int) -> None:
    """Append this many bytes and one more line to a session."""
    with open(path, "ab") as file:
        for line in range(count // LINE + 1):
            file.write(encode(claude(session(number), 1000 + line, text=f"{line} " * (LINE // len(f"{line} ")))))


def tell(harness: Lab, *paths: str) -> None:
    """Report these paths as the watcher would, and run one turn of the loop."""
    harness.report(*paths)
    harness.turn()


def main(harness: Lab, number: int) -> StreamState:
    """Return the transcript of the n-th session in the spool."""
    stream = harness.resources.spool.catalog.find_stream(uuid.UUID(session(number)), "main")
    assert stream is not None
    return stream


def test_a_long_file_is_read_in_slices_and_a_line_elsewhere_waits_for_no_more_than_one(tmp_path: Path) -> None:
    """A tool that writes 50 MB a second must not keep other sessions from being captured."""
    hose, other = write(tmp_path, 1, age=0), write(tmp_path, 2, age=0)
    lengthen(hose, 1, 8 * STEP)
    with lab(tmp_path) as harness:
        harness.capture_loop.turn = Turn(slice=STEP)
        tell(harness, hose)
        assert STEP <= main(harness, 1).folded < os.path.getsize(hose) // 2
        assert session(1) in harness.captured(), "its record is there with the first slice"
        for line in range(2):
            with open(other, "ab") as file:
                file.write(encode(claude(session(2), 10 + line)))
            tell(harness, other)
            assert main(harness, 2).folded == os.path.getsize(other)
            assert main(harness, 1).folded < os.path.getsize(hose)
        while harness.queue.has_live:
            harness.turn()
        assert main(harness, 1).queued == main(harness, 1).folded == os.path.getsize(hose)
        assert main(harness, 1).generation == 0


def test_long_files_take_turns(tmp_path: Path) -> None:
    """A file gets its next slice only after the others had theirs."""
    hoses = [write(tmp_path, number, age=0) for number in (1, 2, 3)]
    for number, path in enumerate(hoses, 1):
        lengthen(path, number, 3 * STEP)
    with lab(tmp_path) as harness:
        harness.capture_loop.turn = Turn(slice=STEP)
        tell(harness, *hoses)
        while harness.queue.has_live:
            folded = [main(harness, number).folded for number in (1, 2, 3)]
            assert max(folded) - min(folded) <= 2 * STEP
            harness.turn()
        assert [main(harness, number).folded for number in (1, 2, 3)] == [os.path.getsize(path) for path in hoses]


def test_a_long_file_of_the_backlog_lets_live_changes_pass(tmp_path: Path) -> None:
    """It is read in slices too. Each asks whether the backlog may go on, and the file stays the next of it."""
    old, live = write(tmp_path, 1, age=0), write(tmp_path, 2, age=0)
    lengthen(old, 1, 3 * STEP)
    made = time.time() - DAY
    os.utime(old, (made, made))
    with lab(tmp_path) as harness:
        harness.capture_loop.turn = Turn(slice=STEP)
        harness.scan()
        harness.turn()
        assert main(harness, 2).folded == os.path.getsize(live)
        harness.turn()
        assert harness.turn().backlog == 1
        assert 0 < main(harness, 1).folded < os.path.getsize(old)
        while harness.queue.backlog:
            harness.turn()
        assert main(harness, 1).folded == os.path.getsize(old)


def test_what_is_edited_between_two_slices_is_found(tmp_path: Path) -> None:
    """A file that changed without growing is compared as a whole, even before it is read to its end."""
    path = write(tmp_path, 1, age=0)
    lengthen(path, 1, 3 * STEP)
    with lab(tmp_path) as harness:
        harness.capture_loop.turn = Turn(slice=STEP)
        harness.resources.ingest = replace(harness.resources.ingest, settle_ms=0)
        tell(harness, path)
        folded = main(harness, 1).folded
        assert folded < os.path.getsize(path)
        with open(path, "r+b") as file:
            file.seek(folded // 2)
            file.write(b"X")
        while harness.queue.has_live:
            harness.turn()
        stream = main(harness, 1)
        assert (stream.generation, stream.folded) == (1, os.path.getsize(path))


def test_a_restart_between_two_slices_reads_on(tmp_path: Path) -> None:
    """The file does not change any more: only its checkpoint shows that it was not read to its end."""
    path = write(tmp_path, 1, age=0)
    lengthen(path, 1, 3 * STEP)
    with lab(tmp_path) as harness:
        harness.capture_loop.turn = Turn(slice=STEP)
        tell(harness, path)
        assert main(harness, 1).folded < os.path.getsize(path)
    with lab(tmp_path) as harness:
        harness.look()
        assert main(harness, 1).folded == os.path.getsize(path)
        assert main(harness, 1).generation == 0


def test_a_stream_that_fills_every_batch_lets_another_go_before(tmp_path: Path) -> None:
    """It is always the stream that changed last, but a line of another session is in the next batch all the same."""
    with daemon_harness(tmp_path) as harness:
        hose = harness.write(f".claude/projects/-x/{SESSION}.jsonl", claude(SESSION, 0))
        other = harness.write(f".claude/projects/-x/{OTHER}.jsonl", claude(OTHER, 0))
        harness.settle()
        for line in range(1, 5):
            harness.write(hose, claude(SESSION, line, text=os.urandom(1 << 20).hex()))
        harness.write(other, claude(OTHER, 1))
        for file, ahead in ((other, 10), (hose, 20)):
            os.utime(file, (time.time() + ahead,) * 2)
        harness.scan()
        upload(harness.uploading, live_ms=NOW_MS)
        upload(harness.uploading, live_ms=NOW_MS)
        assert harness.held(OTHER) == Path(other).read_bytes()
        assert harness.spool.outbox.size > 0
        harness.settle()
        assert harness.held(SESSION) == Path(hose).read_bytes()


def test_the_lock_of_the_spool_is_fair(tmp_path: Path) -> None:
    """A thread that releases the spool and takes it again at once would keep it from the other for seconds."""
    gate, order = FairLock(), []

    def wait() -> None:
        with gate, gate:
            order.append("the other")

    other = threading.Thread(target=wait)
    with gate, gate:
        other.start()
        while not gate._turn.locked():
            time.sleep(0.001)
    with gate:
        order.append("again")
    other.join()
    assert order == ["the other", "again"]
