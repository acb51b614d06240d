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
from sessiond.privacy import Masking, Terms
from sessiond.redact.policy import Policy
from sessiond.spool.safety import BOUND_ENDPOINT, Counts, State
from sessiond.status import read_status
from sessiond.upload import bind, upload
from support.harness import CLAUDE, SESSION, TOKEN, Household, claude, encode

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
        self.house = Household(str(base), self.servers["archive"])
        stack.callback(self.close)
        self.configured = "archive"

    def serve(self, directory: Path) -> Running:
        return self.stack.enter_context(running(str(directory), token=TOKEN))

    def close(self) -> None:
        self.house.client.close()
        self.house.close()

    def configure(self, name: str) -> None:
        """Restart the daemon with another endpoint in its configuration."""
        house = self.house
        self.close()
        self.configured = name
        house.endpoint, house.archive = self.servers[name], self.servers["archive"]
        house.address = "" if name == "archive" else house.endpoint.url
        house.open()

    def settle_at(self, name: str, written: Sequence[dict]) -> None:
        """Write a session while this endpoint is configured, and push it."""
        self.configure(name)
        self.house.write(CLAUDE, *written)
        self.house.settle()

    def lose(self) -> None:
        """Lose the spool and the tool's file: at the next start the machine has an empty archive and no endpoint."""
        house = self.house
        house.close()
        shutil.rmtree(house.state + "/archive", ignore_errors=True)
        for name in os.listdir(house.state):
            if name.startswith("spool.db"):
                os.unlink(os.path.join(house.state, name))
        os.unlink(os.path.join(house.home, CLAUDE))
        house.open()
        self.servers["archive"] = self.serve(self.base / "other-archive")

    def counts(self) -> Counts:
        return self.house.spool.safety.total(self.house.address)

    def state(self, session: str = SESSION) -> State:
        found = self.house.spool.catalog.session(uuid.UUID(session))
        assert found is not None
        return self.house.spool.safety.session(found.id, self.house.address)

    def environ(self) -> dict[str, str]:
        url = {} if self.configured == "archive" else {"SESSIOND_ENDPOINT__URL": self.house.address}
        return {
            "HOME": self.house.home,
            "SESSIOND_STATE_DIR": self.house.state,
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
    return Path(world.house.home, CLAUDE).read_bytes()


def delete(world: World) -> None:
    os.unlink(os.path.join(world.house.home, CLAUDE))
    world.house.scan()


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
    house = world.house
    house.write(CLAUDE, *lines(3))
    house.settle()
    before = content(world)
    delete(world)
    house.settle()
    assert (world.counts().acknowledged, world.counts().only_here) == (1, 1)
    world.configure("first")
    assert world.state() is State.WAITING  # the endpoint has not answered yet
    bind(house.uploading)
    house.transfer.prepare()
    assert world.state() is State.ARCHIVED
    house.settle()
    assert house.held(SESSION) == before
    assert world.state() is State.SAFE
    assert house.spool.stats.totals(house.address).complete


def test_the_progress_counts_what_only_the_archive_has(world: World) -> None:
    """Bytes of which the tool still has a file are already counted there."""
    house = world.house
    house.write(CLAUDE, *lines(3))
    house.write(CLAUDE.replace(SESSION, OTHER), *(claude(OTHER, number) for number in range(5)))
    house.settle()
    gone = len(content(world))
    delete(world)
    house.settle()
    world.configure("first")
    bind(house.uploading)
    house.transfer.prepare()
    totals = house.spool.stats.totals(house.address)
    assert (totals.archive.only_bytes, totals.archive.only_pending_bytes, totals.archived_bytes) == (gone, gone, gone)
    assert totals.archive.bytes > gone
    house.settle()
    archive = house.spool.stats.totals(house.address).archive
    assert (archive.only_bytes, archive.only_pending_bytes, archive.pending) == (0, 0, 0)


def test_a_session_that_the_spool_does_not_know_is_copied_too(world: World) -> None:
    """The spool was lost after the tool had deleted the file: the archive is the only place that has it."""
    house = world.house
    house.write(CLAUDE, *lines(3))
    house.settle()
    before = content(world)
    delete(world)
    house.settle()
    house.close()
    for name in os.listdir(house.state):
        if name.startswith("spool.db"):
            os.unlink(os.path.join(house.state, name))
    house.open()
    world.configure("first")
    house.settle()
    assert house.held(SESSION) == before
    archive = house.spool.safety.archive()
    assert (archive.sessions, archive.pending) == (1, 0)


def test_every_generation_of_the_archive_is_copied(world: World) -> None:
    """Only earlier generations of the archive have what a tool compacted away."""
    house = world.house
    path = house.write(CLAUDE, *lines(3))
    house.settle()
    first = content(world)
    Path(path).write_bytes(encode(claude(SESSION, 9, text="a summary")))
    house.settle()
    second = content(world)
    world.configure("first")
    house.settle()
    assert [house.held(SESSION, generation=number) for number in (0, 1)] == [first, second]
    house.write(CLAUDE, claude(SESSION, 10))
    house.settle()
    assert house.held(SESSION, generation=1) == content(world)  # and it goes on in the copied one


def test_what_is_copied_is_masked_by_the_rules_in_force(world: World) -> None:
    """The archive was filled without masking; the endpoint must not get what the user chose to hide."""
    house = world.house
    house.write(CLAUDE, claude(SESSION, 1, text=f"the token is {SECRET}"), *lines(2, 2))
    house.settle()
    assert SECRET.encode() in house.held(SESSION)
    delete(world)
    house.settle()
    house.masking = Masking(Terms(policy=Policy(mode="mask")))
    world.configure("first")
    house.settle()
    held = house.held(SESSION)
    assert SECRET.encode() not in held
    assert b"the token is " in held
    assert world.state() is State.SAFE


def test_a_kill_while_the_archive_is_copied_costs_nothing(world: World) -> None:
    house = world.house
    for number in range(3):
        session = SESSION[:-1] + str(number)
        path = CLAUDE.replace(SESSION, session)
        house.write(path, *(claude(session, each, text="x" * 5000) for each in range(40)))
    house.settle()
    kept = {session: house.held(session) for session in house.held_sessions()}
    for session in kept:
        os.unlink(os.path.join(house.home, CLAUDE.replace(SESSION, session)))
    house.settle()
    world.configure("first")
    for _ in range(4):
        house.now_ms += 1000
        bind(house.uploading)
        house.transfer.prepare()
        house.transfer.step(size=1000)
        house.close()
        house.client.close()
        house.open()
    house.settle()
    assert {session: house.held(session) for session in kept} == kept
    assert world.counts().acknowledged == 3


def test_an_endpoint_that_has_other_bytes_under_the_same_number_keeps_them(world: World) -> None:
    """An earlier installation of this machine pushed there: nothing is replaced, and all of the archive is stored as
    well.
    """
    house = world.house
    world.settle_at("first", lines(3, text="of an earlier life"))
    earlier = content(world)
    world.lose()
    world.settle_at("archive", lines(2, text="of this life"))
    later = content(world)
    delete(world)
    house.settle()
    world.configure("first")
    house.settle()
    (main_stream,) = house.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
    held = [house.held(SESSION, generation=each["generation"]) for each in main_stream["generations"]]
    assert earlier in held
    assert later in held


def test_what_was_acknowledged_elsewhere_only_counts_as_lost(world: World) -> None:
    """The endpoint changed after the tool had deleted its file: no place that can be reached has it."""
    house = world.house
    world.settle_at("first", lines(3))
    size = len(content(world))
    delete(world)
    house.settle()
    world.configure("second")
    house.settle()
    assert world.state() is State.LOST
    counts = world.counts()
    assert (counts.acknowledged, counts.lost, counts.lost_bytes) == (0, 1, size)
    world.configure("first")  # and there it still is
    house.settle()
    assert world.state() is State.SAFE


def test_acknowledgements_count_again_at_the_earlier_endpoint(world: World) -> None:
    """Only what it acknowledged counts, and no file is read."""
    house = world.house
    world.settle_at("first", lines(3))
    world.configure("second")
    house.settle()
    assert house.held(SESSION) == content(world)
    world.configure("first")
    while house.push().more:
        pass
    assert world.state() is State.SAFE


def test_a_file_that_comes_back_heals_what_was_lost(world: World) -> None:
    house = world.house
    world.settle_at("first", lines(3))
    before = content(world)
    delete(world)
    house.settle()
    world.configure("second")
    house.settle()
    assert world.state() is State.LOST
    Path(house.home, CLAUDE).write_bytes(before)  # out of a backup
    house.settle()
    assert world.state() is State.SAFE
    assert house.held(SESSION) == before


def test_sessions_of_a_restored_endpoint_are_not_safe(world: World) -> None:
    """It is back from an older copy, and the file and the outbox are empty: the session is reported as lost."""
    house = world.house
    world.configure("first")
    house.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    house.settle()
    server = world.servers["first"]
    shutil.copytree(world.base / "first", world.base / "copy")
    house.write(CLAUDE, *lines(3))
    house.settle()
    delete(world)
    house.settle()
    assert (world.state(), world.state(OTHER)) == (State.SAFE, State.SAFE)
    world.servers["first"] = world.serve(world.base / "copy")
    assert world.servers["first"].store.endpoint_id == server.store.endpoint_id
    world.configure("first")
    house.settle()
    assert (world.state(), world.state(OTHER)) == (State.LOST, State.SAFE)


def test_the_end_that_a_restored_endpoint_has_lost_is_not_safe(world: World) -> None:
    """Its copy holds the first lines of the session only, and the file is gone: the others are lost."""
    house = world.house
    world.settle_at("first", lines(2))
    kept = len(content(world))
    shutil.copytree(world.base / "first", world.base / "copy")
    house.write(CLAUDE, *lines(2, 3))
    house.settle()
    size = len(content(world))
    delete(world)
    house.settle()
    assert world.state() is State.SAFE
    world.servers["first"] = world.serve(world.base / "copy")
    world.configure("first")
    house.settle()
    assert len(house.held(SESSION)) == kept
    assert world.state() is State.LOST
    assert world.counts().lost_bytes == size - kept


@pytest.mark.parametrize("after_leaving", [False, True])
def test_what_one_endpoint_lacks_is_not_lost_at_another_that_has_it(world: World, after_leaving: bool) -> None:
    """The tool rewrote the file before the second endpoint got it. The first one has it all the same.

    What was captured only after the change of endpoint, and lost in the same way, is lost for both.
    """
    house = world.house
    world.configure("first")
    for number in range(3):
        path = house.write(CLAUDE, *lines(1, start=number))
        house.settle()
    before = content(world)
    house.budget = 1  # the outbox has no room, so the bytes wait in the file
    world.configure("second")
    while house.push().more:
        pass
    house.scan()
    if after_leaving:
        house.write(CLAUDE, *lines(2, start=4))
        house.ingest(path)
    house.write(CLAUDE, *lines(1, start=9), mode="wb")
    house.ingest(path)
    house.budget = 512 << 20
    world.configure("second")
    house.settle()
    assert world.state() is State.LOST
    world.configure("first")
    house.settle()
    assert house.held(SESSION, generation=0) == before
    assert house.held(SESSION) == content(world)
    assert world.state() is (State.LOST if after_leaving else State.SAFE)
    world.configure("second")
    house.settle()
    assert world.state() is State.LOST


def test_a_placeholder_at_one_endpoint_is_not_lost_at_another_that_has_the_bytes(world: World) -> None:
    """The first endpoint acknowledged two lines of the generation; the third one is lost for both."""
    house, catalog = world.house, world.house.spool.catalog
    house.write(CLAUDE, *lines(2))
    house.settle()
    size, first = len(content(world)), house.spool.meta(BOUND_ENDPOINT)
    with house.spool.transaction():
        catalog.change_endpoint(first, "second")
        catalog.add_lost(1, 0, 0, size + 100)
        catalog.change_endpoint("second", first)
    assert house.spool.connection.execute("SELECT lost FROM stream").fetchall() == [(100,)]


def test_a_backup_between_two_pushes_of_two_runs_is_noticed(world: World) -> None:
    """The answer to a push is lost, the daemon starts again and pushes more; then a backup from between comes back."""
    house = world.house
    house.write(CLAUDE, claude(SESSION, 1))
    house.settle()
    house.write(CLAUDE, claude(SESSION, 2))
    house.scan()

    def answer_lost(_: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        send().read()
        raise httpx.ReadError("the connection was cut")

    bind(house.uploading)
    house.transport.fate = answer_lost
    with pytest.raises(Unreachable):
        upload(house.uploading)
    house.transport.fate = None
    source = sqlite3.connect(world.base / "archive" / "endpoint.db")
    (world.base / "backup").mkdir()
    copy = sqlite3.connect(world.base / "backup" / "endpoint.db")
    source.backup(copy)
    source.close()
    copy.close()
    world.close()
    house.open()
    house.write(CLAUDE, claude(SESSION, 3))
    house.settle()
    assert house.held(SESSION) == content(world)
    world.close()
    house.endpoint = world.serve(world.base / "backup")
    house.open()
    assert house.held(SESSION) != content(world)
    house.settle()
    assert house.held(SESSION) == content(world)


def test_a_source_that_is_off_takes_what_was_captured_along(world: World) -> None:
    """Its file still exists. A new endpoint gets what was captured, and nothing that was written since."""
    house = world.house
    world.settle_at("first", lines(3))
    before = content(world)
    house.enabled = False
    world.settle_at("second", lines(2, 4))
    assert house.held(SESSION) == before
    assert world.state() is State.SAFE


def test_a_copied_home_moves_to_its_own_endpoint(world: World, tmp_path: Path) -> None:
    """The old home still exists; the files below the new one are read at once."""
    house = world.house
    world.settle_at("first", lines(3))
    shutil.copytree(house.home, tmp_path / "copied-home")
    house.home = str(tmp_path / "copied-home")
    world.configure("second")
    house.settle()
    assert house.held(SESSION) == content(world)
    assert world.state() is State.SAFE


def test_an_item_that_was_dropped_is_not_called_acknowledged(world: World) -> None:
    house = world.house
    house.write(CLAUDE, *lines(3))
    house.settle()
    house.write(CLAUDE, claude(SESSION, 9))
    house.scan()
    (session,) = house.spool.outbox.sessions(9)
    with house.spool.transaction():
        house.spool.outbox.park_session(session.id, session.revision, "too large")
    while house.push().more:
        pass
    assert world.state() is State.PARKED
    with house.spool.transaction():
        house.spool.outbox.drop(session.uuid, house.now_ms)
    assert world.state() is State.DROPPED
    assert world.counts().acknowledged == 0
    assert world.counts().settled


def lost(world: World) -> str:
    world.configure("first")
    world.house.write(CLAUDE, *lines(3))
    world.house.settle()
    delete(world)
    world.house.settle()
    world.configure("second")
    world.house.settle()
    return "lost"


def safe(world: World) -> str:
    world.configure("first")
    world.house.write(CLAUDE, *lines(3))
    world.house.settle()
    return "safe"


def waiting(world: World) -> str:
    safe(world)
    world.house.write(CLAUDE, claude(SESSION, 9))
    world.house.scan()
    return "waiting"


def unanswered(world: World) -> str:
    """Configure another endpoint that has not been reached."""
    safe(world)
    world.configured, world.house.address = "second", "http://127.0.0.1:9"
    return "waiting"


def parked(world: World) -> str:
    waiting(world)
    house = world.house
    (session,) = house.spool.outbox.sessions(9)
    with house.spool.transaction():
        house.spool.outbox.park_session(session.id, session.revision, "too large")
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
    assert status.totals.acknowledged == status.tools[0].count.counts.acknowledged == int(word == "safe")
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
    house = world.house
    with ExitStack() as stack:
        path = house.write(CLAUDE, *lines(3))
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
        house.endpoint = server
        assert house.held(SESSION) == before
        main(["doctor", "--json"], environ)
        archive = json.loads(capsys.readouterr().out)["findings"]
        assert any(each["check"] == "archive" and "can be removed" in each["what"] for each in archive)


def test_the_archive_is_kept_while_a_session_is_not_safe(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive was copied, but the endpoint refuses a session: no command may advise to remove the archive."""
    house = world.house
    with ExitStack() as stack:
        house.write(CLAUDE, *lines(3))
        environ = world.environ()
        assert main(["sync"], environ) == 0
        server = stack.enter_context(running(str(world.base / "fresh"), token=TOKEN))
        environ |= {"SESSIOND_ENDPOINT__URL": server.url}
        assert main(["sync"], environ) == 0
        session = house.spool.catalog.session(uuid.UUID(SESSION))
        assert session is not None
        with house.spool.transaction():
            house.spool.outbox.park_session(session.id, session.revision, "too large")
        capsys.readouterr()
        main(["doctor", "--json"], environ)
        (archive,) = [each for each in json.loads(capsys.readouterr().out)["findings"] if each["check"] == "archive"]
        assert "keep" in archive["what"]
        assert "rm" not in archive["fix"]


def test_a_damaged_archive_stops_nothing_and_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    house = world.house
    with ExitStack() as stack:
        house.write(CLAUDE, *lines(3))
        environ = world.environ()
        assert main(["sync"], environ) == 0
        Path(house.state, "archive", "endpoint.db").write_bytes(b"not a database" * 1000)
        for suffix in ("-wal", "-shm"):
            Path(house.state, "archive", f"endpoint.db{suffix}").unlink(missing_ok=True)
        server = stack.enter_context(running(str(world.base / "fresh"), token=TOKEN))
        environ |= {"SESSIOND_ENDPOINT__URL": server.url}
        assert main(["sync"], environ) == 4
        assert "archive" in capsys.readouterr().err
        house.endpoint = server
        assert house.held(SESSION) == content(world)  # the tool's file is there, and went
