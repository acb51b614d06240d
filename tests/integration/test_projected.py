"""Documents, folders and databases in the real engine, with a tool that was made up for it."""

from __future__ import annotations

import json
import os
import sqlite3
import tracemalloc
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec.structs import replace

from sessiond.database import open_database
from sessiond.errors import Torn
from sessiond.ingest import Outcome, ingest
from sessiond.ingest.catch_up import catch_up
from sessiond.reader import LARGEST_DOCUMENT
from sessiond.session import Entry, Role
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Rows, Unit, UserDirs
from support.harness import CLAUDE, NOW_MS, SESSION, DaemonHarness, claude, daemon_harness
from support.power import CrashingSpool, Killed
from support.sample_tree import build

A, B, C = (str(uuid.UUID(int=number)) for number in (0xA, 0xB, 0xC))


class Made(BaseSource):
    """A tool with a database, documents of one or several sessions, and folders."""

    tool: ClassVar[str] = "made"

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.marks: dict[str, str] = {}

    def roots(self, places: UserDirs) -> Iterable[Root]:
        yield Root(path=f"{places.home}/.made")

    def unit(self, relative: str) -> Unit | None:
        name = relative.split("/")[0].removesuffix("-wal")
        if name.endswith(".db"):
            return Unit(kind=Kind.DATABASE, path=name)
        if name.endswith(".dir"):
            return Unit(kind=Kind.FOLDER, path=name)
        if name.endswith(".old"):
            return Unit(kind=Kind.DOCUMENT, timeless=True)
        return Unit(kind=Kind.DOCUMENT) if name.endswith(".json") else None

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        said = msgspec.json.decode(record)
        return Entry(time_ms=said.get("ms"), role=Role(said["role"]), key=said["text"])

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        if unit.kind is Kind.FOLDER:
            files = {"": b'{"%s": [%s]}' % (A.encode(), b",".join(files[name] for name in sorted(files)))}
        for content in files.values():
            for name, records in msgspec.json.decode(content, type=dict[str, list[msgspec.Raw]]).items():
                native_id, _, stream = name.partition("/")
                lines = [bytes(msgspec.json.format(record, indent=-1)) for record in records]
                yield Projection(
                    native_id=native_id, records=lines, stream=stream or "main", thread=not stream, parent=None
                )

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        self.marks = dict(database.marks)
        yield from database.rows("SELECT id, mark FROM session")

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        self.looked.append(native_id)
        rows = [text for (text,) in database.rows("SELECT text FROM message WHERE session = ? ORDER BY n", native_id)]
        if "bad" in rows:
            raise ValueError("a bad row")
        yield Projection(native_id=native_id, records=[said(text) for text in rows])
        yield Projection(native_id=native_id, records=[said("aside")], stream="aside", thread=False)


def said(text: str, **more: object) -> bytes:
    return json.dumps({"role": "user", "text": text, "ms": NOW_MS - 5_000_000} | more, separators=(",", ":")).encode()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        source = Made()
        made.ingesting = replace(made.ingesting, roots=[(source, Root(path=f"{made.home}/.made"))])
        os.makedirs(f"{made.home}/.made")
        yield made


@pytest.fixture
def source(harness: DaemonHarness) -> Made:
    found = harness.ingesting.roots[0][0]
    assert isinstance(found, Made)
    return found


class Store:
    """The tool's side: a connection that stays open, as that of a running tool."""

    def __init__(self, harness: DaemonHarness) -> None:
        self.path = f"{harness.home}/.made/store.db"
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA wal_autocheckpoint = 0")
        self.db.execute("CREATE TABLE session (id TEXT PRIMARY KEY, mark TEXT)")
        self.db.execute("CREATE TABLE message (session TEXT, n INTEGER, text TEXT, PRIMARY KEY (session, n))")

    def say(self, session: str, *texts: str) -> None:
        """Set the texts of a session."""
        self.db.execute("BEGIN")
        self.db.execute("DELETE FROM message WHERE session = ?", (session,))
        self.db.executemany("INSERT INTO message VALUES (?, ?, ?)", [(session, n, t) for n, t in enumerate(texts)])
        self.db.execute("INSERT OR REPLACE INTO session VALUES (?, ?)", (session, repr(texts)))
        self.db.execute("COMMIT")


@pytest.fixture
def store(harness: DaemonHarness) -> Iterator[Store]:
    made = Store(harness)
    yield made
    made.db.close()


def counts(harness: DaemonHarness) -> dict[str, int]:
    return {str(s.uuid): s.record.message_count for s in harness.spool.catalog.sessions() if s.record}


def gone(harness: DaemonHarness) -> set[str]:
    return {str(state.uuid) for state in harness.spool.catalog.sessions() if state.gone_ms is not None}


def looks(directory: str) -> dict[str, tuple[int, int, bytes]]:
    """Return the files of a directory with their times, except the -shm, which readers map."""
    found = {}
    for name in os.listdir(directory):
        if not name.endswith("-shm"):
            path = os.path.join(directory, name)
            found[name] = (os.stat(path).st_mtime_ns, os.stat(path).st_ino, Path(path).read_bytes())
    return found


def test_only_files_have_checkpoints(harness: DaemonHarness, store: Store) -> None:
    """A session in a container has none, or the next start would take it for a file that is gone."""
    document = Path(harness.home, ".made", "chats.json")
    for number in range(3):
        store.say(A, *(["one"] * (number + 1)))
        document.write_text(json.dumps({B: [json.loads(said(str(n))) for n in range(number + 1)], C: []}))
        document.write_text(document.read_text().replace('"' + C + '": []', f'"{B}/aside": [{said("x").decode()}]'))
        harness.scan()
        assert {path for path, _ in harness.spool.catalog.checkpoints()} == {store.path, str(document)}


def test_the_checkpoint_of_a_document_moves_after_all_its_streams(tmp_path: Path) -> None:
    """If a kill comes between two of them, the old checkpoint is kept, so the document counts as changed and not as
    new.
    """
    with daemon_harness(tmp_path, open_spool=CrashingSpool) as harness:

        def reopen() -> None:
            harness.close()
            harness.open()
            harness.ingesting = replace(harness.ingesting, roots=[(Made(), Root(path=f"{harness.home}/.made"))])

        reopen()
        os.makedirs(f"{harness.home}/.made")
        document = Path(harness.home, ".made", "chat.json")
        one, two, aside = (said(text).decode() for text in ("one", "two", "aside"))
        document.write_text(f'{{"{A}": [{one}], "{A}/aside": [{aside}]}}')
        harness.scan()
        before = harness.spool.catalog.file(str(document))
        assert before is not None and before.checkpoint is not None
        document.write_text(f'{{"{A}": [{one}, {two}], "{A}/aside": [{aside}, {two}]}}')
        kept = 0
        for steps in range(20):
            harness.spool.steps = steps  # type: ignore[attr-defined]
            try:
                harness.ingest(str(document))
                break
            except Killed:
                reopen()
            after = harness.spool.catalog.file(str(document))
            assert after is not None and after.checkpoint is not None
            kept += after.checkpoint == before.checkpoint and counts(harness) == {A: 2}
        assert kept, "it died after the first stream was stored"
        after = harness.spool.catalog.file(str(document))
        assert after is not None and after.checkpoint != before.checkpoint


# Databases


def test_what_is_only_in_the_wal_is_read(harness: DaemonHarness, store: Store) -> None:
    """A running tool's database file does not change; its -wal does, and names the database."""
    before = os.stat(store.path)
    store.say(A, "one", "two")
    harness.ingest(f"{store.path}-wal")
    assert counts(harness) == {A: 2}
    store.say(A, "one", "two", "three")
    assert os.stat(store.path).st_mtime_ns == before.st_mtime_ns
    harness.ingest(f"{store.path}-wal")
    assert counts(harness) == {A: 3}
    record = harness.spool.catalog.session(uuid.UUID(A)).record
    assert record.source_path == f"{store.path}::{A}"


def test_reading_a_database_changes_no_file(harness: DaemonHarness, store: Store) -> None:
    """An open store and a closed one stay untouched: SQLite itself would put a -wal beside the closed one."""
    directory = os.path.dirname(store.path)
    store.say(A, "one")
    before = looks(directory)
    harness.scan()
    assert looks(directory) == before
    store.db.close()
    assert sorted(os.listdir(directory)) == ["store.db"]
    before = looks(directory)
    harness.scan()
    assert looks(directory) == before
    assert sorted(os.listdir(directory)) == ["store.db"]


def test_a_writer_that_comes_meanwhile_is_noticed(harness: DaemonHarness, store: Store) -> None:
    """A closed store is read without locks, so what was read while its tool opened it is discarded."""
    store.say(A, "one")
    store.db.close()
    database = open_database(store.path)
    again = sqlite3.connect(store.path, isolation_level=None)
    again.execute("INSERT INTO session VALUES ('x', 'y')")
    with pytest.raises(Torn):
        list(database.rows("SELECT id FROM session"))
    again.close()
    database.close()


def test_a_database_does_not_wake_its_own_reader(harness: DaemonHarness, store: Store, source: Made) -> None:
    """After a read, no file appears changed."""
    store.say(A, "one")
    harness.scan()
    source.looked.clear()
    harness.scan()
    harness.ingest(f"{store.path}-wal")
    assert source.looked == []


def test_only_the_changed_session_is_read(harness: DaemonHarness, store: Store, source: Made) -> None:
    """Watermarks decide; the source gets those of the last scan."""
    for name in (A, B, C):
        store.say(name, "one")
    harness.scan()
    source.looked.clear()
    store.say(B, "one", "two")
    harness.scan()
    assert source.looked == [B]
    assert source.marks == dict.fromkeys((A, B, C), repr(("one",)))
    assert counts(harness) == {A: 1, B: 2, C: 1}


def test_in_place_updates_and_deletions_are_seen(harness: DaemonHarness, store: Store) -> None:
    """A change by the tool begins a generation that keeps the unchanged part; earlier generations stay."""
    store.say(A, "one", "two", "thr")
    harness.settle()
    store.say(A, "one", "two", "three")
    harness.settle()
    assert harness.held(A) == b"".join(said(text) + b"\n" for text in ("one", "two", "three"))
    store.say(A, "one")
    harness.settle()
    assert harness.held(A) == said("one") + b"\n"
    assert harness.held(A, generation=1) == b"".join(said(text) + b"\n" for text in ("one", "two", "three"))
    assert counts(harness) == {A: 1}


def test_a_transaction_need_not_settle(harness: DaemonHarness, store: Store) -> None:
    """A tool that rewrites a row twice a second delays nothing: each commit is complete."""
    harness.ingesting = replace(harness.ingesting, settle_ms=10**9)
    harness.now_ms = os.stat(store.path).st_mtime_ns // 1_000_000 + 1000
    store.say(A, "one", "tw")
    store.say(B, "one")
    harness.scan()
    store.say(A, "one", "two")
    store.say(B, "one", "two")
    assert harness.ingest(store.path) == [Outcome(read=2 * len(said("two") + b"\n"), changed=True)]
    assert counts(harness) == {A: 2, B: 2}


def test_no_session_is_reported_as_emptied(harness: DaemonHarness, store: Store) -> None:
    """A session without rows stays what it was."""
    store.say(A, "one", "two")
    harness.settle()
    store.say(A)
    harness.settle()
    assert counts(harness) == {A: 2}
    assert len(harness.held(A).splitlines()) == 2


def test_a_deleted_session_is_gone_and_may_come_back(harness: DaemonHarness, store: Store) -> None:
    """Rule 4: gone at the source is a note, and the note can be taken back."""
    store.say(A, "one")
    store.say(B, "one")
    harness.scan()
    store.db.execute("DELETE FROM session WHERE id = ?", (A,))
    harness.scan()
    assert gone(harness) == {A}
    store.say(A, "one")
    harness.scan()
    assert gone(harness) == set()
    assert counts(harness) == {A: 1, B: 1}


def test_a_database_goes_with_all_its_sessions(harness: DaemonHarness, store: Store, source: Made) -> None:
    """When it comes back unchanged, nothing is read for it, and what was deleted before stays deleted."""
    for name in (A, B, C):
        store.say(name, "one")
    store.db.close()
    harness.scan()
    away = sqlite3.connect(store.path, isolation_level=None)
    away.execute("DELETE FROM session WHERE id = ?", (C,))
    away.close()
    harness.scan()
    os.rename(store.path, f"{harness.home}/elsewhere")
    harness.now_ms += 1000
    harness.scan()
    assert gone(harness) == {A, B, C}
    source.looked.clear()
    os.rename(f"{harness.home}/elsewhere", store.path)
    harness.scan()
    assert gone(harness) == {C}
    assert source.looked == []


def test_a_bad_session_stops_no_other(harness: DaemonHarness, store: Store, source: Made) -> None:
    """Rule 9: it is reported, and read when its tool has repaired it."""
    store.say(A, "bad")
    store.say(B, "one")
    (outcome,) = harness.ingest(store.path)
    assert outcome.trouble == f"session {A}: it can't be parsed: a bad row"
    assert harness.spool.catalog.file(store.path).trouble == outcome.trouble
    assert counts(harness) == {B: 1}
    store.say(A, "good")
    (outcome,) = harness.ingest(store.path)
    assert outcome.trouble is None
    assert counts(harness) == {A: 1, B: 1}


def test_what_is_no_database_is_trouble(harness: DaemonHarness) -> None:
    path = harness.write(".made/store.db", b"not a database at all" * 1000)
    (outcome,) = harness.ingest(path)
    assert outcome.trouble is not None
    assert not outcome.retry


def test_transcripts_that_wait_are_caught_up(harness: DaemonHarness, store: Store) -> None:
    """Rule 5: without room the records go on, and each stream of each kind of store is read later."""
    harness.ingesting = replace(harness.ingesting, budget=0)
    store.say(A, *(f"line {n}" for n in range(100)))
    document(harness, "d.json", {B: ["one", "two"], f"{B}/sub": ["three"]})
    document(harness, "several.json", {str(uuid.UUID(int=7)): ["one"], str(uuid.UUID(int=8)): ["two"]})
    harness.scan()
    harness.write(".made/f.dir/1", said("four"))
    harness.scan()
    behind = harness.spool.catalog.behind(100)
    assert len(behind) == 7  # the folder and the store have one session, each a stream of it
    harness.ingesting = replace(harness.ingesting, budget=512 << 20)
    while catch_up(harness.ingesting, limit=1):
        pass
    assert harness.spool.catalog.behind(100) == []
    assert harness.spool.stats.totals().lost_bytes == 0
    harness.settle()
    assert len(harness.held(A).splitlines()) == 100
    assert harness.held(B, "sub") == said("three") + b"\n"


# Documents


def test_records_that_are_read_together_are_pushed_together(harness: DaemonHarness) -> None:
    """One segment up to its limit, not one a record: each costs a row, a frame and a line of a request."""
    path = document(harness, "a.json", {A: [f"said {number}" for number in range(100)]})
    harness.ingest(path)
    assert harness.spool.stats.waiting().segments == 1


def document(harness: DaemonHarness, name: str, sessions: Mapping[str, list[str]], mode: str = "wb") -> str:
    content = {key: [json.loads(said(text)) for text in texts] for key, texts in sessions.items()}
    return harness.write(f".made/{name}", json.dumps(content).encode(), mode=mode)


def test_a_rewritten_document_costs_what_changed(harness: DaemonHarness) -> None:
    """The longest common prefix is kept."""
    document(harness, "a.json", {A: [f"message {n}" for n in range(50)]})
    harness.settle()
    path = document(harness, "a.json", {A: [f"message {n}" for n in range(51)]})
    (outcome,) = harness.ingest(path)
    assert outcome.read == len(said("message 50")) + 1
    assert counts(harness) == {A: 51}
    assert harness.spool.catalog.session(uuid.UUID(A)).record.source_path == path


def test_lines_leave_room_for_what_no_link_can_protect(tmp_path: Path) -> None:
    """A long history fills the outbox at a first start. Documents that a tool then deletes are captured in time."""
    budget = 8 << 20
    with daemon_harness(tmp_path, budget=budget) as harness:
        for number in range(12):
            harness.write(CLAUDE, claude(SESSION, number, text=os.urandom(1 << 20).hex()))
        harness.scan()
        assert harness.spool.outbox.size >= budget // 4 * 3
        build("gemini-cli/0.25-document", harness.home)
        harness.scan()
        waiting = harness.spool.stats.waiting()
        assert (waiting.behind, harness.spool.stats.totals().unprotected) == (1, 0)
        assert harness.spool.outbox.size < budget


def test_what_waits_of_a_document_counts_as_unprotected(harness: DaemonHarness) -> None:
    """No hard link keeps it, and `status` must not look as if one did."""
    harness.ingesting = replace(harness.ingesting, budget=0)
    harness.ingest(document(harness, "a.json", {A: ["one", "two"]}))
    assert harness.spool.stats.totals().unprotected == 1
    assert os.listdir(harness.ingesting.pins.directory) == []
    harness.ingesting = replace(harness.ingesting, budget=512 << 20)
    harness.settle()
    assert harness.spool.stats.totals().unprotected == 0


def test_a_document_that_fits_in_no_memory_is_named_and_stops_no_other(harness: DaemonHarness) -> None:
    """It has to be parsed as a whole. One of gigabytes would end the daemon, and each one after a restart."""
    path = document(harness, "a.json", {A: ["one"]})
    harness.settle()
    os.truncate(path, LARGEST_DOCUMENT + 1)
    folder = os.path.dirname(document(harness, "x.dir/1", {B: ["two"]}))
    with open(f"{folder}/2", "wb") as file:
        os.truncate(file.fileno(), LARGEST_DOCUMENT + 1)
    tracemalloc.start()
    outcomes = harness.ingest(path) + harness.ingest(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ["256 MiB" in (outcome.trouble or "") for outcome in outcomes] == [True, True]
    assert peak < 8 << 20
    document(harness, "c.json", {C: ["three"]})
    harness.settle()
    assert counts(harness) == {A: 1, C: 1}


@pytest.mark.parametrize("manner", ["truncate", "ftruncate", "rename"])
def test_a_rewrite_is_met_at_any_moment(harness: DaemonHarness, manner: str) -> None:
    """The session is the old or the new one and never less, whatever part of the document was written."""
    old, new = ["one", "two", "three"], ["one", "two", "III", "four"]
    path = document(harness, "a.json", {A: old})
    harness.settle()
    target = path if manner != "rename" else f"{path}.tmp"
    content = json.dumps({A: [json.loads(said(text)) for text in new]}).encode()
    with open(target, "r+b" if manner == "ftruncate" else "wb") as file:
        harness.scan()
        for start in range(0, len(content), 40):
            file.write(content[start : start + 40])
            file.flush()
            for outcome in harness.ingest(path):
                assert outcome.trouble is None or outcome.retry
            assert counts(harness) in ({A: 3}, {A: 4})
        file.truncate()
    os.rename(target, path)
    harness.settle()
    assert counts(harness) == {A: 4}
    assert gone(harness) == set()


def test_a_document_that_stays_broken_is_trouble(harness: DaemonHarness) -> None:
    """A document that was just written may be incomplete and is tried again. If it stays so, it is reported once."""
    path = harness.write(".made/a.json", b'{"a": [')
    harness.now_ms = os.stat(path).st_mtime_ns // 1_000_000 + 500
    assert [outcome.retry for outcome in harness.ingest(path)] == [True]
    harness.now_ms += 100_000
    (outcome,) = harness.ingest(path)
    assert not outcome.retry
    assert harness.spool.catalog.file(path).trouble == outcome.trouble
    document(harness, "a.json", {A: ["one"]})
    harness.ingest(path)
    assert harness.spool.catalog.file(path).trouble is None
    assert counts(harness) == {A: 1}


def test_an_empty_document_is_nothing(harness: DaemonHarness) -> None:
    path = harness.write(".made/a.json", b"")
    assert harness.ingest(path) == [Outcome()]


def test_a_copy_adds_nothing_and_a_longer_one_goes_on(harness: DaemonHarness) -> None:
    """A tool that copies or migrates a session leaves it in two files: it is one session, counted once."""
    document(harness, "1.json", {A: ["one", "two"]})
    document(harness, "2.json", {A: ["one"]})
    harness.settle()
    document(harness, "3.json", {A: ["one", "two", "three"]})
    harness.settle()
    assert counts(harness) == {A: 3}
    document(harness, "4.json", {A: ["one", "other"]})
    harness.settle()
    assert counts(harness) == {A: 4}
    document(harness, "4.json", {A: ["one", "other", "more"]})
    harness.settle()
    streams = harness.spool.catalog.streams(harness.spool.catalog.session(uuid.UUID(A)).id)
    assert [stream.generation for stream in streams] == [0, 0]
    assert counts(harness) == {A: 5}


def test_a_session_that_left_a_document_is_gone(harness: DaemonHarness) -> None:
    document(harness, "a.json", {A: ["one"], B: ["two"]})
    harness.scan()
    document(harness, "a.json", {A: ["one"], C: ["three"]})
    harness.scan()
    assert gone(harness) == {B}


def test_a_file_stands_in_for_the_times_of_its_records(harness: DaemonHarness) -> None:
    """The session started when the file was first written, as far as is known, and was last active now."""
    for number, texts in enumerate((["a"], ["a", "b"], ["c"])):
        content = {A: [{"role": "user", "text": text} for text in texts]}
        path = harness.write(".made/a.old", json.dumps(content).encode(), mode="wb")
        os.utime(path, ns=(0, (NOW_MS - 10_000_000 + number * 1000) * 1_000_000))
        harness.scan()
    record: Any = harness.spool.catalog.session(uuid.UUID(A)).record
    assert record.started_at.timestamp() * 1000 == NOW_MS - 10_000_000
    assert record.ended_at.timestamp() * 1000 == NOW_MS - 10_000_000 + 2000


# Folders


def test_a_folder_is_one_session(harness: DaemonHarness) -> None:
    """Files are added, and an empty one counts as half-written."""
    path = harness.write(".made/f.dir/1", said("one"), mode="wb")
    harness.write(".made/f.dir/deep/2", said("two"), mode="wb")
    harness.ingest(path)
    assert counts(harness) == {A: 2}
    other = harness.write(".made/f.dir/3", b"")
    assert [outcome.retry for outcome in harness.ingest(other)] == [True]
    harness.write(".made/f.dir/3", said("three"))
    harness.ingest(other)
    assert counts(harness) == {A: 3}
    assert harness.spool.catalog.session(uuid.UUID(A)).record.source_path == os.path.dirname(path)


def test_places_name_the_unit_they_belong_to(harness: DaemonHarness) -> None:
    for name in ("store.db", "store.db-wal", "f.dir/1", "f.dir"):
        (place,) = harness.places(f"{harness.home}/.made/{name}")
        assert place.path in (f"{harness.home}/.made/store.db", f"{harness.home}/.made/f.dir")
        assert ingest(harness.ingesting, place) == Outcome()
