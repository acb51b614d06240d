"""`sessiond forget`: what it chooses, asks, erases and says."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sessiond.cli import main
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.server import tokens
from sessiond.endpoint.transport import make_transport
from sessiond.endpoint.wire import PushSession
from sessiond.session import Session
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness

OTHER = "6" + SESSION[1:]
FORK = "7" + SESSION[1:]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path, configured=True) as made:
        yield made


def run(harness: DaemonHarness, *arguments: str, **environ: str) -> int:
    harness.spool.close()  # the command is another process
    try:
        return main(
            arguments,
            {
                "HOME": harness.home,
                "PATH": os.defpath,
                "SESSIOND_STATE_DIR": harness.state,
                "SESSIOND_CONFIG": os.devnull,
                "SESSIOND_MACHINE_ID": "testbox",
                "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
                "SESSIOND_TOKEN": TOKEN,
                **environ,
            },
        )
    finally:
        harness.open()


def capture(harness: DaemonHarness, session: str = SESSION, **more: object) -> None:
    harness.write(CLAUDE.replace(SESSION, session), claude(session, 1, **more), claude(session, 2, role="assistant"))
    harness.settle()


def known(harness: DaemonHarness) -> set[str]:
    return {str(each.uuid) for each in harness.spool.catalog.sessions()}


def test_it_erases_here_and_at_the_endpoint(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """It names what goes and what stays, and the tool's file is as it was."""
    capture(harness)
    capture(harness, OTHER)
    before = Path(harness.home, CLAUDE).read_bytes()
    assert run(harness, "forget", SESSION, "--yes") == 0
    shown = capsys.readouterr()
    assert shown.out == f"1 session erased on this machine\nand at {harness.endpoint.url}\n"
    assert "Not changed: the tools' own files" in shown.err
    assert "~/" + CLAUDE in shown.err
    assert Path(harness.home, CLAUDE).read_bytes() == before
    assert known(harness) == set(harness.held_sessions()) == {OTHER}


def test_it_asks_before_it_erases(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """If there is no terminal to ask on, nothing is erased. The same holds for a call that selects nothing, or too
    much.
    """
    capture(harness)
    assert run(harness, "forget", SESSION) == 2
    assert "add --yes" in capsys.readouterr().err
    for wrong in ([], [SESSION, "--before", "1d"], ["--excluded", "--here"], [SESSION, "--here", "--everywhere"]):
        try:
            assert run(harness, "forget", *wrong, "--yes") == 2
        except SystemExit as ended:
            assert ended.code == 2
    assert run(harness, "forget", "ffff", "--yes") == 1
    assert known(harness) == set(harness.held_sessions()) == {SESSION}


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--directory", "/home/dev/project"], {OTHER}),
        (["--directory", "/home/dev/proj"], {SESSION, OTHER}),
        (["--directory", "/home"], set()),
        (["--before", "2026-08-01"], {SESSION, OTHER}),
        (["--before", "2100-01-01", "--directory", "/home/dev/else/where"], {SESSION}),
    ],
)
def test_it_chooses_by_directory_and_time(harness: DaemonHarness, words: list[str], left: set[str]) -> None:
    """A directory includes those below it, and not one whose name begins alike. Both filters have to match."""
    capture(harness)
    capture(harness, OTHER, cwd="/home/dev/else/where")
    harness.now_ms += 7_200_000
    harness.ingesting.spool.connection.execute("UPDATE session SET ongoing = 0")
    assert run(harness, "forget", *words, "--yes") == (0 if left != {SESSION, OTHER} else 1)
    assert known(harness) == set(harness.held_sessions()) == left


def test_its_forks_stay_if_they_are_to_be_kept(harness: DaemonHarness) -> None:
    """A fork that is erased leaves the session that it was forked from."""
    capture(harness)
    capture(harness, FORK)
    harness.spool.connection.execute("UPDATE session SET parent = ? WHERE uuid = ?", (SESSION, FORK))
    assert run(harness, "forget", SESSION, "--yes", "--keep-children") == 0
    assert known(harness) == set(harness.held_sessions()) == {FORK}


def test_its_forks_go_with_it(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """The forks have copies of the same messages."""
    capture(harness)
    capture(harness, FORK)
    harness.spool.connection.execute("UPDATE session SET parent = ? WHERE uuid = ?", (SESSION, FORK))
    assert run(harness, "forget", SESSION, "--yes", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["sessions"]) == {SESSION, FORK}
    assert answer["here"]
    assert answer["waiting"] == 0
    assert len(answer["files"]) == 2
    assert known(harness) == set(harness.held_sessions()) == set()


def test_here_leaves_the_endpoint_alone(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    capture(harness)
    assert run(harness, "forget", SESSION, "--yes", "--here") == 0
    assert "Not erased (--here)" in capsys.readouterr().err
    assert known(harness) == set()
    assert set(harness.held_sessions()) == {SESSION}


def test_an_endpoint_that_is_away_erases_it_later(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says so and ends with 4; `queue`, `status` and `doctor` show it until it is done."""
    capture(harness)
    away = {"SESSIOND_ENDPOINT__URL": "http://127.0.0.1:1"}
    assert run(harness, "forget", SESSION, "--yes", **away) == 4
    shown = capsys.readouterr().out
    assert "1 session erased on this machine" in shown
    assert "1 session still to be erased at the endpoint: http://127.0.0.1:1 can't be reached" in shown
    run(harness, "queue")
    assert "1 session still to be erased at the endpoint" in capsys.readouterr().out
    run(harness, "status")
    assert "1 session still to be erased at the endpoint" in capsys.readouterr().out
    run(harness, "doctor")
    assert "1 session still to be erased at" in capsys.readouterr().out
    harness.settle()
    assert known(harness) == set(harness.held_sessions()) == set()
    run(harness, "queue")
    assert capsys.readouterr().out == "the queue is empty\n"


def test_a_session_of_another_machine_is_erased_by_its_whole_id(harness: DaemonHarness) -> None:
    """It is not in this machine's spool."""
    capture(harness)
    capture(harness, OTHER)
    with harness.spool.transaction():
        row = harness.spool.connection.execute("SELECT id FROM session WHERE uuid = ?", (OTHER,)).fetchone()
        harness.spool.catalog.forget_session(row[0])
    assert run(harness, "forget", OTHER, "--yes", "--here") == 1
    assert run(harness, "forget", OTHER, "--yes") == 0
    assert set(harness.held_sessions()) == {SESSION}


def test_without_an_endpoint_the_archive_erases_it(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive is a process of its own, which the command starts."""
    Path(harness.home, ".claude/projects").mkdir(parents=True)
    assert run(harness, "sync", SESSIOND_ENDPOINT__URL="") == 0
    harness.write(CLAUDE, claude(SESSION, 1, text="in the archive"))
    assert run(harness, "sync", SESSIOND_ENDPOINT__URL="") == 0
    assert run(harness, "forget", SESSION, "--yes", SESSIOND_ENDPOINT__URL="") == 0
    assert "1 session erased on this machine\n" in capsys.readouterr().out
    assert run(harness, "sync", SESSIOND_ENDPOINT__URL="") == 0
    assert "0 sessions, all acknowledged" in capsys.readouterr().out


def test_what_is_excluded_later_can_be_erased_at_the_endpoint(
    harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`config set` says what the endpoint keeps; so do `status` and `doctor` after that, until it is erased."""
    capture(harness)
    capture(harness, OTHER, cwd="/home/dev/else")
    (tmp_path / "config.toml").touch()
    config = {"SESSIOND_CONFIG": str(tmp_path / "config.toml")}
    assert run(harness, "config", "set", "exclude", '["/home/dev/project"]', **config) == 0
    assert "the endpoint keeps 1 session of excluded projects" in capsys.readouterr().err
    assert run(harness, "sync", **config) == 0
    assert known(harness) == {OTHER}
    capsys.readouterr()
    run(harness, "status", **config)
    assert "sessiond forget --excluded" in capsys.readouterr().out
    run(harness, "doctor", **config)
    assert "still has 1 session of excluded projects" in capsys.readouterr().out
    assert run(harness, "forget", "--excluded", "--yes", **config) == 0
    assert set(harness.held_sessions()) == {OTHER}
    run(harness, "status", **config)
    assert "--excluded" not in capsys.readouterr().out


def push(harness: DaemonHarness, session: str, machine: str, *, days: int = 400, **fields: object) -> None:
    """Push a record as another machine of the user does; it was last active some days ago."""
    device = uuid.uuid5(uuid.NAMESPACE_DNS, machine)
    ended = datetime.now(UTC) - timedelta(days=days)
    given = {
        "tool_version": None, "started_at": ended, "ended_at": ended, "model": None, "git_branch": None,
        "working_directory": "/Users/dev/project/below", "source_path": None, "message_count": 3,
    }  # fmt: skip
    parent = fields.pop("parent", None)
    line = PushSession(
        record=Session(id=uuid.UUID(session), tool="codex", machine_id=machine, **given | fields),
        revision=int(ended.timestamp() * 1000),
        device_id=device,
        title="Weave a scarf",
        parent=None if parent is None else uuid.UUID(parent),
    )
    transport = make_transport(harness.endpoint.url)
    client = ReadClient(harness.endpoint.url, TOKEN, device_id=device, transport=transport)
    assert [each.status for each in client.push([line], str(uuid.uuid4())).results] == ["stored"]
    client.close()


def held(harness: DaemonHarness) -> set[tuple[str, str]]:
    """Return the machine and id of each session at the endpoint."""
    client = ReadClient(harness.endpoint.url, TOKEN, device_id=uuid.UUID(int=1))
    try:
        return {
            (each.record.machine_id or "", str(each.record.id)[:1]) for each in client.sessions(None, 1000).sessions
        }
    finally:
        client.close()


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--directory", "/home/dev/project"], {"8"}),
        (["--directory", "/home/dev/project", "--here"], {"5", "6", "7", "8"}),
        (["--directory", "/home/dev/project", "--before", "300d"], {"5", "7", "8"}),
        (["--before", "50d"], {"7"}),
        (["6" + SESSION[1:4]], {"5", "7", "8"}),
    ],
)
def test_it_chooses_among_the_sessions_of_all_machines(
    words: list[str], left: set[str], harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lists each copy before it asks. Home directories of all machines are equal."""
    capture(harness)
    harness.ingesting.spool.connection.execute("UPDATE session SET ongoing = 0, active_ms = 1000")
    push(harness, OTHER, "desktop")
    push(harness, FORK, "desktop", days=10)
    push(harness, "8" + SESSION[1:], "desktop", working_directory="/Users/dev/projects")
    assert run(harness, "forget", *words, "--yes") == 0
    assert {session for _, session in held(harness)} == left
    assert known(harness) == ({SESSION} if "5" in left and "--here" not in words else set())
    shown = capsys.readouterr().err
    assert max(len(line) for line in shown.splitlines() if not line.startswith("  ")) <= 80
    gone = {"5"} if "--here" in words else {"5", "6", "7", "8"} - left
    assert {row[0] for row in shown.splitlines() if row[1:].startswith(SESSION[1:8])} == gone
    assert ("sent by desktop" in shown) == ("Weave a scarf" in shown) == bool(gone - {"5"})


def test_a_session_that_another_machine_goes_on_with_is_not_old(harness: DaemonHarness) -> None:
    """Erasing would take every copy of it, so a single recent one keeps them all."""
    capture(harness)
    harness.ingesting.spool.connection.execute("UPDATE session SET ongoing = 0, active_ms = 1000")
    push(harness, SESSION, "desktop", days=0)
    push(harness, OTHER, "desktop")
    push(harness, OTHER, "tower", days=0)
    assert run(harness, "forget", "--before", "90d", "--yes") == 1
    assert held(harness) == {("testbox", "5"), ("desktop", "5"), ("desktop", "6"), ("tower", "6")}
    assert run(harness, "forget", "--before", "90d", "--here", "--yes") == 0
    assert known(harness) == set()


def test_forks_on_other_machines_go_too(harness: DaemonHarness) -> None:
    """A fork of a fork as well: each has a copy of the same messages."""
    capture(harness)
    for parent, child in ((SESSION, OTHER), (OTHER, FORK)):
        push(harness, child, "desktop", parent=parent)
    assert run(harness, "forget", SESSION, "--yes", "--keep-children") == 0
    assert {session for _, session in held(harness)} == {"6", "7"}
    assert run(harness, "forget", OTHER, "--yes") == 0
    assert held(harness) == set()


@pytest.mark.parametrize(
    ("troubled", "why"),
    [
        ({"SESSIOND_ENDPOINT__URL": "http://127.0.0.1:1"}, ":1 can't be reached"),
        ({"SESSIOND_TOKEN": "revoked"}, "answered 401"),
    ],
)
def test_without_a_list_of_the_endpoint_the_command_says_what_is_missing(
    troubled: dict[str, str], why: str, harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sessions of other machines that match may be left, so the command does not end with 0."""
    capture(harness)
    harness.ingesting.spool.connection.execute("UPDATE session SET ongoing = 0, active_ms = 1000")
    assert run(harness, "forget", "--before", "1d", "--yes", "--json", **troubled) == 4
    answer = json.loads(capsys.readouterr().out)
    assert answer["sessions"] == [SESSION] and why in answer["unlisted"]
    assert run(harness, "forget", "--before", "1d", "--yes", **troubled) == 1
    assert "Not included: sessions of other machines" in capsys.readouterr().err


@pytest.mark.parametrize("erasing", [("forget", "--here"), ("forget",), ("queue", "drop")])
def test_what_the_endpoint_lists_as_erased_is_named_and_left_to_the_user(
    harness: DaemonHarness, erasing: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """`status`, `queue` and `doctor` name it; `queue retry` pushes it again, and `forget` erases it here."""
    capture(harness)
    harness.write(CLAUDE, claude(SESSION, 3, text="only here"))
    harness.scan()
    harness.client.forget(uuid.UUID(SESSION))
    harness.settle()
    assert run(harness, "queue") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "1 session erased at the endpoint, but not from this machine. What only this machine has is kept for" in text
    assert "Erase it now: sessiond forget ID. Push it again: sessiond queue retry ID" in text
    assert run(harness, "status") != 0
    assert "1 session erased at the endpoint, but not from this machine" in " ".join(capsys.readouterr().out.split())
    assert run(harness, "doctor") != 0
    assert "but not from this machine, and kept here for 30 days: 1" in " ".join(capsys.readouterr().out.split())
    assert run(harness, "queue", "retry") == 0  # of all items: those of the session stay parked
    harness.settle()
    assert harness.spool.forgotten.has(SESSION)
    assert run(harness, "queue", "retry", SESSION) == 0
    assert not harness.spool.forgotten.has(SESSION)
    harness.settle()  # the endpoint answers the same
    assert harness.spool.forgotten.is_kept(SESSION)
    assert run(harness, *erasing, SESSION, "--yes") == 0
    harness.close()
    harness.open()  # the daemon erases it at its next start at the latest
    assert known(harness) == set()
    assert harness.spool.forgotten.has(SESSION)


def test_a_token_that_only_pushes_erases_what_this_device_pushed(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may not list sessions of other machines, and could not erase them."""
    capture(harness)
    harness.ingesting.spool.connection.execute("UPDATE session SET ongoing = 0, active_ms = 1000")
    push(harness, OTHER, "desktop")
    token = {"SESSIOND_TOKEN": tokens.add(harness.endpoint.store, "ci", scopes=["push"])}
    assert run(harness, "forget", "--before", "1d", "--yes", **token) == 0
    said = capsys.readouterr().err
    assert "Not included: sessions of other machines, because http" in said and "needs the scope read" in said
    assert held(harness) == {("desktop", "6")}


def test_a_beginning_of_ids_of_several_machines_erases_nothing(harness: DaemonHarness) -> None:
    """It names one session of this machine, and another one of a machine that `ls` lists too."""
    capture(harness)
    push(harness, SESSION[:-1] + "9", "desktop")
    assert run(harness, "forget", SESSION[:8], "--yes") == 1
    assert held(harness) == {("testbox", "5"), ("desktop", "5")}
    assert run(harness, "forget", SESSION, "--yes") == 0
    assert held(harness) == {("desktop", "5")}
