"""The outbox is delivered: a stuck item does not delay the others, and two differing sides converge."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from sessiond.cli import main
from sessiond.errors import Rejected
from sessiond.ingest.catch_up import catch_up
from sessiond.spool import Spool, health
from sessiond.upload import BATCH_ITEMS
from support.harness import CLAUDE, NOW_MS, SESSION, DaemonHarness, claude, daemon_harness, encode, pushed


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def restored(base: Path, before: Callable[[DaemonHarness], None], after: Callable[[DaemonHarness], None]) -> bytes:
    """Restore the endpoint to its state after `before`, once `after` has happened; return what it has in the end."""
    data, copy = base / "endpoint", base / "copy"
    with daemon_harness(base) as harness:
        before(harness)
    shutil.copytree(data, copy)
    with daemon_harness(base) as harness:
        after(harness)
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    with daemon_harness(base) as harness:
        harness.settle()
        return harness.held(SESSION)


def refusing(harness: DaemonHarness, what: bytes) -> Callable[..., httpx.Response]:
    """Make the endpoint refuse each line that contains `what` as invalid, and accept the others."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.url.path != "/v1/push":
            return send()
        lines = pushed(request.headers["content-encoding"], request.content).splitlines()
        names = ("authorization", "sessiond-device", "sessiond-batch")
        headers = {name: request.headers[name] for name in names}
        content = b"\n".join(line for line in lines if what not in line)
        answer = httpx.post(str(request.url), headers=headers, content=content, timeout=60).json()
        others, no = iter(answer["results"]), {"status": "problem", "problem": {"type": "invalid", "title": "no"}}
        answer["results"] = [no if what in line else next(others) for line in lines]
        body = httpx.ByteStream(json.dumps(answer).encode())
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=body)

    return fate


def test_dropped_items_stay_dropped_and_the_rest_is_pushed(harness: DaemonHarness) -> None:
    """The endpoint gets a placeholder of the same length, after which more can be appended."""
    harness.transport.fate = refusing(harness, b"poison")
    lines = [claude(SESSION, n, text="poison" if n == 2 else "fine") for n in range(1, 6)]
    harness.write(CLAUDE, lines[0])
    harness.settle()
    for line in lines[1:3]:
        harness.ingest(harness.write(CLAUDE, line))
    harness.push()
    assert [segment.offset for segment in harness.spool.outbox.parked()[1]] == [len(encode(lines[0]))]
    with harness.spool.transaction():
        assert harness.spool.outbox.drop(uuid.UUID(SESSION), NOW_MS) == 1
    for line in lines[3:]:
        harness.ingest(harness.write(CLAUDE, line))
        harness.settle()
    held = harness.held(SESSION).splitlines(keepends=True)
    assert [held[n] for n in (0, 2, 3, 4)] == [encode(lines[n]) for n in (0, 2, 3, 4)]
    assert len(held[1]) == len(encode(lines[1]))
    assert json.loads(held[1]) == {"type": "sessiond", "lost_bytes": len(held[1])}
    assert harness.spool.outbox.parked() == ([], [])


def test_a_taken_machine_id_is_replaced_in_the_config(harness: DaemonHarness) -> None:
    """The problem suggests a new `machine_id` in the config. What was parked for the old one is removed."""
    record = {
        "id": SESSION.replace("5f", "6f"),
        "tool": "codex",
        "tool_version": None,
        "started_at": "2026-09-01T10:00:00Z",
        "ended_at": None,
        "model": None,
        "working_directory": "/home/other",
        "git_branch": None,
        "source_path": None,
        "message_count": 0,
        "machine_id": "testbox",
    }
    line = {"op": "session", "revision": 1, "device_id": str(uuid.UUID(int=5)), "record": record}
    headers = {"Authorization": f"Bearer {harness.endpoint.token}", "Sessiond-Device": line["device_id"]}
    httpx.post(
        f"{harness.endpoint.url}/v1/push", headers=headers, content=json.dumps(line), timeout=60
    ).raise_for_status()
    path = harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2))
    harness.settle()
    sessions, segments = harness.spool.outbox.parked()
    assert [session.parked for session in sessions] == [segment.parked for segment in segments]
    assert "machine_id" in (sessions[0].parked or "")
    assert harness.spool.stats.waiting().parked_reason == sessions[0].parked
    harness.close()
    harness.machine_id = "otherbox"
    harness.open()
    harness.settle()
    assert harness.spool.stats.waiting().parked_reason is None
    assert harness.held_sessions()[SESSION]["record"]["machine_id"] == "otherbox"
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert harness.spool.outbox.parked() == ([], [])


def test_what_a_taken_name_parked_is_pushed_after_its_adoption(harness: DaemonHarness, tmp_path: Path) -> None:
    """Nobody has to run `queue retry`. What is parked for another reason stays parked."""
    harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    other = SESSION.replace("5f", "6f")
    harness.settle()
    second = DaemonHarness(f"{harness.home}-2", harness.endpoint)
    try:
        shutil.copytree(Path(harness.home, ".claude"), Path(second.home, ".claude"), dirs_exist_ok=True)
        second.transport.fate = refusing(second, b"poison")
        path = second.write(CLAUDE, claude(SESSION, 3))
        second.write(CLAUDE.replace(SESSION, other), claude(other, 1, text="poison"))
        second.settle()
        second.retrying.identify_again()
        second.settle()
        assert {session.uuid for session in second.spool.outbox.parked()[0]} == {uuid.UUID(SESSION), uuid.UUID(other)}
        assert main(["serve", "adopt", "testbox", "--data", f"{tmp_path}/endpoint"], {"HOME": str(tmp_path)}) == 0
        second.retrying.identify_again()  # as each hour
        second.settle()
        assert {session.uuid for session in second.spool.outbox.parked()[0]} == {uuid.UUID(other)}
        assert {segment.session for segment in second.spool.outbox.parked()[1]} == {uuid.UUID(other)}
        assert second.held(SESSION) == Path(path).read_bytes()
    finally:
        second.client.close()
        second.close()


def test_the_same_session_of_another_device_is_not_taken_for_this_ones(harness: DaemonHarness) -> None:
    """Two machines have the same name and a copy of the same home. The second one gets another name.

    The endpoint's position in the other device's stream says nothing about what it has of this one.
    """
    path = harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    harness.settle()
    second = DaemonHarness(f"{harness.home}-2", harness.endpoint)
    try:
        shutil.copytree(Path(harness.home, ".claude"), Path(second.home, ".claude"), dirs_exist_ok=True)
        second.settle()
        assert [session.parked is not None for session in second.spool.outbox.parked()[0]] == [True]
        second.close()
        second.machine_id = "second"
        second.open()
        second.settle()
        held = second.get(f"/v1/sessions/second/{SESSION}/streams/main")
        assert held.content == Path(path).read_bytes()
        assert second.spool.stats.totals().complete
    finally:
        second.client.close()
        second.close()


def test_another_machine_id_begins_with_what_is_new(harness: DaemonHarness) -> None:
    """What was stored under the old id stays there. All that is not stored yet gets the new id."""
    other = SESSION.replace("5f", "6f")
    harness.write(CLAUDE, claude(SESSION, 1))
    path = harness.write(CLAUDE.replace(SESSION, other), claude(other, 1))
    harness.settle()
    harness.write(CLAUDE.replace(SESSION, other), claude(other, 2))
    harness.scan()
    harness.close()
    harness.machine_id = "otherbox"
    harness.open()
    harness.settle()
    records = harness.get("/v1/sessions", machine_id="otherbox").json()["sessions"]
    assert [(found["record"]["id"], found["record"]["message_count"]) for found in records] == [(other, 2)]
    assert harness.held(other) == Path(path).read_bytes()
    records = harness.get("/v1/sessions", machine_id="testbox").json()["sessions"]
    assert {found["record"]["id"]: found["record"]["message_count"] for found in records} == {SESSION: 1, other: 1}


def test_all_streams_of_a_session_follow_its_record_to_another_machine_id(harness: DaemonHarness) -> None:
    """Also those to which nothing is added: side files, subagents, and what was stored before the name changed."""
    folder = CLAUDE.removesuffix(".jsonl")
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.write(f"{folder}/subagents/agent-a1.jsonl", {**claude(SESSION, 1), "isSidechain": True, "agentId": "a1"})
    harness.write(f"{folder}/tool-results/toolu_01.txt", b"all of it\n")
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 2))
    for name, waits in (("second", True), ("third", False)):
        if waits:
            harness.scan()  # the record waits under the old name
        harness.close()
        harness.machine_id = name
        harness.open()
        harness.write(CLAUDE, *[] if waits else [claude(SESSION, 3)])
        harness.settle()
        held = harness.get(f"/v1/sessions/{name}/{SESSION}/streams").json()["streams"]
        assert {stream["name"] for stream in held} == {"main", "agent-a1", "tool-results/toolu_01.txt"}, name
        assert harness.spool.stats.totals().complete


def test_an_endpoint_that_lost_a_part_of_a_rewritten_stream_converges(tmp_path: Path) -> None:
    """It has less of an old generation than the outbox continues from. No file has the bytes between any more."""

    def before(harness: DaemonHarness) -> None:
        harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2))
        harness.settle()

    def after(harness: DaemonHarness) -> None:
        harness.write(CLAUDE, claude(SESSION, 3))
        harness.scan()
        harness.write(CLAUDE, claude(SESSION, 4))
        harness.settle()
        harness.write(CLAUDE, claude(SESSION, 5))
        harness.scan()
        head = encode(claude(SESSION, 1)) + encode(claude(SESSION, 2)) + encode(claude(SESSION, 3))
        harness.write(CLAUDE, head, claude(SESSION, 6, text="anew"), mode="wb")
        harness.scan()

    held = restored(tmp_path, before, after)
    assert held == (tmp_path / "home" / CLAUDE).read_bytes()


def test_streams_that_are_stuck_leave_room_for_others(harness: DaemonHarness) -> None:
    """The newest streams all wait behind a parked item. Older ones are pushed all the same."""
    catalog, outbox = harness.spool.catalog, harness.spool.outbox
    with harness.spool.transaction():
        for number in range(BATCH_ITEMS + 2):
            session = catalog.add_session(uuid.UUID(int=number + 1), "claude-code", str(number))
            stream = catalog.add_stream(session, "main", thread=True, known=True)
            stream.rank = 1000 - number
            catalog.save_stream(stream)
            for offset in (0, 10):
                outbox.add(stream.id, 0, offset, 10, b"x", NOW_MS)
        harness.spool.connection.execute(
            "UPDATE segment SET parked = 'no' WHERE offset = 0 AND stream <= ?", (BATCH_ITEMS + 1,)
        )
        harness.spool.connection.execute("UPDATE stream SET waiting = 1 WHERE id <= ?", (BATCH_ITEMS + 1,))
    assert [segment.stream_id for segment in outbox.segments(BATCH_ITEMS, 1 << 20)] == [BATCH_ITEMS + 2] * 2


def test_a_stream_that_is_to_be_reconciled_comes_before_those_that_wait_for_room(tmp_path: Path) -> None:
    """Its full outbox must be read first, though it is behind more newer streams than are read at once."""
    with daemon_harness(tmp_path, budget=1) as harness:
        path = harness.write(CLAUDE, claude(SESSION, 1))
        os.utime(path, (NOW_MS / 1000, NOW_MS / 1000))
        harness.ingesting = replace(harness.ingesting, budget=1 << 20)
        harness.scan()
        harness.ingesting = replace(harness.ingesting, budget=1)
        for number in range(3):
            session = f"6f1d7c1e-0000-4000-8000-{number:012d}"
            newer = harness.write(f".claude/projects/-x/{session}.jsonl", claude(session, 1))
            os.utime(newer, (NOW_MS / 1000 + 1000, NOW_MS / 1000 + 1000))
            harness.ingest(newer)
        assert harness.spool.catalog.behind(9) == [2, 3, 4]
        harness.push()
        assert harness.spool.catalog.stream(1).remote_position is not None
        stuck: set[int] = set()
        while catch_up(harness.ingesting, limit=2, stuck=stuck):
            pass
        assert harness.spool.catalog.stream(1).remote_position is None
        assert os.path.exists(path)


def test_streams_that_get_nowhere_do_not_keep_others_waiting(tmp_path: Path) -> None:
    """The file of a newer stream can't be read; an older one is read all the same."""
    with daemon_harness(tmp_path, budget=1) as harness:
        for number in range(3):
            session = f"6f1d7c1e-0000-4000-8000-{number:012d}"
            path = harness.write(f".claude/projects/-x/{session}.jsonl", claude(session, 1))
            os.utime(path, (NOW_MS / 1000 + number, NOW_MS / 1000 + number))
            harness.ingest(path)
            if number:
                os.rename(path, f"{path}.away")
                os.symlink(f"{path}.away", path)
        harness.ingesting = replace(harness.ingesting, budget=1 << 20)
        stuck: set[int] = set()
        while catch_up(harness.ingesting, limit=1, stuck=stuck):
            pass
        assert harness.spool.catalog.stream(1).caught_up
        assert stuck == {2, 3}


def test_a_waiting_thread_gets_its_turn(tmp_path: Path) -> None:
    """The capture of a backlog makes one transaction after the other, and the upload must get in between."""
    spool = Spool(str(tmp_path))
    ends, turns = time.monotonic() + 1.0, [0, 0]

    def capture() -> None:
        while time.monotonic() < ends:
            with spool.transaction():
                until = time.monotonic() + 0.05
                while time.monotonic() < until:
                    pass
            turns[0] += 1

    thread = threading.Thread(target=capture)
    thread.start()
    while time.monotonic() < ends:
        with spool.reading(), spool.reading():
            turns[1] += 1
    thread.join()
    spool.close()
    assert turns[1] >= turns[0] / 4  # of a busy machine; where none is given, it has one or two


def test_the_queries_of_every_push_and_append_go_by_an_index(harness: DaemonHarness) -> None:
    """None may get slower with the number of streams, or with what was captured of one."""
    said: list[str] = []
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.spool.connection.set_trace_callback(said.append)
    harness.ingest(os.path.join(harness.home, CLAUDE))
    harness.push()
    harness.spool.connection.set_trace_callback(None)
    for sql in said:
        if sql.startswith("SELECT") and "meta" not in sql:
            for row in harness.spool.connection.execute(f"EXPLAIN QUERY PLAN {sql}"):
                scans_table = row[3].startswith("SCAN") and row[3] != "SCAN CONSTANT ROW"
                assert not scans_table or "INDEX" in row[3], (sql, row[3])


def test_a_push_says_whether_there_is_more(harness: DaemonHarness) -> None:
    """A second read of an outbox that the first push has emptied costs as much as a push."""
    harness.write(CLAUDE, claude(SESSION, 0))
    harness.settle()
    for number in range(1, 4):
        harness.write(CLAUDE, claude(SESSION, number))
        harness.ingest(os.path.join(harness.home, CLAUDE))
    pushed = harness.push()
    assert (pushed.sessions, pushed.segments, pushed.more) == (1, 3, False)
    harness.write(CLAUDE, claude(SESSION, 4))
    harness.ingest(os.path.join(harness.home, CLAUDE))
    for number in range(BATCH_ITEMS):
        harness.write(f".claude/projects/-p/{uuid.UUID(int=number)}.jsonl", claude(str(uuid.UUID(int=number)), 1))
    harness.scan()
    assert harness.push().more


def test_an_acknowledgement_costs_one_commit(harness: DaemonHarness) -> None:
    """The endpoint's state is stored in the transaction of the acknowledgement."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    harness.push()
    harness.uploading.settled = lambda _: health.write(harness.spool, health.EndpointHealth(last_ack_ms=7))
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()
    said: list[str] = []
    harness.spool.connection.set_trace_callback(said.append)
    harness.push()
    harness.spool.connection.set_trace_callback(None)
    assert said.count("COMMIT") == 1
    assert health.read_endpoint(harness.spool).last_ack_ms == 7


def test_the_parked_are_found_without_reading_what_is_queued(harness: DaemonHarness) -> None:
    """The column `parked` follows a megabyte of data in its row."""
    plans = harness.spool.connection.execute(
        "EXPLAIN QUERY PLAN SELECT generation FROM segment WHERE stream = 1 AND parked IS NOT NULL"
    ).fetchall()
    assert "COVERING INDEX" in plans[0][3]


@pytest.mark.parametrize("emptied", [False, True], ids=["rewritten", "emptied"])
def test_what_only_the_outbox_has_outlives_an_endpoint_that_forgot(tmp_path: Path, emptied: bool) -> None:
    """Lines wait, the endpoint reports another position, and then the tool rewrites the file."""
    data, copy = tmp_path / "endpoint", tmp_path / "copy"
    with daemon_harness(tmp_path) as harness:
        harness.write(CLAUDE, claude(SESSION, 1))
        harness.settle()
    shutil.copytree(data, copy)
    with daemon_harness(tmp_path) as harness:
        harness.write(CLAUDE, claude(SESSION, 2, text="anew"), mode="wb")
        harness.settle()
        harness.write(CLAUDE, claude(SESSION, 3, text="only in the outbox"))
        harness.scan()
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    with daemon_harness(tmp_path) as harness:
        harness.push()
        harness.write(CLAUDE, mode="wb")
        if emptied:
            harness.scan()
            harness.push()
        path = harness.write(CLAUDE, claude(SESSION, 4, text="written over"))
        harness.settle()
        assert harness.held(SESSION) == Path(path).read_bytes()
        (main,) = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
        kept = [harness.held(SESSION, generation=each["generation"]) for each in main["generations"]]
    assert any(b"only in the outbox" in each for each in kept)


def test_an_endpoint_that_refuses_everything_parks_nothing(harness: DaemonHarness) -> None:
    """Each item alone is refused as well: the endpoint is at fault, not the item (rule 12)."""
    harness.push()  # both sides know one another
    for number in range(3):
        name = str(uuid.UUID(int=uuid.UUID(SESSION).int + number))
        harness.write(f".claude/projects/-x/{name}.jsonl", claude(name, 1))
    harness.scan()

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.url.path != "/v1/push":
            return send()
        return httpx.Response(400, stream=httpx.ByteStream(b"{}"))

    harness.transport.fate = fate
    with pytest.raises(Rejected):
        harness.push()
    assert harness.spool.stats.waiting().parked == 0
    harness.transport.fate = None
    harness.settle()
    assert len(harness.held_sessions()) == 3


def test_a_rewrite_shares_no_more_than_the_outbox_leads_to(tmp_path: Path) -> None:
    """The outbox was full, so not all of the old generation is on its way. The new one is accepted at once."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        lines = [claude(SESSION, n, text=os.urandom(3000).hex()) for n in range(400)]
        harness.write(CLAUDE, *lines)
        harness.scan()
        assert harness.spool.stats.waiting().behind
        path = harness.write(CLAUDE, *lines[:-1], claude(SESSION, 400, text="another end"), mode="wb")
        harness.settle(200)
        assert harness.held(SESSION) == Path(path).read_bytes()
        (main,) = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
        assert [each["generation"] for each in main["generations"]] == [0, 1]
