"""How long the capture blocks other writers of the spool, counted in bytes and sessions instead of seconds."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from msgspec.structs import replace

from sessiond.daemon.capture_loop import GROUP_BYTES, GROUP_FILES
from sessiond.endpoint.wire import RemotePosition
from sessiond.ingest import Turn
from sessiond.ingest.context import LONG_WORK
from sessiond.ingest.pipeline import STEP
from sessiond.reader import Digest
from sessiond.spool import Spool
from support.capture import Lab, lab, session, write
from support.harness import claude, encode
from support.sample_tree import build

MIB = 1 << 20


class Hold:
    """The work that is done in one transaction, while the spool is locked."""

    def __init__(self) -> None:
        self.read = 0
        self.records: set[str] = set()
        self.streams = 0
        """New streams that are stored."""


class Holds(Digest):
    """Counts, for each transaction, the bytes that are read in it, and the sessions that are stored.

    All bytes that are captured pass through the digest, so this is where they can be counted.
    """

    def __init__(self, spool: Spool, seed: int) -> None:
        super().__init__(seed)
        self.all = [Hold()]
        self._spool = spool
        spool.connection.set_trace_callback(self._trace)

    def __call__(self, *parts: bytes) -> bytes:
        if self._spool.connection.in_transaction:
            self.all[-1].read += sum(map(len, parts))
        return super().__call__(*parts)

    def _trace(self, statement: str) -> None:
        if statement.startswith("BEGIN"):
            self.all.append(Hold())
        self.all[-1].streams += statement.startswith("INSERT INTO stream")
        if statement.startswith("UPDATE session SET record"):
            self.all[-1].records.add(statement)  # which is traced again for each trigger


def count_holds(harness: Lab) -> Holds:
    """Count the work of each transaction from now on."""
    context = harness.resources.ingest
    holds = Holds(harness.resources.spool, context.digest._seed)
    harness.resources.ingest = replace(context, digest=holds)
    return holds


def make_home(base: Path) -> int:
    """Make a home with many small sessions, a long file and a long database; return the number of sessions."""
    for number in range(60):
        write(base, number, age=0, lines=1 + number % 7 * 60)
    path = write(base, 100, age=0)
    with open(path, "ab") as file:
        for line in range(200):
            file.write(encode(claude(session(100), line, text="lorem ipsum " * 8000)))
    store = os.path.join(build("opencode/1.18-database", str(base / "home")), ".local/share/opencode/opencode.db")
    with closing(sqlite3.connect(store)) as tool, tool:
        (known,) = tool.execute("SELECT id FROM session LIMIT 1").fetchone()
        copy_sessions(tool, known, 40)
    return 60 + 1 + 40


def copy_sessions(tool: sqlite3.Connection, known: str, count: int) -> None:
    """Copy a session of a database; every tenth is long."""
    for number in range(count):
        new = f"ses_{number:012x}ABCDEFGHIJKLMN"
        for table, key in (("session", "id"), ("message", "session_id"), ("part", "session_id")):
            cursor = tool.execute(f"SELECT * FROM {table} WHERE {key} = ?", (known,))
            names = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                values = dict(zip(names, row, strict=True)) | {key: new}
                if table != "session":
                    values["id"] = f"{values['id']}{number:04x}"
                # Sessions that begin at the same time are forks of one another, and are stored together.
                moved = number * 3_600_000
                values |= {name: values[name] + moved for name in ("time_created", "time_updated")}
                if table == "message":
                    values["data"] = values["data"].replace('"created":1775', f'"created":{1776 + number}')
                if table == "part":
                    values["message_id"] = f"{values['message_id']}{number:04x}"
                    if number % 10 == 0 and '"text"' in values["data"]:
                        values["data"] = values["data"].replace('"text":"', '"text":"' + "lorem ipsum " * 50_000, 1)
                marks = ", ".join("?" * len(values))
                tool.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values()))
        tool.execute(
            "INSERT OR IGNORE INTO event_sequence SELECT ?, seq, owner_id FROM event_sequence WHERE aggregate_id = ?",
            (new, known),
        )


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Lab]:
    make_home(tmp_path)
    with lab(tmp_path) as made:
        made.capture_loop.turn = Turn(slice=STEP)
        yield made


def test_no_transaction_waits_for_much_reading(tmp_path: Path, harness: Lab) -> None:
    """At a cold start, no writer waits until a long file, a long database session or many sessions are read."""
    holds = count_holds(harness)
    harness.look()
    captured = harness.captured()
    assert len(captured) >= 100
    assert max(hold.read for hold in holds.all) <= GROUP_BYTES + LONG_WORK
    assert max(len(hold.records) for hold in holds.all) <= GROUP_FILES
    assert len(holds.all) < 3 * len(captured), "small sessions share their commits"


def test_small_files_share_commits_of_two_megabytes(tmp_path: Path) -> None:
    """A push that is acknowledged meanwhile has to wait for such a commit."""
    size = 240_000
    for number in range(24):
        path = write(tmp_path, number, age=0)
        with open(path, "ab") as file:
            file.write(encode(claude(session(number), 9, text="x" * size)))
    with lab(tmp_path) as harness:
        holds = count_holds(harness)
        harness.look()
        longest = max(hold.read for hold in holds.all)
        assert 8 * size < longest < GROUP_BYTES + 2 * size


def test_a_new_file_of_some_length_needs_one_commit(tmp_path: Path) -> None:
    """It is read without a transaction. Its session, stream, bytes, checkpoint and record are then stored in one."""
    for number in range(6):
        with open(write(tmp_path, number, age=0), "ab") as file:
            file.write(encode(claude(session(number), 9, text="lorem ipsum " * (LONG_WORK // 10))))
    with lab(tmp_path) as harness:
        holds = count_holds(harness)
        harness.look()
        assert len(harness.captured()) == 6
        assert [len(hold.records) for hold in holds.all if hold.streams] == [1] * 6


def test_small_files_share_the_commit_of_a_longer_one(tmp_path: Path) -> None:
    """The longer one is read without a transaction, and before that, what was stored is committed."""
    for number in range(12):
        path = write(tmp_path, number, age=0)
        if number % 3 == 0:
            with open(path, "ab") as file:
                file.write(encode(claude(session(number), 9, text="lorem ipsum " * (LONG_WORK // 10))))
    with lab(tmp_path) as harness:
        holds = count_holds(harness)
        harness.look()
        assert len(harness.captured()) == 12
        stored = [len(hold.records) for hold in holds.all if hold.records]
        assert len(stored) <= 5, "the first small ones, and one for each of the longer ones"
        assert max(hold.read for hold in holds.all) < LONG_WORK


def test_a_backlog_writes_little_more_than_its_transcripts(tmp_path: Path) -> None:
    """Each commit writes the changed pages of some twenty tables and indexes once more."""
    numbers = Random(1)
    for number in range(24):
        text = " ".join(f"{numbers.getrandbits(32)}" for _ in range(10_000))
        with open(write(tmp_path, number, age=0), "ab") as file:
            file.write(encode(claude(session(number), 9, text=text)))
    with lab(tmp_path) as harness:
        log = f"{harness.resources.spool.path}-wal"
        harness.resources.spool.connection.execute("PRAGMA wal_autocheckpoint = 0")
        before = os.stat(log).st_size
        harness.look()
        kept = harness.resources.spool.outbox.size
        assert len(harness.captured()) == 24 and kept > MIB
        assert os.stat(log).st_size - before < 1.6 * kept


def test_a_lost_spool_is_rebuilt_without_long_transactions(tmp_path: Path, harness: Lab) -> None:
    """The endpoint's positions are compared with whole files: before the transaction, not in it."""
    harness.look()
    spool = harness.resources.spool
    stream = spool.catalog.find_stream(UUID(session(100)), "main")
    assert stream is not None and stream.folded > 4 * MIB
    session_state = spool.catalog.session_by_row(stream.session)
    held = RemotePosition(
        session=session_state.uuid, stream=stream.name, generation=3, length=stream.folded, sha256="0" * 64
    )
    with spool.transaction():
        spool.catalog.set_remote_position(stream.id, held)
    holds = count_holds(harness)
    harness.queue.streams_wait = True
    for _ in range(20):
        harness.turn()
    assert spool.catalog.stream(stream.id).remote_position is None
    assert max(hold.read for hold in holds.all) <= GROUP_BYTES + LONG_WORK


def test_a_failed_commit_of_a_group_keeps_the_ones_before(tmp_path: Path) -> None:
    """Committed files are not read again; the others stay queued."""
    for number in range(3 * GROUP_FILES):
        write(tmp_path, number, age=0)
    with lab(tmp_path) as harness:
        harness.scan()
        spool, commits = harness.resources.spool, 0

        class Full(Exception):
            pass

        def fail(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        spool.connection.set_trace_callback(fail)
        read = harness.capture_loop.read

        def failing(entry: object) -> object:
            if commits >= 2:
                raise Full
            return read(entry)  # type: ignore[arg-type]

        harness.capture_loop.read = failing  # type: ignore[method-assign,assignment]
        with pytest.raises(Full):
            for _ in range(10):
                harness.turn()
        harness.capture_loop.read = read  # type: ignore[method-assign]
        kept = harness.captured()
        assert 0 < len(kept) < 3 * GROUP_FILES
        harness.queue.restart()
        harness.look()
        assert len(harness.captured()) == 3 * GROUP_FILES


def test_a_group_ends_before_long_work_and_not_inside_a_transaction(tmp_path: Path) -> None:
    """Half of a transaction is never committed."""
    spool = Spool(str(tmp_path))
    with spool.group():
        assert spool.in_group
        with spool.transaction():
            spool.set_meta("a", "1")
            spool.end_group()
            assert spool.connection.in_transaction
        assert spool.in_group
        spool.end_group()
        assert not spool.connection.in_transaction and not spool.in_group
        spool.end_group()
        with spool.transaction():
            spool.set_meta("b", "2")
        assert not spool.connection.in_transaction
    with pytest.raises(KeyError), spool.group():
        spool.set_meta("c", "3")
        raise KeyError
    assert [spool.meta(key) for key in "abc"] == ["1", "2", None]
    with spool.transaction(), spool.group():
        spool.end_group()
        assert spool.connection.in_transaction, "a group inside a transaction is a part of it"
    spool.close()
