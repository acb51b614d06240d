"""The whole way from a byte that a tool writes to the endpoint's acknowledgement, without threads."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.endpoint.server import running
from support.harness import CLAUDE, NOW_MS, SESSION, TOKEN, DaemonHarness, claude, daemon_harness, encode


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def test_a_session_arrives_with_its_record_and_its_bytes(harness: DaemonHarness) -> None:
    """The endpoint has the record, and the transcript byte for byte."""
    path = harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    harness.settle()
    held = harness.held_sessions()[SESSION]
    assert held["record"] == {
        "id": SESSION,
        "tool": "claude-code",
        "tool_version": "2.1.330",
        "started_at": "2026-09-01T10:00:01Z",
        "ended_at": "2026-09-01T10:00:02Z",
        "model": "claude-opus-4-5-20251101",
        "working_directory": "/home/dev/project",
        "git_branch": "main",
        "source_path": path,
        "message_count": 2,
        "machine_id": "testbox",
    }
    assert harness.held(SESSION) == Path(path).read_bytes()


def test_an_append_sends_what_was_added(harness: DaemonHarness) -> None:
    """One request has the new line, and not the file."""
    harness.write(CLAUDE, *(claude(SESSION, n, text="x" * 5000) for n in range(50)))
    harness.settle()
    harness.transport.requests.clear()
    path = harness.write(CLAUDE, claude(SESSION, 51, role="assistant"))
    harness.ingest(path)
    harness.push()
    pushes = [size for where, size in harness.transport.requests if where == "/v1/push"]
    assert len(pushes) == 1
    assert pushes[0] < 1200
    assert harness.held(SESSION) == Path(path).read_bytes()


def test_half_a_line_waits_for_its_other_half(harness: DaemonHarness) -> None:
    """Bytes after the last newline are not sent until their line is complete."""
    whole = encode(claude(SESSION, 1))
    harness.write(CLAUDE, encode(claude(SESSION, 0)), whole[:100])
    harness.settle()
    assert harness.held(SESSION) == encode(claude(SESSION, 0))
    path = harness.write(CLAUDE, whole[100:])
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 2


def test_a_rewrite_begins_a_generation_and_keeps_the_old_one(harness: DaemonHarness) -> None:
    """The file is truncated and rewritten. The endpoint has the new content, and the old one stays readable."""
    harness.write(CLAUDE, *(claude(SESSION, n) for n in range(3)))
    harness.settle()
    old = harness.held(SESSION)
    path = harness.write(CLAUDE, *(claude(SESSION, n, text="anew") for n in range(2)), mode="wb")
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert harness.held(SESSION, generation=0) == old
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 2


def test_a_dropped_last_line_is_a_generation_without_new_bytes(harness: DaemonHarness) -> None:
    """Claude Code truncates the file to drop a line: the kept bytes are not sent again."""
    path = harness.write(CLAUDE, *(claude(SESSION, n) for n in range(2)))
    harness.scan()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.settle()
    size = len(encode(claude(SESSION, 2)))
    os.truncate(path, os.path.getsize(path) - size)
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert harness.held(SESSION, generation=0) == Path(path).read_bytes() + encode(claude(SESSION, 2))


def test_a_rewrite_counts_what_it_kept(harness: DaemonHarness) -> None:
    """The kept lines are folded again with the new ones: the record is that of the whole file."""
    harness.write(CLAUDE, *(claude(SESSION, n) for n in range(3)))
    harness.scan()
    path = harness.write(CLAUDE, claude(SESSION, 3), claude(SESSION, 4))
    harness.settle()
    lines = Path(path).read_bytes().splitlines(keepends=True)
    Path(path).write_bytes(b"".join(lines[:4]) + encode(claude(SESSION, 9, text="another")))
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 5


def test_an_edit_in_place_of_the_same_size_is_seen(harness: DaemonHarness) -> None:
    """Size and even mtime may be the same; ctime is not."""
    path = harness.write(CLAUDE, claude(SESSION, 1, text="before"))
    before = os.stat(path)
    harness.settle()
    with open(path, "r+b") as file:
        content = file.read().replace(b"before", b"aftera")
        file.seek(0)
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    harness.settle()
    assert harness.held(SESSION) == content


def test_a_deleted_file_deletes_nothing(harness: DaemonHarness) -> None:
    """Rule 4: it is marked as gone at the source, and stays at the endpoint."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    content = Path(path).read_bytes()
    os.unlink(path)
    harness.settle()
    assert harness.held(SESSION) == content
    assert harness.held_sessions()[SESSION]["gone_at"] is not None


def test_a_file_that_is_put_back_without_change_is_no_longer_gone(harness: DaemonHarness) -> None:
    """A restored backup is another file with the same bytes. Nothing new is read, but the endpoint has to know."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    content = Path(path).read_bytes()
    os.unlink(path)
    harness.settle()
    path = harness.write(CLAUDE, content)
    harness.settle()
    assert harness.held_sessions()[SESSION]["gone_at"] is None

    directory = os.path.dirname(path)
    os.rename(directory, f"{harness.home}/away")
    harness.settle()
    assert harness.held_sessions()[SESSION]["gone_at"] is not None
    os.rename(f"{harness.home}/away", directory)  # nothing of the file has changed: it is not even opened
    harness.settle()
    assert harness.held_sessions()[SESSION]["gone_at"] is None


def test_a_directory_that_only_a_file_beside_names_is_in_the_record(harness: DaemonHarness) -> None:
    """Chats of Gemini CLI do not name their directory, but a file of the project does."""
    project = ".gemini/tmp/engine"
    harness.write(f"{project}/.project_root", b"/home/dev/engine\n")
    harness.write(
        f"{project}/chats/session-2026-04-01T10-00-00000020.jsonl",
        {"sessionId": SESSION, "startTime": "2026-04-01T10:00:00.500Z"},
        {"id": "1", "timestamp": "2026-04-01T10:00:01.500Z", "type": "user", "content": [{"text": "hello"}]},
    )
    harness.settle()
    assert harness.held_sessions()[SESSION]["record"]["working_directory"] == "/home/dev/engine"


def test_a_moved_file_goes_on_where_it_was(harness: DaemonHarness) -> None:
    """A project directory was renamed: nothing is sent again."""
    path = harness.write(CLAUDE, *(claude(SESSION, n, text="y" * 3000) for n in range(20)))
    harness.settle()
    harness.transport.requests.clear()
    moved = os.path.join(harness.home, ".claude/projects/-home-dev-renamed", os.path.basename(path))
    os.makedirs(os.path.dirname(moved))
    os.rename(path, moved)
    harness.write(os.path.relpath(moved, harness.home), claude(SESSION, 21))
    harness.settle()
    assert harness.held(SESSION) == Path(moved).read_bytes()
    held = harness.held_sessions()[SESSION]
    assert held["record"]["source_path"] == moved
    assert held["gone_at"] is None
    assert sum(size for where, size in harness.transport.requests if where == "/v1/push") < 3000


@pytest.mark.parametrize("gone_first", [True, False])
@pytest.mark.parametrize("name", ["-home-dev-before", "-home-dev-renamed"])
def test_a_moved_file_to_which_nothing_is_added_has_its_new_path(
    harness: DaemonHarness, name: str, gone_first: bool
) -> None:
    """In whichever order the two paths are read, and sorted."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    moved = os.path.join(harness.home, f".claude/projects/{name}", os.path.basename(path))
    os.makedirs(os.path.dirname(moved))
    os.rename(path, moved)
    for each in (path, moved) if gone_first else (moved, path):
        harness.ingest(each)
    (state,) = harness.spool.catalog.sessions()
    assert state.record is not None
    assert state.record.source_path == moved
    assert state.gone_ms is None


def test_a_restart_reads_nothing_that_did_not_change(harness: DaemonHarness) -> None:
    """The metadata of the files suffices."""
    path = harness.write(CLAUDE, *(claude(SESSION, n) for n in range(5)))
    harness.settle()
    harness.close()
    harness.open()
    os.chmod(path, 0)  # reading it would now fail (or, for root, be seen below)
    os.chmod(path, 0o600)
    assert all(not outcome.changed for outcome in harness.ingest(path))


def test_a_lost_spool_is_rebuilt_without_sending_again(harness: DaemonHarness) -> None:
    """Both sides find the same position: the endpoint has the bytes, so only records are sent."""
    path = harness.write(CLAUDE, *(claude(SESSION, n, text="z" * 5000) for n in range(50)))
    harness.settle()
    harness.close()
    for name in os.listdir(harness.state):
        if name.startswith("spool.db"):
            os.unlink(os.path.join(harness.state, name))
    harness.open()
    harness.transport.requests.clear()
    harness.write(CLAUDE, claude(SESSION, 51))
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert sum(size for where, size in harness.transport.requests if where == "/v1/push") < 6000
    assert [s["generation"] for s in harness.held_sessions()[SESSION]["streams"]] == [0]


def test_a_restored_endpoint_gets_back_what_it_lost(tmp_path: Path) -> None:
    """It acknowledged more than it has now; the daemon finds out at the next contact and sends it again."""
    with daemon_harness(tmp_path) as harness:
        harness.write(CLAUDE, claude(SESSION, 1))
        harness.settle()
        store = tmp_path / "endpoint"
        harness.endpoint.store.close()
        kept = {path: path.read_bytes() for path in store.iterdir() if path.is_file()}
        path = harness.write(CLAUDE, claude(SESSION, 2))
    with daemon_harness(tmp_path) as harness:
        harness.settle()
        assert harness.held(SESSION) == Path(path).read_bytes()
    for file in store.iterdir():
        file.unlink()
    for file, content in kept.items():
        file.write_bytes(content)
    with daemon_harness(tmp_path) as harness:
        harness.settle()
        assert harness.held(SESSION) == Path(path).read_bytes()
        assert harness.held_sessions()[SESSION]["record"]["message_count"] == 2


def test_records_outrun_transcripts(tmp_path: Path) -> None:
    """Rule 5: with a full outbox the record is whole, and the transcript is read when there is room."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = harness.write(CLAUDE, *(claude(SESSION, n, text=os.urandom(3000).hex()) for n in range(400)))
        harness.scan()
        record = harness.spool.catalog.session(__import__("uuid").UUID(SESSION))
        assert record is not None
        assert record.record is not None
        assert record.record.message_count == 400
        waiting = harness.spool.stats.waiting()
        assert waiting.behind == 1
        content = Path(path).read_bytes()
        os.unlink(path)  # the tool cleans up; our pin has it
        harness.settle(200)
        assert harness.held(SESSION) == content
        assert os.listdir(harness.ingesting.pins.directory) == []


def test_an_edit_in_the_middle_of_a_long_file_is_seen(harness: DaemonHarness) -> None:
    """The edit is far from the file's head and tail, and keeps its size."""
    path = harness.write(CLAUDE, *(claude(SESSION, n, text=f"{n} said " + "x" * 3000) for n in range(20)))
    harness.settle()
    with open(path, "r+b") as file:
        content = file.read().replace(b"10 said", b"10 SAID")
        file.seek(0)
        file.write(content)
    harness.settle()
    assert harness.held(SESSION) == content


def test_what_an_old_generation_has_counts_for_that_alone(harness: DaemonHarness) -> None:
    """The file was rewritten before the push: an acknowledgement of the longer old generation does not count for the
    new one.
    """
    harness.write(CLAUDE, *(claude(SESSION, n) for n in range(10)))
    harness.scan()
    path = harness.write(CLAUDE, *(claude(SESSION, n, text="anew") for n in range(2)), mode="wb")
    harness.settle()
    stream = harness.spool.catalog.find_stream(uuid.UUID(SESSION), "main")
    assert stream is not None
    assert stream.generation == 1
    assert stream.acked == stream.folded == os.path.getsize(path)


def test_another_file_with_the_same_times_is_another_file(harness: DaemonHarness) -> None:
    """Two directories change places: the size and all times of their files are the same, the inodes are not."""
    for attempt in range(300):
        session = str(uuid.UUID(int=uuid.UUID(SESSION).int + attempt + 1))
        one, other = (
            harness.write(f".claude/{place}/{attempt}/{session}.jsonl", claude(session, 1, text=text))
            for place, text in (("projects", "here"), ("elsewhere", "else"))
        )
        for path in (one, other):  # no stat of either before: the kernel would then give them different times
            os.utime(path, ns=(NOW_MS * 1_000_000, NOW_MS * 1_000_000))
        if os.stat(one).st_ctime_ns == os.stat(other).st_ctime_ns:
            break
    else:
        pytest.skip("the clock of this filesystem never stops")
    harness.settle()
    folders = [os.path.dirname(path) for path in (one, other)]
    os.rename(folders[0], os.path.join(harness.home, "before"))
    os.rename(folders[1], folders[0])
    harness.settle()
    assert harness.held(session) == Path(one).read_bytes()


def test_another_endpoint_gets_all_of_it_a_budget_at_a_time(tmp_path: Path) -> None:
    """Bytes that were acknowledged once are read again, over many scans if the outbox has little room."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness, running(str(tmp_path / "other"), token=TOKEN) as other:
        path = harness.write(CLAUDE, *(claude(SESSION, n, text=os.urandom(20_000).hex()) for n in range(12)))
        harness.settle()
        harness.close()
        harness.endpoint = other
        harness.open()
        harness.settle(rounds=60)
        assert harness.held(SESSION) == Path(path).read_bytes()
