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
from sessiond.ingest.backlog import catch_up
from sessiond.reader import LARGEST_DOCUMENT
from sessiond.session import Entry, Role
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Rows, Unit, UserDirs
from support.harness import CLAUDE, NOW_MS, SESSION, Household, claude, household
from support.power import Killed, MortalSpool
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
def house(tmp_path: Path) -> Iterator[Household]:
    with household(tmp_path) as made:
        source = Made()
        made.ingesting = replace(made.ingesting, roots=[(source, Root(path=f"{made.home}/.made"))])
        os.makedirs(f"{made.home}/.made")
        yield made


@pytest.fixture
def source(house: Household) -> Made:
    found = house.ingesting.roots[0][0]
    assert isinstance(found, Made)
    return found


class Store:
    """The tool's side: a connection that stays open, as that of a running tool."""

    def __init__(self, house: Household) -> None:
        self.path = f"{house.home}/.made/store.db"
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
def store(house: Household) -> Iterator[Store]:
    made = Store(house)
    yield made
    made.db.close()


def counts(house: Household) -> dict[str, int]:
    return {str(s.uuid): s.record.message_count for s in house.spool.catalog.sessions() if s.record}


def gone(house: Household) -> set[str]:
    return {str(state.uuid) for state in house.spool.catalog.sessions() if state.gone_ms is not None}


def looks(directory: str) -> dict[str, tuple[int, int, bytes]]:
    """Return the files of a directory with their times, except the -shm, which readers map."""
    found = {}
    for name in os.listdir(directory):
        if not name.endswith("-shm"):
            path = os.path.join(directory, name)
            found[name] = (os.stat(path).st_mtime_ns, os.stat(path).st_ino, Path(path).read_bytes())
    return found


def test_only_files_have_checkpoints(house: Household, store: Store) -> None:
    """A session in a container has none, or the next start would take it for a file that is gone."""
    document = Path(house.home, ".made", "chats.json")
    for number in range(3):
        store.say(A, *(["one"] * (number + 1)))
        document.write_text(json.dumps({B: [json.loads(said(str(n))) for n in range(number + 1)], C: []}))
        document.write_text(document.read_text().replace('"' + C + '": []', f'"{B}/aside": [{said("x").decode()}]'))
        house.scan()
        assert {path for path, _ in house.spool.catalog.checkpoints()} == {store.path, str(document)}


def test_the_checkpoint_of_a_document_moves_after_all_its_streams(tmp_path: Path) -> None:
    """If a kill comes between two of them, the old checkpoint is kept, so the document counts as changed and not as
    new.
    """
    with household(tmp_path, make_spool=MortalSpool) as house:

        def reopen() -> None:
            house.close()
            house.open()
            house.ingesting = replace(house.ingesting, roots=[(Made(), Root(path=f"{house.home}/.made"))])

        reopen()
        os.makedirs(f"{house.home}/.made")
        document = Path(house.home, ".made", "chat.json")
        one, two, aside = (said(text).decode() for text in ("one", "two", "aside"))
        document.write_text(f'{{"{A}": [{one}], "{A}/aside": [{aside}]}}')
        house.scan()
        before = house.spool.catalog.file(str(document))
        assert before is not None and before.checkpoint is not None
        document.write_text(f'{{"{A}": [{one}, {two}], "{A}/aside": [{aside}, {two}]}}')
        kept = 0
        for steps in range(20):
            house.spool.steps = steps  # type: ignore[attr-defined]
            try:
                house.ingest(str(document))
                break
            except Killed:
                reopen()
            after = house.spool.catalog.file(str(document))
            assert after is not None and after.checkpoint is not None
            kept += after.checkpoint == before.checkpoint and counts(house) == {A: 2}
        assert kept, "it died after the first stream was stored"
        after = house.spool.catalog.file(str(document))
        assert after is not None and after.checkpoint != before.checkpoint


# Databases


def test_what_is_only_in_the_wal_is_read(house: Household, store: Store) -> None:
    """A running tool's database file does not change; its -wal does, and names the database."""
    before = os.stat(store.path)
    store.say(A, "one", "two")
    house.ingest(f"{store.path}-wal")
    assert counts(house) == {A: 2}
    store.say(A, "one", "two", "three")
    assert os.stat(store.path).st_mtime_ns == before.st_mtime_ns
    house.ingest(f"{store.path}-wal")
    assert counts(house) == {A: 3}
    record = house.spool.catalog.session(uuid.UUID(A)).record
    assert record.source_path == f"{store.path}::{A}"


def test_reading_a_database_changes_no_file(house: Household, store: Store) -> None:
    """An open store and a closed one stay untouched: SQLite itself would put a -wal beside the closed one."""
    directory = os.path.dirname(store.path)
    store.say(A, "one")
    before = looks(directory)
    house.scan()
    assert looks(directory) == before
    store.db.close()
    assert sorted(os.listdir(directory)) == ["store.db"]
    before = looks(directory)
    house.scan()
    assert looks(directory) == before
    assert sorted(os.listdir(directory)) == ["store.db"]


def test_a_writer_that_comes_meanwhile_is_noticed(house: Household, store: Store) -> None:
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


def test_a_database_does_not_wake_its_own_reader(house: Household, store: Store, source: Made) -> None:
    """After a read, no file appears changed."""
    store.say(A, "one")
    house.scan()
    source.looked.clear()
    house.scan()
    house.ingest(f"{store.path}-wal")
    assert source.looked == []


def test_only_the_changed_session_is_read(house: Household, store: Store, source: Made) -> None:
    """Watermarks decide; the source gets those of the last scan."""
    for name in (A, B, C):
        store.say(name, "one")
    house.scan()
    source.looked.clear()
    store.say(B, "one", "two")
    house.scan()
    assert source.looked == [B]
    assert source.marks == dict.fromkeys((A, B, C), repr(("one",)))
    assert counts(house) == {A: 1, B: 2, C: 1}


def test_in_place_updates_and_deletions_are_seen(house: Household, store: Store) -> None:
    """A change by the tool begins a generation that keeps the unchanged part; earlier generations stay."""
    store.say(A, "one", "two", "thr")
    house.settle()
    store.say(A, "one", "two", "three")
    house.settle()
    assert house.held(A) == b"".join(said(text) + b"\n" for text in ("one", "two", "three"))
    store.say(A, "one")
    house.settle()
    assert house.held(A) == said("one") + b"\n"
    assert house.held(A, generation=1) == b"".join(said(text) + b"\n" for text in ("one", "two", "three"))
    assert counts(house) == {A: 1}


def test_a_transaction_need_not_settle(house: Household, store: Store) -> None:
    """A tool that rewrites a row twice a second delays nothing: each commit is complete."""
    house.ingesting = replace(house.ingesting, settle_ms=10**9)
    house.now_ms = os.stat(store.path).st_mtime_ns // 1_000_000 + 1000
    store.say(A, "one", "tw")
    store.say(B, "one")
    house.scan()
    store.say(A, "one", "two")
    store.say(B, "one", "two")
    assert house.ingest(store.path) == [Outcome(read=2 * len(said("two") + b"\n"), changed=True)]
    assert counts(house) == {A: 2, B: 2}


def test_no_session_is_reported_as_emptied(house: Household, store: Store) -> None:
    """A session without rows stays what it was."""
    store.say(A, "one", "two")
    house.settle()
    store.say(A)
    house.settle()
    assert counts(house) == {A: 2}
    assert len(house.held(A).splitlines()) == 2


def test_a_deleted_session_is_gone_and_may_come_back(house: Household, store: Store) -> None:
    """Rule 4: gone at the source is a note, and the note can be taken back."""
    store.say(A, "one")
    store.say(B, "one")
    house.scan()
    store.db.execute("DELETE FROM session WHERE id = ?", (A,))
    house.scan()
    assert gone(house) == {A}
    store.say(A, "one")
    house.scan()
    assert gone(house) == set()
    assert counts(house) == {A: 1, B: 1}


def test_a_database_goes_with_all_its_sessions(house: Household, store: Store, source: Made) -> None:
    """When it comes back unchanged, nothing is read for it, and what was deleted before stays deleted."""
    for name in (A, B, C):
        store.say(name, "one")
    store.db.close()
    house.scan()
    away = sqlite3.connect(store.path, isolation_level=None)
    away.execute("DELETE FROM session WHERE id = ?", (C,))
    away.close()
    house.scan()
    os.rename(store.path, f"{house.home}/elsewhere")
    house.now_ms += 1000
    house.scan()
    assert gone(house) == {A, B, C}
    source.looked.clear()
    os.rename(f"{house.home}/elsewhere", store.path)
    house.scan()
    assert gone(house) == {C}
    assert source.looked == []


def test_a_bad_session_stops_no_other(house: Household, store: Store, source: Made) -> None:
    """Rule 9: it is reported, and read when its tool has repaired it."""
    store.say(A, "bad")
    store.say(B, "one")
    (outcome,) = house.ingest(store.path)
    assert outcome.trouble == f"session {A}: it can't be parsed: a bad row"
    assert house.spool.catalog.file(store.path).trouble == outcome.trouble
    assert counts(house) == {B: 1}
    store.say(A, "good")
    (outcome,) = house.ingest(store.path)
    assert outcome.trouble is None
    assert counts(house) == {A: 1, B: 1}


def test_what_is_no_database_is_trouble(house: Household) -> None:
    path = house.write(".made/store.db", b"not a database at all" * 1000)
    (outcome,) = house.ingest(path)
    assert outcome.trouble is not None
    assert not outcome.retry


def test_transcripts_that_wait_are_caught_up(house: Household, store: Store) -> None:
    """Rule 5: without room the records go on, and each stream of each kind of store is read later."""
    house.ingesting = replace(house.ingesting, budget=0)
    store.say(A, *(f"line {n}" for n in range(100)))
    document(house, "d.json", {B: ["one", "two"], f"{B}/sub": ["three"]})
    document(house, "several.json", {str(uuid.UUID(int=7)): ["one"], str(uuid.UUID(int=8)): ["two"]})
    house.write(".made/f.dir/1", said("four"))
    house.scan()
    behind = house.spool.catalog.behind(100)
    assert len(behind) == 7  # the folder and the store have one session, each a stream of it
    house.ingesting = replace(house.ingesting, budget=512 << 20)
    while catch_up(house.ingesting, limit=1):
        pass
    assert house.spool.catalog.behind(100) == []
    assert house.spool.stats.totals().lost_bytes == 0
    house.settle()
    assert len(house.held(A).splitlines()) == 100
    assert house.held(B, "sub") == said("three") + b"\n"


# Documents


def document(house: Household, name: str, sessions: Mapping[str, list[str]], mode: str = "wb") -> str:
    content = {key: [json.loads(said(text)) for text in texts] for key, texts in sessions.items()}
    return house.write(f".made/{name}", json.dumps(content).encode(), mode=mode)


def test_a_rewritten_document_costs_what_changed(house: Household) -> None:
    """The longest common prefix is kept."""
    document(house, "a.json", {A: [f"message {n}" for n in range(50)]})
    house.settle()
    path = document(house, "a.json", {A: [f"message {n}" for n in range(51)]})
    (outcome,) = house.ingest(path)
    assert outcome.read == len(said("message 50")) + 1
    assert counts(house) == {A: 51}
    assert house.spool.catalog.session(uuid.UUID(A)).record.source_path == path


def test_lines_leave_room_for_what_no_link_can_protect(tmp_path: Path) -> None:
    """A long history fills the outbox at a first start. Documents that a tool then deletes are captured in time."""
    budget = 8 << 20
    with household(tmp_path, budget=budget) as house:
        for number in range(12):
            house.write(CLAUDE, claude(SESSION, number, text=os.urandom(1 << 20).hex()))
        house.scan()
        assert house.spool.outbox.size >= budget // 4 * 3
        build("gemini-cli/0.25-document", house.home)
        house.scan()
        waiting = house.spool.stats.waiting()
        assert (waiting.behind, house.spool.stats.totals().unprotected) == (1, 0)
        assert house.spool.outbox.size < budget


def test_what_waits_of_a_document_counts_as_unprotected(house: Household) -> None:
    """No hard link keeps it, and `status` must not look as if one did."""
    house.ingesting = replace(house.ingesting, budget=0)
    house.ingest(document(house, "a.json", {A: ["one", "two"]}))
    assert house.spool.stats.totals().unprotected == 1
    assert os.listdir(house.ingesting.pins.directory) == []
    house.ingesting = replace(house.ingesting, budget=512 << 20)
    house.settle()
    assert house.spool.stats.totals().unprotected == 0


def test_a_document_that_fits_in_no_memory_is_named_and_stops_no_other(house: Household) -> None:
    """It has to be parsed as a whole. One of gigabytes would end the daemon, and each one after a restart."""
    path = document(house, "a.json", {A: ["one"]})
    house.settle()
    os.truncate(path, LARGEST_DOCUMENT + 1)
    folder = os.path.dirname(document(house, "x.dir/1", {B: ["two"]}))
    with open(f"{folder}/2", "wb") as file:
        os.truncate(file.fileno(), LARGEST_DOCUMENT + 1)
    tracemalloc.start()
    outcomes = house.ingest(path) + house.ingest(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ["256 MiB" in (outcome.trouble or "") for outcome in outcomes] == [True, True]
    assert peak < 8 << 20
    document(house, "c.json", {C: ["three"]})
    house.settle()
    assert counts(house) == {A: 1, C: 1}


@pytest.mark.parametrize("manner", ["truncate", "ftruncate", "rename"])
def test_a_rewrite_is_met_at_any_moment(house: Household, manner: str) -> None:
    """The session is the old or the new one and never less, whatever part of the document was written."""
    old, new = ["one", "two", "three"], ["one", "two", "III", "four"]
    path = document(house, "a.json", {A: old})
    house.settle()
    target = path if manner != "rename" else f"{path}.tmp"
    content = json.dumps({A: [json.loads(said(text)) for text in new]}).encode()
    with open(target, "r+b" if manner == "ftruncate" else "wb") as file:
        house.scan()
        for start in range(0, len(content), 40):
            file.write(content[start : start + 40])
            file.flush()
            for outcome in house.ingest(path):
                assert outcome.trouble is None or outcome.retry
            assert counts(house) in ({A: 3}, {A: 4})
        file.truncate()
    os.rename(target, path)
    house.settle()
    assert counts(house) == {A: 4}
    assert gone(house) == set()


def test_a_document_that_stays_broken_is_trouble(house: Household) -> None:
    """A document that was just written may be incomplete and is tried again. If it stays so, it is reported once."""
    path = house.write(".made/a.json", b'{"a": [')
    house.now_ms = os.stat(path).st_mtime_ns // 1_000_000 + 500
    assert [outcome.retry for outcome in house.ingest(path)] == [True]
    house.now_ms += 100_000
    (outcome,) = house.ingest(path)
    assert not outcome.retry
    assert house.spool.catalog.file(path).trouble == outcome.trouble
    document(house, "a.json", {A: ["one"]})
    house.ingest(path)
    assert house.spool.catalog.file(path).trouble is None
    assert counts(house) == {A: 1}


def test_an_empty_document_is_nothing(house: Household) -> None:
    path = house.write(".made/a.json", b"")
    assert house.ingest(path) == [Outcome()]


def test_a_copy_adds_nothing_and_a_longer_one_goes_on(house: Household) -> None:
    """A tool that copies or migrates a session leaves it in two files: it is one session, counted once."""
    document(house, "1.json", {A: ["one", "two"]})
    document(house, "2.json", {A: ["one"]})
    house.settle()
    document(house, "3.json", {A: ["one", "two", "three"]})
    house.settle()
    assert counts(house) == {A: 3}
    document(house, "4.json", {A: ["one", "other"]})
    house.settle()
    assert counts(house) == {A: 4}
    document(house, "4.json", {A: ["one", "other", "more"]})
    house.settle()
    streams = house.spool.catalog.streams(house.spool.catalog.session(uuid.UUID(A)).id)
    assert [stream.generation for stream in streams] == [0, 0]
    assert counts(house) == {A: 5}


def test_a_session_that_left_a_document_is_gone(house: Household) -> None:
    document(house, "a.json", {A: ["one"], B: ["two"]})
    house.scan()
    document(house, "a.json", {A: ["one"], C: ["three"]})
    house.scan()
    assert gone(house) == {B}


def test_a_file_stands_in_for_the_times_of_its_records(house: Household) -> None:
    """The session started when the file was first written, as far as is known, and was last active now."""
    for number, texts in enumerate((["a"], ["a", "b"], ["c"])):
        content = {A: [{"role": "user", "text": text} for text in texts]}
        path = house.write(".made/a.old", json.dumps(content).encode(), mode="wb")
        os.utime(path, ns=(0, (NOW_MS - 10_000_000 + number * 1000) * 1_000_000))
        house.scan()
    record: Any = house.spool.catalog.session(uuid.UUID(A)).record
    assert record.started_at.timestamp() * 1000 == NOW_MS - 10_000_000
    assert record.ended_at.timestamp() * 1000 == NOW_MS - 10_000_000 + 2000


# Folders


def test_a_folder_is_one_session(house: Household) -> None:
    """Files are added, and an empty one counts as half-written."""
    path = house.write(".made/f.dir/1", said("one"), mode="wb")
    house.write(".made/f.dir/deep/2", said("two"), mode="wb")
    house.ingest(path)
    assert counts(house) == {A: 2}
    other = house.write(".made/f.dir/3", b"")
    assert [outcome.retry for outcome in house.ingest(other)] == [True]
    house.write(".made/f.dir/3", said("three"))
    house.ingest(other)
    assert counts(house) == {A: 3}
    assert house.spool.catalog.session(uuid.UUID(A)).record.source_path == os.path.dirname(path)


def test_places_name_the_unit_they_belong_to(house: Household) -> None:
    for name in ("store.db", "store.db-wal", "f.dir/1", "f.dir"):
        (place,) = house.places(f"{house.home}/.made/{name}")
        assert place.path in (f"{house.home}/.made/store.db", f"{house.home}/.made/f.dir")
        assert ingest(house.ingesting, place) == Outcome()
