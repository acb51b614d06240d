"""Queries about waiting, parked and captured sessions: each returns only its own rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from sessiond.spool.rows import FileState
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode

OTHER = "5f1d7c1e-0000-4000-8000-000000000002"
OTHER_FILE = f".claude/projects/-home-dev-project/{OTHER}.jsonl"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def two_sessions(harness: DaemonHarness) -> tuple[str, str]:
    """Write two sessions of two lines each, the second one a minute later; return the paths of their files."""
    first = harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2))
    second = harness.write(OTHER_FILE, claude(OTHER, 61), claude(OTHER, 62, text="x" * 5000))
    return first, second


def test_a_rewrite_of_one_session_forgets_nothing_of_another(harness: DaemonHarness) -> None:
    """Captured extents belong to a stream: the other one still shares its first line with its next generation."""
    first, second = harness.write(CLAUDE, claude(SESSION, 1)), harness.write(OTHER_FILE, claude(OTHER, 61))
    harness.settle()
    harness.write(OTHER_FILE, claude(OTHER, 62, text="x" * 5000))
    harness.settle()
    Path(first).write_bytes(encode(claude(SESSION, 3)))
    harness.settle()
    Path(second).write_bytes(encode(claude(OTHER, 61)) + encode(claude(OTHER, 63)))
    harness.settle()
    streams = harness.get(f"/v1/sessions/testbox/{OTHER}/streams").json()["streams"]
    assert streams[0]["generations"][-1]["keep"] == len(encode(claude(OTHER, 61)))


def test_the_queue_counts_the_items_of_each_session(harness: DaemonHarness) -> None:
    """Each session's counts cover only its own items."""
    first, second = two_sessions(harness)
    harness.ingest(first)
    harness.ingest(second)
    queued = harness.spool.stats.queue()
    assert [(str(item.session), item.segments) for item in queued] == [(OTHER, 1), (SESSION, 1)]
    assert sum(item.bytes for item in queued) == harness.spool.outbox.size


def test_a_generation_without_new_bytes_is_in_the_queue(harness: DaemonHarness) -> None:
    """The tool dropped the last line: no byte waits, but the endpoint does not know the generation."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    path = harness.write(CLAUDE, claude(SESSION, 2))
    harness.settle()
    os.truncate(path, len(encode(claude(SESSION, 1))))
    harness.scan()
    for item in harness.spool.outbox.sessions(10):
        with harness.spool.transaction():
            harness.spool.outbox.acknowledge(item)
    assert [(item.segments, item.bytes) for item in harness.spool.stats.queue()] == [(1, 0)]


def test_dropping_what_is_parked_of_one_session_leaves_the_others_parked(harness: DaemonHarness) -> None:
    """`sessiond queue --drop ID` concerns one session."""
    two_sessions(harness)
    harness.scan()
    with harness.spool.transaction():
        for item in harness.spool.outbox.sessions(10):
            harness.spool.outbox.park_session(item.id, item.revision, "refused")
        dropped = harness.spool.outbox.drop(UUID(SESSION), harness.now_ms)
    assert dropped == 1
    assert [str(item.uuid) for item in harness.spool.outbox.parked()[0]] == [OTHER]


def test_the_last_activity_of_a_tool_is_that_of_its_newest_session(harness: DaemonHarness) -> None:
    """The order in which sessions were captured does not matter."""
    two_sessions(harness)
    harness.scan()
    (tool,) = harness.spool.stats.tools()
    newest = max(item.active_ms for item in harness.spool.outbox.sessions(10))
    oldest = min(item.active_ms for item in harness.spool.outbox.sessions(10))
    assert tool.active_ms == newest > oldest


def test_a_record_names_the_length_of_each_transcript_that_is_pushed(harness: DaemonHarness) -> None:
    """Readers see how much is still to come."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    assert harness.held_sessions()[SESSION]["streams"] == [
        {"name": "main", "generation": 0, "length": os.path.getsize(path)}
    ]


def test_a_record_names_no_transcript_that_is_never_pushed(harness: DaemonHarness) -> None:
    """If only the records of a tool are kept, its sessions must not wait for a transcript."""
    harness.close()
    harness.settings["sources"] = {"claude-code": {"transcripts": False}}
    harness.open()
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    assert harness.held_sessions()[SESSION].get("streams", []) == []


def test_a_session_of_a_database_is_forgotten_with_its_watermark_alone(harness: DaemonHarness) -> None:
    """If its watermark stayed, the session would not be read again once it is no longer excluded."""
    catalog = harness.spool.catalog
    with harness.spool.transaction():
        number = catalog.add_session(UUID(SESSION), "opencode", "one")
        stream = catalog.add_stream(number, "main", thread=True, known=True)
        catalog.save_file(FileState(path="/db::one", tool="opencode", stream=stream.id, checkpoint=None))
        for path, native_id in (("/db", "one"), ("/db", "two"), ("/other", "one")):
            catalog.set_mark(path, native_id, "7")
        catalog.forget_session(number)
    assert (catalog.marks("/db"), catalog.marks("/other")) == ({"two": "7"}, {"one": "7"})


def test_the_pins_of_a_forgotten_session_are_returned(harness: DaemonHarness) -> None:
    """A hard link that stayed would keep the content of an excluded session on the disk."""
    catalog = harness.spool.catalog
    with harness.spool.transaction():
        for name, pin in ((SESSION, "pin of one"), (OTHER, "pin of another")):
            number = catalog.add_session(UUID(name), "codex", name)
            stream = catalog.add_stream(number, "main", thread=True, known=True)
            catalog.save_file(FileState(path=f"/{name}", tool="codex", stream=stream.id, pin=pin))
        assert catalog.forget_session(number) == ["pin of another"]
    assert catalog.pins() == {"pin of one"}


def test_a_session_is_ongoing_although_no_file_of_it_is_left(harness: DaemonHarness) -> None:
    """The two are stored and listed separately."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.now_ms = 1_788_256_802_000  # a second after the line's time
    harness.scan()
    captured = harness.spool.catalog.session(UUID(SESSION))
    assert captured is not None and (captured.ongoing, captured.gone_ms) == (True, None)
    os.unlink(path)
    harness.now_ms += 5
    harness.scan()
    gone = harness.spool.catalog.session(UUID(SESSION))
    assert gone is not None and (gone.ongoing, gone.gone_ms) == (True, harness.now_ms)


def test_an_item_is_either_live_or_backlog(harness: DaemonHarness) -> None:
    """One that changed exactly at the given time is pushed with the live ones: it must not wait for both."""
    harness.settle()
    two_sessions(harness)
    harness.scan()
    outbox = harness.spool.outbox
    with harness.spool.transaction():
        for segment in outbox.segments(10, 1 << 20):
            outbox.acknowledge(segment)
    oldest = min(item.active_ms for item in outbox.sessions(10))
    for since_ms, live in ((oldest, 2), (oldest + 1, 1)):
        assert (len(outbox.sessions(10, since_ms)), outbox.has_backlog(since_ms)) == (live, live == 1)


def test_a_transcript_is_either_live_or_backlog(harness: DaemonHarness) -> None:
    """The last change of its file decides."""
    number = harness.spool.catalog.add_session(UUID(SESSION), "codex", "one")
    stream = harness.spool.catalog.add_stream(number, "main", thread=True, known=True)
    stream.rank = 5_000
    harness.spool.catalog.save_stream(stream)
    harness.spool.outbox.add(stream.id, 0, 0, 9, b"a frame", 5_000)
    for since_ms, live in ((5_000, 1), (5_001, 0)):
        found = harness.spool.outbox.segments(10, 1 << 20, since_ms)
        assert (len(found), harness.spool.outbox.has_backlog(since_ms)) == (live, live == 0)


@pytest.mark.parametrize(
    ("items", "size", "taken"), [(9, 60, 3), (9, 59, 2), (9, 30, 2), (9, 29, 1), (9, 1, 1), (2, 99, 2)]
)
def test_a_batch_takes_what_fits_exactly(harness: DaemonHarness, items: int, size: int, taken: int) -> None:
    """A batch has at least one segment, however large it is."""
    number = harness.spool.catalog.add_session(UUID(SESSION), "codex", "one")
    stream = harness.spool.catalog.add_stream(number, "main", thread=True, known=True)
    for offset, length in ((0, 10), (10, 20), (30, 30)):
        harness.spool.outbox.add(stream.id, 0, offset, length, bytes(length), 5_000)
    assert len(harness.spool.outbox.segments(items, size)) == taken


def test_the_queue_shows_since_when_the_oldest_item_waits(harness: DaemonHarness) -> None:
    """A transcript waits since it was queued, a record since its revision, which is a time."""
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    began = harness.now_ms
    harness.now_ms += 5_000
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()
    assert [item.oldest_ms for item in harness.spool.stats.queue()] == [began]
    record, segments = harness.spool.outbox.sessions(10)[0], harness.spool.outbox.segments(10, 1 << 20)
    with harness.spool.transaction():
        for segment in segments:
            harness.spool.outbox.acknowledge(segment)
    (item,) = harness.spool.stats.queue()
    assert (item.record, item.segments, item.oldest_ms) == (True, 0, record.revision)


def test_only_what_ends_at_the_endpoint_leaves_the_outbox(harness: DaemonHarness) -> None:
    """What goes further stays, and so do other generations; the bytes in the outbox are counted."""
    first, _ = two_sessions(harness)
    harness.ingest(first)
    (stream,) = harness.spool.catalog.streams(1)
    outbox = harness.spool.outbox
    end = stream.folded
    with harness.spool.transaction():
        outbox.add(stream.id, 0, end, 10, b"frame", harness.now_ms)
        outbox.add(stream.id, 1, 0, 5, b"other", harness.now_ms)
    before = outbox.size
    with harness.spool.transaction():
        outbox.drop_until(stream.id, 0, end + 9)
    assert [run[:3] for run in outbox.runs(stream.id)] == [(0, end, 10), (1, 0, 5)]
    assert outbox.size == len(b"frame") + len(b"other") < before
    assert harness.spool.catalog.progress(stream.id)[0] == end


def test_streams_that_grow_take_turns(harness: DaemonHarness) -> None:
    """Otherwise the one that grows faster than it is pushed would always be first."""
    outbox, streams = harness.spool.outbox, []
    number = harness.spool.catalog.add_session(UUID(SESSION), "codex", "one")
    for rank in (5_000, 6_000):
        stream = harness.spool.catalog.add_stream(number, f"main@{rank}", thread=True, known=True)
        stream.rank = rank
        harness.spool.catalog.save_stream(stream)
        outbox.add(stream.id, 0, 0, 9, b"a frame", rank)
        streams.append(stream.id)
    taken = [[segment.stream_id for segment in outbox.segments(9, 1, live_ms=5_000)] for _ in range(4)]
    assert taken == [[streams[1]], [streams[0]]] * 2
