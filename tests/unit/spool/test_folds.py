"""The cost of storing a fold depends on the new line, not on the size of the session."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.session import Entry, Fold, Role
from sessiond.spool import NAME, Spool
from sessiond.spool.folds import MAX_CACHED, MAX_CACHED_BYTES, PAGE
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness

NOW_MS = 1_790_000_000_000


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def written(harness: DaemonHarness, number: int) -> int:
    """Append a line and count the bytes that its capture writes."""
    harness.spool.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    path = harness.write(CLAUDE, claude(SESSION, number))
    harness.ingest(path)
    return os.path.getsize(os.path.join(harness.state, NAME + "-wal"))


def test_the_cost_of_a_line_does_not_depend_on_the_length_of_its_session(harness: DaemonHarness) -> None:
    """For one line, only the end of a fold with 20,000 messages is written."""
    harness.ingest(harness.write(CLAUDE, claude(SESSION, 1)))
    short = [written(harness, number) for number in range(2, 10)]
    harness.ingest(harness.write(CLAUDE, *(claude(SESSION, number) for number in range(10, 20_010))))
    long = [written(harness, number) for number in range(20_010, 20_018)]
    assert max(long) <= max(short) + 4 * 4096
    harness.close()
    harness.open()  # none of it is in memory any more
    assert written(harness, 20_018) <= max(short) + 4 * 4096
    while harness.push().more:
        pass
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 20_018


KEYS = st.integers(0, 400)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 400)),
        st.tuples(st.just("rewind"), KEYS),
        st.tuples(st.just("start over"), KEYS),
        st.tuples(st.just("remember"), st.integers(0, 300)),
        st.tuples(st.just("forget"), KEYS),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_a_fold_comes_back_as_it_was_stored(steps: list[tuple[str, int]]) -> None:
    """It may grow, shrink or start over between two saves, and be cached or not."""
    number = 0
    with tempfile.TemporaryDirectory() as directory:
        spool = Spool(directory)
        with spool.transaction():
            session = spool.catalog.add_session(uuid.UUID(int=1), "claude-code", "1")
            stream = spool.catalog.add_stream(session, "main", thread=True, known=True)
        for what, count in steps:
            if what == "say":
                said = range(number, number := number + count)
                stream.fold.add((Entry(role=Role.ASSISTANT, key=str(one), model=f"m{one % 3}") for one in said), NOW_MS)
            elif what == "rewind":
                stream.fold.add([Entry(rewind=str(count))], NOW_MS)
            elif what == "start over":
                stream.fold = Fold(cwd="/w" * count)
            elif what == "remember":
                stream.fold.memory.update((f"key {one}", one) for one in range(count))
            else:
                stream.fold.memory.clear()
            with spool.transaction():
                spool.catalog.save_stream(stream)
                spool.catalog.cache_fold(stream)
            expected = msgspec.msgpack.encode(stream.fold)
            stored = spool.catalog.find_stream(uuid.UUID(int=1), "main")
            assert stored is not None
            assert msgspec.msgpack.encode(stored.fold) == expected
            stream = stored if count % 2 else spool.catalog.stream(stream.id)
            assert msgspec.msgpack.encode(stream.fold) == expected
        with spool.transaction():
            spool.catalog.forget_session(session)
        assert spool.connection.execute("SELECT count(*) FROM page").fetchone() == (0,)
        spool.close()


def test_a_stream_never_gets_the_fold_of_a_removed_one(tmp_path: Path) -> None:
    """SQLite may give the number of a purged session's stream to a new one."""
    spool = Spool(str(tmp_path))
    streams = []
    for number in (1, 2):
        with spool.transaction():
            session = spool.catalog.add_session(uuid.UUID(int=number), "claude-code", str(number))
            stream = spool.catalog.add_stream(session, "main", thread=True, known=True)
            streams.append(stream.id)
            if number == 1:
                stream.fold = Fold(cwd="/excluded")
                spool.catalog.save_stream(stream)
                spool.catalog.cache_fold(stream)
                spool.catalog.forget_session(session)
    assert streams[0] == streams[1]
    assert spool.catalog.stream(streams[1]).fold.cwd is None
    spool.close()


def test_the_cache_of_folds_is_bounded(tmp_path: Path) -> None:
    """The cache has a limit of folds and one of bytes, so sessions of gigabytes are not all kept in memory."""
    spool = Spool(str(tmp_path))
    with spool.transaction():
        session = spool.catalog.add_session(uuid.UUID(int=1), "claude-code", "1")
        for number in range(MAX_CACHED + 3):
            stream = spool.catalog.add_stream(session, str(number), thread=True, known=True)
            stream.fold.messages.keys += bytes(MAX_CACHED_BYTES // 3)
            spool.catalog.save_stream(stream)
            spool.catalog.cache_fold(stream)
            assert len(spool.catalog._cached) <= 2
        for number in range(MAX_CACHED + 3):
            stream = spool.catalog.add_stream(session, f"small {number}", thread=True, known=True)
            spool.catalog.save_stream(stream)
            spool.catalog.cache_fold(stream)
    assert len(spool.catalog._cached) == MAX_CACHED
    spool.close()


def test_a_row_with_the_ends_of_all_parts_needs_one_page() -> None:
    """A row has numbers and a name besides. A row that is longer than a page of SQLite's takes two."""
    assert 3 * PAGE + 400 < 4096
    assert 4 * (PAGE + 24) < 4096 - 8
