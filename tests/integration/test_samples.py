"""The samples of the conformance suite, captured by the real engine."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sessiond.spool.rows import SessionState
from support.harness import DaemonHarness, daemon_harness
from support.sample_tree import NAMES, SAMPLES, WRITTEN_NS, build, expected, open_store, statements


def golden(harness: DaemonHarness, state: SessionState) -> dict[str, Any]:
    """Show a session of the spool as expected.json does."""
    record = state.record
    assert record is not None
    side_files = {stream.name: stream.media_type for stream in harness.spool.catalog.side_streams(state.id)}
    return ({"side_files": side_files} if side_files else {}) | {
        "id": str(record.id),
        "tool": record.tool,
        "tool_version": record.tool_version,
        "started_at": record.started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ended_at": record.ended_at and record.ended_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": record.model,
        "working_directory": record.working_directory.replace(harness.home, "~"),
        "git_branch": record.git_branch,
        "message_count": record.message_count,
        "parent": state.parent and str(state.parent),
        "streams": sorted(stream.name for stream in harness.spool.catalog.streams(state.id)),
        "title": state.title,
    }


def records(harness: DaemonHarness) -> list[dict[str, Any]]:
    """Show all sessions of the spool as expected.json does."""
    found = [golden(harness, state) for state in harness.spool.catalog.sessions() if state.record is not None]
    return sorted(found, key=lambda item: item["id"])


def wanted(name: str) -> list[dict[str, Any]]:
    """Return what the spool must have of a sample."""
    return [{key: value for key, value in item.items() if key != "unknown"} for item in expected(name)]


def looks(directory: str) -> dict[str, tuple[int, int, int, str]]:
    """Return the files of a tree with their times, except the -shm, which SQLite maps to read."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        if not path.name.endswith("-shm"):
            stat = path.lstat()
            digest = sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (stat.st_ino, stat.st_mode, stat.st_mtime_ns if digest else 0, digest)
    return found


sample = pytest.mark.parametrize("name", NAMES)


@sample
def test_the_daemon_reads_a_sample_as_the_suite_does(name: str, tmp_path: Path) -> None:
    """The records are the same with spool, checkpoints and related sessions, and no file is changed.

    They stay the same for each way of rewriting a document, and for half of one that is met meanwhile.
    """
    build(name, tmp_path / "home")
    with daemon_harness(tmp_path) as harness:
        before = looks(harness.home)
        harness.scan()
        assert records(harness) == wanted(name)
        harness.scan()
        assert records(harness) == wanted(name)
        assert looks(harness.home) == before
        documents = sorted(Path(harness.home).rglob("*.json"))
        for manner in ("truncate", "ftruncate", "rename") if documents else ():
            for path in documents:
                rewrite(harness, path, manner)
            harness.scan()
            assert records(harness) == wanted(name), manner


@pytest.mark.parametrize("fork_first", [True, False])
def test_a_fork_that_says_so_late_is_the_copy_all_the_same(fork_first: bool, tmp_path: Path) -> None:
    """Original and fork begin at the same time, and only one says that it was copied. The order of the files does not
    matter.
    """
    name = "kimi/cli-1.49-fork"
    build(name, tmp_path / "home")
    with daemon_harness(tmp_path) as harness:
        paths = sorted(path for path in Path(harness.home).rglob("*") if path.name in ("wire.jsonl", "state.json"))
        states = [path for path in paths if path.name == "state.json"]
        later = {path: path.rename(path.with_suffix(".later")) for path in states}
        for path in sorted(set(paths) - set(states), reverse=not fork_first):
            harness.ingest(str(path))
        for path, set_aside in later.items():
            set_aside.rename(path)
            harness.ingest(str(path))
        assert records(harness) == wanted(name)


@pytest.mark.parametrize(
    ("name", "ending"), [("droid/0.215-fork", ".jsonl"), ("copilot-cli/1.0-resume", "/events.jsonl")]
)
def test_the_source_path_is_the_transcripts(name: str, ending: str, tmp_path: Path) -> None:
    """The path of settings or of an index that the tool keeps beside it does not count."""
    with daemon_harness(tmp_path) as harness:
        build(name, harness.home)
        harness.settle()
        paths = [item["record"]["source_path"] or "" for item in harness.held_sessions().values()]
        assert paths
        assert [path for path in paths if not path.endswith(ending)] == []


FOLDERS = ["openhands/cli-1.16", "mistral-vibe/3.0-unified", "mistral-vibe/2.26-lines"]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_lock_or_a_journal_at_rest_is_no_half_write(name: str, tmp_path: Path) -> None:
    """Such empty files delay no session, not even in the minute in which they were written."""
    with daemon_harness(tmp_path) as harness:
        build(name, harness.home)
        for path in Path(harness.home).rglob("*"):
            os.utime(path, ns=(harness.now_ms * 1_000_000, harness.now_ms * 1_000_000))
        harness.scan()
        assert {item["id"] for item in records(harness)} == {item["id"] for item in wanted(name)}


WITH_STORES = [name for name in NAMES if any((SAMPLES / name).rglob("*.sql"))]


@pytest.mark.parametrize("name", WITH_STORES)
def test_a_store_grows_commit_by_commit(name: str, tmp_path: Path) -> None:
    """Read after each commit of a tool that stays open, its database ends as the one that is read at once."""
    build(name, tmp_path / "home")
    with daemon_harness(tmp_path) as harness:
        harness.now_ms -= 1
        for script in sorted((SAMPLES / name).rglob("*.sql")):
            store = os.path.join(harness.home, script.relative_to(SAMPLES / name).with_suffix(""))
            os.unlink(store)
            database = open_store(store)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA wal_autocheckpoint = 0")
            for statement in statements(script.read_text(encoding="utf-8")):
                database.execute(statement)
                for path in filter(os.path.exists, (store, f"{store}-wal")):  # a PRAGMA writes nothing
                    os.utime(path, ns=(WRITTEN_NS, WRITTEN_NS))
                assert not [
                    outcome.trouble for outcome in harness.ingest(store) if outcome.trouble and not outcome.retry
                ]
            database.close()
            os.utime(store, ns=(WRITTEN_NS, WRITTEN_NS))
        harness.scan()
        assert records(harness) == wanted(name)


def rewrite(harness: DaemonHarness, path: Path, manner: str) -> None:
    """Write a file anew with the same content, in two parts, with a scan before each."""
    content = path.read_bytes()
    target = path.with_suffix(".tmp") if manner == "rename" else path
    with target.open("r+b" if manner == "ftruncate" else "wb") as file:
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            harness.scan()
            file.write(part)
            file.flush()
        file.truncate()
    os.rename(target, path)
    os.utime(path, ns=(WRITTEN_NS, WRITTEN_NS))


PLANTED = b"PLANTED-TOKEN"
KEEPING = [name for name in NAMES if any(PLANTED in p.read_bytes() for p in (SAMPLES / name).rglob("*") if p.is_file())]


@pytest.mark.parametrize("name", KEEPING)
def test_what_a_tool_keeps_beside_its_chats_stays_there(name: str, tmp_path: Path) -> None:
    """Keys in a configuration, a state or a settings file are in no record or transcript, with redaction or without."""
    build(name, tmp_path / "home")
    with daemon_harness(tmp_path) as harness:
        harness.settle()
        received = harness.get("/v1/sessions", limit=500).content
        for state in harness.spool.catalog.sessions():
            received += b"".join(harness.held(str(state.uuid), s.name) for s in harness.spool.catalog.streams(state.id))
        assert harness.held_sessions()
        assert PLANTED not in received
