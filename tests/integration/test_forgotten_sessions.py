"""An erased session is gone from the spool's files and from the endpoint, and nothing brings it back."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from sessiond.endpoint.server import running
from sessiond.spool import Spool
from sessiond.spool.damaged import read_tombstones
from sessiond.spool.forgotten import count_erasures
from sessiond.state import archive_files
from support.harness import CLAUDE, SESSION, TOKEN, Household, claude, household
from support.power import Killed, MortalSpool

OTHER = SESSION[:-1] + "2"
OTHER_FILE = CLAUDE.replace(SESSION, OTHER)
SIDE_FILE = CLAUDE.removesuffix(".jsonl") + "/tool-results/toolu_01.txt"
AGENT = CLAUDE.removesuffix(".jsonl") + "/subagents/agent-a1.jsonl"
TITLE = "a title to be erased"
noise = random.Random(1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    with household(tmp_path) as made:
        made.close()
        made.address = made.endpoint.url
        made.open()
        yield made


def text() -> str:
    """Text without repeats: its compressed frames can be found in a file."""
    return noise.randbytes(600).hex()


def write_all(house: Household) -> None:
    """A session with a title, a subagent, a side file and a prompt in the history; and another session."""
    title = {"type": "custom-title", "customTitle": TITLE, "sessionId": SESSION}
    house.write(CLAUDE, claude(SESSION, 1, text=text()), title, claude(SESSION, 2, role="assistant", text=text()))
    house.write(AGENT, {**claude(SESSION, 3, text=text()), "isSidechain": True, "agentId": "a1"})
    house.write(SIDE_FILE, text())
    prompt = {
        "display": "a prompt",
        "sessionId": SESSION,
        "project": "/home/dev/project",
        "timestamp": 1_788_000_000_000,
    }
    house.write(".claude/history.jsonl", prompt)
    house.write(OTHER_FILE, claude(OTHER, 1, text="kept"))


def frames(spool: Spool) -> list[bytes]:
    return [bytes(row[0]) for row in spool.connection.execute("SELECT data FROM segment WHERE data IS NOT NULL")]


def state_bytes(house: Household) -> bytes:
    return b"".join(path.read_bytes() for path in Path(house.state).rglob("*") if path.is_file())


def captured(house: Household) -> set[str]:
    return {str(session.uuid) for session in house.spool.catalog.sessions()}


def gone(house: Household) -> bool:
    """Return whether the endpoint has neither a record nor a byte of the session."""
    path = f"/v1/sessions/testbox/{SESSION}"
    unlisted = [each["session"] for each in house.get("/v1/unlisted").json()["sessions"]]
    return house.get(path).status_code == 404 and SESSION not in unlisted


def test_nothing_of_it_is_left_in_the_state_directory(house: Household) -> None:
    """Waiting and acknowledged data of all its streams is removed; other sessions are unchanged."""
    write_all(house)
    house.scan()
    kept = frames(house.spool)
    house.settle()
    house.write(CLAUDE, claude(SESSION, 4, text=text()))
    house.scan()
    kept += frames(house.spool)
    assert any(frame[8:24] in state_bytes(house) for frame in kept), "the test would find them"
    house.forget(SESSION)
    left = state_bytes(house)
    assert TITLE.encode() not in left
    erased = [frame for frame in kept if len(frame) > 300]
    assert len(erased) >= 4
    assert not any(frame[at : at + 16] in left for frame in erased for at in range(0, len(frame) - 16, 16))
    assert captured(house) == {OTHER}
    house.settle()
    assert gone(house)
    assert OTHER in house.held_sessions()


def test_its_tool_does_not_bring_it_back(house: Household) -> None:
    """Its file, a subagent, a side file and the history of prompts may change, or be found by a new daemon."""
    write_all(house)
    house.settle()
    house.forget(SESSION)
    house.write(CLAUDE, claude(SESSION, 5, text="more"))
    house.write(SIDE_FILE, "more")
    house.write(AGENT, {**claude(SESSION, 6), "isSidechain": True, "agentId": "a1"})
    house.settle()
    house.close()
    house.open()
    os.unlink(os.path.join(house.home, CLAUDE))  # now the history of prompts would be all that is known of it
    house.now_ms += 3_600_000
    house.settle()
    assert captured(house) == {OTHER}
    assert gone(house)


def test_an_old_spool_does_not_bring_it_back(house: Household, tmp_path: Path) -> None:
    """A backup of the machine is restored: the endpoint answers `forgotten`, and the spool erases it again."""
    write_all(house)
    house.settle()
    shutil.copytree(house.state, tmp_path / "old")
    house.forget(SESSION)
    house.settle()
    house.close()
    shutil.rmtree(house.state)
    shutil.copytree(tmp_path / "old", house.state)
    house.open()
    house.write(CLAUDE, claude(SESSION, 7, text="after the backup"))
    house.settle()
    assert captured(house) == {OTHER}
    assert house.spool.forgotten.has(SESSION)
    assert gone(house)
    house.write(CLAUDE, claude(SESSION, 8, text="once more"))
    before = len(house.transport.requests)
    house.settle()
    assert [path for path, _ in house.transport.requests[before:] if path == "/v1/push"] == [], "nothing is tried again"


def test_an_old_spool_with_nothing_to_push_learns_it_too(house: Household, tmp_path: Path) -> None:
    """`status` must not call a session safe that the endpoint has erased."""
    write_all(house)
    house.settle()
    shutil.copytree(house.state, tmp_path / "old")
    house.forget(SESSION)
    house.settle()
    house.close()
    shutil.rmtree(house.state)
    shutil.copytree(tmp_path / "old", house.state)
    for path in (CLAUDE, AGENT, SIDE_FILE):
        os.unlink(os.path.join(house.home, path))
    house.open()
    assert captured(house) == {SESSION, OTHER}
    house.push()
    assert captured(house) == {OTHER}


def test_a_spool_that_is_rebuilt_keeps_the_tombstones(house: Household) -> None:
    house.forget(SESSION, OTHER, everywhere=False)
    path = house.spool.path
    house.close()
    rows = read_tombstones(path)
    assert {row[0] for row in rows} == {SESSION, OTHER}
    Path(path).write_bytes(b"no database" * 1000)
    assert read_tombstones(path) == []
    os.unlink(path)
    house.open()
    with house.spool.transaction():
        house.spool.forgotten.put_rows(rows)
    write_all(house)
    house.settle()
    assert captured(house) == set()


def test_an_order_waits_for_the_endpoint(house: Household) -> None:
    """It is kept while the endpoint does not answer, and carried out once it does. Nothing is pushed meanwhile."""
    write_all(house)
    house.settle()

    def down(request: httpx.Request, _: Callable[[], httpx.Response]) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    house.transport.fate = down
    house.forget(SESSION)
    house.push()
    counts = count_erasures(house.spool.connection, archive=False)
    assert (counts.sessions, counts.endpoint) == (1, 1)
    assert "refused" in (counts.problem or "")
    house.close()
    house.transport.fate = None
    house.open()
    house.settle()
    assert gone(house)
    assert count_erasures(house.spool.connection, archive=False).endpoint == 0


def test_a_proxy_that_refuses_to_erase_stops_no_push(house: Household) -> None:
    """It lets POST through and answers DELETE with a page of its own."""
    write_all(house)
    house.settle()

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.method != "DELETE":
            return send()
        return httpx.Response(403, headers={"content-type": "text/html"}, stream=httpx.ByteStream(b"<html>no"))

    house.transport.fate = fate
    house.forget(SESSION)
    house.write(OTHER_FILE, claude(OTHER, 2, text="new"))
    house.settle()
    assert b"new" in house.held(OTHER)
    assert not gone(house)
    assert count_erasures(house.spool.connection, archive=False).problem is not None


def test_an_endpoint_that_was_restored_erases_it_again(house: Household, tmp_path: Path) -> None:
    """Its backup has the session and no tombstone."""
    write_all(house)
    house.settle()
    (tmp_path / "copy").mkdir()
    with (
        closing(sqlite3.connect(Path(house.endpoint.store.directory, "endpoint.db"))) as source,
        closing(sqlite3.connect(tmp_path / "copy" / "endpoint.db")) as copy,
    ):
        source.backup(copy)
    house.forget(SESSION)
    house.settle()
    with running(str(tmp_path / "copy"), token=TOKEN) as restored:
        house.client.close()
        house.close()
        house.endpoint, house.address = restored, restored.url
        house.open()
        assert not gone(house)
        house.settle()
        assert gone(house)


def test_an_archive_beside_the_endpoint_erases_it_too(house: Household, tmp_path: Path) -> None:
    """It was captured before the endpoint was configured; it is neither kept there nor copied."""
    with running(str(tmp_path / "archive"), token=TOKEN) as archive:
        endpoint = house.endpoint
        house.client.close()
        house.close()
        house.endpoint, house.address = archive, ""
        house.open()
        write_all(house)
        house.settle()
        assert not gone(house)
        house.client.close()
        house.close()
        house.endpoint, house.archive, house.address = endpoint, archive, endpoint.url
        house.open()
        house.forget(SESSION)
        house.settle()
        assert gone(house)
        assert OTHER in house.held_sessions()
        house.endpoint = archive
        assert gone(house)
        assert archive_files(house.state) == ""


def test_an_erased_session_is_not_copied_from_an_archive(house: Household, tmp_path: Path) -> None:
    """Another machine erased it at the endpoint; the archive of this one learns it when it is copied."""
    write_all(house)
    house.settle()
    httpx.delete(
        f"{house.endpoint.url}/v1/sessions/{SESSION}",
        headers={"Authorization": f"Bearer {TOKEN}", "Sessiond-Device": str(house.device_id)},
        verify=False,
    )
    with running(str(tmp_path / "archive"), token=TOKEN) as archive:
        endpoint = house.endpoint
        house.client.close()
        house.close()
        house.endpoint, house.address = archive, ""
        house.open()
        house.settle()
        assert not gone(house)
        house.client.close()
        house.close()
        house.endpoint, house.archive, house.address = endpoint, archive, endpoint.url
        house.open()
        house.settle()
        assert gone(house)
        house.endpoint = archive
        assert gone(house)
        assert captured(house) == {OTHER}


def test_here_only_leaves_the_endpoint_alone(house: Household) -> None:
    write_all(house)
    house.settle()
    house.forget(SESSION, everywhere=False)
    house.write(CLAUDE, claude(SESSION, 9, text="more"))
    house.settle()
    assert captured(house) == {OTHER}
    assert b"more" not in house.held(SESSION)
    assert count_erasures(house.spool.connection, archive=False).endpoint == 0


def test_a_kill_at_any_commit_leaves_the_rest_to_the_next_start(tmp_path: Path) -> None:
    """Whenever it is killed, the session is erased everywhere after the next start."""
    for steps in range(8):
        base = tmp_path / str(steps)
        with running(str(base / "endpoint"), token=TOKEN) as endpoint:
            house = Household(str(base), endpoint, make_spool=MortalSpool)
            house.close()
            house.address = endpoint.url
            house.open()
            write_all(house)
            house.settle()
            assert isinstance(house.spool, MortalSpool)
            with house.spool.transaction():
                house.spool.forgotten.order([SESSION], house.now_ms, everywhere=True)
            house.spool.steps = steps
            try:
                house.forget(SESSION)
                house.push()
            except Killed:
                pass
            house.client.close()
            house.close()
            house.open()
            house.settle()
            assert captured(house) == {OTHER}
            assert gone(house)
            house.client.close()
            house.close()


def test_another_process_that_reads_the_spool_delays_the_end(house: Household) -> None:
    """The write-ahead log keeps the data while it is read; the next call removes it."""
    house.write(CLAUDE, claude(SESSION, 1, text=text()))
    house.scan()
    frame = max(frames(house.spool), key=len)
    reader = Spool(house.state, readonly=True)
    house.spool.connection.execute("PRAGMA busy_timeout = 1")
    with reader.snapshot():
        reader.connection.execute("SELECT count(*) FROM session").fetchone()
        house.forget(SESSION)
        assert captured(house) == set()
    reader.close()
    house.forget()
    assert frame[8:24] not in state_bytes(house)
