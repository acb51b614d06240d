"""`sessiond ls`, `show`, `sources` and `queue`: sessions that are captured, waiting or parked."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond import state
from sessiond.cli import ls, main, queue, sources
from sessiond.cli.listing import listing
from sessiond.cli.output import wrapped
from sessiond.cli.queue import ParkedItem, QueueItems
from sessiond.session import Session
from sessiond.sources import UNREADABLE, Unreadable
from sessiond.spool.health import CaptureHealth, RootHealth, write
from sessiond.spool.safety import State
from sessiond.spool.stats import ToolCount
from sessiond.text import visible
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness
from support.sample_tree import build

OTHER = "5f1d7c1e-0000-4000-8000-000000000002"
FIELDS = set(Session.__struct_fields__)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        made.address = made.uploading.address = made.endpoint.url
        yield made


def run(harness: DaemonHarness, *arguments: str) -> int:
    environ = {
        "HOME": harness.home,
        "SESSIOND_STATE_DIR": harness.state,
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
    }
    return main(arguments, environ)


def two(harness: DaemonHarness) -> None:
    """Capture two sessions, the second one the newer, with a title."""
    harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    title = {"type": "custom-title", "customTitle": "Tides", "sessionId": OTHER}
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 30), title)
    harness.settle()


def park(harness: DaemonHarness, reason: str = "the item is larger than the limits allow") -> None:
    """Park the bytes of a session, as if the endpoint had refused them for good."""
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    segments = harness.spool.outbox.segments(9, 1 << 20)
    with harness.spool.transaction():
        harness.spool.outbox.park_segment(segments[0], reason)


# --- ls ---


def test_a_number_stays_with_its_unit_in_a_wrapped_line() -> None:
    assert wrapped("token refused for 5 s, next attempt in 32 s", 41) == [
        "token refused for 5 s, next attempt in",
        "32 s",
    ]
    assert wrapped("12 min in a row", 20) == ["12 min in a row"]


def test_ls_shows_the_newest_first(harness: DaemonHarness) -> None:
    two(harness)
    short = {SESSION: SESSION[:8], OTHER: OTHER[:8]}
    states = {SESSION: State.SAFE, OTHER: State.LOST}
    rows = [ls.make_row(each, states[str(each.uuid)]) for each in harness.spool.catalog.sessions()]
    assert listing(rows, short, now_ms=harness.now_ms, width=80) == (
        "id        active  tool         msgs  state  directory          name\n"
        "5f1d7c1e    20 d  claude-code     1  lost   /home/dev/project  Tides\n"
        "5f1d7c1e    20 d  claude-code     2  safe   /home/dev/project  hello"
    )
    assert listing(rows, short, now_ms=harness.now_ms, width=200) == (
        "id        active  tool         msgs  state  model            directory          name\n"
        "5f1d7c1e    20 d  claude-code     1  lost   -                /home/dev/project  Tides\n"
        "5f1d7c1e    20 d  claude-code     2  safe   claude-opus-4-5  /home/dev/project  hello"
    )


def test_ls_gives_enough_of_an_id_to_show_it(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    two(harness)
    assert run(harness, "ls") == 0
    shown = capsys.readouterr().out.splitlines()[1].split()[0]
    assert run(harness, "show", shown, "--json") == 0
    assert json.loads(capsys.readouterr().out)["record"]["id"] == OTHER


def test_ls_json_is_a_session_record_a_line(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    two(harness)
    assert run(harness, "ls", "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["id"] for record in records] == [OTHER, SESSION]
    assert all(set(record) == FIELDS for record in records)
    assert len(FIELDS) == 11


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--tool", "claude-code"], 2),
        (["--tool", "codex"], 0),
        (["--ongoing"], 0),
        (["--limit", "1"], 1),
        (["--since", "2026-09-01T10:00:20Z"], 1),
        (["--since", "2020-01-01"], 2),
        (["--since", "1m"], 0),
    ],
)
def test_ls_filters(
    arguments: list[str], found: int, harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    two(harness)
    assert run(harness, "ls", "--json", *arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == found


@pytest.mark.parametrize("wrong", [["--since", "soon"], ["--limit", "0"]])
def test_ls_refuses_what_is_no_filter(wrong: list[str], harness: DaemonHarness) -> None:
    assert run(harness, "ls", *wrong) == 2


@pytest.mark.usefixtures("utc")
def test_a_session_known_from_its_prompts_alone_is_marked(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table, its legend, JSON and `show` mark it. `show` prints the prompts and what was pasted into them."""
    pasted = {"1": {"id": 1, "type": "text", "content": "a long text"}}
    line = {"display": "Weave a scarf", "pastedContents": pasted, "timestamp": 1_780_000_000_000, "project": "/loom"}
    harness.write(".claude/history.jsonl", line | {"sessionId": OTHER})
    harness.write(".codex/history.jsonl", {"session_id": SESSION, "ts": 1_780_000_000, "text": "Spin a yarn"})
    harness.settle()
    assert run(harness, "ls") == 0
    listed = capsys.readouterr()
    assert listed.out.count(" safe^ ") == 2 and "^ prompts only, from the tool's history" in listed.err
    assert run(harness, "ls", "--json", "--long") == 0
    assert all(json.loads(line)["prompts_only"] for line in capsys.readouterr().out.splitlines())
    assert run(harness, "ls", "--json") == 0
    assert all(set(json.loads(line)) == FIELDS for line in capsys.readouterr().out.splitlines())
    for session, text in ((OTHER, "Weave a scarf"), (SESSION, "Spin a yarn")):
        assert run(harness, "show", session) == 0
        shown = capsys.readouterr().out
        assert "prompts only" in shown and f"\n\nYou  20:26\n  {text}" in shown
        assert ("[pasted] a long text" in shown) == (session == OTHER)
    assert run(harness, "show", SESSION, "--json") == 0
    assert json.loads(capsys.readouterr().out)["prompts_only"]


def test_ls_refuses_an_unknown_tool_with_a_suggestion(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelled tool is a usage error; an empty list would look as if nothing had been captured of it."""
    two(harness)
    assert run(harness, "ls", "--tool", "codxe") == 2
    assert capsys.readouterr().err == "sessiond: unknown tool 'codxe'\n  did you mean \"codex\"?\n"


def test_the_beginning_of_a_tools_name_is_nearer_than_a_similar_name(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Letter by letter, "openclaude" is more like "claud"."""
    two(harness)
    assert run(harness, "ls", "--tool", "claud") == 2
    assert 'did you mean "claude-code"?' in capsys.readouterr().err


def test_without_a_spool_they_say_how_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["ls"], ["show", "x"], ["queue"], ["verify"]):
        assert main(command, {"HOME": str(tmp_path), "SESSIOND_STATE_DIR": str(tmp_path / "none")}) == 1
        assert capsys.readouterr().err == (
            "sessiond: nothing has been captured on this machine yet\n"
            "  capture now: sessiond run; or set it up as a service: sessiond init\n"
        )


def test_ls_tells_an_empty_spool_from_a_filter_that_fits_nothing(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(harness, "ls", "--wait", "0") == 0
    assert capsys.readouterr().err == "nothing has been captured yet\n"
    two(harness)
    assert run(harness, "ls", "--tool", "codex", "--wait", "0") == 0
    assert capsys.readouterr().err == "no matching sessions\n"


# --- show ---


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the local time to UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_show_is_the_record_the_streams_and_what_was_said(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    two(harness)
    assert run(harness, "show", SESSION) == 0
    assert capsys.readouterr().out == (
        f"session    {SESSION}\n"
        "name       hello\n"
        "tool       claude-code 2.1.330, claude-opus-4-5-20251101\n"
        "started    2026-09-01 10:00:01, ended 2026-09-01 10:00:02\n"
        "directory  /home/dev/project (main)\n"
        "messages   2\n"
        "machine    testbox\n"
        f"file       {harness.home}/{CLAUDE}\n"
        "endpoint   has everything\n"
        "stream     main: 808 B captured, 808 B acknowledged\n"
        "\n"
        "Tuesday, 01 September 2026\n"
        "\n"
        "You  10:00\n"
        "  hello\n"
        "\n"
        "claude-opus-4-5-20251101  10:00\n"
        "  hello\n"
    )


def test_show_raw_is_the_stream_byte_for_byte(
    harness: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    two(harness)
    content = (Path(harness.home) / CLAUDE).read_bytes()
    assert run(harness, "show", SESSION, "--raw") == 0
    assert capfdbinary.readouterr().out == content


@pytest.mark.parametrize("redact", ["mask", "off"])
def test_show_masks_secrets_unless_asked_not_to(
    harness: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes], redact: str
) -> None:
    """The tool's own file is masked too, whatever is stored. Only `--unmasked` shows that file as it is."""
    from sessiond.redact.examples import expand

    secret = expand("ghp_<A36>", 1)
    harness.write(CLAUDE, claude(SESSION, 1, text=f"use {secret}"))
    harness.settle()
    config = os.path.join(harness.home, ".config/sessiond/config.toml")
    if redact == "off":
        os.makedirs(os.path.dirname(config), exist_ok=True)
        before = Path(config).read_text() if os.path.exists(config) else ""
        Path(config).write_text(f'redact = "off"\n{before}')
    capfdbinary.readouterr()
    for words in (["show", SESSION], ["show", SESSION, "--raw"]):
        assert run(harness, *words) == 0
        out = capfdbinary.readouterr().out
        assert secret.encode() not in out and b"*" * len(secret) in out
        assert run(harness, *words, "--unmasked") == 0
        assert secret.encode() in capfdbinary.readouterr().out


def test_no_other_command_prints_a_secret(harness: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A secret in a prompt, a title, a branch and a directory's name is in no command's output."""
    from sessiond.redact.examples import expand

    secret = expand("ghp_<A36>", 1)
    harness.settings["redact"] = "mask"
    harness.close()
    harness.open()
    harness.write(CLAUDE, claude(SESSION, 1, text=f"use {secret}", cwd=f"/w/{secret}", gitBranch=secret))
    harness.settle()
    capfdbinary.readouterr()
    file = os.path.join(harness.home, CLAUDE)
    for words in (
        ["ls"],
        ["ls", "--json"],
        ["show", SESSION],
        ["show", SESSION, "--json"],
        ["show", SESSION, "--raw"],
        ["status"],
        ["status", "--json"],
        ["sources"],
        ["sources", "--json"],
        ["queue"],
        ["queue", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["redact", "scan", file],
        ["redact", "scan", "--json", file],
        ["redact", "scan", "--all"],
        ["redact", "scan", "--all", "--json"],
    ):
        run(harness, *words)
        captured = capfdbinary.readouterr()
        assert secret.encode() not in captured.out + captured.err, words


@pytest.mark.parametrize("words", [["ls"], ["ls", "--json"], ["ls", "--json", "--long"], ["show", SESSION]])
def test_names_are_masked_when_they_were_stored_readable(
    harness: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes], words: list[str]
) -> None:
    """Under `redact = "off"` or older rules, a secret in a branch or a directory was stored unmasked."""
    from sessiond.redact.examples import expand

    secret = expand("ghp_<A36>", 1)
    harness.write(CLAUDE, claude(SESSION, 1, text="hello", cwd=f"/w/{secret}", gitBranch=secret))
    harness.settle()
    capfdbinary.readouterr()
    assert run(harness, *words) == 0
    captured = capfdbinary.readouterr()
    assert secret.encode() not in captured.out + captured.err
    assert secret[-8:].encode() not in captured.out


def test_show_fetches_from_the_endpoint_what_the_tool_deleted(
    harness: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Reading a session that the tool has deleted is the purpose of sessiond."""
    two(harness)
    content = (Path(harness.home) / CLAUDE).read_bytes()
    os.unlink(os.path.join(harness.home, CLAUDE))
    harness.settle()
    assert run(harness, "show", SESSION, "--raw", "main") == 0
    assert capfdbinary.readouterr().out == content
    assert run(harness, "show", SESSION) == 0
    assert b"(gone since" in capfdbinary.readouterr().out


def test_a_long_stream_is_fetched_in_pieces(harness: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    harness.write(CLAUDE, *(claude(SESSION, n, text="x" * 600_000) for n in range(8)))
    harness.settle()
    content = (Path(harness.home) / CLAUDE).read_bytes()
    os.unlink(os.path.join(harness.home, CLAUDE))
    assert run(harness, "show", SESSION, "--raw") == 0
    assert capfdbinary.readouterr().out == content


def test_show_says_which_id_or_stream_is_wrong(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    two(harness)
    assert run(harness, "show", "5f1d") == 1
    assert "several sessions start with '5f1d'" in capsys.readouterr().err
    assert run(harness, "show", "ff%_") == 1
    assert "no session 'ff%_'" in capsys.readouterr().err
    assert run(harness, "show", SESSION, "--raw", "agent") == 1
    assert "no stream 'agent'\n  streams of this session: main" in capsys.readouterr().err


def test_a_stream_that_is_nowhere_is_said(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """The outbox has it until it is emptied."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    os.unlink(os.path.join(harness.home, CLAUDE))
    assert run(harness, "show", SESSION, "--raw") == 0
    harness.spool.connection.execute("DELETE FROM segment")
    assert run(harness, "show", SESSION, "--raw") == 1
    assert "neither in the tool's file nor at the endpoint" in capsys.readouterr().err


def test_show_items_are_json_lines_with_their_positions(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    two(harness)
    content = (Path(harness.home) / CLAUDE).read_bytes()
    assert run(harness, "show", SESSION, "--items") == 0
    items = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(item["kind"], item["speaker"], item.get("text")) for item in items] == [
        ("message", "user", "hello"),
        ("message", "assistant", "hello"),
    ]
    lines = [json.loads(content[item["offset"] : item["offset"] + item["length"]]) for item in items]
    assert [line["type"] for line in lines] == ["user", "assistant"]
    assert {item["stream"] for item in items} == {"main"}


# --- sources ---


def test_sources_says_what_was_not_understood(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    harness.write(CLAUDE, claude(SESSION, 1), "{broken", {**claude(SESSION, 2), "type": "hologram"})
    harness.settle()
    assert run(harness, "sources") == 0
    text = capsys.readouterr().out
    assert "claude-code  1 session in 1 file, 0 ongoing, last active" in text
    assert "  ! 1 unknown record type since 2.1.330: hologram\n    messages may be undercounted" in text
    assert "  ! 1 damaged record: kept in the transcript" in text
    assert "Supported, not found here: aider, " in text
    assert max(map(len, text.splitlines())) <= 80
    assert run(harness, "sources", "--json") == 0
    listed = {each["tool"]: each for each in json.loads(capsys.readouterr().out)}
    assert listed["claude-code"]["count"]["unknown"] == ["hologram"]
    assert (listed["claude-code"]["seen"], listed["codex"]["seen"]) == (True, False)


def test_sources_never_shortens_the_path_of_a_file(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """The path is relative to the home, and wraps."""
    folder = f".claude/projects/-{'long-name-of-a-project-' * 4}"
    link = os.path.join(harness.home, folder, f"{SESSION}.jsonl")
    os.makedirs(os.path.dirname(link))
    os.symlink(harness.write("elsewhere.jsonl", claude(SESSION, 1)), link)
    harness.ingest(link)
    assert run(harness, "sources") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert f"~/{folder}/{SESSION}.jsonl" in "".join(line.strip(" !") for line in text.splitlines())


def test_sources_keeps_its_columns_on_a_narrow_terminal() -> None:
    count = ToolCount(tool="codex", sessions=7, active_ms=0)
    roots = [RootHealth(tool="codex", path="/home/dev/.codex/sessions", how="watched")]
    codex = sources.SourceStatus(
        tool="codex", enabled=True, seen=True, files=7, count=count, roots=roots, troubles=[], unnamed={"/h/x": 1}
    )
    assert sources.screen([codex], now_ms=0, width=50, home="/home/dev").splitlines() == [
        "codex        7 sessions in 7 files, 0 ongoing,",
        "             last active just now",
        "  watched    ~/.codex/sessions",
        "  - 1 prompt in /h/x without a session: not",
        "    captured",
    ]


@pytest.mark.parametrize(
    ("sample", "parent", "child"),
    [("gemini-cli/0.61-subagent", "00000020", "00000021"), ("codex/0.100-subagent", "01a2037e-0451", "01a2037e-0452")],
)
def test_a_subagent_with_a_session_of_its_own_is_named(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str], sample: str, parent: str, child: str
) -> None:
    build(sample, harness.home)
    harness.settle()
    assert run(harness, "show", parent, "--json") == 0
    ((listed,),) = [json.loads(capsys.readouterr().out)["children"]]
    assert listed["id"].startswith(child)
    assert run(harness, "show", parent) == 0
    assert f"child      {listed['id']}  {listed['title'] or ''}".rstrip() in capsys.readouterr().out.splitlines()
    assert run(harness, "show", child, "--json") == 0
    assert json.loads(capsys.readouterr().out)["children"] == []


def test_sources_lists_files_that_are_not_captured(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that look like sessions are listed, and side files without a session. Each path is whole and relative to
    the home.
    """
    folder = f".claude/projects/-{'long-name-of-a-project-' * 3}"
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.write(f"{folder}/{SESSION} (conflicted copy of my other laptop).jsonl", claude(SESSION, 2))
    harness.write(f".claude/file-history/{OTHER}/0123456789abcdef@v1", b"before")
    harness.settle()
    capture = CaptureHealth(unrecognized={"claude-code": 1}, sessionless={"claude-code": 1})
    write(harness.spool, capture.replace(roots=[RootHealth(tool="claude-code", path=harness.home, how="watched")]))
    for words in ([], ["--long"]):
        assert run(harness, "sources", *words) == 0
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        assert "! 1 file that looks like a session and is not captured" in text
        assert "- 1 side file of sessions that are not captured" in text
        joined = "".join(line.strip(" !").replace(" ", "") for line in text.splitlines())
        assert f"~/{folder}/{SESSION}(conflictedcopyofmyotherlaptop).jsonl:lookslikeasession" in joined
        assert f"~/.claude/file-history/{OTHER}/0123456789abcdef@v1:itssessionisnotcaptured" in joined
    for number in range(3):
        harness.write(f"{folder}/copy {number} of {SESSION}.jsonl", claude(SESSION, 2))
    assert run(harness, "sources") == 0
    assert "    2 more: sessiond sources --long\n" in capsys.readouterr().out
    harness.write(f"{folder}/a/b/c/d/e/f/g/h/i/{OTHER}.jsonl", claude(OTHER, 1))
    assert run(harness, "sources", "--long") == 0
    joined = "".join(line.strip(" !").replace(" ", "") for line in capsys.readouterr().out.splitlines())
    assert f"/i/{OTHER}.jsonl:lookslikeasession,butisinadirectorythatisnotsearched" in joined
    Path(harness.home, f"{folder}/a/b/c/d/e/f/g/h/i/{OTHER}.jsonl").unlink()
    for number in range(3):
        Path(harness.home, f"{folder}/copy {number} of {SESSION}.jsonl").unlink()
    assert run(harness, "sources", "--json") == 0
    (listed,) = (each for each in json.loads(capsys.readouterr().out) if each["tool"] == "claude-code")
    assert [os.path.basename(each["path"])[:12] for each in listed["uncaptured"]] == ["0123456789ab", SESSION[:12]]


def test_sources_lists_files_without_a_message(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings alone are captured, and pushed with the first message. Until then they are in no list of sessions."""
    harness.write(CLAUDE, {"type": "mode", "sessionId": SESSION, "mode": "plan"})
    harness.settle()
    assert run(harness, "sources") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "- 1 file without a message, in no session yet: sessiond sources --long lists them" in text
    assert run(harness, "sources", "--long") == 0
    joined = "".join(line.strip(" !").replace(" ", "") for line in capsys.readouterr().out.splitlines())
    assert f"innosessionyet~/{CLAUDE}" in joined
    assert run(harness, "sources", "--json") == 0
    found = {each["tool"]: each["messageless"] for each in json.loads(capsys.readouterr().out)}
    assert found["claude-code"] == [f"{harness.home}/{CLAUDE}"] and found["codex"] == []
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    assert run(harness, "sources") == 0
    assert "without a message" not in capsys.readouterr().out


def test_sources_counts_prompts_that_are_in_no_session(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"display": f"weave {number}", "timestamp": 1_780_000_000_000} for number in range(3)]
    harness.write(".claude/history.jsonl", *lines)
    harness.settle()
    assert run(harness, "sources") == 0
    assert "  - 3 prompts in ~/.claude/history.jsonl without a session: not captured" in capsys.readouterr().out
    assert run(harness, "sources", "--json") == 0
    found = {each["tool"]: each["unnamed"] for each in json.loads(capsys.readouterr().out)}
    assert found["claude-code"] == {f"{harness.home}/.claude/history.jsonl": 3} and found["codex"] == {}


def test_sources_finds_the_tools_before_any_daemon_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Aider's root is the home, which does not show that Aider is installed."""
    (tmp_path / ".codex/sessions").mkdir(parents=True)
    assert main(["sources", "--json"], {"HOME": str(tmp_path)}) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["tool"] for each in listed if each["seen"]] == ["codex"]
    assert main(["sources"], {"HOME": str(tmp_path)}) == 0
    assert capsys.readouterr().out.startswith(
        "codex        found; nothing captured yet\n  not watched ~/.codex/sessions\n"
    )
    assert main(["sources", "--all"], {"HOME": str(tmp_path)}) == 0
    assert "zed          not found on this machine\n  missing    ~/" in capsys.readouterr().out


def test_sources_says_since_when_a_tool_writes_something_new(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version is that of the oldest session with the new type, in whatever order sessions were read."""
    for number, version in enumerate(("0.172.0", "0.171.0", "0.170.0")):
        own = f"0199c000-0000-7000-8000-00000000000{number}"
        at = f"2026-11-0{3 - number}T10:00:00.000Z"
        lines: list[dict | bytes | str] = [
            {"timestamp": at, "type": "session_meta", "payload": {"id": own, "cli_version": version, "cwd": "/w"}},
            {"timestamp": at, "type": "event_msg", "payload": {"type": "user_message", "message": "hello"}},
        ]
        if version > "0.171":
            payload = {"role": "assistant", "content": "it may be a message"}
            lines += [{"timestamp": at, "type": kind, "payload": payload} for kind in ("aura", "hologram", "karma")]
        harness.write(f".codex/sessions/2026/11/01/rollout-2026-11-01T10-00-00-{own}.jsonl", *lines)
    harness.settle()
    assert run(harness, "sources") == 0
    text = capsys.readouterr().out
    assert "  ! 3 unknown record types since 0.171.0: aura, hologram, karma\n" in text
    assert "    messages may be undercounted; the transcripts are complete" in text
    assert run(harness, "sources", "--json") == 0
    listed = {each["tool"]: each for each in json.loads(capsys.readouterr().out)}
    assert listed["codex"]["count"]["unknown_since"] == "0.171.0"


@pytest.mark.parametrize("known", UNREADABLE, ids=[it.tool for it in UNREADABLE])
def test_sources_says_why_a_tool_that_is_here_is_not_read(
    known: Unreadable, harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tool whose format is encrypted or undocumented is listed with the reason if it is installed."""
    assert run(harness, "sources", "--all") == 0
    assert "not read" not in capsys.readouterr().out
    path = known.path.replace("~", harness.home).replace("{config}", f"{harness.home}/.config")
    os.makedirs(path)
    assert run(harness, "sources") == 0
    text = capsys.readouterr().out
    assert known.reason in " ".join(text.split())
    assert f"{known.tool:<12} not read\n  not read   ~/" in text
    assert max(map(len, text.splitlines())) <= 80
    assert run(harness, "sources", "--json") == 0
    (found,) = [each for each in json.loads(capsys.readouterr().out) if each["unreadable"]]
    assert (found["tool"], found["unreadable"]) == (known.tool, known.reason)
    assert found["roots"][0]["path"] == path


def test_sources_names_files_that_can_not_be_read(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    link = os.path.join(harness.home, CLAUDE)
    os.makedirs(os.path.dirname(link))
    os.symlink(harness.write("elsewhere.jsonl", claude(SESSION, 1)), link)
    harness.ingest(link)
    assert run(harness, "sources", "--json") == 0
    (source,) = [each for each in json.loads(capsys.readouterr().out) if each["troubles"]]
    assert source["troubles"][0]["path"] == link


# --- queue ---


def test_queue_shows_what_waits(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    assert run(harness, "queue", "--json") == 0
    (waiting,) = json.loads(capsys.readouterr().out)["waiting"]
    assert (waiting["session"], waiting["record"], waiting["segments"]) == (SESSION, True, 1)
    assert run(harness, "queue") == 0
    assert capsys.readouterr().out.startswith("waiting   tool         record  segments")
    harness.settle()
    assert run(harness, "queue") == 0
    assert capsys.readouterr().out == "the queue is empty\n"


def test_queue_shows_why_an_item_is_parked(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    park(harness)
    assert run(harness, "queue") == 0
    text = capsys.readouterr().out
    assert "5f1d7c1e  claude-code  main at 0  the item is larger than the limits allow\n" in text
    assert "try again: sessiond queue retry [ID]" in text


def test_a_long_reason_is_shown_in_full_and_once(harness: DaemonHarness) -> None:
    """Here it has the command that helps. In the table it is cut."""
    two(harness)
    reason = "another device pushes as laptop: change machine_id, or take it over: sessiond serve adopt laptop"
    parked = [
        ParkedItem(session=SESSION, tool="claude-code", kind="record", reason=reason),
        ParkedItem(session=SESSION, tool="claude-code", kind="record", reason=reason),
        ParkedItem(session=SESSION, tool="claude-code", kind="record", reason="too large"),
    ]
    items = QueueItems(waiting=[], parked=parked, lost=[], complete=False)
    text = queue.listing(items, {SESSION: SESSION[:8]}, harness.spool.stats.totals(""), now_ms=0)
    assert " ".join(text.split()).count(reason) == 1
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("too large") == 1


@pytest.mark.parametrize("action", [["drop", "--yes"], ["retry"]])
def test_an_id_that_is_not_in_the_queue_is_to_be_looked_up_there(
    harness: DaemonHarness, action: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`ls` has many more sessions, of which nothing can be dropped or tried again."""
    two(harness)
    for unknown in ("nothing", SESSION):
        assert run(harness, "queue", *action, unknown) == 1
        assert "`sessiond queue` lists parked and lost items" in capsys.readouterr().err


def test_queue_retry_takes_back_and_tells_the_daemon(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    park(harness)
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    lock = state.Lock(harness.state)
    try:
        assert run(harness, "queue", "retry", SESSION[:20]) == 0
    finally:
        lock.release()
        signal.signal(signal.SIGUSR1, before)
    assert capsys.readouterr().out == "1 item queued again; pushing now\n"
    assert received == [signal.SIGUSR1]
    harness.settle()
    assert harness.held(SESSION) == (Path(harness.home) / CLAUDE).read_bytes()
    assert run(harness, "queue", "retry") == 1


def test_queue_drop_asks_for_confirmation(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """If there is no terminal to ask on, nothing is dropped."""
    park(harness)
    assert run(harness, "queue", "drop", SESSION) == 2
    assert harness.spool.stats.waiting().parked == 1
    assert run(harness, "queue", "drop", SESSION, "--yes") == 0
    assert capsys.readouterr().out == "1 item dropped; the tool's own file is not changed\n"
    assert harness.spool.stats.waiting().parked == 0
    assert run(harness, "queue", "drop", SESSION, "--yes") == 1


# --- export ---


@pytest.mark.parametrize("kind", ["md", "html", "json", "atif", "handoff"])
def test_export_is_always_masked(kind: str, harness: DaemonHarness, tmp_path: Path) -> None:
    from sessiond.redact.examples import expand

    secret = expand("ghp_<A36>", 1)
    harness.write(CLAUDE, claude(SESSION, 1, text=f"use {secret}"))
    harness.settle()
    target = tmp_path / "shared"
    assert run(harness, "export", SESSION, "--format", kind, "-o", str(target)) == 0
    content = target.read_text()
    assert secret not in content and "*" * len(secret) in content
    assert os.stat(target).st_mode & 0o077 == 0


@pytest.mark.parametrize("kind", ["md", "html", "json", "atif", "handoff"])
def test_no_invisible_character_of_a_session_is_exported(
    kind: str, harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its facts and its text drive no terminal."""
    name = "a\x1b[31m\x7f\x85\u202e\u2028z"
    lines = claude(SESSION, 1, text=name, cwd=f"/w/{name}", gitBranch=name, version=name), claude(SESSION, 2)
    harness.write(CLAUDE, *lines, {"type": "custom-title", "customTitle": f"{name}\n# {name}", "sessionId": SESSION})
    harness.settle()
    assert run(harness, "export", SESSION, "--format", kind) == 0
    text = capsys.readouterr().out
    assert all(visible(character) for character in text.replace("\n", ""))


def test_export_writes_several_sessions_to_a_directory(
    harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two(harness)
    assert run(harness, "export", SESSION, OTHER, "-o", str(tmp_path / "missing")) == 2
    assert "several sessions need a directory" in capsys.readouterr().err
    target = tmp_path / "shared"
    target.mkdir()
    assert run(harness, "export", SESSION, OTHER, "-o", str(target)) == 0
    assert {path.name for path in target.iterdir()} == {f"claude-code-{each}.md" for each in (SESSION, OTHER)}
    for words in ([], ["-o", "-"]):
        assert run(harness, "export", SESSION, *words) == 0
        assert capsys.readouterr().out == (target / f"claude-code-{SESSION}.md").read_text()
    assert run(harness, "export", SESSION, "-o", str(tmp_path / "missing" / "file")) == 2
    assert "can't be written" in capsys.readouterr().err
