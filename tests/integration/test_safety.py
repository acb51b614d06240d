"""A session that is reported safe is at the endpoint, in every command; and bytes that any place still has get there.

Each test is a way in which an endpoint, a file or a source goes away after its sessions were acknowledged.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from sessiond.cli import main
from sessiond.endpoint.server import Running, running
from sessiond.errors import Unreachable
from sessiond.spool.safety import BOUND_ENDPOINT, Counts, State
from sessiond.status import read_status
from sessiond.upload import bind, upload
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, encode

OTHER = "5f1d7c1e-0000-4000-8000-000000000002"
SECRET = "ghp_" + "a1B2c3D4e5F6a7B8c9D0e1F2a3B4c5D6e7F8"


class World:
    """A home with an archive and two endpoints, one of which is configured."""

    def __init__(self, base: Path, stack: ExitStack) -> None:
        self.base = base
        self.stack = stack
        self.servers: dict[str, Running] = {}
        for name in ("first", "second"):
            self.servers[name] = self.serve(base / name)
        self.servers["archive"] = self.serve(base / "archive")
        self.harness = DaemonHarness(str(base), self.servers["archive"])
        stack.callback(self.close)
        self.configured = "archive"

    def serve(self, directory: Path) -> Running:
        return self.stack.enter_context(running(str(directory), token=TOKEN))

    def close(self) -> None:
        self.harness.client.close()
        self.harness.close()

    def configure(self, name: str) -> None:
        """Restart the daemon with another endpoint in its configuration."""
        harness = self.harness
        self.close()
        self.configured = name
        harness.endpoint, harness.archive = self.servers[name], self.servers["archive"]
        harness.address = "" if name == "archive" else harness.endpoint.url
        harness.open()

    def settle_at(self, name: str, written: Sequence[dict]) -> None:
        """Write a session while this endpoint is configured, and push it."""
        self.configure(name)
        self.harness.write(CLAUDE, *written)
        self.harness.settle()

    def lose(self) -> None:
        """Lose the spool and the tool's file: at the next start the machine has an empty archive and no endpoint."""
        harness = self.harness
        harness.close()
        shutil.rmtree(harness.state + "/archive", ignore_errors=True)
        for name in os.listdir(harness.state):
            if name.startswith("spool.db"):
                os.unlink(os.path.join(harness.state, name))
        os.unlink(os.path.join(harness.home, CLAUDE))
        harness.open()
        self.servers["archive"] = self.serve(self.base / "other-archive")

    def counts(self) -> Counts:
        return self.harness.spool.safety.total(self.harness.address)

    def state(self, session: str = SESSION) -> State:
        found = self.harness.spool.catalog.session(uuid.UUID(session))
        assert found is not None
        return self.harness.spool.safety.session(found.id, self.harness.address)

    def environ(self) -> dict[str, str]:
        url = {} if self.configured == "archive" else {"SESSIOND_ENDPOINT__URL": self.harness.address}
        return {
            "HOME": self.harness.home,
            "SESSIOND_STATE_DIR": self.harness.state,
            "SESSIOND_CONFIG": os.devnull,
            "SESSIOND_MACHINE_ID": "testbox",
            "SESSIOND_TOKEN": TOKEN,
            **url,
        }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def content(world: World) -> bytes:
    return Path(world.harness.home, CLAUDE).read_bytes()


def delete(world: World) -> None:
    os.unlink(os.path.join(world.harness.home, CLAUDE))
    world.harness.scan()


def lines(count: int, start: int = 1, **more: object) -> list[dict]:
    return [claude(SESSION, number, **more) for number in range(start, start + count)]


def test_nothing_is_safe_before_the_endpoint_has_answered() -> None:
    """Sessions that were safe or given up at another endpoint count as waiting; the sum stays."""
    counts = Counts(captured=10, acknowledged=4, waiting=1, archived=1, parked=1, lost=1, dropped=2)
    before = counts.unanswered()
    assert (before.acknowledged, before.dropped, before.waiting) == (0, 0, 7)
    assert before.waiting + before.archived + before.parked + before.lost == before.captured
    assert not before.settled


def test_what_only_the_archive_has_gets_to_the_endpoint(world: World) -> None:
    """The README shows this: first there is no endpoint, and one is configured after the tool's clean-up."""
    harness = world.harness
    harness.write(CLAUDE, *lines(3))
    harness.settle()
    before = content(world)
    delete(world)
    harness.settle()
    assert (world.counts().acknowledged, world.counts().only_here) == (1, 1)
    world.configure("first")
    assert world.state() is State.WAITING  # the endpoint has not answered yet
    bind(harness.uploading)
    harness.transfer.prepare()
    assert world.state() is State.ARCHIVED
    harness.settle()
    assert harness.held(SESSION) == before
    assert world.state() is State.SAFE
    assert harness.spool.stats.totals(harness.address).complete


def test_the_progress_counts_what_only_the_archive_has(world: World) -> None:
    """Bytes of which the tool still has a file are already counted there."""
    harness = world.harness
    harness.write(CLAUDE, *lines(3))
    harness.write(CLAUDE.replace(SESSION, OTHER), *(claude(OTHER, number) for number in range(5)))
    harness.settle()
    gone = len(content(world))
    delete(world)
    harness.settle()
    world.configure("first")
    bind(harness.uploading)
    harness.transfer.prepare()
    totals = harness.spool.stats.totals(harness.address)
    assert (totals.archive.only_bytes, totals.archive.only_pending_bytes, totals.archived_bytes) == (gone, gone, gone)
    assert totals.archive.bytes > gone
    harness.settle()
    archive = harness.spool.stats.totals(harness.address).archive
    assert (archive.only_bytes, archive.only_pending_bytes, archive.pending) == (0, 0, 0)


def test_a_session_that_the_spool_does_not_know_is_copied_too(world: World) -> None:
    """The spool was lost after the tool had deleted the file: the archive is the only place that has it."""
    harness = world.harness
    harness.write(CLAUDE, *lines(3))
    harness.settle()
    before = content(world)
    delete(world)
    harness.settle()
    harness.close()
    for name in os.listdir(harness.state):
        if name.startswith("spool.db"):
            os.unlink(os.path.join(harness.state, name))
    harness.open()
    world.configure("first")
    harness.settle()
    assert harness.held(SESSION) == before
    archive = harness.spool.safety.archive()
    assert (archive.sessions, archive.pending) == (1, 0)


def test_every_generation_of_the_archive_is_copied(world: World) -> None:
    """Only earlier generations of the archive have what a tool compacted away."""
    harness = world.harness
    path = harness.write(CLAUDE, *lines(3))
    harness.settle()
    first = content(world)
    Path(path).write_bytes(encode(claude(SESSION, 9, text="a summary")))
    harness.settle()
    second = content(world)
    world.configure("first")
    harness.settle()
    assert [harness.held(SESSION, generation=number) for number in (0, 1)] == [first, second]
    harness.write(CLAUDE, claude(SESSION, 10))
    harness.settle()
    assert harness.held(SESSION, generation=1) == content(world)  # and it goes on in the copied one


def test_what_is_copied_is_masked_by_the_rules_in_force(world: World) -> None:
    """The archive was filled without masking; the endpoint must not get what the user chose to hide."""
    harness = world.harness
    harness.write(CLAUDE, claude(SESSION, 1, text=f"the token is {SECRET}"), *lines(2, 2))
    harness.settle()
    assert SECRET.encode() in harness.held(SESSION)
    delete(world)
    harness.settle()
    harness.settings["redact"] = "mask"
    world.configure("first")
    harness.settle()
    held = harness.held(SESSION)
    assert SECRET.encode() not in held
    assert b"the token is " in held
    assert world.state() is State.SAFE


def test_a_kill_while_the_archive_is_copied_costs_nothing(world: World) -> None:
    harness = world.harness
    for number in range(3):
        session = SESSION[:-1] + str(number)
        path = CLAUDE.replace(SESSION, session)
        harness.write(path, *(claude(session, each, text="x" * 5000) for each in range(40)))
    harness.settle()
    kept = {session: harness.held(session) for session in harness.held_sessions()}
    for session in kept:
        os.unlink(os.path.join(harness.home, CLAUDE.replace(SESSION, session)))
    harness.settle()
    world.configure("first")
    for _ in range(4):
        harness.now_ms += 1000
        bind(harness.uploading)
        harness.transfer.prepare()
        harness.transfer.step(size=1000)
        harness.close()
        harness.client.close()
        harness.open()
    harness.settle()
    assert {session: harness.held(session) for session in kept} == kept
    assert world.counts().acknowledged == 3


def test_an_endpoint_that_has_other_bytes_under_the_same_number_keeps_them(world: World) -> None:
    """An earlier installation of this machine pushed there: nothing is replaced, and all of the archive is stored as
    well.
    """
    harness = world.harness
    world.settle_at("first", lines(3, text="of an earlier life"))
    earlier = content(world)
    world.lose()
    world.settle_at("archive", lines(2, text="of this life"))
    later = content(world)
    delete(world)
    harness.settle()
    world.configure("first")
    harness.settle()
    (main_stream,) = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
    held = [harness.held(SESSION, generation=each["generation"]) for each in main_stream["generations"]]
    assert earlier in held
    assert later in held


def test_what_was_acknowledged_elsewhere_only_counts_as_lost(world: World) -> None:
    """The endpoint changed after the tool had deleted its file: no place that can be reached has it."""
    harness = world.harness
    world.settle_at("first", lines(3))
    size = len(content(world))
    delete(world)
    harness.settle()
    world.configure("second")
    harness.settle()
    assert world.state() is State.LOST
    counts = world.counts()
    assert (counts.acknowledged, counts.lost, counts.lost_bytes) == (0, 1, size)
    world.configure("first")  # and there it still is
    harness.settle()
    assert world.state() is State.SAFE


def test_acknowledgements_count_again_at_the_earlier_endpoint(world: World) -> None:
    """Only what it acknowledged counts, and no file is read."""
    harness = world.harness
    world.settle_at("first", lines(3))
    world.configure("second")
    harness.settle()
    assert harness.held(SESSION) == content(world)
    world.configure("first")
    while harness.push().more:
        pass
    assert world.state() is State.SAFE


def test_a_file_that_comes_back_heals_what_was_lost(world: World) -> None:
    harness = world.harness
    world.settle_at("first", lines(3))
    before = content(world)
    delete(world)
    harness.settle()
    world.configure("second")
    harness.settle()
    assert world.state() is State.LOST
    Path(harness.home, CLAUDE).write_bytes(before)  # out of a backup
    harness.settle()
    assert world.state() is State.SAFE
    assert harness.held(SESSION) == before


def test_sessions_of_a_restored_endpoint_are_not_safe(world: World) -> None:
    """It is back from an older copy, and the file and the outbox are empty: the session is reported as lost."""
    harness = world.harness
    world.configure("first")
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    harness.settle()
    server = world.servers["first"]
    shutil.copytree(world.base / "first", world.base / "copy")
    harness.write(CLAUDE, *lines(3))
    harness.settle()
    delete(world)
    harness.settle()
    assert (world.state(), world.state(OTHER)) == (State.SAFE, State.SAFE)
    world.servers["first"] = world.serve(world.base / "copy")
    assert world.servers["first"].store.endpoint_id == server.store.endpoint_id
    world.configure("first")
    harness.settle()
    assert (world.state(), world.state(OTHER)) == (State.LOST, State.SAFE)


def test_the_end_that_a_restored_endpoint_has_lost_is_not_safe(world: World) -> None:
    """Its copy holds the first lines of the session only, and the file is gone: the others are lost."""
    harness = world.harness
    world.settle_at("first", lines(2))
    kept = len(content(world))
    shutil.copytree(world.base / "first", world.base / "copy")
    harness.write(CLAUDE, *lines(2, 3))
    harness.settle()
    size = len(content(world))
    delete(world)
    harness.settle()
    assert world.state() is State.SAFE
    world.servers["first"] = world.serve(world.base / "copy")
    world.configure("first")
    harness.settle()
    assert len(harness.held(SESSION)) == kept
    assert world.state() is State.LOST
    assert world.counts().lost_bytes == size - kept


@pytest.mark.parametrize("after_leaving", [False, True])
def test_what_one_endpoint_lacks_is_not_lost_at_another_that_has_it(world: World, after_leaving: bool) -> None:
    """The tool rewrote the file before the second endpoint got it. The first one has it all the same.

    What was captured only after the change of endpoint, and lost in the same way, is lost for both.
    """
    harness = world.harness
    world.configure("first")
    for number in range(3):
        path = harness.write(CLAUDE, *lines(1, start=number))
        harness.settle()
    before = content(world)
    harness.budget = 1  # the outbox has no room, so the bytes wait in the file
    world.configure("second")
    while harness.push().more:
        pass
    harness.ingest(path)
    if after_leaving:
        harness.write(CLAUDE, *lines(2, start=4))
        harness.ingest(path)
    harness.write(CLAUDE, *lines(1, start=9), mode="wb")
    harness.ingest(path)
    harness.budget = 512 << 20
    world.configure("second")
    harness.settle()
    assert world.state() is State.LOST
    world.configure("first")
    harness.settle()
    assert harness.held(SESSION, generation=0) == before
    assert harness.held(SESSION) == content(world)
    assert world.state() is (State.LOST if after_leaving else State.SAFE)
    world.configure("second")
    harness.settle()
    assert world.state() is State.LOST


def test_a_placeholder_at_one_endpoint_is_not_lost_at_another_that_has_the_bytes(world: World) -> None:
    """The first endpoint acknowledged two lines of the generation; the third one is lost for both."""
    harness, catalog = world.harness, world.harness.spool.catalog
    harness.write(CLAUDE, *lines(2))
    harness.settle()
    size, first = len(content(world)), harness.spool.meta(BOUND_ENDPOINT)
    with harness.spool.transaction():
        catalog.change_endpoint(first, "second")
        catalog.add_lost(1, 0, 0, size + 100)
        catalog.change_endpoint("second", first)
    assert harness.spool.connection.execute("SELECT lost FROM stream").fetchall() == [(100,)]


def test_a_backup_between_two_pushes_of_two_runs_is_noticed(world: World) -> None:
    """The answer to a push is lost, the daemon starts again and pushes more; then a backup from between comes back."""
    harness = world.harness
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()

    def answer_lost(_: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        send().read()
        raise httpx.ReadError("the connection was cut")

    bind(harness.uploading)
    harness.transport.fate = answer_lost
    with pytest.raises(Unreachable):
        upload(harness.uploading)
    harness.transport.fate = None
    source = sqlite3.connect(world.base / "archive" / "endpoint.db")
    (world.base / "backup").mkdir()
    copy = sqlite3.connect(world.base / "backup" / "endpoint.db")
    source.backup(copy)
    source.close()
    copy.close()
    world.close()
    harness.open()
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.settle()
    assert harness.held(SESSION) == content(world)
    world.close()
    harness.endpoint = world.serve(world.base / "backup")
    harness.open()
    assert harness.held(SESSION) != content(world)
    harness.settle()
    assert harness.held(SESSION) == content(world)


def test_a_source_that_is_off_takes_what_was_captured_along(world: World) -> None:
    """Its file still exists. A new endpoint gets what was captured, and nothing that was written since."""
    harness = world.harness
    world.settle_at("first", lines(3))
    before = content(world)
    harness.enabled = False
    world.settle_at("second", lines(2, 4))
    assert harness.held(SESSION) == before
    assert world.state() is State.SAFE


def test_a_copied_home_moves_to_its_own_endpoint(world: World, tmp_path: Path) -> None:
    """The old home still exists; the files below the new one are read at once."""
    harness = world.harness
    world.settle_at("first", lines(3))
    shutil.copytree(harness.home, tmp_path / "copied-home")
    harness.home = str(tmp_path / "copied-home")
    world.configure("second")
    harness.settle()
    assert harness.held(SESSION) == content(world)
    assert world.state() is State.SAFE


def test_an_item_that_was_dropped_is_not_called_acknowledged(world: World) -> None:
    harness = world.harness
    harness.write(CLAUDE, *lines(3))
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 9))
    harness.scan()
    (session,) = harness.spool.outbox.sessions(9)
    with harness.spool.transaction():
        harness.spool.outbox.park_session(session.id, session.revision, "too large")
    while harness.push().more:
        pass
    assert world.state() is State.PARKED
    with harness.spool.transaction():
        harness.spool.outbox.drop(session.uuid, harness.now_ms)
    assert world.state() is State.DROPPED
    assert world.counts().acknowledged == 0
    assert world.counts().settled


def lost(world: World) -> str:
    world.configure("first")
    world.harness.write(CLAUDE, *lines(3))
    world.harness.settle()
    delete(world)
    world.harness.settle()
    world.configure("second")
    world.harness.settle()
    return "lost"


def safe(world: World) -> str:
    world.configure("first")
    world.harness.write(CLAUDE, *lines(3))
    world.harness.settle()
    return "safe"


def waiting(world: World) -> str:
    safe(world)
    world.harness.write(CLAUDE, claude(SESSION, 9))
    world.harness.scan()
    return "waiting"


def unanswered(world: World) -> str:
    """Configure another endpoint that has not been reached."""
    safe(world)
    world.configured, world.harness.address = "second", "http://127.0.0.1:9"
    return "waiting"


def parked(world: World) -> str:
    waiting(world)
    harness = world.harness
    (session,) = harness.spool.outbox.sessions(9)
    with harness.spool.transaction():
        harness.spool.outbox.park_session(session.id, session.revision, "too large")
    return "parked"


@pytest.mark.parametrize("arrange", [safe, waiting, unanswered, parked, lost])
def test_no_two_commands_contradict_each_other(arrange, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """There is one session in each state, and every command that shows states agrees."""
    word = arrange(world)
    environ = world.environ()
    status = read_status(os.devnull, environ)
    assert status.totals is not None
    assert {name: getattr(status.totals, name) for name in ("waiting", "parked", "lost")} == {
        name: int(name == word) for name in ("waiting", "parked", "lost")
    }
    (tool,) = [tool for tool in status.tools if tool.count.tool == "claude-code"]
    assert status.totals.acknowledged == tool.count.counts.acknowledged == int(word == "safe")
    assert any(each.degraded and "incomplete" in each.what for each in status.advice) is (word == "lost")
    main(["ls", "--json", "--long"], environ)
    assert json.loads(capsys.readouterr().out)["state"] == word
    main(["ls"], environ)
    assert f" {word}" in capsys.readouterr().out
    main(["show", SESSION, "--json"], environ)
    shown = json.loads(capsys.readouterr().out)
    assert shown["state"] == word
    (stream,) = shown["streams"]
    if word == "safe":
        assert stream["acknowledged"] == stream["captured"]
    if word == "lost":
        assert (stream["acknowledged"], stream["lost"]) == (0, stream["captured"])
    main(["queue", "--json"], environ)
    queue = json.loads(capsys.readouterr().out)
    assert queue["complete"] is (word == "safe")
    assert (len(queue["lost"]) == 1) is (word == "lost")
    main(["queue"], environ)
    assert ("the queue is empty" in capsys.readouterr().out) is (word == "safe")
    main(["doctor", "--json"], environ)
    found = json.loads(capsys.readouterr().out)["findings"]
    (safety,) = [each for each in found if each["check"] == "safety"]
    assert safety["severity"] == {"safe": "ok", "lost": "error"}.get(word, "info")


def test_sync_fails_while_anything_is_lost_and_drop_accepts_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    lost(world)
    environ = world.environ()
    assert main(["sync"], environ) == 4
    assert "bytes are lost" in capsys.readouterr().err
    assert main(["queue", "drop", SESSION, "--yes"], environ) == 0
    assert main(["sync"], environ) == 0
    assert "1 with parts that you dropped" in capsys.readouterr().out
    assert world.state() is State.DROPPED


def test_sync_copies_the_archive_and_doctor_says_when_it_can_go(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """These are all commands: `sync` without an endpoint, the tool's clean-up, `sync` with one."""
    harness = world.harness
    with ExitStack() as stack:
        path = harness.write(CLAUDE, *lines(3))
        before = Path(path).read_bytes()
        environ = world.environ()
        assert main(["sync"], environ) == 0
        os.unlink(path)
        server = stack.enter_context(running(str(world.base / "fresh"), token=TOKEN))
        environ |= {"SESSIOND_ENDPOINT__URL": server.url}
        capsys.readouterr()
        main(["doctor", "--json"], environ)
        archive = json.loads(capsys.readouterr().out)["findings"]
        assert any(each["check"] == "archive" and "keep" in each["what"] for each in archive)
        assert main(["sync"], environ) == 0
        assert "1 session, all acknowledged" in capsys.readouterr().out
        harness.endpoint = server
        assert harness.held(SESSION) == before
        main(["doctor", "--json"], environ)
        archive = json.loads(capsys.readouterr().out)["findings"]
        assert any(each["check"] == "archive" and "can be removed" in each["what"] for each in archive)


def test_the_archive_is_kept_while_a_session_is_not_safe(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive was copied, but the endpoint refuses a session: no command may advise to remove the archive."""
    harness = world.harness
    with ExitStack() as stack:
        harness.write(CLAUDE, *lines(3))
        environ = world.environ()
        assert main(["sync"], environ) == 0
        server = stack.enter_context(running(str(world.base / "fresh"), token=TOKEN))
        environ |= {"SESSIOND_ENDPOINT__URL": server.url}
        assert main(["sync"], environ) == 0
        session = harness.spool.catalog.session(uuid.UUID(SESSION))
        assert session is not None
        with harness.spool.transaction():
            harness.spool.outbox.park_session(session.id, session.revision, "too large")
        capsys.readouterr()
        main(["doctor", "--json"], environ)
        (archive,) = [each for each in json.loads(capsys.readouterr().out)["findings"] if each["check"] == "archive"]
        assert "keep" in archive["what"]
        assert "rm" not in archive["fix"]


def test_a_damaged_archive_stops_nothing_and_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    harness = world.harness
    with ExitStack() as stack:
        harness.write(CLAUDE, *lines(3))
        environ = world.environ()
        assert main(["sync"], environ) == 0
        Path(harness.state, "archive", "endpoint.db").write_bytes(b"not a database" * 1000)
        for suffix in ("-wal", "-shm"):
            Path(harness.state, "archive", f"endpoint.db{suffix}").unlink(missing_ok=True)
        server = stack.enter_context(running(str(world.base / "fresh"), token=TOKEN))
        environ |= {"SESSIOND_ENDPOINT__URL": server.url}
        assert main(["sync"], environ) == 4
        assert "archive" in capsys.readouterr().err
        harness.endpoint = server
        assert harness.held(SESSION) == content(world)  # the tool's file is there, and went
