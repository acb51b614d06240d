"""The command line itself: the choice of the command, its outputs and its exit code."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond import __version__
from sessiond.cli import COMMANDS, help_text, main, output
from sessiond.device import identify
from support.program import SOURCE
from support.program import run as run_program
from support.rules_cache import put_rules
from support.terminal import Terminal

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the program as a process with a new home."""
    state = str(tmp_path / "state")
    put_rules(state)
    identify(state)
    own = {"HOME": str(tmp_path), "SESSIOND_STATE_DIR": state, "PATH": os.defpath, "PYTHONPATH": SOURCE}

    def call(*arguments: str, stdout: int | None = subprocess.PIPE, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {**own, **environ}
        if stdout == subprocess.PIPE and not any(key.startswith(("PYTHON", "LC_")) for key in environ):
            return run_program(arguments, env)
        command = [sys.executable, "-m", "sessiond", *arguments]
        return subprocess.run(command, env=env, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)

    return call


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_a_module_with_both_functions(name: str) -> None:
    module = importlib.import_module(f"sessiond.cli.{name.replace('-', '_')}")
    assert callable(module.add_arguments)
    assert callable(module.run)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_within_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: sessiond {name}")
    assert max(map(len, text.splitlines())) <= 80
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == text


def test_the_version_costs_no_imports(run: Run) -> None:
    """`status` has 100 ms in all, which includes imports before the command is known."""
    code = "import sys; from sessiond.cli import main; main(['--version']); print(*sys.modules)"
    env = {"PYTHONPATH": SOURCE, "PATH": os.defpath}
    out = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    version, modules = out.splitlines()
    assert version == f"sessiond {__version__}"
    assert not {"msgspec", "argparse", "structlog", "httpx", "rich", "re", "logging"} & set(modules.split())


def test_the_help_lists_every_command_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, line in COMMANDS.items():
        assert any(row.split(maxsplit=1) == [name, line] for row in text.splitlines())
    assert max(map(len, text.splitlines())) <= 80


def test_the_help_wraps_between_words_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 50
    assert "  status       show the state of the daemon,\n               sessions and endpoint\n" in text


def test_no_command_is_a_usage_error_that_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", help_text() + "\n")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["confg"], "sessiond: unknown command 'confg'\n  did you mean `sessiond config`?\n"),
        (["x\x1b[2J"], "sessiond: unknown command 'x\\x1b[2J'\n  see `sessiond --help`\n"),
        (["--verbose"], "sessiond: unknown option '--verbose'\n  see `sessiond --help`\n"),
        (["--config"], "sessiond: --config needs a file\n"),
    ],
)
def test_a_wrong_word_is_a_usage_error_with_the_right_one(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", says)


def test_a_wrong_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "shw"]) == 2
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize("before", [True, False])
def test_the_config_option_stands_before_or_after_the_command(
    before: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "x.toml")
    for option in (["--config", file], [f"--config={file}"]):
        argv = [*option, "config", "path"] if before else ["config", "path", *option]
        assert main(argv, {}) == 0
        assert capsys.readouterr().out == f"{file}\n"


def test_an_error_of_ours_is_two_lines_and_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[endpoint]\nulr = 1\n")
    assert main(["--config", str(file), "config", "show"], {}) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f'sessiond: {file}:2: endpoint.ulr: unknown key\n  did you mean "url"?\n'


def test_a_reader_that_leaves_is_no_error(run: Run) -> None:
    """L5: the reader is for example `head`."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as closed:
        done = run("config", "show", stdout=closed.fileno())
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_the_answer_is_said_in_one_line(run: Run) -> None:
    with open("/dev/full", "w") as full:
        done = run("config", "show", stdout=full.fileno())
    assert (done.returncode, done.stderr) == (1, "sessiond: no space left on device\n")


def test_the_encoding_of_the_terminal_never_ends_in_a_traceback(run: Run) -> None:
    done = run("--config", "/tmp/\N{SNOWMAN}", "config", "path", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2603" in done.stdout or "\\udce2" in done.stdout


# --- sessiond config ---


def test_config_check_says_what_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("rescan = 5")
    assert main(["config", "check", "--config", str(file)], {"SESSIOND_X": "1"}) == 0
    captured = capsys.readouterr()
    assert captured.out == f"OK: {file}\n"
    assert captured.err == "sessiond: warning: SESSIOND_X is not a setting\n"
    assert main(["config", "check", "--json", "--config", str(file)], {}) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "files": [str(file)], "warnings": [], "token": False}


def test_config_check_reads_the_token_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("SENTINEL")
    (tmp_path / "token").chmod(0o644)
    file = tmp_path / "config.toml"
    file.write_text(f'endpoint.token_file = "{tmp_path}/token"')
    assert main(["config", "check", "--config", str(file)], {}) == 78
    assert f"chmod 600 {tmp_path}/token" in capsys.readouterr().err


def test_config_check_gives_programs_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("\nrescn = 5")
    assert main(["config", "check", "--json", "--config", str(file)], {}) == 78
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["file"], error["line"], error["key"]) == (str(file), 2, "rescn")
    assert error["hint"] == 'did you mean "rescan"?'


def test_config_check_reports_all_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other commands name the first one, and refer to `config check` for the others."""
    file = tmp_path / "config.toml"
    file.write_text('rescn = 5\nidle_after = "soon"\n')
    assert main(["config", "check", "--config", str(file)], {}) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f'sessiond: {file}:1: rescn: unknown key\n  did you mean "rescan"?\n' in captured.err
    assert f"sessiond: {file}:2: idle_after: expected seconds" in captured.err
    assert main(["config", "check", "--json", "--config", str(file)], {}) == 78
    answer = json.loads(capsys.readouterr().out)
    assert [error["key"] for error in answer["errors"]] == ["rescn", "idle_after"]


def test_config_show_is_toml_with_the_origin_of_each_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints can be saved as a config that means the same; the token is never in it."""
    file = tmp_path / "config.toml"
    file.write_text('state_dir = "/srv/state"\n[sources.codex]\nroots = ["/a", "/b"]\n')
    environ = {"SESSIOND_OUTBOX__MAX_BYTES": "2 GB", "SESSIOND_TOKEN": "SENTINEL"}
    assert main(["config", "show", "--config", str(file)], environ) == 0
    text = capsys.readouterr().out
    assert "SENTINEL" not in text
    assert "# token: from SESSIOND_TOKEN" in text
    assert "max_bytes = 2000000000                   # SESSIOND_OUTBOX__MAX_BYTES\n" in text
    assert f"# {file}:3\nroots = [" in text
    shown = tomllib.loads(text)
    assert shown["sources"] == {
        "codex": {"enabled": True, "transcripts": True, "side_files": True, "roots": ["/a", "/b"]}
    }
    (tmp_path / "again.toml").write_text(text)
    assert main(["config", "show", "--json", "--config", str(tmp_path / "again.toml")], {}) == 0
    keys = json.loads(capsys.readouterr().out)["keys"]
    assert keys["state_dir"]["value"] == "/srv/state"
    assert keys["outbox.max_bytes"]["value"] == 2_000_000_000


def test_config_path_names_the_users_file(run: Run, tmp_path: Path) -> None:
    assert run("config", "path", SESSIOND_CONFIG="/x/y.toml").stdout == "/x/y.toml\n"
    if sys.platform == "linux":
        assert run("config", "path").stdout == f"{tmp_path}/.config/sessiond/config.toml\n"


# --- output of commands ---


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9940, "9.9 kB"),
        (9960, "10 kB"),
        (999400, "999 kB"),
        (999600, "1.0 MB"),
        (512 << 20, "537 MB"),
        (10**18, "1000 PB"),
    ],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert output.size(count) == text
    assert len(text) <= 7


def test_ages_are_short() -> None:
    ages = [output.age(seconds) for seconds in (None, -5, 0.2, 59, 60, 3599, 7200, 86400 * 9.5)]
    assert ages == ["never", "just now", "just now", "59 s ago", "1 min ago", "59 min ago", "2 h ago", "9 d ago"]


def test_names_from_outside_can_not_draw_on_the_terminal() -> None:
    """S10: control characters in names are escaped."""
    assert output.escape("a\x1b[2Jb\nc\udcff\N{RIGHT-TO-LEFT OVERRIDE}é") == "a\\x1b[2Jb\\nc\\udcff\\u202eé"


def test_a_table_fits_its_width_and_keeps_both_ends_of_a_path() -> None:
    rows = [("tool", "sessions", "root"), ("codex", "7", "/home/ada/" + "deep/" * 20 + "sessions")]
    text = output.table(rows, right={1}, width=60)
    header, row = text.splitlines()
    assert len(row) == 60
    assert header == "tool   sessions  root"
    assert row.startswith("codex         7  /home/ada/deep")
    assert "…" in row
    assert row.endswith("deep/sessions")
    assert output.table([]) == ""


def test_an_error_wraps_between_words_on_a_terminal(tmp_path: Path) -> None:
    """The message and the hint stay apart, and no word is cut at the edge."""
    words = ["config", "set", "endpoint.url", "http://sync.example.org"]
    with Terminal(words, {"HOME": str(tmp_path)}, columns=60) as terminal:
        assert terminal.end() == 78
        assert terminal.text.splitlines() == [
            "sessiond: endpoint.url: plain http to sync.example.org",
            "  would send the token and all transcripts unencrypted",
            '  use "https://sync.example.org", or set',
            "  endpoint.allow_insecure_http = true on a network you trust",
        ]
