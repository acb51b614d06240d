"""README.md and docs/: every command line is one that sessiond understands, every link leads somewhere."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from sessiond import exit_codes
from sessiond.cli import COMMANDS, main, read
from sessiond.cli.status_screen import screen
from sessiond.sources import find_sources
from sessiond.spool.health import EndpointHealth, RootHealth
from sessiond.spool.safety import Counts
from sessiond.spool.stats import ToolCount, Totals, Waiting
from sessiond.status import (
    ConfigStatus,
    DaemonStatus,
    Discovery,
    Running,
    SpoolState,
    SpoolStatus,
    Status,
    ToolStatus,
)

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
TAIL = re.compile(r"\s*(?:#|\||>|&&).*")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
HARMLESS = {"status", "ls", "sources", "queue", "config", "demo"}


def commands() -> list[str]:
    """Find `sessiond ...` in code blocks and inline code."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"^ {4}(?:\$ )?(sessiond .+)$", text, re.MULTILINE):
            if "  " not in TAIL.sub("", line):  # otherwise it is a line of a screen
                found[TAIL.sub("", line)] = None
        for line in re.findall(r"`(sessiond(?: [^`]+)?)`", text):
            found[TAIL.sub("", line).strip()] = None
    return list(found)


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 20
    assert {line.split()[1] for line in commands() if " " in line} >= set(COMMANDS)


@pytest.mark.parametrize("line", commands())
def test_every_documented_command_is_understood(line: str) -> None:
    request = read(shlex.split(line.replace("[", "").replace("]", ""))[1:])
    if request.command is None:
        return
    module = importlib.import_module(f"sessiond.cli.{request.command}")
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    module.add_arguments(parser)
    parser.parse_args(request.rest)


def test_the_table_of_exit_codes_is_complete() -> None:
    """docs/operations.md has each code of exit_codes.py below 128, and no other one."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = text.partition("## Exit codes")[2].partition("\n## ")[0]
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert listed == sorted(value for name, value in vars(exit_codes).items() if name.isupper() and value < 128)


RUN = [line for line in commands() if " " in line and line.split()[1] in HARMLESS and "--watch" not in line]
"""`--watch` runs until Ctrl+C: tests/unit/cli/test_watching.py."""


@pytest.mark.parametrize("line", RUN)
def test_every_documented_command_that_changes_nothing_runs(line: str, tmp_path: Path) -> None:
    """On a fresh machine it succeeds, reports that nothing was captured yet (1), or that no daemon runs (3)."""
    config = tmp_path / "config.toml"  # not os.devnull: `config set` writes beside it
    config.touch(0o600)
    environ = {"HOME": str(tmp_path), "SESSIOND_STATE_DIR": str(tmp_path / "state"), "SESSIOND_CONFIG": str(config)}
    assert main(shlex.split(line.replace("[", "").replace("]", ""))[1:], environ) in (0, 1, 3)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = page if not file else page.parent / file
        assert found.exists(), f"{target} is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{target} has no such heading"


def test_every_exit_code_is_documented() -> None:
    from sessiond import errors

    table = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    for name in dir(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, errors.SessiondError):
            assert f"\n| {kind.exit_code} | " in table, f"{name} ends with {kind.exit_code}"


def test_every_tool_that_is_promised_is_read() -> None:
    (named,) = re.findall(r"reads these tools, [^:]*: ([^.]+)\.", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(re.split(r",\s+", named)) <= {source.tool for source in find_sources()}


def test_the_picture_of_status_is_what_it_prints() -> None:
    text = screen(_example(), home="/home/ada")
    assert "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines()) in (ROOT / "README.md").read_text()


def _example() -> Status:
    now_ms = 1_790_000_000_000

    def roots(tool: str, *paths: str) -> list[RootHealth]:
        hows = ("watched", *("missing",) * (len(paths) - 1))
        return [RootHealth(tool=tool, path=f"/home/ada/{path}", how=how) for path, how in zip(paths, hows, strict=True)]

    counts = Counts(captured=120, acknowledged=119, waiting=1, only_here=31)
    claude = ToolCount(tool="claude-code", sessions=120, ongoing=1, counts=counts, active_ms=now_ms - 1000)
    counts = Counts(captured=44, acknowledged=44)
    codex = ToolCount(tool="codex", sessions=44, counts=counts, active_ms=now_ms - 9 * 3_600_000)
    return Status(
        now_ms=now_ms,
        healthy=True,
        daemon=DaemonStatus(state=Running.RUNNING, pid=4711, since_ms=now_ms - 3 * 86_400_000, service="systemd"),
        machine_id="laptop",
        state_dir="/home/ada/.local/state/sessiond",
        disk_bytes=14_000_000,
        config=ConfigStatus(),
        spool=SpoolStatus(state=SpoolState.OK),
        discovered=Discovery(files=213, unread=0, current=True),
        totals=Totals(
            captured=164, ongoing=1, acknowledged=163, waiting=1, only_here=31, oldest_ms=now_ms - 1000, unprotected=0
        ),
        outbox=Waiting(sessions=1, segments=1, bytes=2100, oldest_ms=now_ms - 1000, parked=0, behind=0, behind_bytes=0),
        endpoint=EndpointHealth(url="https://sync.example.org", last_ack_ms=now_ms - 12_000, latency_ms=38),
        tools=[
            ToolStatus(count=claude, files=165, roots=roots("claude-code", ".claude/projects", "a", "b")),
            ToolStatus(count=codex, files=48, roots=roots("codex", ".codex/sessions", ".codex/archived_sessions")),
        ],
        redactions={},
        lost=[],
        troubles=[],
        advice=[],
    )
