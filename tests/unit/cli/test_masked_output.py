"""The output of every command is masked, in every format, even if it was stored unmasked."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond.cli import COMMANDS, follow, main
from sessiond.cli.masked_stream import UNMASKED, MaskedOutput, MaskedStream
from sessiond.cli.parsers import parsers
from sessiond.frozen_record import to_json
from sessiond.redact.examples import expand
from sessiond.redact.prefilter import may_hold_secret
from sessiond.redact.rules import load_rules
from sessiond.sources import find_sources
from sessiond.sources.base import UserDirs
from sessiond.spool.health import ENDPOINT, EndpointHealth
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness

OTHER = "6f1d7c1e-0000-4000-8000-000000000002"
LOST = "7f1d7c1e-0000-4000-8000-000000000003"
PLACES = ("title", "directory", "branch", "error", "file", "parked", "endpoint", "log", "text")
SECRETS = {place: expand("ghp_<A36>", place) for place in PLACES}
PARTS = {part for secret in SECRETS.values() for part in (secret[:12], secret[14:24], secret[-8:])}
"""Any of them shows that a secret was printed, or cut before it was masked."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        made.address = made.uploading.address = made.endpoint.url
        yield made


@pytest.fixture
def planted(harness: DaemonHarness) -> DaemonHarness:
    """Return a state directory with a secret in every text: it was captured with `redact = "off"`."""
    where = {"cwd": f"/w/{SECRETS['directory']}", "gitBranch": SECRETS["branch"]}
    title = {"type": "custom-title", "customTitle": f"Use {SECRETS['title']}", "sessionId": SESSION}
    harness.write(CLAUDE, claude(SESSION, 1, text=f"use {SECRETS['text']}", **where), title)
    unreadable = CLAUDE.replace(SESSION, f"{OTHER}-{SECRETS['file']}")
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1, **where))
    gone = harness.write(CLAUDE.replace(SESSION, LOST), claude(LOST, 1, **where))
    harness.settle()
    harness.write(CLAUDE.replace(SESSION, LOST), claude(LOST, 2, **where))
    harness.scan()
    segments = harness.spool.outbox.segments(9, 1 << 20)
    with harness.spool.transaction():
        harness.spool.outbox.park_segment(segments[0], f"the endpoint says {SECRETS['parked']}")
        known = harness.spool.catalog.file(os.path.join(harness.home, CLAUDE))
        assert known is not None
        trouble = f"the database is locked by {SECRETS['error']}"
        path = os.path.join(harness.home, unreadable)
        harness.spool.catalog.save_file(msgspec.structs.replace(known, path=path, trouble=trouble, stream=None))
        state = EndpointHealth(
            url=harness.endpoint.url,
            failing_since_ms=harness.now_ms,
            kind="wrong",
            reason=f"an answer with {SECRETS['endpoint']}",
            hint=f"try {SECRETS['endpoint']}",
        )
        harness.spool.set_meta(ENDPOINT, to_json(state))
    os.unlink(gone)
    event = {"timestamp": "2026-09-01T10:00:00Z", "level": "warning", "event": "ingest.skipped", "tool": "claude-code"}
    log = Path(harness.state, "log", "sessiond.log")
    log.parent.mkdir()
    log.write_text(json.dumps({**event, "path": path, "reason": SECRETS["log"]}) + "\n")
    return harness


def environ(harness: DaemonHarness) -> dict[str, str]:
    return {
        "HOME": harness.home,
        "PATH": os.defpath,
        "SESSIOND_STATE_DIR": harness.state,
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
        "SESSIOND_REDACT": "off",
    }


IDS = (SESSION, OTHER, LOST)
OUTPUTS: dict[str, list[list[str]]] = {
    "ls": [
        [],
        ["--json"],
        ["--json", "--long"],
        ["--sort", "name"],
        ["--machine", SECRETS["title"], "--wait", "0"],
        ["--tool", SECRETS["title"]],
        ["--directory", "/w"],
        ["--only-here"],
        ["--since", SECRETS["title"]],
        ["--said", SECRETS["title"]],
        ["--said", " "],
    ],
    "show": [[id, *more] for id in IDS for more in ([], ["--json"], ["--raw"], ["--items"], ["--full"])]
    + [[SESSION, "--raw", "--from", "tool"], [SESSION, "--raw", SECRETS["title"]], [SECRETS["title"]]],
    "export": [[id, "--format", kind] for id in IDS for kind in ("md", "html", "json", "atif", "handoff")],
    "status": [[], ["--json"]],
    "sources": [[], ["--json"], ["--all"], ["--long"]],
    "queue": [[], ["--json"], ["retry", SECRETS["title"]], ["drop", SESSION, "--yes"]],
    "verify": [[], ["--json"], ["--deep"], ["--tool", SECRETS["title"]], ["--repair"]],
    "forget": [
        ["--before", "2100-01-01"],
        ["--directory", f"/w/{SECRETS['directory']}"],
        ["--excluded", "--yes"],
        [OTHER, "--yes", "--here"],
        [SECRETS["title"], "--yes"],
        [LOST, "--yes", "--here", "--json"],
    ],
    "doctor": [[], ["--json"], ["--fix"]],
    "logs": [[], ["--json"], ["--level", "warning"]],
    "init": [
        ["--yes", "--no-service", "--endpoint", f"http://127.0.0.1:1/{SECRETS['title']}"],
        ["--yes", "--no-service", "--token-file", f"/w/{SECRETS['title']}"],
        ["--yes", "--no-service"],
    ],
    "config": [
        ["show"],
        ["show", "--json"],
        ["check"],
        ["check", "--json"],
        ["path"],
        ["get", SECRETS["title"]],
        ["set", SECRETS["title"], "1"],
        ["set", "redact", SECRETS["title"]],
        ["unset", SECRETS["title"]],
    ],
    "redact": [
        ["scan", "--all"],
        ["scan", "--all", "--json"],
        ["rules"],
        ["rules", "--json"],
        ["test", f"use {SECRETS['title']}"],
    ],
    "resume": [[], ["--all"]],
    "restore": [[SESSION, "--dry-run"], [SECRETS["title"]], [SESSION, "--directory", f"/w/{SECRETS['title']}"]],
    "sync": [[]],
    "pause": [["--tool", SECRETS["title"]]],
    "unpause": [["--tool", SECRETS["title"]]],
}
UNTESTED = {"run", "demo", "uninstall", "start", "stop", "restart", "reload"}
"""They act on the service or the process and print fixed text; errors go through the same stream."""
ALIKE: dict[str, set[str]] = {
    "ls": {"--here", "--branch", "--model", "--until", "--ongoing", "--limit"},
    "forget": {"--keep-children", "--everywhere"},
    "logs": {"--tool", "--since", "--follow"},
    "sync": {"--timeout"},
    "restore": {"--home", "--fork", "--launch"},
    "resume": {"--directory", "--fork"},
    "init": {"--invite", "--machine-id", "--restore"},
    "config": {"init", "edit"},
    "status": {"--watch"},
    "show": {"--follow", "--unmasked"},
    "export": {"--output"},
}
"""Options that choose what is printed, and not how; the last ones have tests of their own below."""


def test_every_option_that_prints_is_tested() -> None:
    """A new command or option fails this test until its output is tested here."""
    missing: dict[str, set[str]] = {}
    for name, _, parser in parsers():
        used = {word for words in OUTPUTS.get(name, []) for word in words} | ALIKE.get(name, set())
        options = [action for each in all_parsers(parser) for action in each._actions if action.option_strings]
        subcommands = [word for each in all_parsers(parser) for word in named(each)]
        ignored = {"--help", "--config"}
        unused = {each.option_strings[-1] for each in options if used.isdisjoint(each.option_strings)} - ignored
        if name in OUTPUTS and (unused | (set(subcommands) - used)):
            missing[name] = unused | (set(subcommands) - used)
    assert missing == {}


def named(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands of a command."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def all_parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return a parser and those of its commands."""
    return [parser, *(inner for each in named(parser).values() for inner in all_parsers(each))]


def test_an_exported_file_is_masked(planted: DaemonHarness, tmp_path: Path) -> None:
    """It does not go through standard output."""
    for kind in ("md", "html", "json", "atif", "handoff"):
        file = tmp_path / f"session.{kind}"
        assert main(["export", SESSION, "--format", kind, "-o", str(file)], environ(planted)) == 0
        text = file.read_text()
        assert text and [part for part in PARTS if part in text] == [], kind
    main(["export", SESSION, OTHER, "-o", str(tmp_path)], environ(planted))
    assert not [part for part in PARTS for each in tmp_path.glob("*.md") if part in each.read_text()]


def test_what_is_followed_is_masked(
    planted: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.follow, "__defaults__", (interrupt,))
    assert main(["show", SESSION, "--follow"], environ(planted)) == 0
    shown = capfdbinary.readouterr().out.decode()
    assert "use ***" in shown and [part for part in PARTS if part in shown] == []


def test_a_unit_to_copy_is_printed_as_it_is(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Its line `LoadCredential=token:...` looks like a secret."""
    assert main(["install", "--print"], environ(harness)) == 0
    assert "***" not in capsys.readouterr().out


def test_every_command_is_tested_or_prints_nothing_of_sessions() -> None:
    assert OUTPUTS.keys() | UNTESTED | UNMASKED == COMMANDS.keys()


@pytest.mark.parametrize("command", OUTPUTS)
def test_no_command_prints_a_secret_that_was_stored(
    planted: DaemonHarness, command: str, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the part of a secret that fits into a narrow table is not printed, and JSON stays valid."""
    for words in OUTPUTS[command]:
        main([command, *words], environ(planted))
        captured = capfdbinary.readouterr()
        shown = (captured.out + captured.err).decode()
        assert shown, words
        assert [part for part in PARTS if part in shown] == [], (words, shown)
        if "--json" in words:
            assert all(json.loads(line) for line in captured.out.splitlines()), words


@pytest.mark.parametrize("command", ["ls", "show", "export"])
def test_no_command_prints_a_secret_that_another_machine_stored(
    planted: DaemonHarness, command: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A machine that captured nothing reads the sessions from the endpoint, which has them as they were stored."""
    planted.settle()
    bare = environ(planted) | {"SESSIOND_STATE_DIR": str(tmp_path / "nothing here")}
    shown = ""
    for words in OUTPUTS[command]:
        main([command, *words], bare)
        captured = capfdbinary.readouterr()
        shown += (captured.out + captured.err).decode()
        assert [part for part in PARTS if part in shown] == [], words
    assert "*****" in shown


def test_what_is_planted_would_be_printed(planted: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The commands do print these texts: without masking, each secret appears, except the log's own."""
    seen = ""
    for command in ("ls --json --long", "status --json", "sources --json", "queue --json", "logs"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MaskedOutput, "open", lambda self: None)
            main(command.split(), environ(planted))
        seen += capfdbinary.readouterr().out.decode()
    assert {place for place in PLACES if SECRETS[place] in seen} >= set(PLACES) - {"text"}


def test_show_unmasked_prints_what_is_stored(planted: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["show", SESSION, "--unmasked"], environ(planted)) == 0
    shown = capfdbinary.readouterr().out.decode()
    assert all(SECRETS[place] in shown for place in ("title", "directory", "branch", "text"))


@pytest.mark.parametrize("command", ["ls", "ls --json", "status", "status --json", "queue", "sources"])
def test_ordinary_names_do_not_load_the_rules(
    harness: DaemonHarness, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ls` and `status` have budgets that the rules alone would exceed."""
    harness.write(CLAUDE, claude(SESSION, 1, role="assistant"))
    harness.settle()
    monkeypatch.setattr(MaskedOutput, "_load", lambda self: pytest.fail("the rules were loaded"))
    main(command.split(), environ(harness))


def test_the_users_own_rules_apply_to_output(harness: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Their matches may look like anything, so with them every text is masked."""
    rules = Path(harness.home, "rules.toml")
    rules.write_text("[[rules]]\nid = 'project'\nregex = '''blue-\\w+'''\n")
    config = Path(harness.home, "config.toml")
    config.write_text(f"[redaction]\nrules = ['{rules}']\n")
    harness.write(CLAUDE, claude(SESSION, 1, cwd="/w/blue-heron"))
    harness.settle()
    assert main(["ls"], {**environ(harness), "SESSIOND_CONFIG": str(config)}) == 0
    assert b"blue-heron" not in capfdbinary.readouterr().out


def test_an_invalid_configuration_does_not_disable_masking(
    planted: DaemonHarness, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    config = Path(planted.home, "config.toml")
    config.write_text(f'redact = "{SECRETS["title"]}"\n')
    assert main(["ls"], {**environ(planted), "SESSIOND_CONFIG": str(config), "SESSIOND_REDACT": ""}) == 0
    captured = capfdbinary.readouterr()
    assert captured.out and captured.err
    assert not any(part.encode() in captured.out + captured.err for part in PARTS)


def test_the_streams_are_restored(harness: DaemonHarness) -> None:
    before = sys.stdout, sys.stderr
    main(["show", "nothing"], environ(harness))
    assert (sys.stdout, sys.stderr) == before


def test_a_line_is_masked_as_a_whole_whatever_the_writes() -> None:
    """A line may be written in parts. A prompt without a newline appears with the flush."""
    out = io.StringIO()
    stream = MaskedStream(out, lambda text: text.replace("secret", "******"))
    for piece in ("a sec", "ret\nthe sec", "ret? "):
        stream.write(piece)
    assert out.getvalue() == "a ******\n"
    stream.flush()
    assert out.getvalue() == "a ******\nthe ******? "


AROUND = [
    "{}",
    'a "{}"',
    "x={} y",
    '{{"title":"{}"}}',
    "/w/{}/x",
    "use {}.",
    "\x1b[1m{}\x1b[0m",
    "use\x1b[0;36m{}\x1b[mx",
]


@pytest.mark.parametrize("around", AROUND)
def test_the_prefilter_never_clears_what_a_rule_finds(around: str) -> None:
    """This holds for every example of every rule, or a secret would be printed."""
    missed = [
        (rule.id, text)
        for rule in load_rules().rules
        for template in rule.match
        for seed in range(3)
        if not may_hold_secret(text := around.format(expand(template, seed)))
    ]
    assert missed == []


def test_the_prefilter_sees_an_ordinary_word_that_is_a_password() -> None:
    """Only the option before it shows that: no name, no sign of a URL, and no letter that words don't have."""
    assert may_hold_secret("curl -u ada:sesame x")
    assert may_hold_secret("wget --user ada:sesame x")
    assert not may_hold_secret("curl ada:sesame x")


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_the_prefilter_sees_a_secret_through_a_colour_inside_it(part: float) -> None:
    missed = []
    for rule in load_rules().rules:
        for template in rule.match:
            text = expand(template, 1)
            at = int(len(text) * part)
            if not may_hold_secret(f"{text[:at]}\x1b[1;31m{text[at:]}"):
                missed.append((rule.id, text))
    assert missed == []


@pytest.mark.parametrize(
    "text",
    [
        "Fix the parser of part 7 in the tool",
        "why does the password reset mail fail?",
        "/home/dev/.claude/projects/-home-dev-project/5f1d7c1e-0000-4000-8000-000000000002.jsonl",
        "rollout-2026-09-01T10-00-00-5f1d7c1e-0000-4000-8000-000000000002.jsonl",
        "us.anthropic.claude-sonnet-4-20250514-v1:0",
        "endpoint      https://sync.example.com:8443/v1: last ack 3 s ago, took 12 ms",
        "masked        43 secrets (github-token 15)\nclaude-code  150  0  watched  /home/dev/.claude…projects +9",
        '{"id":"5f1d7c1e-0000-4000-8000-000000000002","started_at":"2026-09-01T10:00:00.123456Z","model":null}',
    ],
)
def test_the_prefilter_clears_ordinary_names(text: str) -> None:
    """Colour codes must not defeat it: `status` in a terminal would load the rules each time."""
    assert not may_hold_secret(text)
    assert not may_hold_secret(f"\x1b[36m{text}\x1b[0m \x1b[1;32m{text}\x1b[m\n")


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_prefilter_clears_the_paths_of_all_roots(platform: str) -> None:
    """`status --json` of every machine lists them, also those that are missing."""
    dirs = UserDirs(home="/home/dev", environ={}, platform=platform)
    paths = [root.path for source in find_sources() for root in source.roots(dirs)]
    assert [path for path in paths if may_hold_secret(json.dumps({"path": path}))] == []
    assert not may_hold_secret(json.dumps(paths))
