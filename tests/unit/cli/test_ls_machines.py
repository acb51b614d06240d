"""`sessiond ls` with sessions of several machines: filters, order, columns, and an endpoint that does not answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest

from sessiond.cli import main
from sessiond.cli.listing import listing
from sessiond.cli.remote import fetch, make_row, stream_states
from sessiond.cli.selection import Directory, Row, Selection, below_home
from sessiond.endpoint.read_client import ReadClient as Client
from sessiond.endpoint.transport import make_transport
from sessiond.endpoint.wire import PushSession, StoredSession, StreamLength
from sessiond.errors import WrongEndpoint
from sessiond.session import Session
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness

DESKTOP = "aaaaaaaa-0000-4000-8000-000000000001"
MINE = "bbbbbbbb-0000-4000-8000-000000000001"
LIVE = "cccccccc-0000-4000-8000-000000000001"
HOUR = 3_600_000
PATIENT = ("--wait", "600")
"""The endpoint of a test answers at once, but the machine may be busy."""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonHarness]:
    """Return a home with one captured session, and an endpoint with three others, one of them of this machine."""
    with daemon_harness(tmp_path_factory.mktemp("machines")) as made:
        made.address = made.uploading.address = made.endpoint.url
        made.write(CLAUDE, claude(SESSION, 1, text="Tides of the moon"))
        made.settle()
        desktop = {"tool": "codex", "git_branch": "tides", "model": "gpt-5-codex", "message_count": 40}
        push(made, DESKTOP, "desktop", "2026-08-01T10:00:00Z", title="Weave a scarf", gone_at=5, **desktop)
        push(made, MINE, "testbox", "2026-07-01T10:00:00Z", title="Before the spool was lost")
        away = {"working_directory": "/Users/ada/src/loom/lib", "ended_at": None}
        push(made, LIVE, "desktop", "2026-09-02T10:00:00Z", title="Spin a yarn", **away)
        yield made


def push(harness: DaemonHarness, session: str, machine: str, started: str, *, title: str, **fields: object) -> None:
    """Push a record as another machine does."""
    start = datetime.fromisoformat(started)
    gone_at = fields.pop("gone_at", None)
    device = harness.device_id if machine == "testbox" else uuid.uuid5(uuid.NAMESPACE_DNS, machine)
    line = PushSession(
        record=make_record(uuid.UUID(session), machine, **{"started_at": start, "ended_at": start} | fields),
        revision=int(start.timestamp() * 1000),
        device_id=device,
        title=title,
        gone_at=gone_at,
    )
    client = Client(harness.endpoint.url, TOKEN, device_id=device, transport=make_transport(harness.endpoint.url))
    assert [each.status for each in client.push([line], str(uuid.uuid4())).results] == ["stored"]
    client.close()


def make_record(session: uuid.UUID, machine: str, **fields: object) -> Session:
    """Return a record of an ended session."""
    given = {
        "tool": "claude-code",
        "tool_version": None,
        "started_at": datetime(2026, 9, 1, tzinfo=UTC),
        "ended_at": datetime(2026, 9, 1, tzinfo=UTC),
        "model": None,
        "working_directory": "/home/ada/src/loom",
        "git_branch": None,
        "source_path": None,
        "message_count": 1,
    }
    return Session(id=session, machine_id=machine, **given | fields)


def run(harness: DaemonHarness, *arguments: str, url: str = "", home: str = "", state: str = "") -> int:
    return main(
        arguments,
        {
            "HOME": home or harness.home,
            "SESSIOND_STATE_DIR": state or harness.state,
            "SESSIOND_CONFIG": os.devnull,
            "SESSIOND_ENDPOINT__URL": url or harness.endpoint.url,
            "SESSIOND_TOKEN": TOKEN,
        },
    )


def ids(harness: DaemonHarness, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the ids of the sessions that `ls` lists."""
    assert run(harness, "ls", "--json", *PATIENT, *arguments) == 0
    return [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]


def test_sessions_of_all_machines_are_listed_once_by_activity(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The session of this machine that only the endpoint has is among them."""
    assert ids(harness, capsys) == [LIVE, SESSION, DESKTOP, MINE]
    assert run(harness, "ls", *PATIENT) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == f"sessions of all your machines, from {harness.endpoint.url}"
    assert [line.split()[0] for line in captured.out.splitlines()] == [
        "id",
        *(each[:8] for each in ids(harness, capsys)),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--machine", "desktop"], [LIVE, DESKTOP]),
        (["--machine", "testbox"], [SESSION, MINE]),
        (["--tool", "codex"], [DESKTOP]),
        (["--branch", "tides"], [DESKTOP]),
        (["--branch", "tide"], []),
        (["--model", "CODEX"], [DESKTOP]),
        (["--model", "opus"], []),
        (["--only-here"], [DESKTOP]),
        (["--since", "2026-08-15T00:00Z"], [LIVE, SESSION]),
        (["--until", "2026-08-15T00:00Z"], [DESKTOP, MINE]),
        (["--since", "2026-07-15T00:00Z", "--until", "2026-08-15T00:00Z"], [DESKTOP]),
        (["--directory", "/home/ada/src/loom"], [LIVE, DESKTOP, MINE]),
        (["--directory", "/home/ada/src/loom/lib"], [LIVE]),
        (["--directory", "lib"], [LIVE]),
        (["--directory", "loo"], []),
        (["--directory", "/home/dev"], [LIVE, SESSION, DESKTOP, MINE]),
        (["--limit", "2"], [LIVE, SESSION]),
        (["--limit", "1", "--machine", "desktop", "--tool", "codex"], [DESKTOP]),
        (["--sort", "messages", "--limit", "1"], [DESKTOP]),
        (["--sort", "name"], [MINE, LIVE, SESSION, DESKTOP]),
        (["--sort", "started"], [LIVE, SESSION, DESKTOP, MINE]),
        (["--wait", "0"], [SESSION]),
    ],
)
def test_each_filter_applies_to_every_machine(
    harness: DaemonHarness, arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ids(harness, capsys, *arguments) == expected


def test_an_older_state_at_the_endpoint_does_not_match_a_filter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A session of this machine is listed by what the spool knows of it: here its file came back."""
    with daemon_harness(tmp_path) as harness:
        harness.address = harness.uploading.address = harness.endpoint.url
        path = harness.write(CLAUDE, claude(SESSION, 1))
        harness.settle()
        os.unlink(path)
        harness.settle()
        assert harness.held_sessions()[SESSION]["gone_at"] is not None
        assert ids(harness, capsys, "--only-here") == [SESSION]
        harness.write(CLAUDE, claude(SESSION, 1))
        harness.scan()
        assert ids(harness, capsys) == [SESSION]
        assert ids(harness, capsys, "--only-here") == []


def test_an_endpoint_of_an_earlier_version_gets_only_filters_that_it_knows(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers 400 to a parameter that it does not know; the same sessions are listed."""
    from sessiond.endpoint.server import reads

    monkeypatch.setattr(reads, "SESSION_FILTERS", {"tool", "machine_id", "since", "text", "after", "limit", "user"})
    assert ids(harness, capsys) == [LIVE, SESSION, DESKTOP, MINE]
    assert ids(harness, capsys, "--limit", "2") == [LIVE, SESSION]
    assert ids(harness, capsys, "--branch", "tides") == [DESKTOP]


def test_here_is_the_project_in_any_home(
    harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository around the current directory; on another machine, the same path below its home."""
    home = tmp_path / "home of grace"
    inside = home / "src/loom/lib"
    inside.mkdir(parents=True)
    (home / "src/loom/.git").mkdir()
    monkeypatch.chdir(inside)
    assert run(harness, "ls", "--json", "--here", *PATIENT, home=str(home)) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [LIVE, DESKTOP, MINE]


def test_without_an_answer_the_sessions_of_this_machine_are_listed(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The endpoint refuses the connection, never answers, or refuses the token."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert run(harness, "ls", "--wait", "0.01", url=address) == 0
        captured = capsys.readouterr()
        assert captured.out.splitlines()[1].startswith(SESSION[:8]) and len(captured.out.splitlines()) == 2
        assert captured.err == f"only sessions of this machine: {address} did not answer within 0.01 s\n"
    assert run(harness, "ls", "--json", *PATIENT, url=address) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["id"] == SESSION
    assert captured.err.startswith(f"only sessions of this machine: {address} can't be reached")


@pytest.mark.parametrize("same", [True, False])
def test_a_list_without_an_end_is_given_up(same: bool) -> None:
    """An endpoint that repeats a position, or that sends pages without sessions, does not keep `ls` busy forever."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        sessions = [msgspec.to_builtins(stored())] if same else []
        return httpx.Response(200, json={"sessions": sessions, "next": "again" if same else str(len(asked))})

    client = Client("http://127.0.0.1:1", None, device_id=uuid.UUID(int=1), transport=httpx.MockTransport(answer))
    with pytest.raises(WrongEndpoint, match="without an end"):
        fetch(client, Selection(), lambda: None)
    assert len(asked) < 4


def test_listing_imports_no_http_client(harness: DaemonHarness) -> None:
    """Importing httpx would take half of the time that `ls` may take."""
    code = (
        f"import sys; from sessiond.cli import main; main({['ls', *PATIENT]}); print(sys.modules.keys() & {{'httpx'}})"
    )
    environ = {
        "HOME": harness.home,
        "SESSIOND_STATE_DIR": harness.state,
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
    }
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert "Spin a yarn" in done.stdout and done.stdout.splitlines()[-1] == "set()"


def test_a_session_without_a_transcript_says_so(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(harness, "show", DESKTOP) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no transcript was captured"
    assert run(harness, "show", SESSION) == 0
    shown = capsys.readouterr().out
    assert "Tides of the moon" in shown and "no transcript" not in shown


def test_a_bare_machine_lists_what_the_endpoint_has(
    harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This machine has captured nothing, and the command writes nothing."""
    state = str(tmp_path / "nothing yet")
    assert run(harness, "ls", "--json", *PATIENT, state=state) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [LIVE, SESSION, DESKTOP, MINE]
    assert run(harness, "ls", *PATIENT, state=state) == 0
    assert not os.path.exists(state)


def test_json_is_exactly_the_record_and_long_adds_the_rest(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(harness, "ls", "--json", *PATIENT) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert {tuple(json.loads(line)) for line in captured.out.splitlines()} == {Session.__struct_fields__}
    assert run(harness, "ls", "--json", "--long", *PATIENT) == 0
    entries = {entry["record"]["id"]: entry for entry in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {key: each["this_machine"] for key, each in entries.items()} == {
        LIVE: False, SESSION: True, DESKTOP: False, MINE: False,
    }  # fmt: skip
    assert entries[DESKTOP]["name"] == "Weave a scarf" and entries[DESKTOP]["only_here"]
    assert entries[SESSION]["streams"][0]["name"] == "main"


def stored(*held: tuple[int, int]) -> StoredSession:
    """Return a session of another machine; `held` are the generations and lengths of its stream at the endpoint."""
    return StoredSession(
        record=make_record(uuid.UUID(LIVE), "desktop"),
        revision=1,
        device_id=None,
        parent=None,
        title=None,
        gone_at=None,
        streams=[StreamLength(name="main", generation=1, length=50)],
        held=[StreamLength(name="main", generation=number, length=length) for number, length in held],
    )


def test_a_session_that_its_machine_has_not_pushed_completely_is_waiting() -> None:
    """A later generation or more bytes than the record says are complete; fewer bytes are not."""
    assert [make_row(stored(each)).state for each in ((1, 50), (1, 51), (2, 0))] == ["safe"] * 3
    assert [make_row(each).state for each in (stored((1, 49)), stored((0, 90)), stored())] == ["waiting"] * 3
    assert [stream_states(stored(each))[0].safe for each in ((1, 49), (0, 90))] == [49, 0]


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/home/ada/src", "~/src"),
        ("/Users/ada/src/", "~/src"),
        ("C:\\Users\\ada\\src", "~/src"),
        ("/root", "~"),
        ("/rooted/x", "/rooted/x"),
        ("/srv/me/x", "~/x"),
        ("/srv/meadow/x", "/srv/meadow/x"),
        ("/home", "/home"),
        ("", ""),
    ],
)
def test_home_directories_of_all_machines_are_the_same(path: str, below: str) -> None:
    assert below_home(path, "/srv/me/") == below


def test_a_directory_contains_itself_and_what_is_below() -> None:
    src = Directory("~/src")
    assert all(src.contains(path, "/h") for path in ("/h/src", "/h/src/", "/root/src/a/b"))
    assert not any(src.contains(path, "/h") for path in ("/h/srcs", "/h", "", "/src", "/x/src"))
    name = Directory("src", named=True)
    assert name.contains("/x/src/y", "") and not name.contains("/x/srcs", "")


def row(machine: str, name: str, **fields: object) -> Row:
    """Return a row of a list."""
    record = make_record(
        uuid.UUID(int=len(name)),
        machine,
        working_directory="/home/dev/src/a-project-with-a-name",
        model="claude-opus-4-5-20251101",
        message_count=1234,
    )
    return Row(
        record=record, name=name, parent=None, active_ms=0, ongoing=False, prompts_only=False, gone=False, **fields
    )


@pytest.mark.parametrize("width", [60, 70, 80, 100, 120])
def test_the_name_is_shortened_last(width: int) -> None:
    """No line is longer than the terminal, and the name has room for some words on 80 columns."""
    rows = [row("a-long-name-of-a-machine", "Fix the flaky test of the scheduler, then the page"), row("b", "x")]
    text = listing(rows, {str(each.record.id): str(each.record.id)[:8] for each in rows}, now_ms=9 * HOUR, width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    name = lines[1][lines[0].index("name") :]
    assert len(name) >= (20 if width >= 80 else 8)
    assert ("…" not in lines[1][: lines[0].index("name")]) <= (width > 120)


def test_on_a_narrow_terminal_a_session_is_a_card() -> None:
    rows = [row("desktop", "Fix the flaky test of the scheduler, then the page"), row("b", "")]
    short = {str(each.record.id): str(each.record.id)[:8] for each in rows}
    assert listing(rows, short, now_ms=9 * HOUR, width=40, home="/home/dev").splitlines() == [
        "Fix the flaky test o…uler, then the page",
        "  00000000  9 h ago  safe  claude-code",
        "  desktop:~/src/a-project-with-a-name",
        "(no name)",
        "  00000000  9 h ago  safe  claude-code",
        "  b:~/src/a-project-with-a-name",
    ]


@pytest.mark.parametrize("width", [50, 60])
def test_long_ids_are_whole_on_a_narrow_terminal(width: int) -> None:
    """Where a table does not fit, the sessions are cards; neither their ids nor their times are cut."""
    rows = [row("desktop", "Fix the flaky test of the scheduler"), row("desktop", "x")]
    short = {str(each.record.id): str(each.record.id) for each in rows}
    lines = listing(rows, short, now_ms=9 * HOUR, width=width, home="/home/dev").splitlines()
    assert lines[1] == f"  {rows[0].record.id}  9 h ago"
    assert max(map(len, lines)) <= width


def test_a_shell_completes_what_ls_has_listed_of_other_machines(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The endpoint is not asked. A filter, or an endpoint that does not answer, changes nothing."""

    def values(kind: str, state: str = "", url: str = "http://127.0.0.1:9") -> set[str]:
        capsys.readouterr()
        assert run(harness, "completions", "--values", kind, state=state, url=url) == 0
        return set(capsys.readouterr().out.splitlines())

    here = {SESSION[:8]}
    file = Path(harness.state, "elsewhere")
    file.unlink(missing_ok=True)
    assert values("ids") == here
    ids(harness, capsys, "--tool", "codex")
    assert values("ids", url=harness.endpoint.url) == here
    ids(harness, capsys)
    run(harness, "ls", "--wait", "0.2", url="http://127.0.0.1:9")
    url = harness.endpoint.url
    assert values("ids", url=url) == here | {DESKTOP[:8], MINE[:8], LIVE[:8]}
    assert values("tools", url=url) == {"claude-code", "codex"}
    assert values("machines", url=url) == {"testbox", "desktop"}
    assert values("ids") == here, "that is another endpoint"
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"Weave" not in file.read_bytes()
    written = file.stat().st_ino
    ids(harness, capsys)
    assert file.stat().st_ino == written, "an equal list is not written again"
    file.write_bytes(b"{")
    assert values("ids", url=url) == here
    bare = str(tmp_path / "bare")
    assert run(harness, "ls", *PATIENT, state=bare) == 0
    assert not os.path.exists(bare), "reading leaves no state directory behind"
