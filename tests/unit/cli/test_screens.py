"""The screens as a person sees them: real commands on a terminal of 80 and of 120 columns, with and without colour.

The screens are in expected/, a file each. After an intended change, write them again and look at
the difference: REGENERATE=1 python -m pytest tests/screens
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sessiond import pause, state
from sessiond.spool import health
from sessiond.spool.health import CLEAN, CaptureHealth, EndpointHealth, RootHealth
from sessiond.spool.sizes import SIZES as SIZES_COUNTED
from sessiond.spool.verification import RESULT
from support.harness import DaemonHarness, claude, daemon_harness
from support.rules_cache import put_rules
from support.terminal import Terminal

EXPECTED = Path(__file__).parent / "expected"
SAMPLES = Path(__file__).parents[2] / "conformance" / "samples"
PAINT = re.compile(rb"\x1b\[[\d;]*m")
SIZES = re.compile(rb"(^disk +|^ok +disk: |segments? \()[\d.]+ \w+", re.MULTILINE)
"""How much something takes on the disk and in the outbox: it depends on the file system and on zstd."""
KNOWN = re.compile(rb"(Supported, not found here: )[^.]+")
"""The tools that are known and not found: with each new source there is one more."""
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
URL = "https://sync.example.org"
SESSIONS = [f"5f1d7c1e-0000-4000-8000-00000000000{number}" for number in range(4)]

World = Callable[[DaemonHarness], None]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def before_ms(span: int) -> int:
    """Return a time this long ago, in the middle of its minute, hour or day, so that its text stays the same for a
    while.
    """
    unit = next(unit for unit in (DAY, HOUR, MINUTE) if span >= unit)
    return now_ms() - span - unit // 2


def captured(harness: DaemonHarness) -> None:
    """Capture three sessions of Claude Code, one of them ongoing; all are at the endpoint."""
    for session, span in zip(SESSIONS, (5 * MINUTE, 3 * HOUR, 9 * DAY), strict=False):
        at = datetime.fromtimestamp(before_ms(span) / 1000, UTC).isoformat().replace("+00:00", "Z")
        lines = [claude(session, number, role=("user", "assistant")[number % 2], timestamp=at) for number in range(6)]
        harness.write(f".claude/projects/-home-dev-project/{session}.jsonl", *lines)
    harness.now_ms = now_ms()
    harness.uploading.address = URL
    harness.settle()
    for daily in (SIZES_COUNTED, RESULT):
        harness.spool.set_meta(daily, None)  # the screens are those of the first day


def watched(harness: DaemonHarness, *, files: int = 3, backlog: int = 0, **how: str) -> None:
    """Write the directories' states as a daemon of pid 4711 would; `how` names those that are not simply watched."""
    details = {"polled": "max_user_watches is reached", "unreadable": "permission denied"}
    roots = [
        RootHealth(
            tool=tool,
            path=f"{harness.home}/{path}",
            how=(given := how.get(tool.replace("-", "_"), "watched")),
            detail=details.get(given, ""),
        )
        for tool, path in (("claude-code", ".claude/projects"), ("codex", ".codex/sessions"))
    ]
    roots += [RootHealth(tool=tool, path=f"{harness.home}/.{tool}", how="missing") for tool in ("cursor", "zed")]
    made = CaptureHealth(pid=4711, machine_id="laptop", discovered={"claude-code": files}, backlog=backlog, roots=roots)
    health.write(harness.spool, made)


def acknowledged(harness: DaemonHarness) -> None:
    health.write(harness.spool, EndpointHealth(url=URL, last_ack_ms=before_ms(4 * MINUTE), latency_ms=38))


def failing(harness: DaemonHarness, kind: str, reason: str) -> None:
    made = EndpointHealth(
        url=URL,
        failing_since_ms=before_ms(2 * HOUR),
        failures=9,
        kind=kind,
        reason=reason,
        next_attempt_ms=now_ms() + 3 * MINUTE + MINUTE // 2,
    )
    health.write(harness.spool, made)


def healthy(harness: DaemonHarness) -> None:
    captured(harness)
    watched(harness)
    acknowledged(harness)


def stopped(harness: DaemonHarness) -> None:
    healthy(harness)
    harness.spool.set_meta(CLEAN, "1")


def degraded(harness: DaemonHarness) -> None:
    """Make an edit with an error, a parked item, a directory that can't be read, and a format with unknown types."""
    captured(harness)
    harness.now_ms = before_ms(HOUR)
    harness.write(f".claude/projects/-x/{SESSIONS[3]}.jsonl", claude(SESSIONS[3], 1) | {"type": "hologram"})
    harness.scan()
    for session in harness.spool.outbox.sessions(9):
        with harness.spool.transaction():
            harness.spool.outbox.park_session(session.id, session.revision, "too large")
    watched(harness, files=4, codex="unreadable")
    acknowledged(harness)
    Path(harness.home, ".config/sessiond/config.toml").write_text(f'[endpoint]\nurl = "{URL}"\ntimeuot = 3\n')


def endpoint_down(harness: DaemonHarness) -> None:
    captured(harness)
    at = datetime.fromtimestamp(before_ms(HOUR) / 1000, UTC).isoformat().replace("+00:00", "Z")
    harness.now_ms = before_ms(HOUR)
    harness.write(f".claude/projects/-home-dev-project/{SESSIONS[0]}.jsonl", claude(SESSIONS[0], 7, timestamp=at))
    harness.scan()
    watched(harness)
    failing(harness, "unreachable", f"{URL} can't be reached: connection refused")


def refused(harness: DaemonHarness) -> None:
    captured(harness)
    watched(harness, claude_code="polled")
    failing(harness, "refused", f"{URL} answered 401: the token is not known here")


def starting(harness: DaemonHarness) -> None:
    """Hold the lock as a daemon that has stored nothing yet."""


def paused(harness: DaemonHarness) -> None:
    healthy(harness)
    pause.write(harness.state, pause.Paused(pushing=pause.INDEFINITELY, sources={"codex": pause.INDEFINITELY}))


def never(harness: DaemonHarness) -> None:
    """Remove the state, as if nothing was ever started."""
    harness.close()
    shutil.rmtree(harness.state)


STATUS: dict[str, tuple[World, bool, int]] = {
    "status-healthy": (healthy, True, 0),
    "status-not-running": (stopped, False, 3),
    "status-died": (healthy, False, 3),
    "status-degraded": (degraded, True, 4),
    "status-endpoint-down": (endpoint_down, True, 4),
    "status-token-refused": (refused, True, 4),
    "status-starting": (starting, True, 0),
    "status-paused": (paused, True, 0),
    "status-never-started": (never, False, 3),
}
"""For each screen: how the machine is, whether a daemon runs there, and the exit code."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        put_rules(made.state)
        config = Path(made.home, ".config/sessiond/config.toml")
        config.parent.mkdir(parents=True)
        config.write_text(f'[endpoint]\nurl = "{URL}"\n')
        yield made


@contextmanager
def daemon(harness: DaemonHarness, runs: bool) -> Iterator[None]:
    """Hold the lock in the name of a daemon of pid 4711, which started three hours ago."""
    if not runs:
        yield
        return
    lock = state.Lock(harness.state, "systemd")
    said = {"pid": 4711, "since_ms": before_ms(3 * HOUR), "service": "systemd"}
    Path(harness.state, state.LOCK).write_text(json.dumps(said).ljust(state.LOCK_SIZE))
    yield
    lock.release()


def environ(harness: DaemonHarness, **more: str) -> dict[str, str]:
    return {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state, **more}


def record(name: str | None, words: list[str], env: dict[str, str], columns: int) -> int:
    """Compare a command's output, in colour and without, with its file; return its exit code."""
    with Terminal(words, env, columns=columns) as coloured:
        code = coloured.end()
    with Terminal(words, {**env, "NO_COLOR": "1"}, columns=columns) as plain:
        assert plain.end() == code
    assert b"\x1b" not in plain.written, "NO_COLOR is not obeyed"
    # Nothing is said by colour alone, and no line is broken by the terminal.
    assert SIZES.sub(b"", PAINT.sub(b"", coloured.written)) == SIZES.sub(b"", plain.written)
    lines = plain.written.decode().replace("\r\n", "\n").splitlines()
    assert max(map(len, lines)) <= columns, max(lines, key=len)
    assert "\n".join(line.rstrip() for line in lines).rstrip() == plain.text
    if name is None:
        return code
    text = KNOWN.sub(rb"\1...", SIZES.sub(rb"\1...", plain.text.encode())).decode() + "\n"
    file = EXPECTED / f"{name}-{columns}.txt"
    if os.environ.get("REGENERATE"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"REGENERATE=1 writes {file.name} again"
    return code


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", STATUS)
def test_status(name: str, columns: int, harness: DaemonHarness) -> None:
    world, runs, code = STATUS[name]
    world(harness)
    with daemon(harness, runs):
        # The state lies where it does for everybody, so that its name is the same on every machine.
        home = Path(harness.home, ".local/state")
        home.mkdir(parents=True)
        (home / "sessiond").symlink_to(harness.state)
        shown = {"HOME": harness.home}
        assert record(name, ["status"], shown, columns) == code


@pytest.mark.parametrize("columns", [80, 120])
def test_sources(columns: int, harness: DaemonHarness) -> None:
    degraded(harness)
    Path(harness.home, ".config/sessiond/config.toml").write_text("[sources.codex]\nenabled = false\n")
    assert record("sources", ["sources"], environ(harness), columns) == 0


@pytest.mark.parametrize("columns", [80, 120])
def test_what_init_finds(columns: int, tmp_path: Path) -> None:
    """The tools and what their own clean-up will delete, at a fixed date."""
    home = tmp_path / "home"
    shutil.copytree(SAMPLES / "claude-code/2.1-session/.claude", home / ".claude")
    shutil.copytree(SAMPLES / "codex/0.80-legacy/.codex", home / ".codex")
    (home / ".claude/settings.json").write_text('{"cleanupPeriodDays": 36500}')
    for path in home.rglob("*.jsonl"):
        os.utime(path, (1_790_000_000, 1_790_000_000))
    config = home / ".config/sessiond/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("")
    assert record("init", ["init", "--no-service"], {"HOME": str(home)}, columns) == 0


@pytest.mark.parametrize("columns", [80, 120])
def test_doctor_fits(columns: int, harness: DaemonHarness) -> None:
    """Its findings depend on this machine, so there is no expected file."""
    assert record(None, ["doctor"], environ(harness), columns) in (0, 4)


@pytest.fixture(autouse=True, scope="module")
def _every_file_belongs_to_a_screen() -> Iterator[None]:
    yield
    names = {*STATUS, "sources", "init"}
    assert {path.name.rpartition("-")[0] for path in EXPECTED.iterdir()} <= names
