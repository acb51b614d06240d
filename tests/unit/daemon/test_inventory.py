"""The files that a scan finds changed, how urgent they are, and how they are counted."""

from __future__ import annotations

import pytest

from sessiond.daemon.backfill_exclusions import BackfillExclusions
from sessiond.daemon.backlog import RECENT_MS, Backlog, Entry, Rank
from sessiond.daemon.inventory import Change, count, entries, fingerprint_size, forget_below, make_fingerprint
from sessiond.ingest import Index, Location, Outcome, locate
from sessiond.sources import find_sources
from sessiond.sources.base import Kind, Root, Source

NOW_MS = 1_790_000_000_000
NEW, OLD = NOW_MS * 1_000_000, (NOW_MS - 10 * RECENT_MS) * 1_000_000
SOURCES = {source.tool: source for source in find_sources()}
CLAUDE = SOURCES["claude-code"]
ROOT = Root(path="/c")


def path(number: int) -> str:
    """Return the path of the n-th session."""
    return f"/c/-home/5f1d7c1e-0000-4000-8000-{number:012}.jsonl"


def made(size: int, ino: int = 1) -> int:
    """Return the fingerprint of a file of a size."""
    return make_fingerprint(ino, size, 2, 3)


def folder() -> tuple[Source, list[str]]:
    """Return a source whose sessions are folders, and two files of one session."""
    source = SOURCES["mistral-vibe"]
    session = "unified/5f1d7c1e-0000-4000-8000-000000000001"
    names = [f"{session}/meta.json", f"{session}/messages.jsonl"]
    units = {source.unit(name) for name in names}
    assert [(unit.kind, unit.path) for unit in units if unit] == [(Kind.FOLDER, session)]
    return source, [f"/f/{name}" for name in names]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, (1 << 44) - 1])
def test_a_fingerprint_has_the_size_and_depends_on_all_else(size: int) -> None:
    """A different inode, size or time means another file or a changed one."""
    first = make_fingerprint(1, size, 2, 3)
    assert fingerprint_size(first) == size
    others = {make_fingerprint(*stat) for stat in ((9, size, 2, 3), (1, size, 9, 3), (1, size, 2, 9), (1, size, 3, 2))}
    assert len(others | {first}) == 5


def found(
    *changes: Change, known: dict[str, int] | None = None, due: dict[str, int] | None = None
) -> dict[str, tuple[Rank, int, int]]:
    """Return rank, time and size of the entries for changed files, by path."""
    index = Index([(CLAUDE, ROOT)])
    return {
        entry.path: (entry.rank, entry.mtime_ns, entry.size)
        for entry in entries(changes, known or {}, index, NOW_MS, due or {})
    }


def test_a_new_file_is_as_urgent_as_it_is_young() -> None:
    """Within the hour, including its end, it is a live change. A file of no tool makes no entry."""
    limit = (NOW_MS - RECENT_MS) * 1_000_000
    changes = [Change(path(1), NEW, made(5)), Change(path(2), limit, made(6)), Change(path(3), limit - 1, made(7))]
    assert found(*changes, Change("/c/notes.txt", NEW, made(8))) == {
        path(1): (Rank.RECENT, NEW, 5),
        path(2): (Rank.RECENT, limit, 6),
        path(3): (Rank.OLD, limit - 1, 7),
    }


def test_what_its_tool_deletes_soon_is_urgent() -> None:
    """The file has not changed since the time before which its own tool deletes."""
    assert found(Change(path(1), OLD, made(5)), due={CLAUDE.tool: OLD // 1_000_000 + 1})[path(1)][0] is Rank.RECENT
    assert found(Change(path(1), OLD, made(5)), due={CLAUDE.tool: OLD // 1_000_000})[path(1)][0] is Rank.OLD
    assert found(Change(path(1), OLD, made(5)), due={"codex": NOW_MS})[path(1)][0] is Rank.OLD


def test_a_known_file_that_changed_is_the_most_urgent() -> None:
    """Only the added bytes have to be read. If a file shrank, that number is unknown and counts as zero."""
    known = {path(1): made(5), path(2): made(50)}
    assert found(Change(path(1), OLD, made(12)), Change(path(2), OLD, made(20)), known=known) == {
        path(1): (Rank.CHANGED, OLD, 7),
        path(2): (Rank.CHANGED, OLD, 0),
    }


def test_the_files_of_a_folder_are_one_entry() -> None:
    """The entry has the size of all files, and the time and the rank of the newest. They count as one unit."""
    source, (one, two) = folder()
    index = Index([(source, Root(path="/f"))])
    changes = [Change(one, OLD, made(5)), Change(two, NEW, made(6))]
    for order in (changes, changes[::-1]):
        (entry,) = entries(order, {}, index, NOW_MS, {})
        assert (entry.rank, entry.mtime_ns, entry.size) == (Rank.RECENT, NEW, 11)
    assert count({one: made(5), two: made(6)}, index) == ({source.tool: 1}, 11, {})


def test_units_are_counted_by_tool() -> None:
    """Files of no tool count neither as units nor with their bytes; a file of two tools counts for both, once."""
    shared = Index([(CLAUDE, ROOT), (CLAUDE, Root(path="/d"))])
    files = {path(1): made(5), path(2): made(6), path(3).replace("/c/", "/d/"): made(7), "/c/notes.txt": made(100)}
    assert count(files, shared) == ({CLAUDE.tool: 3}, 18, {})


def test_files_that_look_like_sessions_are_counted_from_the_inventory() -> None:
    """Ten thousand of them cost no access to the disk, on which none exists. Locks and empty files do not count."""
    index, names = Index([(CLAUDE, ROOT)]), [f"/c/-home/new {number}.jsonl" for number in range(10_000)]
    others = {"/c/-home/new.jsonl.lock": made(1), "/c/-home/._new.jsonl": made(1), "/c/-home/empty.jsonl": made(0)}
    assert count(dict.fromkeys(names, made(7)) | others, index) == ({}, 0, {CLAUDE.tool: 10_000})


def test_a_database_and_its_log_are_one_unit() -> None:
    """The unit has the bytes of both. The log counts for the database even before the database was found."""
    source = SOURCES["warp"]
    unit = source.unit("warp.sqlite-wal")
    assert unit is not None
    assert unit.path == "warp.sqlite"
    index = Index([(source, Root(path="/w"))])
    database, log = {"/w/warp.sqlite": made(5)}, {"/w/warp.sqlite-wal": made(6)}
    assert count(database | log, index) == ({source.tool: 1}, 11, {})
    assert count(log | database, index) == ({source.tool: 1}, 11, {})
    assert count(log, index) == ({source.tool: 1}, 6, {})


def test_a_deleted_directory_takes_what_is_below_it() -> None:
    """Paths that only begin with the directory's name stay."""
    inventory = {"/a/b/1": 1, "/a/b/c/2": 2, "/a/bc": 3, "/a/b": 4}
    assert sorted(forget_below(inventory, "/a/b")) == ["/a/b/1", "/a/b/c/2"]
    assert set(inventory) == {"/a/bc", "/a/b"}


def location(file: str) -> Location:
    """Return the location of a file."""
    (one,) = locate([(CLAUDE, ROOT)], file)
    return one


LEFT_OUT, CAPTURED, DELETED = Outcome(left_out=True), Outcome(changed=True), Outcome()
SUBAGENT = "/c/-home/5f1d7c1e-0000-4000-8000-000000000001/subagents/agent-a1.jsonl"


def test_excluded_files_are_counted_with_their_size() -> None:
    """A file that is seen again counts once, with its present size; a captured or deleted one no more."""
    excluded = BackfillExclusions()
    excluded.note(location(path(1)), LEFT_OUT, 5)
    excluded.note(location(path(2)), LEFT_OUT, 7)
    assert (len(excluded), excluded.size) == (2, 12)
    excluded.note(location(path(1)), LEFT_OUT, 9)
    assert (len(excluded), excluded.size) == (2, 16)
    excluded.note(location(path(1)), DELETED, 0)
    assert (len(excluded), excluded.size) == (1, 7)
    excluded.note(location(path(3)), CAPTURED, 100)
    assert (len(excluded), excluded.size) == (1, 7)


def test_a_captured_file_brings_the_others_of_its_session() -> None:
    """They are returned once, and only those of the same session. A deleted file brings none."""
    excluded = BackfillExclusions()
    assert location(SUBAGENT).unit.native_id == location(path(1)).unit.native_id
    for file in (path(1), path(2), SUBAGENT):
        excluded.note(location(file), LEFT_OUT, 1)
    excluded.note(location(path(2)), DELETED, 0)
    assert excluded.take() == set()
    excluded.note(location(path(1)), CAPTURED, 0)
    assert excluded.take() == {SUBAGENT}
    assert excluded.take() == set()
    excluded.note(location(SUBAGENT), CAPTURED, 0)
    assert excluded.take() == set()
    assert (len(excluded), excluded.size) == (0, 0)


def test_the_backlog_is_read_by_rank_and_then_the_newest_first() -> None:
    """Files that were read are removed. Those whose records have no end yet come after all others."""
    backlog = Backlog()
    old, new = Entry(Rank.OLD, 1, "/old", 10), Entry(Rank.OLD, 2, "/new", 20)
    recent, changed = Entry(Rank.RECENT, 1, "/recent", 30), Entry(Rank.CHANGED, 0, "/changed", 40)
    assert not backlog.old
    backlog.add([recent, old])
    backlog.add([changed, new])
    assert list(backlog.newest()) == [changed, recent, new, old]
    assert (len(backlog), backlog.size, backlog.old) == (4, 100, False)
    backlog.drop(2)
    assert list(backlog.newest()) == [new, old]
    assert (len(backlog), backlog.size, backlog.old) == (2, 30, True)
    backlog.put_last(Entry(Rank.OLD, 9, "/endless", 5))
    assert (len(backlog), backlog.size) == (3, 35)
    assert list(backlog.newest()) == [new, old]
    backlog.drop(0)
    assert backlog.size == 35
    backlog.add([])
    assert backlog.size == 35
    backlog.drop(2)
    assert [entry.path for entry in backlog.newest()] == ["/endless"]
    assert (len(backlog), backlog.size, backlog.old) == (1, 5, True)
    backlog.drop(1)
    assert (len(backlog), backlog.size, backlog.old) == (0, 0, False)
