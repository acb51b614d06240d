"""A stream that waits for space in the outbox is read on as soon as there is space, whichever thread is faster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from sessiond.daemon.messages import MoreRoom
from sessiond.ingest import Index, IngestContext, Location, Outcome, Turn, context, ingest
from sessiond.ingest import location as locating
from sessiond.ingest.catch_up import can_catch_up, catch_up
from sessiond.sources.base import Root, Source, Unit
from sessiond.spool.rows import StreamState
from sessiond.spool.safety import State
from support.capture import Lab, lab, session, write
from support.harness import CLAUDE, SESSION, claude, daemon_harness, encode

SPACE = 1 << 20


def test_space_that_a_push_makes_during_an_attempt_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt found the outbox full. That says nothing about the stream, so it must not be skipped."""
    with daemon_harness(tmp_path, budget=1) as harness:
        harness.write(CLAUDE, claude(SESSION, 1))
        harness.scan()
        full = harness.ingesting

        def attempt(_: IngestContext, location: Location, turn: Turn) -> Outcome:
            outcome = ingest(full, location, turn)
            full.spool.outbox.invalidate_size()
            with full.spool.transaction():
                full.spool.connection.execute("DELETE FROM segment")  # as a push does
            return outcome

        with full.spool.transaction():
            full.spool.outbox.add(1, 9, 0, 1, bytes(SPACE), harness.now_ms)
        monkeypatch.setattr("sessiond.ingest.catch_up.ingest", attempt)
        stuck: set[int] = set()
        catch_up(replace(full, budget=SPACE), limit=1, stuck=stuck)
        assert not stuck
        assert can_catch_up(replace(full, budget=SPACE))


def test_a_file_that_is_committed_after_the_push_that_made_space_is_read_on(tmp_path: Path) -> None:
    with lab(tmp_path) as harness:
        leave_behind(harness, write(tmp_path, 1, age=0))
        harness.report(write(tmp_path, 2, age=0))
        harness.turn()
        harness.turn()
        assert not streams(harness)


def test_a_push_that_fails_in_the_end_still_reports_the_space_that_it_made(tmp_path: Path) -> None:
    """Part of it was stored, and only that makes space. The endpoint that `lab` configures answers nothing."""
    with lab(tmp_path) as harness:
        harness.engine.upload_loop.push_all()
        assert MoreRoom() not in harness.engine.inboxes.capture.take()
        leave_behind(harness, write(tmp_path, 1, age=0))
        harness.engine.upload_loop.push_all()
        assert MoreRoom() in harness.engine.inboxes.capture.take()


def test_a_full_outbox_causes_no_attempts(tmp_path: Path) -> None:
    with daemon_harness(tmp_path, budget=1) as harness:
        harness.write(CLAUDE, claude(SESSION, 1))
        harness.scan()
        with harness.spool.transaction():
            harness.spool.outbox.add(1, 9, 0, 1, b"x", harness.now_ms)
        assert harness.spool.catalog.has_behind()
        assert not can_catch_up(harness.ingesting)


@pytest.mark.parametrize(("apart", "left"), [(True, 2), (False, 0)])
def test_a_file_that_was_cut_and_then_deleted_waits_no_longer(tmp_path: Path, apart: bool, left: int) -> None:
    """The outbox was full. The link still has the first lines: they are pushed, and the others count as lost.

    `apart`: each line was captured by itself. What was captured together can't be recognized by a part of it.
    """
    with daemon_harness(tmp_path, budget=1) as harness:
        written = [encode(claude(SESSION, number)) for number in range(4)]
        for some in [[line] for line in written] if apart else [written]:
            path = harness.write(CLAUDE, *some)
            harness.scan()
        os.truncate(path, sum(map(len, written[:2])) + 9)
        os.unlink(path)
        harness.scan()
        harness.ingesting = replace(harness.ingesting, budget=SPACE)
        harness.settle()
        (stream,) = (each for each in harness.spool.safety.unsafe() if each.session == SESSION)
        assert (stream.state, stream.lost_bytes) == (State.LOST, sum(map(len, written[left:])))
        if left:
            assert harness.held(SESSION) == b"".join(written[:left])


def test_what_was_lost_stays_lost_when_the_tool_begins_the_file_again(tmp_path: Path) -> None:
    """The lost bytes are those of an earlier generation then. The new one is complete, and changes nothing of that."""
    with daemon_harness(tmp_path, budget=1) as harness:
        first = [encode(claude(SESSION, number)) for number in range(3)]
        path = harness.write(CLAUDE, *first)
        harness.scan()
        os.unlink(path)
        for pin in Path(harness.ingesting.pins.directory).iterdir():
            pin.unlink()
        harness.ingesting = replace(harness.ingesting, budget=SPACE)
        harness.settle()
        assert harness.spool.safety.total().lost_bytes == len(b"".join(first))
        path = harness.write(CLAUDE, claude(SESSION, 7), claude(SESSION, 8))
        harness.settle()
        harness.settle()
        assert harness.held(SESSION) == Path(path).read_bytes()
        counts = harness.spool.safety.total()
        assert (counts.lost, counts.lost_bytes) == (1, len(b"".join(first)))


def test_waiting_streams_share_one_index_of_the_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are hundreds of roots. An index of them for each stream costs more than reading a short one."""
    built: list[int] = []

    class CountedIndex(Index):
        def __init__(self, roots: Sequence[tuple[Source, Root]]) -> None:
            built.append(len(roots))
            super().__init__(roots)

    with daemon_harness(tmp_path, budget=0) as harness:
        for number in range(5):
            harness.write(f"{CLAUDE.rpartition('/')[0]}/{session(number)}.jsonl", claude(session(number), 1))
        harness.scan()
        waiting = len(harness.spool.catalog.behind(9))
        monkeypatch.setattr(context, "Index", CountedIndex)
        catch_up(replace(harness.ingesting, budget=SPACE), limit=9)
        assert (waiting, len(harness.spool.catalog.behind(9))) == (5, 0)
    assert len(built) == 1


def test_the_shared_index_knows_roots_that_are_added_later(tmp_path: Path) -> None:
    with daemon_harness(tmp_path) as harness:
        roots = list(harness.ingesting.roots)
        ingesting = replace(harness.ingesting, roots=roots)
        path = f"{harness.home}/elsewhere/-p/{SESSION}.jsonl"
        assert not ingesting.index(path)
        source = next(source for source, _ in roots if source.tool == "claude-code")
        roots.append((source, Root(path=f"{harness.home}/elsewhere")))
        assert [location.path for location in ingesting.index(path)] == [path]
        assert not replace(ingesting, roots=[]).index(path)


def leave_behind(harness: Lab, path: str) -> None:
    """Capture a file while the outbox has no space; nothing is queued to try it again."""
    harness.queue.streams_wait = False
    ingesting = harness.resources.ingest
    for location in harness.capture_loop.scanner.locate(path):
        ingest(replace(ingesting, budget=0), location)
    assert [stream.queued for stream in streams(harness)] == [0]


def streams(harness: Lab) -> list[StreamState]:
    """Return the streams that wait."""
    catalog = harness.resources.spool.catalog
    return [catalog.stream(number) for number in catalog.behind(9)]


def test_a_flat_root_is_not_asked_about_files_in_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claude Code's history is above its transcripts, and a start looks up each of thousands of them."""
    asked: list[str] = []
    real = locating.find_unit

    def count(source: Source, root: Root, relative: str) -> Unit | None:
        asked.append(root.path)
        return real(source, root, relative)

    monkeypatch.setattr(locating, "find_unit", count)
    with daemon_harness(tmp_path) as harness:
        (found,) = harness.places(f"{harness.home}/{CLAUDE}")
        (history,) = harness.places(f"{harness.home}/.claude/history.jsonl")
    assert (found.source.tool, history.source.tool) == ("claude-code", "claude-code")
    assert asked == [f"{harness.home}/.claude/projects", f"{harness.home}/.claude"]


def test_a_file_that_comes_back_after_it_was_given_up_is_pushed(tmp_path: Path) -> None:
    """It was gone only while its stream was read again, so no scan has found it missing."""
    with daemon_harness(tmp_path, budget=0) as harness:
        path = Path(harness.write(CLAUDE, claude(SESSION, 1)))
        harness.push()
        harness.ingest(str(path))
        content = path.read_bytes()
        path.unlink()
        for pin in Path(harness.state, "pins").iterdir():
            pin.unlink()
        catch_up(harness.ingesting, limit=1)
        assert harness.spool.safety.total().lost == 1
        harness.ingesting = replace(harness.ingesting, budget=SPACE)
        path.write_bytes(content)
        harness.settle()
        assert harness.held(SESSION) == content
        assert harness.spool.safety.total().acknowledged == 1
