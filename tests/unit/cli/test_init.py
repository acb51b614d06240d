"""`sessiond init`: the tools that are found, the endpoint, and a new configuration."""

from __future__ import annotations

import json
import os
import pty
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond import exit_codes
from sessiond.cleanup import DAY_MS, due_before, find_retention
from sessiond.cli import main
from sessiond.config import Config, load
from sessiond.device import hostname, identify
from sessiond.doctor.inventory import scan_tools
from sessiond.endpoint.server import Running, invites, running, tokens
from support.program import Program

SAMPLES = Path(__file__).parents[2] / "conformance" / "samples"
NOW_MS = 1_790_000_000_000
TOKEN = "token-of-a-test"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with one session of Claude Code that is 25 days old, and one of Codex."""
    made = tmp_path / "home"
    shutil.copytree(SAMPLES / "claude-code/2.1-session/.claude", made / ".claude")
    shutil.copytree(SAMPLES / "codex/0.80-legacy/.codex", made / ".codex")
    for path in made.rglob("*.jsonl"):
        days = 25 if ".claude" in path.parts else 1
        os.utime(path, (NOW_MS / 1000 - days * 86_400,) * 2)
    return made


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Running]:
    with running(str(tmp_path / "endpoint"), token=TOKEN) as made:
        yield made


def own_files(home: Path) -> dict[str, str]:
    """Return an environment in which nothing of the user who runs the tests is read or written."""
    config, state = home / "sessiond/config.toml", home / "sessiond/state"
    return {"HOME": str(home), "SESSIOND_CONFIG": str(config), "SESSIOND_STATE_DIR": str(state)}


def test_it_shows_what_each_tools_clean_up_will_delete(home: Path) -> None:
    claude, codex = scan_tools(Config(), {"HOME": str(home)}, NOW_MS)
    assert (claude.tool, claude.files, claude.days, claude.due) == ("claude-code", 1, 30, 1)
    assert claude.oldest_ms == NOW_MS - 25 * DAY_MS
    assert (codex.tool, codex.files, codex.days, codex.due) == ("codex", 1, None, 0)
    assert claude.bytes >= sum(path.stat().st_size for path in (home / ".claude").rglob("*.jsonl"))


def test_a_session_of_several_files_counts_once(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "openhands/cli-1.16/.openhands", tmp_path / ".openhands")
    (found,) = scan_tools(Config(), {"HOME": str(tmp_path)}, NOW_MS)
    assert (found.tool, found.files) == ("openhands", 3)


def test_sessions_of_which_only_prompts_are_left_are_counted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sessions with a transcript, lines without a session id and commands to the tool do not count."""
    (kept,) = (home / ".claude/projects").rglob("*.jsonl")
    lost = [f"0a000000-0000-4000-8000-{number:012}" for number in range(3)]
    lines = [{"display": "weave", "timestamp": 1_780_000_000_000, "sessionId": each} for each in [kept.stem, *lost] * 2]
    lines += [{"display": "/exit", "timestamp": 1_780_000_000_000, "sessionId": "0b000000-0000-4000-8000-000000000000"}]
    lines += [{"display": "old", "timestamp": 1_780_000_000_000}]
    (home / ".claude/history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    claude, codex = scan_tools(Config(), {"HOME": str(home)}, NOW_MS)
    assert (claude.files, claude.prompts_only, codex.prompts_only) == (1, 3, 0)
    environ = own_files(home)
    assert main(["init", "--yes", "--no-service"], environ) == 0
    assert "3 more sessions (claude-code) had been deleted before" in capsys.readouterr().out


def test_a_tool_of_which_only_the_history_is_left_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".codex").mkdir()
    line = '{"session_id":"0a000000-0000-4000-8000-000000000001","ts":1780000000,"text":"weave"}\n'
    (tmp_path / ".codex/history.jsonl").write_text(line)
    (codex,) = scan_tools(Config(), {"HOME": str(tmp_path)}, NOW_MS)
    assert (codex.tool, codex.files, codex.prompts_only, codex.oldest_ms) == ("codex", 0, 1, NOW_MS)
    environ = own_files(tmp_path)
    assert main(["init", "--yes", "--no-service"], environ) == 0
    shown = capsys.readouterr().out
    assert "1 more session (codex)" in shown
    assert [line.split()[-6] for line in shown.splitlines() if line.startswith("codex ")] == ["-"]


def test_on_a_narrow_terminal_the_table_says_what_is_deleted(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["init", "--yes", "--no-service"], own_files(home)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:3])) <= 50
    assert lines[0].endswith("  deleted by the tool")
    assert "  after 30 days" in lines[1]
    assert "…" not in "".join(lines[:3])


def test_settings_of_the_tools_are_read_with_their_comments(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}

    def days() -> dict[str, int]:
        found = find_retention(environ)
        return {tool: found[tool].days for tool in ("claude-code", "gemini-cli") if tool in found}

    assert days() == {"claude-code": 30, "gemini-cli": 30}
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude/settings.json").write_text('{"a": "//", /* b */ "cleanupPeriodDays": 36499} // c')
    (tmp_path / ".gemini").mkdir()
    (tmp_path / ".gemini/settings.json").write_text('{"general": {"sessionRetention": {"maxAge": "60d"}}}')
    assert days() == {"claude-code": 36499, "gemini-cli": 60}
    for age, kept in (("2w", 14), ("2m", 60), ("36h", 1), ("5h", 1), ("soon", 30)):
        (tmp_path / ".gemini/settings.json").write_text(f'{{"general": {{"sessionRetention": {{"maxAge": "{age}"}}}}}}')
        assert days()["gemini-cli"] == kept
    (tmp_path / ".gemini/settings.json").write_text('{"general": {"sessionRetention": {"enabled": false}}}')
    (tmp_path / ".claude/settings.json").write_text("{")
    assert days() == {"claude-code": 30}


def test_a_tool_that_deletes_sessions_is_known_by_the_name_in_its_records(home: Path) -> None:
    """Its old sessions are captured before the others, and `doctor` says how to keep them."""
    shutil.copytree(SAMPLES / "gemini-cli/0.61-resume/.gemini", home / ".gemini")
    for path in (home / ".gemini").rglob("session-*"):
        os.utime(path, (NOW_MS / 1000 - 25 * 86_400,) * 2)
    (gemini,) = (found for found in scan_tools(Config(), {"HOME": str(home)}, NOW_MS) if found.tool == "gemini-cli")
    assert (gemini.days, gemini.due) == (30, gemini.files)
    assert "sessionRetention" in (gemini.hint or "")
    assert due_before({"HOME": str(home)}, NOW_MS)["gemini-cli"] == NOW_MS - 23 * DAY_MS


def test_several_directories_of_a_tool_share_the_shortest_retention(tmp_path: Path) -> None:
    for name, kept in (("a", 90), ("b", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text(f'{{"cleanupPeriodDays": {kept}}}')
    environ = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": f"{tmp_path}/a, {tmp_path}/b"}
    assert find_retention(environ)["claude-code"].days == 9


def test_flags_are_enough_and_an_endpoint_is_tested_first(
    home: Path, endpoint: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = home / ".config/sessiond/config.toml"
    environ = {"HOME": str(home), "SESSIOND_CONFIG": str(config), "SESSIOND_STATE_DIR": str(tmp_path / "state")}
    token = tmp_path / "token"
    token.write_text("a-wrong-one")
    token.chmod(0o600)
    words = ["init", "--endpoint", endpoint.url, "--token-file", str(token), "--yes", "--no-service"]
    assert main(words, environ) == 77
    assert not config.exists()
    token.write_text(TOKEN)
    capsys.readouterr()
    assert main(words, environ) == 0
    out = capsys.readouterr().out
    assert "claude-code      1" in out
    assert f"{endpoint.url} answers" in out
    assert max(map(len, out.splitlines()[:4])) <= 80
    loaded = load(str(config), {})
    assert (loaded.config.endpoint.url, loaded.config.endpoint.token_file) == (endpoint.url, str(token))
    assert "# How one request may take" in config.read_text() or "#timeout" in config.read_text()
    text = config.read_text()
    assert main(words, environ) == 1
    assert main(["init", "--yes", "--no-service"], environ) == 0
    assert config.read_text() == text


def test_an_endpoint_that_needs_a_token_is_not_configured_without_one(
    home: Path, endpoint: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    """`GET /v1` answers without a token, but each push would be refused."""
    config = home / ".config/sessiond/config.toml"
    environ = {"HOME": str(home), "SESSIOND_CONFIG": str(config)}
    assert main(["init", "--endpoint", endpoint.url, "--yes", "--no-service"], environ) == exit_codes.REFUSED
    shown = capsys.readouterr()
    assert "a bearer token is needed\n  give it a token: --token-file FILE, or --invite CODE" in shown.err
    assert "accepts" not in shown.out
    assert not config.exists()


def test_an_invitation_gives_this_machine_a_token(
    home: Path, endpoint: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command on a new machine stores the token beside the configuration, and the daemon can push with it."""
    config = home / ".config/sessiond/config.toml"
    environ = {"HOME": str(home), "SESSIOND_CONFIG": str(config), "SESSIOND_STATE_DIR": str(tmp_path / "state")}
    words = ["init", "--endpoint", endpoint.url, "--yes", "--no-service", "--invite"]
    token = home / ".config/sessiond/token"
    assert main([*words, "wrong"], environ) == 77
    assert "sessiond serve invite" in capsys.readouterr().err
    assert not (token.exists() or config.exists())
    code = invites.add(endpoint.store, lifetime=60)
    assert main([*words, code], environ) == 0
    assert token.stat().st_mode & 0o777 == 0o600
    assert load(str(config), {}).config.endpoint.token_file == str(token)
    shown = capsys.readouterr()
    assert "accepts the token" in shown.out
    assert token.read_text().strip() not in shown.out + shown.err
    assert main(["sync"], environ) == 0
    (made,) = tokens.list_tokens(endpoint.store)
    assert made.device == str(identify(str(tmp_path / "state")).device_id)


def test_it_says_that_another_device_has_the_name(
    home: Path, endpoint: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is pushed. `--machine-id` chooses another name, and the sessions arrive under it."""
    code = invites.add(endpoint.store, uses=9, lifetime=60)

    def init(name: str, *words: str) -> tuple[dict[str, str], str]:
        base = tmp_path / name
        shutil.copytree(home, base)
        environ = {**own_files(base), "SESSIOND_BACKFILL": "all"}
        flags = ["--endpoint", endpoint.url, "--invite", code, "--yes", "--no-service"]
        assert main(["init", *flags, *words], environ) == 0
        shown = capsys.readouterr().err
        return environ, shown

    first, shown = init("first")
    assert "another device" not in shown
    assert main(["sync"], first) == 0
    second, shown = init("second")
    assert f"another device already pushes as {hostname()}" in shown
    assert "sessiond config set machine_id NAME" in shown
    assert f"serve adopt {hostname()}" in shown
    third, shown = init("third", "--machine-id", "third")
    assert "another device" not in shown
    assert load(third["SESSIOND_CONFIG"], {}).config.machine_id == "third"
    assert main(["sync"], third) == 0
    assert main(["init", "--machine-id", "other", "--yes", "--no-service"], third) == 1
    assert "config set machine_id NAME" in capsys.readouterr().err
    assert main(["init", "--machine-id", "a\nb", "--yes", "--no-service"], own_files(home)) == 78
    with endpoint.store.read() as db:
        names = {row[0] for row in db.execute("SELECT machine FROM machines").fetchall()}
    assert names == {hostname(), "third"}
    assert main(["config", "set", "machine_id", "second"], second) == 0
    assert main(["init", "--yes", "--no-service"], second) == 0
    assert "another device" not in capsys.readouterr().err


def test_an_invitation_never_replaces_a_token(home: Path, endpoint: Running, tmp_path: Path) -> None:
    """A token that is there may be the only copy of it; the code is not used up either."""
    config = home / ".config/sessiond/config.toml"
    environ = {"HOME": str(home), "SESSIOND_CONFIG": str(config), "SESSIOND_STATE_DIR": str(tmp_path / "state")}
    token = home / ".config/sessiond/token"
    token.parent.mkdir(parents=True)
    token.write_text("the token of another endpoint\n")
    code = invites.add(endpoint.store, lifetime=60)
    words = ["init", "--endpoint", endpoint.url, "--yes", "--no-service", "--invite", code]
    assert main(words, environ) == 1
    assert main([*words, "--token-file", str(token)], environ) == 1
    assert token.read_text() == "the token of another endpoint\n"
    assert invites.list_invites(endpoint.store)[0].used == 0


def test_on_a_terminal_it_asks_and_asks_again(home: Path, endpoint: Running, tmp_path: Path) -> None:
    """A typed token is not shown, and is stored in its own file."""
    environ = {
        "HOME": str(home),
        "PATH": os.defpath,
        "SESSIOND_STATE_DIR": str(tmp_path / "state"),
        "TERM": "dumb",
    }
    control, terminal = pty.openpty()
    process = Program(["init", "--no-service"], environ, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = ""
    answers = [("Endpoint", "http://127.0.0.1:1"), ("Token", "x"), ("Endpoint", endpoint.url), ("Token", TOKEN)]
    for question, answer in answers:
        while question not in shown:
            shown += os.read(control, 4096).decode()
        shown = shown.rpartition(question)[2]
        os.write(control, answer.encode() + b"\n")
    while True:
        try:
            shown += os.read(control, 4096).decode()
        except OSError:  # a closed terminal
            break
    os.close(control)
    assert process.wait(20) == 0, shown
    assert TOKEN not in shown
    token = home / ".config/sessiond/token"
    assert (token.read_text(), token.stat().st_mode & 0o777) == (f"{TOKEN}\n", 0o600)
    assert load(str(home / ".config/sessiond/config.toml"), {}).config.endpoint.token_file == str(token)
