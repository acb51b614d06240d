"""An erased session is gone from the spool's files and from the endpoint, and nothing brings it back."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from sessiond.endpoint.server import running
from sessiond.ingest.forget import erase_forgotten
from sessiond.spool import Spool
from sessiond.spool.damaged import read_tombstones
from sessiond.spool.forgotten import KEPT_MS, count_erasures
from sessiond.spool.safety import State
from sessiond.state import archive_files
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness
from support.power import CrashingSpool, Killed

OTHER = SESSION[:-1] + "2"
OTHER_FILE = CLAUDE.replace(SESSION, OTHER)
SIDE_FILE = CLAUDE.removesuffix(".jsonl") + "/tool-results/toolu_01.txt"
AGENT = CLAUDE.removesuffix(".jsonl") + "/subagents/agent-a1.jsonl"
TITLE = "a title to be erased"
noise = random.Random(1)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path, configured=True) as made:
        yield made


def text() -> str:
    """Text without repeats: its compressed frames can be found in a file."""
    return noise.randbytes(600).hex()


def write_all(harness: DaemonHarness) -> None:
    """A session with a title, a subagent, a side file and a prompt in the history; and another session."""
    title = {"type": "custom-title", "customTitle": TITLE, "sessionId": SESSION}
    harness.write(CLAUDE, claude(SESSION, 1, text=text()), title, claude(SESSION, 2, role="assistant", text=text()))
    harness.write(AGENT, {**claude(SESSION, 3, text=text()), "isSidechain": True, "agentId": "a1"})
    harness.write(SIDE_FILE, text())
    prompt = {
        "display": "a prompt",
        "sessionId": SESSION,
        "project": "/home/dev/project",
        "timestamp": 1_788_000_000_000,
    }
    harness.write(".claude/history.jsonl", prompt)
    harness.write(OTHER_FILE, claude(OTHER, 1, text="kept"))


def frames(spool: Spool) -> list[bytes]:
    return [bytes(row[0]) for row in spool.connection.execute("SELECT data FROM segment WHERE data IS NOT NULL")]


def state_bytes(harness: DaemonHarness) -> bytes:
    return b"".join(path.read_bytes() for path in Path(harness.state).rglob("*") if path.is_file())


def captured(harness: DaemonHarness) -> set[str]:
    return {str(session.uuid) for session in harness.spool.catalog.sessions()}


def gone(harness: DaemonHarness) -> bool:
    """Return whether the endpoint has neither a record nor a byte of the session."""
    path = f"/v1/sessions/testbox/{SESSION}"
    unlisted = [each["session"] for each in harness.get("/v1/unlisted").json()["sessions"]]
    return harness.get(path).status_code == 404 and SESSION not in unlisted


def test_nothing_of_it_is_left_in_the_state_directory(harness: DaemonHarness) -> None:
    """Waiting and acknowledged data of all its streams is removed; other sessions are unchanged."""
    write_all(harness)
    harness.scan()
    kept = frames(harness.spool)
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 4, text=text()))
    harness.scan()
    kept += frames(harness.spool)
    assert any(frame[8:24] in state_bytes(harness) for frame in kept), "the test would find them"
    harness.forget(SESSION)
    left = state_bytes(harness)
    assert TITLE.encode() not in left
    erased = [frame for frame in kept if len(frame) > 300]
    assert len(erased) >= 4
    assert not any(frame[at : at + 16] in left for frame in erased for at in range(0, len(frame) - 16, 16))
    assert captured(harness) == {OTHER}
    harness.settle()
    assert gone(harness)
    assert OTHER in harness.held_sessions()


def test_its_tool_does_not_bring_it_back(harness: DaemonHarness) -> None:
    """Its file, a subagent, a side file and the history of prompts may change, or be found by a new daemon."""
    write_all(harness)
    harness.settle()
    harness.forget(SESSION)
    harness.write(CLAUDE, claude(SESSION, 5, text="more"))
    harness.write(SIDE_FILE, "more")
    harness.write(AGENT, {**claude(SESSION, 6), "isSidechain": True, "agentId": "a1"})
    harness.settle()
    harness.close()
    harness.open()
    os.unlink(os.path.join(harness.home, CLAUDE))  # now the history of prompts would be all that is known of it
    harness.now_ms += 3_600_000
    harness.settle()
    assert captured(harness) == {OTHER}
    assert gone(harness)


def test_an_old_spool_does_not_bring_it_back(harness: DaemonHarness, tmp_path: Path) -> None:
    """A backup of the machine is restored: the endpoint answers `forgotten`, and the spool erases it again."""
    write_all(harness)
    harness.settle()
    shutil.copytree(harness.state, tmp_path / "old")
    harness.forget(SESSION)
    harness.settle()
    harness.close()
    shutil.rmtree(harness.state)
    shutil.copytree(tmp_path / "old", harness.state)
    harness.open()
    harness.write(CLAUDE, claude(SESSION, 7, text="after the backup"))
    harness.settle()
    assert gone(harness)
    after_a_month(harness)
    assert captured(harness) == {OTHER}
    assert harness.spool.forgotten.has(SESSION)
    harness.write(CLAUDE, claude(SESSION, 8, text="once more"))
    before = len(harness.transport.requests)
    harness.settle()
    assert [path for path, _ in harness.transport.requests[before:] if path == "/v1/push"] == [], (
        "nothing is tried again"
    )


def test_an_old_spool_with_nothing_to_push_learns_it_too(harness: DaemonHarness, tmp_path: Path) -> None:
    """`status` must not call a session safe that the endpoint has erased."""
    write_all(harness)
    harness.settle()
    shutil.copytree(harness.state, tmp_path / "old")
    harness.forget(SESSION)
    harness.settle()
    harness.close()
    shutil.rmtree(harness.state)
    shutil.copytree(tmp_path / "old", harness.state)
    for path in (CLAUDE, AGENT, SIDE_FILE):
        os.unlink(os.path.join(harness.home, path))
    harness.open()
    assert captured(harness) == {SESSION, OTHER}
    harness.push()
    assert captured(harness) == {OTHER}


def test_a_spool_that_is_rebuilt_keeps_the_tombstones(harness: DaemonHarness) -> None:
    harness.forget(SESSION, OTHER, everywhere=False)
    path = harness.spool.path
    harness.close()
    rows = read_tombstones(path)
    assert {row[0] for row in rows} == {SESSION, OTHER}
    Path(path).write_bytes(b"no database" * 1000)
    assert read_tombstones(path) == []
    os.unlink(path)
    harness.open()
    with harness.spool.transaction():
        harness.spool.forgotten.put_rows(rows)
    write_all(harness)
    harness.settle()
    assert captured(harness) == set()


def test_an_order_waits_for_the_endpoint(harness: DaemonHarness) -> None:
    """It is kept while the endpoint does not answer, and carried out once it does. Nothing is pushed meanwhile."""
    write_all(harness)
    harness.settle()

    def down(request: httpx.Request, _: Callable[[], httpx.Response]) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    harness.transport.fate = down
    harness.forget(SESSION)
    harness.push()
    counts = count_erasures(harness.spool.connection, archive=False)
    assert (counts.sessions, counts.endpoint) == (1, 1)
    assert "refused" in (counts.problem or "")
    harness.close()
    harness.transport.fate = None
    harness.open()
    harness.settle()
    assert gone(harness)
    assert count_erasures(harness.spool.connection, archive=False).endpoint == 0


def test_a_proxy_that_refuses_to_erase_stops_no_push(harness: DaemonHarness) -> None:
    """It lets POST through and answers DELETE with a page of its own."""
    write_all(harness)
    harness.settle()

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.method != "DELETE":
            return send()
        return httpx.Response(403, headers={"content-type": "text/html"}, stream=httpx.ByteStream(b"<html>no"))

    harness.transport.fate = fate
    harness.forget(SESSION)
    harness.write(OTHER_FILE, claude(OTHER, 2, text="new"))
    harness.settle()
    assert b"new" in harness.held(OTHER)
    assert not gone(harness)
    assert count_erasures(harness.spool.connection, archive=False).problem is not None


def test_an_endpoint_that_was_restored_erases_it_again(harness: DaemonHarness, tmp_path: Path) -> None:
    """Its backup has the session and no tombstone."""
    write_all(harness)
    harness.settle()
    (tmp_path / "copy").mkdir()
    with (
        closing(sqlite3.connect(Path(harness.endpoint.store.directory, "endpoint.db"))) as source,
        closing(sqlite3.connect(tmp_path / "copy" / "endpoint.db")) as copy,
    ):
        source.backup(copy)
    harness.forget(SESSION)
    harness.settle()
    with running(str(tmp_path / "copy"), token=TOKEN) as restored:
        harness.client.close()
        harness.close()
        harness.endpoint, harness.address = restored, restored.url
        harness.open()
        assert not gone(harness)
        harness.settle()
        assert gone(harness)


def test_an_archive_beside_the_endpoint_erases_it_too(harness: DaemonHarness, tmp_path: Path) -> None:
    """It was captured before the endpoint was configured; it is neither kept there nor copied."""
    with running(str(tmp_path / "archive"), token=TOKEN) as archive:
        endpoint = harness.endpoint
        harness.client.close()
        harness.close()
        harness.endpoint, harness.address = archive, ""
        harness.open()
        write_all(harness)
        harness.settle()
        assert not gone(harness)
        harness.client.close()
        harness.close()
        harness.endpoint, harness.archive, harness.address = endpoint, archive, endpoint.url
        harness.open()
        harness.forget(SESSION)
        harness.settle()
        assert gone(harness)
        assert OTHER in harness.held_sessions()
        harness.endpoint = archive
        assert gone(harness)
        assert archive_files(harness.state) == ""


def test_an_erased_session_is_not_copied_from_an_archive(harness: DaemonHarness, tmp_path: Path) -> None:
    """Another machine erased it at the endpoint; the archive of this one learns it when it is copied."""
    write_all(harness)
    harness.settle()
    httpx.delete(
        f"{harness.endpoint.url}/v1/sessions/{SESSION}",
        headers={"Authorization": f"Bearer {TOKEN}", "Sessiond-Device": str(harness.device_id)},
        verify=False,
        timeout=60,
    )
    with running(str(tmp_path / "archive"), token=TOKEN) as archive:
        endpoint = harness.endpoint
        harness.client.close()
        harness.close()
        harness.endpoint, harness.address = archive, ""
        harness.open()
        harness.settle()
        assert not gone(harness)
        harness.client.close()
        harness.close()
        harness.endpoint, harness.archive, harness.address = endpoint, archive, endpoint.url
        harness.open()
        harness.settle()
        assert gone(harness)
        after_a_month(harness)
        harness.settle()
        assert gone(harness)
        assert captured(harness) == {OTHER}
        harness.endpoint = archive
        assert gone(harness)


def test_here_only_leaves_the_endpoint_alone(harness: DaemonHarness) -> None:
    write_all(harness)
    harness.settle()
    harness.forget(SESSION, everywhere=False)
    harness.write(CLAUDE, claude(SESSION, 9, text="more"))
    harness.settle()
    assert captured(harness) == {OTHER}
    assert b"more" not in harness.held(SESSION)
    assert count_erasures(harness.spool.connection, archive=False).endpoint == 0


def test_a_kill_at_any_commit_leaves_the_rest_to_the_next_start(tmp_path: Path) -> None:
    """Whenever it is killed, the session is erased everywhere after the next start."""
    for steps in range(8):
        base = tmp_path / str(steps)
        with running(str(base / "endpoint"), token=TOKEN) as endpoint:
            harness = DaemonHarness(str(base), endpoint, open_spool=CrashingSpool)
            harness.close()
            harness.address = endpoint.url
            harness.open()
            write_all(harness)
            harness.settle()
            assert isinstance(harness.spool, CrashingSpool)
            with harness.spool.transaction():
                harness.spool.forgotten.order([SESSION], harness.now_ms, everywhere=True)
            harness.spool.steps = steps
            try:
                harness.forget(SESSION)
                harness.push()
            except Killed:
                pass
            harness.client.close()
            harness.close()
            harness.open()
            harness.settle()
            assert captured(harness) == {OTHER}
            assert gone(harness)
            harness.client.close()
            harness.close()


def test_another_process_that_reads_the_spool_delays_the_end(harness: DaemonHarness) -> None:
    """The write-ahead log keeps the data while it is read; the next call removes it."""
    harness.write(CLAUDE, claude(SESSION, 1, text=text()))
    harness.scan()
    frame = max(frames(harness.spool), key=len)
    reader = Spool(harness.state, readonly=True)
    harness.spool.connection.execute("PRAGMA busy_timeout = 1")
    with reader.snapshot():
        reader.connection.execute("SELECT count(*) FROM session").fetchone()
        harness.forget(SESSION)
        assert captured(harness) == set()
    reader.close()
    harness.forget()
    assert frame[8:24] not in state_bytes(harness)


def after_a_month(harness: DaemonHarness, passed_ms: int = KEPT_MS) -> None:
    """Erase what was kept of sessions that were erased at the endpoint, as the daemon does when the time is over."""
    harness.now_ms += passed_ms
    with harness.spool.transaction():
        harness.spool.forgotten.expire(harness.now_ms)
    erase_forgotten(harness.ingesting)


def queued_here(harness: DaemonHarness) -> int:
    """Return how many bytes of the session are in the outbox."""
    stream = harness.spool.catalog.find_stream(UUID(SESSION), "main")
    return 0 if stream is None else sum(run[2] for run in harness.spool.outbox.runs(stream.id))


def erase_elsewhere(harness: DaemonHarness) -> None:
    """Erase the session at the endpoint, as another machine of the user does."""
    harness.client.forget(UUID(SESSION))


def erased_with_bytes_left(harness: DaemonHarness) -> int:
    """Push a session, capture a line more of it, and erase it at the endpoint; return the bytes that only we have.

    The tool has deleted its file.
    """
    write_all(harness)
    harness.settle()
    path = harness.write(CLAUDE, claude(SESSION, 4, text="only here"))
    harness.scan()
    os.unlink(path)
    erase_elsewhere(harness)
    size = queued_here(harness)
    assert size
    harness.push()
    harness.scan()
    return size


def test_an_endpoint_that_lists_a_session_as_erased_destroys_nothing_here(harness: DaemonHarness) -> None:
    """Nobody ordered that here: what only the spool has is kept, named by `status`, and pushed nowhere."""
    size = erased_with_bytes_left(harness)
    assert queued_here(harness) == size
    erasures = count_erasures(harness.spool.connection, archive=False)
    assert (erasures.learned, erasures.kept) == (1, 1)
    before = len(harness.transport.requests)
    harness.settle()
    assert "/v1/push" not in [path for path, _ in harness.transport.requests[before:]]
    assert gone(harness)
    found = harness.spool.catalog.session(UUID(SESSION))
    assert found is not None
    assert harness.spool.safety.session(found.id, harness.address) is State.PARKED


def test_what_was_kept_of_an_erased_session_is_erased_after_a_month(harness: DaemonHarness) -> None:
    """The user may have meant it: it does not stay for ever, and is not pushed again in between."""
    erased_with_bytes_left(harness)
    for passed, left in ((KEPT_MS - 60_000, True), (120_000, False)):
        after_a_month(harness, passed)
        harness.settle()
        assert (queued_here(harness) > 0) is left
        assert gone(harness)
    assert captured(harness) == {OTHER}
    assert harness.spool.forgotten.has(SESSION)


def test_the_user_erases_at_once_what_was_kept(harness: DaemonHarness) -> None:
    erased_with_bytes_left(harness)
    harness.forget(SESSION, everywhere=False)
    assert captured(harness) == {OTHER}
    assert count_erasures(harness.spool.connection, archive=True).learned == 0


def test_the_user_pushes_a_session_again_that_the_endpoint_lists_as_erased(
    harness: DaemonHarness, tmp_path: Path
) -> None:
    """The endpoint was at fault, and is replaced by one that has an older copy: all bytes get there."""
    size = erased_with_bytes_left(harness)
    with running(str(tmp_path / "repaired"), token=TOKEN) as repaired:
        harness.close()
        harness.endpoint, harness.address = repaired, repaired.url
        harness.open()
        harness.settle()
        assert SESSION not in harness.held_sessions()
        assert harness.spool.forgotten.release(SESSION)
        assert harness.spool.outbox.retry(UUID(SESSION))
        harness.settle()
        assert SESSION in harness.held_sessions()
        assert harness.held(SESSION).endswith(b'"only here"}\n') or b"only here" in harness.held(SESSION)[-size:]


def test_no_other_endpoint_is_told_to_erase_what_one_lists_as_erased(harness: DaemonHarness, tmp_path: Path) -> None:
    """Another endpoint may have the only copy, and the first one may be at fault."""
    erased_with_bytes_left(harness)
    with running(str(tmp_path / "other"), token=TOKEN) as other:
        harness.close()
        harness.endpoint, harness.address = other, other.url
        harness.open()
        before = len(harness.transport.requests)
        harness.settle()
        assert harness.transport.requests[before:]
        assert not [path for path, _ in harness.transport.requests[before:] if SESSION in path]
        assert SESSION not in harness.held_sessions()


def test_nothing_puts_an_erased_session_back_into_the_queue(harness: DaemonHarness, tmp_path: Path) -> None:
    """A new machine id, new rules, or `queue retry` of all items: no endpoint gets it."""
    size = erased_with_bytes_left(harness)
    with running(str(tmp_path / "other"), token=TOKEN) as other:
        harness.close()
        harness.endpoint, harness.address, harness.machine_id = other, other.url, "renamed"
        harness.open()
        with harness.spool.transaction():
            harness.spool.outbox.retry()
        harness.now_ms += 86_400_000  # it becomes idle
        harness.settle()
        assert OTHER in harness.held_sessions()
        assert SESSION not in harness.held_sessions()
        assert harness.get("/v1/unlisted").json()["sessions"] == []
        assert queued_here(harness) == size


def test_a_session_of_which_the_endpoint_had_everything_is_erased_here_too(harness: DaemonHarness) -> None:
    """This machine has nothing that is worth keeping."""
    write_all(harness)
    harness.settle()
    erase_elsewhere(harness)
    harness.retrying.identify_again()
    harness.settle()
    assert captured(harness) == {OTHER}
