"""`sessiond status`: correct in any state of the daemon, on one screen, cheap."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessiond import cli, state
from sessiond.cli import main, status
from sessiond.cli.status_screen import screen
from sessiond.config import load
from sessiond.daemon.reporting import record_config_health
from sessiond.spool import NAME, Spool, health
from sessiond.spool.damaged import set_aside
from sessiond.spool.health import CaptureHealth, EndpointHealth, RootHealth
from sessiond.spool.schema import VERSION
from sessiond.spool.stats import ToolCount
from sessiond.status import Advice, Running, SpoolState, Status, ToolStatus, read_status
from sessiond.status.advice import advise
from sessiond.status.configured import _state_dir
from sessiond.unsaved import Unsaved
from support.harness import CLAUDE, NOW_MS, SESSION, DaemonHarness, claude, daemon_harness, encode
from support.program import SOURCE

Look = Callable[..., Status]
MINUTE = 60_000


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


@pytest.fixture
def look(harness: DaemonHarness) -> Look:
    """Read the status of the daemon_harness, a minute after its time."""

    def call(**environ: str) -> Status:
        env = {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state, **environ}
        return read_status(os.devnull, env, now_ms=harness.now_ms + MINUTE)

    return call


@pytest.fixture
def daemon(harness: DaemonHarness) -> Iterator[state.Lock]:
    """Hold the lock as a daemon that has scanned everything."""
    lock = state.Lock(harness.state, "systemd")
    tell(harness)
    yield lock
    lock.release()


def tell(harness: DaemonHarness, *, pid: int | None = None, files: int = 0, backlog: int = 0) -> None:
    """Store the health that a daemon would."""
    root = RootHealth(tool="claude-code", path=f"{harness.home}/.claude/projects", how="watched", directories=2)
    missing = RootHealth(tool="codex", path=f"{harness.home}/.codex/sessions", how="missing")
    made = CaptureHealth(
        pid=os.getpid() if pid is None else pid,
        machine_id="testbox",
        discovered={"claude-code": files},
        backlog=backlog,
        roots=[root, missing],
    )
    health.write(harness.spool, made)


def fail(harness: DaemonHarness, kind: str, reason: str, hint: str | None = None) -> None:
    """Store the health of an endpoint that fails for three minutes."""
    made = EndpointHealth(
        url="http://127.0.0.1:1",
        archive=True,
        failing_since_ms=harness.now_ms - 2 * MINUTE,
        failures=4,
        kind=kind,
        reason=reason,
        hint=hint,
        next_attempt_ms=harness.now_ms + 2 * MINUTE,
    )
    health.write(harness.spool, made)


def run(harness: DaemonHarness, *arguments: str, **environ: str) -> int:
    env = {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state, "SESSIOND_CONFIG": os.devnull, **environ}
    return main(["status", *arguments], env)


SLOW = {"httpx", "watchdog", "structlog", "rich", "tenacity", "starlette", "asyncio", "hyperscan", "platformdirs"}
SLOW |= {"inspect", "typing_extensions", "pathlib", "hashlib", "urllib.parse", "xxhash", "subprocess", "shutil"}
SLOW |= {
    "msgspec",
    "uuid",
    "decimal",
    "typing",
    "ctypes",
    "dataclasses",
    "threading",
    "textwrap",
    "signal",
    "argparse",
    "tomllib",
}
SLOW |= {"sessiond.sources", "sessiond.spool.catalog", "sessiond.session", "sessiond.endpoint", "sessiond.config"}


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"]])
@pytest.mark.parametrize("how", ["never", "stopped", "configured", "moved", "environment", "parked"])
def test_it_imports_nothing_slow(
    how: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` imports nothing for HTTP, watching, logging, drawing, a tool's format or writing.

    Nor does it import what reads a configuration that a daemon has read before.
    """
    monkeypatch.setenv("HOME", str(tmp_path))  # where `load` finds the user's configuration
    directory = tmp_path / ".local/state/sessiond"
    env = {"HOME": str(tmp_path), "PYTHONPATH": SOURCE, "PATH": os.defpath}
    if how == "environment":
        directory = tmp_path / "elsewhere"
        env |= {"SESSIOND_STATE_DIR": str(directory), "SESSIOND_MACHINE_ID": "testbox"}
    if how == "moved":
        directory = tmp_path / "elsewhere"
    if how != "never":
        directory.mkdir(parents=True)
        spool = Spool(str(directory))
        if how == "configured":
            configure(tmp_path, spool, 'machine_id = "testbox"\n')
        if how == "moved":
            file = configure(
                tmp_path, spool, f'# Here.\nstate_dir = "{directory}"\n[endpoint]\nurl = "http://127.0.0.1:1"\n'
            )
            env["SESSIOND_CONFIG"] = str(file)
        if how == "environment":
            record_config_health(spool, load(None, env), None)
        if how == "parked":
            spool.connection.execute(
                "INSERT INTO session (uuid, tool, native_id, record, parked) VALUES ('', 'codex', '', '{}', 'no')"
            )
        spool.close()
    code, modules = imported(arguments, env)
    assert code == 3
    assert SLOW & modules == set()
    assert len(modules) <= MAX_MODULES["status"]


MAX_MODULES = {"status": 90, "ls": 130}
"""Modules that a command may import. They take nearly all of its time, and their number does not depend on the load."""
UNUSED = {
    "httpx",
    "watchdog",
    "structlog",
    "rich",
    "tenacity",
    "starlette",
    "asyncio",
    "hyperscan",
    "tomli_w",
    "shutil",
}
UNUSED |= {"inspect", "typing_extensions", "subprocess", "threading", "signal", "sessiond.redact.redactor"}
"""Modules that `ls` does not use."""


def test_ls_imports_little_more_than_msgspec(harness: DaemonHarness) -> None:
    """`ls` decodes records, so it needs msgspec, but no network, no rules of redaction and no tool's format."""
    harness.write(CLAUDE, claude(SESSION, 0))
    harness.scan()
    env = {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state, "PYTHONPATH": SOURCE}
    code, modules = imported(["ls"], env)
    assert code == 0
    assert UNUSED & modules == set()
    assert not [name for name in modules if name.startswith("sessiond.sources")]
    assert len(modules) <= MAX_MODULES["ls"]


@pytest.mark.parametrize("rest", [[], ["--json"], ["-w"], ["--watch"], ["--json", "-w"], ["-w", "--json", "--json"]])
def test_flags_are_parsed_as_by_argparse(rest: list[str]) -> None:
    """`status` parses its flags without argparse. The attributes are the same."""
    request = cli.Request("status", rest, config="a.toml")
    assert vars(cli._flags(request, status.FLAGS)) == vars(cli._arguments(request, status))


@pytest.mark.parametrize("rest", [["--help"], ["--jso"], ["x"], ["--config", "x"], ["--json", "--config=x"], ["--"]])
def test_other_arguments_are_left_to_argparse(rest: list[str]) -> None:
    assert cli._flags(cli.Request("status", rest), status.FLAGS) is None


def test_every_option_of_status_is_a_flag() -> None:
    """An option that only the parser has would import argparse again."""
    parser = argparse.ArgumentParser(add_help=False)
    status.add_arguments(parser)
    assert {name: action.dest for action in parser._actions for name in action.option_strings} == status.FLAGS


def test_garbage_is_not_collected_while_a_command_is_imported(tmp_path: Path) -> None:
    """The collector would search modules that stay, again and again. It is enabled again before the command runs."""
    code = (
        "import gc, sys; from sessiond.cli import main; gc.collect(); gc.set_threshold(200); runs = []\n"
        "gc.callbacks.append(lambda *_: 'sessiond.unsaved' in sys.modules or runs.append(1))\n"
        "sys.argv[1:] = ['status']; main()\n"
        "print(len(runs), 'sessiond.unsaved' in sys.modules, gc.isenabled(), gc.get_freeze_count() > 1000)"
    )
    env = {"HOME": str(tmp_path), "PYTHONPATH": SOURCE, "PATH": os.defpath}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 True True True"


def test_objects_of_a_caller_are_still_collected(harness: DaemonHarness) -> None:
    """A command that froze them would add thousands. Objects that the tests froze may be freed meanwhile."""
    before = gc.get_freeze_count()
    run(harness)
    assert gc.get_freeze_count() <= before


def test_garbage_is_collected_again_after_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--no-such"]) == 2
    assert "--no-such" in capsys.readouterr().err
    assert gc.isenabled()


def imported(arguments: list[str], environ: dict[str, str]) -> tuple[int, set[str]]:
    """Run a command in another process; return its exit code, and the modules that were not loaded at the start."""
    code = (
        "import sys; before = set(sys.modules); from sessiond.cli import main;"
        f" code = main({arguments}); print(*(set(sys.modules) - before)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, set(done.stdout.splitlines()[-1].split())


def configure(home: Path, spool: Spool, text: str) -> Path:
    """Write a configuration, and note that a daemon took it over."""
    file = home / ".config/sessiond/config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    record_config_health(spool, load(str(file), {"HOME": str(home)}), None)
    return file


def test_a_configuration_is_read_again_once_it_is_another_one(harness: DaemonHarness, tmp_path: Path) -> None:
    """The daemon's check of the files counts only for these files."""
    environ = {"HOME": harness.home}
    text = f'state_dir = "{harness.state}"  # here\nmachine_id = "first"\nredact = "off"\n'
    file = configure(tmp_path, harness.spool, text)

    def look(**more: str) -> Status:
        return read_status(str(file), environ | more)

    first = look()
    assert (first.machine_id, first.scanner, first.config.files) == ("first", "off", (str(file),))
    assert first.spool.state is SpoolState.OK
    assert look(SESSIOND_MACHINE_ID="other").machine_id == "other"
    record_config_health(harness.spool, load(str(file), environ | {"SESSIOND_MACHINE_ID": "other"}), None)
    assert look(SESSIOND_MACHINE_ID="other").machine_id == "other"
    assert look().machine_id == "first"

    file.write_text(text.replace("first", "fresh"))
    assert look().machine_id == "fresh"
    file.write_text(text.replace("redact", "redcat"))
    wrong = look()
    assert wrong.config.error is not None and 'did you mean "redact"?' in str(wrong.config.hint)
    assert wrong.state_dir == harness.state

    file.write_text(text)
    part = file.parent / "config.d/1.toml"
    part.parent.mkdir()
    part.write_text('machine_id = "part"\n')
    assert look().machine_id == "part"
    part.write_text(f'state_dir = "{tmp_path}/other"\n')
    assert look().spool.state is SpoolState.MISSING


@pytest.mark.parametrize(
    "text",
    [
        "",
        'machine_id = "a"\n',
        'state_dir = "/a b/c"\n',
        'x = 1\r\nstate_dir = "/a"\r\n',
        'state_dir = "/a" # "b"\n',
        "state_dir = '/a'\n",
        'state_dir = "/\\u0061"\n',
        'state_dir = "/ä"\n',
        'state_dir = ""\n',
        'state_dir = """/a"""\n',
        'x = """\nstate_dir = "/a"\n"""\n',
        "x = '''\nstate_dir = \"/a\"\n'''\n",
        "state_dir = 7\n",
        'state_dir.x = "/a"\n',
        'state_directory = "/a"\n',
        'state_directory = "/a"\nstate_dir = "/b"\n',
        '[endpoint]\nstate_dir = "/a"\n',
        ' [endpoint]\nstate_dir = "/a"\n',
        'state_dir = "/b"\n[endpoint]\nstate_dir = "/a"\n',
        '[x]\n[y]\nstate_dir = "/b"',
    ],
)
def test_the_state_directory_is_read_as_by_tomllib(text: str) -> None:
    """The usual form is read without tomllib. A wrong directory would show another daemon's sessions."""
    assert _state_dir(text.encode(), None) == tomllib.loads(text).get("state_dir")


@pytest.mark.parametrize("text", ['state_dir = "/a', 'state_dir = "/a" "/b"', 'state_dir = "/a\x00"'])
def test_a_malformed_state_directory_is_not_guessed(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        _state_dir(text.encode(), None)


def test_a_configuration_checked_by_another_version_is_read_again(harness: DaemonHarness, tmp_path: Path) -> None:
    file = configure(tmp_path, harness.spool, f'state_dir = "{harness.state}"\nmachine_id = "first"\n')
    taken = health.read_applied_config(harness.spool)
    assert taken is not None
    health.write_applied_config(harness.spool, taken.replace(machine_id="stored"))
    assert read_status(str(file), {"HOME": harness.home}).machine_id == "stored"
    health.write_applied_config(harness.spool, taken.replace(machine_id="stored", version="0.0.1"))
    assert read_status(str(file), {"HOME": harness.home}).machine_id == "first"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (health.CAPTURE, "[]"),
        (health.CAPTURE, '{"pid": "x"}'),
        (health.CAPTURE, "{"),
        (health.ROOTS, "[]"),
        (health.ROOTS, '{"roots": [7]}'),
        (health.ROOTS, '{"roots": [{"tool": "codex"}]}'),
    ],
)
def test_an_unreadable_health_is_reported(key: str, text: str, harness: DaemonHarness, look: Look) -> None:
    health.write(harness.spool, CaptureHealth())
    harness.spool.set_meta(key, text)
    made = look()
    assert made.spool.state is SpoolState.UNREADABLE
    assert "unexpected" in str(made.spool.reason)


def test_before_the_first_start_it_says_how_to_start(tmp_path: Path) -> None:
    made = read_status(None, {"HOME": str(tmp_path), "SESSIOND_STATE_DIR": str(tmp_path / "none")})
    assert made.daemon.state is Running.NEVER
    assert made.spool.state is SpoolState.MISSING
    assert made.discovered.files is None
    assert made.endpoint.archive
    assert [tool.count.tool for tool in made.tools] == sorted(tool.count.tool for tool in made.tools)
    assert made.advice[0].do == "set it up: sessiond init; or start it: sessiond run"
    assert not (tmp_path / "none").exists()


def test_all_well_is_one_screen(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    """The times are fixed, and the screen has 80 columns."""
    harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    harness.settle()
    tell(harness, files=1)
    health.write(harness.spool, EndpointHealth(url="x", archive=True, last_ack_ms=harness.now_ms, latency_ms=12))
    made = look()
    assert made.healthy
    assert made.advice == []
    text = screen(_fixed(made), home=harness.home)
    assert text == (
        "sessiond      running for 3 h (pid 4711, by systemd, as testbox)\n"
        "endpoint      archive on this machine: last ack 1 min ago, took 12 ms\n"
        "found         1 file, all read\n"
        "captured      1 session, 0 ongoing\n"
        "acknowledged  1 of them\n"
        "sizes         808 B (claude-code 808 B)\n"
        "disk          215 kB in /state\n"
        "\n"
        "tool         sessions  acked  ongoing  idle  watch    directory\n"
        "claude-code         1      1        0  20 d  watched  ~/.claude/projects\n"
        "1 more supported tool, not found here: sessiond sources"
    )


def test_a_narrow_screen_wraps_its_lines(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    """At 50 columns nothing is shortened in its middle: half of a fact does not help."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    text = screen(_fixed(look()), width=50, home=harness.home).split("\ntool")[0]
    assert max(map(len, text.splitlines())) <= 50
    assert "\u2026" not in text
    assert "archive on this machine" in text or "nothing acknowledged yet" in text


def test_a_machine_without_a_tool_is_said(harness: DaemonHarness, look: Look) -> None:
    """The text must not say "other tools" if none was found."""
    missing = [RootHealth(tool=tool, path=f"{harness.home}/.{tool}", how="missing") for tool in ("codex", "pi")]
    health.write(harness.spool, CaptureHealth(pid=os.getpid(), machine_id="testbox", roots=missing))
    assert "\nnone of the 2 supported tools was found here: sessiond sources\n" in screen(look())


def test_what_waits_and_what_is_wrong_is_said(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    tell(harness, files=2, backlog=1)
    fail(harness, "unreachable", "http://127.0.0.1:1 can't be reached: connection refused")
    made = look()
    assert not made.healthy
    assert screen(_fixed(made), home=harness.home).splitlines()[:6] == [
        "sessiond      running for 3 h, degraded (pid 4711, by systemd, as testbox)",
        "endpoint      archive on this machine: failing for 3 min, next attempt in 1 min",
        "found         2 files, 1 not read yet",
        "captured      1 session, 0 ongoing",
        "acknowledged  0 of them; 1 waiting",
        "waiting       1 record, 1 segment (313 B), oldest 1 min ago",
    ]
    assert screen(_fixed(made)).endswith(
        "! http://127.0.0.1:1 can't be reached: connection refused\n"
        "    retried automatically; `sessiond sync` retries now"
    )


def test_without_a_daemon_nothing_is_retried_automatically(harness: DaemonHarness, look: Look) -> None:
    fail(harness, "unreachable", "http://127.0.0.1:1 can't be reached: connection refused")
    assert screen(look()).endswith("connection refused\n    `sessiond sync` tries again")


def _fixed(made: Status) -> Status:
    """Replace what differs from run to run."""
    daemon = made.daemon.replace(pid=4711, since_ms=made.now_ms - 180 * MINUTE)
    outbox = made.outbox and made.outbox.replace(bytes=313)
    return made.replace(daemon=daemon, outbox=outbox, disk_bytes=215_000, state_dir="/state")


@pytest.mark.parametrize("width", [80, 120])
def test_the_worst_still_fits_a_terminal(
    width: int, harness: DaemonHarness, look: Look, daemon: state.Lock, tmp_path: Path
) -> None:
    """With six tools and every problem there are 24 lines, and no line is too long."""
    tools = ["aider", "amp", "claude-code", "codex", "cursor", "opencode"]
    roots = [RootHealth(tool=tool, path=f"{harness.home}/{'deep/' * 20}{tool}", how="unreadable") for tool in tools]
    health.write(harness.spool, CaptureHealth(pid=os.getpid(), discovered=dict.fromkeys(tools, 9), roots=roots))
    fail(harness, "refused", "https://sync.example.org/" + "long/" * 10 + " answered 401: " + "no " * 60, "the token")
    daemon.note(stopped="the spool can't be written: database or disk is full")
    text = screen(look(SESSIOND_OUTBOX__MAX_BYTES="-1"), width=width, home=harness.home)
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) <= 24
    assert "more: sessiond status --json" in text


def test_colour_repeats_words(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    import re

    made = look()
    assert re.sub(r"\x1b\[\d+m", "", screen(made, color=True)) == screen(made)


def test_names_from_outside_are_escaped(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    fail(harness, "unreachable", "answered \x1b[2J\nnothing")
    assert "\x1b" not in screen(look())


# --- never complete while something is open ---


def test_counts_of_an_earlier_daemon_are_not_shown(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    """The daemon restarted and has not scanned yet: discovered is unknown, not what the old one found."""
    tell(harness, pid=1, files=7)
    made = look()
    assert made.discovered.files is None
    assert "the first scan is running" in screen(made)


def test_without_a_daemon_it_does_not_claim_to_know_what_is_new(harness: DaemonHarness, look: Look) -> None:
    tell(harness, files=7)
    made = look()
    assert not made.discovered.current
    assert "7 files in the last run; newer ones are unknown" in screen(made)


def test_what_backfill_leaves_out_is_never_counted_as_read(
    harness: DaemonHarness, look: Look, daemon: state.Lock
) -> None:
    made = CaptureHealth(pid=os.getpid(), discovered={"codex": 9}, left_out=4, left_out_bytes=12_000_000, backlog=2)
    health.write(harness.spool, made)
    assert "found         9 files, 4 (12 MB) excluded by backfill, 2 not read yet\n" in screen(look())
    health.write(harness.spool, made.replace(backlog=0))
    assert "found         9 files, 4 (12 MB) excluded by backfill, the others read\n" in screen(look())
    assert (look().discovered.left_out, look().discovered.left_out_bytes) == (4, 12_000_000)


def test_a_session_counts_as_acknowledged_with_its_last_byte(harness: DaemonHarness, look: Look) -> None:
    """The record alone, or a part of the transcript, does not suffice."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    (session,) = harness.spool.outbox.sessions(9)
    with harness.spool.transaction():
        harness.spool.outbox.acknowledge(session)
    totals = look().totals
    assert totals is not None
    assert (totals.captured, totals.acknowledged) == (1, 0)
    harness.settle()
    totals = look().totals
    assert totals is not None
    assert (totals.captured, totals.acknowledged, totals.oldest_ms) == (1, 1, None)


def test_transcripts_that_wait_in_their_files_are_counted(tmp_path: Path) -> None:
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        harness.write(CLAUDE, *(claude(SESSION, n, text=os.urandom(3000).hex()) for n in range(400)))
        harness.scan()
        made = read_status(os.devnull, {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state}, now_ms=NOW_MS)
        assert made.outbox is not None
        assert made.totals is not None
        assert made.outbox.behind == 1
        assert (made.totals.acknowledged, made.totals.unprotected) == (0, 0)
        assert "1 transcript (" in screen(made)


def test_damaged_records_and_unknown_types_are_shown(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    harness.write(CLAUDE, claude(SESSION, 1), "{broken", {**claude(SESSION, 2), "type": "hologram"})
    harness.settle()
    made = look()
    (tool,) = [tool for tool in made.tools if tool.count.tool == "claude-code"]
    assert (tool.count.damaged, tool.count.unknown) == (1, ["hologram"])
    assert made.advice[0].what == "claude-code: 1 unknown record type (hologram), messages may be undercounted"
    assert made.healthy


def test_a_file_that_can_not_be_read_degrades_and_is_named(
    harness: DaemonHarness, look: Look, daemon: state.Lock
) -> None:
    target = harness.write("elsewhere.jsonl", claude(SESSION, 1))
    link = os.path.join(harness.home, CLAUDE)
    os.makedirs(os.path.dirname(link))
    os.symlink(target, link)
    harness.ingest(link)
    made = look()
    assert not made.healthy
    assert made.troubles[0].path == link
    assert made.advice[0].what == f"1 file can't be read: {made.troubles[0].reason}: {link}"
    assert os.path.basename(link) in screen(made, width=80, home=harness.home)


def test_parked_items_degrade(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    (session,) = harness.spool.outbox.sessions(9)
    with harness.spool.transaction():
        harness.spool.outbox.park_session(session.id, session.revision, "too large")
    made = look()
    assert not made.healthy
    assert made.advice[0].what == "1 item parked: the endpoint refuses them"
    assert made.advice[0].do == "the reason: too large; `sessiond queue retry` tries again"
    other = SESSION.replace("5f", "6f")
    harness.write(CLAUDE.replace(SESSION, other), claude(other, 1))
    harness.scan()
    (session,) = harness.spool.outbox.sessions(9)
    with harness.spool.transaction():
        harness.spool.outbox.park_session(session.id, session.revision, "not valid")
    assert look().advice[0].do == "`sessiond queue` shows the reason; `sessiond queue retry` tries again"


# --- the state of our own files ---


def test_a_killed_daemon_is_told_from_a_stopped_one(harness: DaemonHarness, look: Look) -> None:
    harness.spool.set_meta(health.CLEAN, None)
    assert look().daemon.state is Running.DIED
    harness.spool.set_meta(health.CLEAN, "1")
    assert look().daemon.state is Running.STOPPED


def test_a_damaged_spool_is_said_and_the_rest_is_shown(harness: DaemonHarness, look: Look) -> None:
    harness.close()
    (Path(harness.state) / NAME).write_bytes(b"not a database " * 500)
    for suffix in ("-wal", "-shm"):
        (Path(harness.state) / (NAME + suffix)).unlink(missing_ok=True)
    made = look()
    assert made.spool.state is SpoolState.DAMAGED
    assert made.totals is None
    assert any("sets the spool aside" in (each.do or "") for each in made.advice)
    assert "captured      unknown: the spool can't be read" in screen(made)
    set_aside(harness.state)
    harness.open()


def test_a_spool_of_a_newer_version_is_said(harness: DaemonHarness, look: Look) -> None:
    harness.spool.connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    made = look()
    assert made.spool.state is SpoolState.TOO_NEW
    assert any("upgrade sessiond" in (each.do or "") for each in made.advice)


def test_a_locked_spool_costs_no_waiting(harness: DaemonHarness, look: Look) -> None:
    harness.close()
    holder = sqlite3.connect(os.path.join(harness.state, NAME), isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    assert look().spool.state is SpoolState.UNREADABLE
    holder.close()
    harness.open()


def test_a_rebuilt_spool_is_worth_a_line_for_a_week(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    harness.spool.set_meta(health.REBUILT, str(harness.now_ms))
    made = look()
    assert made.healthy
    assert made.advice[0].what == "the spool was damaged and has been rebuilt"
    harness.now_ms += 8 * 86_400_000
    assert look().advice == []


def test_a_full_disk_degrades(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    daemon.note(stopped="the spool can't be written: disk is full")
    made = look()
    assert not made.healthy
    assert made.advice[0].what == "nothing is captured: the spool can't be written: disk is full"


def test_an_invalid_config_is_shown_and_the_rest_as_well(
    harness: DaemonHarness, daemon: state.Lock, tmp_path: Path
) -> None:
    """The environment still names the state directory."""
    file = tmp_path / "config.toml"
    file.write_text("[endpoint]\nulr = 1\n")
    environ = {"HOME": harness.home, "SESSIOND_RESCAN": "never", "SESSIOND_STATE_DIR": harness.state}
    made = read_status(str(file), environ)
    assert made.daemon.state is Running.RUNNING
    assert not made.healthy
    assert made.config.error == f"{file}:2: endpoint.ulr: unknown key"
    assert made.advice[0].do == 'did you mean "url"?'


@pytest.mark.parametrize("width", [50, 80])
def test_a_long_error_of_the_configuration_is_shown_whole(
    width: int, harness: DaemonHarness, daemon: state.Lock, tmp_path: Path
) -> None:
    """With half of it the user can't find the mistake."""
    file = tmp_path / "a directory with a long name" / "config.toml"
    file.parent.mkdir()
    file.write_text(f'exclude = ["{"~/src/" * 20}*"]\nredact = "{"a" * 30} {"b" * 60}"\n')
    environ = {"HOME": harness.home, "SESSIOND_RESCAN": "never", "SESSIOND_STATE_DIR": harness.state}
    made = read_status(str(file), environ)
    text = screen(made, width=width, home=harness.home)
    assert made.config.error is not None and len(made.config.error) > 2 * width
    assert "".join(made.config.error.split()) in "".join(text.split())
    assert max(map(len, text.splitlines())) <= width


def test_an_invalid_config_still_names_its_state_directory(
    harness: DaemonHarness, daemon: state.Lock, tmp_path: Path
) -> None:
    """A typo must not make a running daemon look as if it had never been started."""
    file = tmp_path / "config.toml"
    file.write_text(f'state_dir = "{harness.state}"\nrescn = 1\n')
    made = read_status(str(file), {"HOME": harness.home})
    assert made.state_dir == harness.state
    assert made.daemon.state is Running.RUNNING


def test_a_refused_edit_is_shown_while_the_daemon_runs(harness: DaemonHarness, look: Look, daemon: state.Lock) -> None:
    harness.spool.set_meta(health.CONFIG, "config.toml:1: rescan: expected seconds")
    assert look().advice[0].what.endswith("config.toml:1: rescan: expected seconds")


def test_another_endpoint_than_the_last_one_is_not_judged_by_it(harness: DaemonHarness, look: Look) -> None:
    """The daemon does not run, and the configuration names a new endpoint: the old one's past is not shown for it."""
    fail(harness, "unreachable", "gone")
    made = look(SESSIOND_ENDPOINT__URL="https://new.example.org")
    assert made.endpoint == EndpointHealth(url="https://new.example.org")


# --- exit codes and JSON ---


def test_the_exit_code_says_whether_all_is_well(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """It is 0 if healthy, 3 if not running, 4 if degraded."""
    assert run(harness) == 3
    lock = state.Lock(harness.state)
    tell(harness)
    assert run(harness) == 0
    fail(harness, "refused", "the token is not accepted")
    assert run(harness) == 4
    lock.release()
    assert run(harness) == 3


def test_json_is_versioned_and_is_the_whole_status(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    harness.write(CLAUDE, encode(claude(SESSION, 1)))
    harness.settle()
    assert run(harness, "--json") == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["version"] == 1
    assert answer["daemon"]["state"] == "stopped" or answer["daemon"]["state"] == "died"
    assert answer["totals"]["captured"] == answer["totals"]["acknowledged"] == 1
    (seen,) = [tool["count"]["tool"] for tool in answer["tools"] if tool["count"]["sessions"]]
    assert seen == "claude-code"


def test_a_slow_scanner_is_reported_but_degrades_nothing(harness: DaemonHarness) -> None:
    """The same secrets are found without hyperscan, only slower: `status` has a line for it, but no alarm."""
    env = {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state, "SESSIOND_CONFIG": os.devnull}
    status = read_status(None, env)
    slow = advise(status.replace(scanner="re"))
    (said,) = [each for each in slow if "hyperscan" in each.what]
    assert not said.degraded
    assert [each for each in advise(status) if "hyperscan" in each.what] == []


def test_files_that_look_like_sessions_are_counted_by_tool(harness: DaemonHarness) -> None:
    status = read_status(None, {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state})
    tools = [
        ToolStatus(count=ToolCount(tool=tool), files=1, roots=[], unrecognized=number)
        for tool, number in (("codex", 3), ("pi", 1), ("amp", 0))
    ]
    (found,) = (each for each in advise(status.replace(tools=tools)) if "look like sessions" in each.what)
    assert found.what == "4 files look like sessions but are not captured: codex 3, pi 1"
    assert not found.degraded
    assert found.do is not None and found.do.startswith("`sessiond sources` lists them")
    worst = [Advice(what=f"trouble {number}", degraded=True) for number in range(9)]
    text = screen(status.replace(tools=tools, advice=worst), home=harness.home)
    assert "found         unknown: no scan yet; 4 more not recognized\n" in text, "advice may not fit"


def test_tools_that_save_nothing_are_named_with_the_fix(harness: DaemonHarness) -> None:
    """There is one line for each reason. sessiond itself works, so nothing is degraded."""
    env = {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state, "SESSIOND_CONFIG": os.devnull}
    status = read_status(None, env)
    assert status.unsaved == []
    nested = [Unsaved(tool="claude-code", pid=pid, reason="it inherited a marker", fix="restart it") for pid in (7, 8)]
    other = Unsaved(tool="codex", pid=9, reason="it runs with --ephemeral", fix="restart it", deliberate=True)
    found = [each for each in advise(status.replace(unsaved=[*nested, other])) if "saves no transcript" in each.what]
    assert [each.what for each in found] == [
        "claude-code (process 7 and 1 more) saves no transcript: it inherited a marker",
        "codex (process 9) saves no transcript: it runs with --ephemeral",
    ]
    assert all(each.do == "restart it" and not each.degraded for each in found)
