"""A typo in the configuration: commands that read continue and report it, all others refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.cli import main
from sessiond.config import load_valid
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness

TYPO = '[endpoint]\nurl = "https://sync.example.org"\ntimeuot = 3\n'


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        made.write(CLAUDE, claude(SESSION, 1, text="why?"))
        made.settle()
        yield made


def run(harness: DaemonHarness, text: str, *words: str, **environ: str) -> int:
    """Run a command with a configuration file; the state directory is set by a variable."""
    file = Path(harness.home, "config.toml")
    file.write_text(text)
    return main([*words, "--config", str(file)], {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state, **environ})


@pytest.mark.parametrize("words", [["ls", "--wait", "0"], ["show", SESSION, "--json"], ["queue"], ["sources"]])
def test_a_typo_is_one_warning_of_a_command_that_reads(
    harness: DaemonHarness, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The warning has the file, the line, the key, a hint and the command that checks the file."""
    assert run(harness, TYPO, *words) == 0
    captured = capsys.readouterr()
    assert captured.out
    assert captured.err == (
        f'sessiond: warning: {harness.home}/config.toml:3: endpoint.timeuot: unknown key\n  did you mean "timeout"?\n'
        "  this command ignores it; see: sessiond config check\n"
    )


def test_several_typos_are_one_warning_too(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(harness, TYPO + "tiemout = 3\n[log]\nlevel = 3\n", "ls", "--wait", "0") == 0
    assert "this command ignores it and 2 more; see: sessiond config check\n" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['url = "x', 'state_dir = "relative"\n', "\x00", "[endpoint]\n[endpoint]\n"])
def test_a_file_that_is_no_configuration_at_all_is_a_warning(
    harness: DaemonHarness, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(harness, text, "ls") == 0
    captured = capsys.readouterr()
    assert SESSION[:8] in captured.out
    assert f"{harness.home}/config.toml:" in captured.err


@pytest.mark.parametrize(
    "words", [["config", "check"], ["run"], ["sync"], ["pause"], ["queue", "retry"], ["install"], ["redact", "rules"]]
)
def test_commands_that_capture_push_or_write_refuse(
    harness: DaemonHarness, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a command could ignore an exclusion of the user, or write into another state directory."""
    assert run(harness, TYPO, *words) == 78
    assert "timeuot: unknown key" in capsys.readouterr().err


def test_the_problem_is_in_status_and_in_doctor(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` uses the valid values: the endpoint's address, which comes after the typo."""
    text = 'rescn = 1\n[endpoint]\nurl = "https://sync.example.org"\n'
    assert run(harness, text, "status", "--json") == 3
    shown = json.loads(capsys.readouterr().out)
    assert (shown["config"]["error"], shown["config"]["hint"]) == (
        f"{harness.home}/config.toml:1: rescn: unknown key",
        'did you mean "rescan"?',
    )
    assert shown["advice"][0]["what"].startswith("the configuration is not valid: ")
    assert shown["endpoint"]["url"] == "https://sync.example.org"
    assert run(harness, 'rescn = 1\n[endpoint]\nurl = ""\n', "doctor", "--json") == 4
    found = [each for each in json.loads(capsys.readouterr().out)["findings"] if each["check"] == "config"]
    assert [(each["severity"], each["fix"]) for each in found] == [("error", 'did you mean "rescan"?')]


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ('[redaction]\nsecerts = "x"\n', {}),
        ('[readction]\nsecrets = "x"\n', {}),
        ("[redaction\n", {}),
        ("", {"SESSIOND_REDACT": "of"}),
        ('[masking]\nsecret_from = ["env:*_TOKEN"]\n', {}),
        ('secrets = ["env:*_TOKEN"]\n', {}),
        ('mask = "hash"\n', {}),
    ],
)
def test_a_transcript_is_not_shown_while_it_is_unknown_what_to_mask(
    harness: DaemonHarness, text: str, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The tool's own file is not masked, and the invalid rule may be the one that would hide the user's secret."""
    for command in ("show", "export"):
        assert run(harness, text, command, SESSION, **environ) == 78
        captured = capsys.readouterr()
        assert "why?" not in captured.out
        assert "warning" not in captured.err, "the problem is reported once, as the error"
    assert run(harness, text, "show", SESSION, "--unmasked", **environ) == 0
    assert "why?" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ['rescann = "5m"\n', "[backlogs]\nmax_cpu = 5\n", 'exclued = ["~/work/*"]\n', "foo = 1\n"]
)
def test_a_transcript_is_shown_despite_a_key_that_masks_nothing(
    harness: DaemonHarness, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading changes nothing that an exclusion or a limit protects. The daemon refuses the same file."""
    key = text.strip("[").split()[0].rstrip("]")
    for words in (["show", SESSION], ["show", SESSION, "--raw"], ["export", SESSION]):
        assert run(harness, text, *words) == 0
        captured = capsys.readouterr()
        assert "why?" in captured.out
        assert f"{harness.home}/config.toml:1: {key}: unknown key\n" in captured.err
        assert captured.err.endswith("this command ignores it; see: sessiond config check\n")
    for words in (["run"], ["sync"]):
        assert run(harness, text, *words) == 78
        capsys.readouterr()


def test_a_refused_address_is_not_used(tmp_path: Path) -> None:
    """Plain http would send the token unencrypted."""
    file = tmp_path / "config.toml"
    file.write_text('[endpoint]\nurl = "http://sync.example.org"\nallow_insecure_http = "yes"\n')
    loaded = load_valid(str(file), {"HOME": str(tmp_path)})
    assert loaded.config.endpoint.url == ""
    assert [problem.key for problem in loaded.problems] == ["endpoint.allow_insecure_http", "endpoint.url"]


def test_values_around_a_problem_are_used(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'rescan = "5m"\nidle_after = "soon"\n[sources.codx]\nenabled = false\n[sources.codex]\nenabled = false\n'
    )
    environ = {"HOME": str(tmp_path), "SESSIOND_LOG__LEVEL": "loud", "SESSIOND_MACHINE_ID": "testbox"}
    loaded = load_valid(str(file), environ, tools=["codex"])
    assert [problem.key for problem in loaded.problems] == ["idle_after", "SESSIOND_LOG__LEVEL", "sources.codx"]
    config = loaded.config
    assert (config.rescan, config.idle_after, config.log.level, config.machine_id) == (300.0, 1800.0, "info", "testbox")
    assert list(config.sources) == ["codex"]
