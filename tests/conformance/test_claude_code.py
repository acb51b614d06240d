"""Facts about Claude Code: its directories, its paths and its live sessions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessiond.sources.base import Unit, UserDirs
from sessiond.sources.claude_code import ClaudeCode

SOURCE = ClaudeCode()
ID = "00000301-0000-4000-8000-000000000301"


def roots(platform: str = "linux", **environ: str) -> list[str]:
    """Return the roots of a home."""
    found = SOURCE.roots(UserDirs(home="/home/ada", environ=environ, platform=platform))
    return [root.path for root in found if not root.side]


def test_the_override_comes_first_and_the_home_stays() -> None:
    """CLAUDE_CONFIG_DIR may be a list. Sessions from before it was set are still in the home."""
    assert roots(CLAUDE_CONFIG_DIR="/a, /b/projects/,") == [
        "/a/projects",
        "/b/projects",
        "/home/ada/.claude/projects",
        "/home/ada/.config/claude/projects",
        "/a",
        "/b",
        "/home/ada/.claude",
        "/home/ada/.config/Claude/local-agent-mode-sessions",
    ]


def test_the_desktop_application_keeps_its_sessions_apart() -> None:
    """Cowork uses the system's directory for application data, on Windows also the package's own store."""
    assert "/home/ada/Library/Application Support/Claude/local-agent-mode-sessions" in roots("darwin")
    windows = roots("win32", APPDATA="C:/Roaming", LOCALAPPDATA="C:/Local")
    assert "C:/Roaming/Claude/local-agent-mode-sessions" in windows
    package = "C:/Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude/local-agent-mode-sessions"
    assert package in windows


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (f"-a/{ID}.jsonl", Unit(native_id=ID)),
        (f"-a/{ID}/subagents/agent-ab.jsonl", Unit(native_id=ID, stream="agent-ab", thread=False)),
        (f"-a/{ID}/subagents/agent-acompact-1f.jsonl", Unit(native_id=ID, stream="agent-acompact-1f", thread=False)),
        (
            f"-a/{ID}/subagents/workflows/wf_1/agent-ab.jsonl",
            Unit(native_id=ID, stream="wf_1/agent-ab", thread=False),
        ),
        ("-a/agent-ab.jsonl", Unit(stream="agent-ab", thread=False)),
        (f"x/local_1/.claude/projects/-a/{ID}.jsonl", Unit(native_id=ID)),
        (f"-a/{ID}/subagents/journal.jsonl", None),
        (f"-a/{ID}/subagents/workflows/wf_1/journal.jsonl", None),
        (f"-a/{ID}/subagents/agent-ab.meta.json", None),
        (f"-a/{ID}/subagents/agent-ab.jsonl.tmp.12", None),
        (f"-a/{ID}/tool-results/{ID}.jsonl", None),
        (f"-a/{ID}.jsonl.tmp", None),
        (f"-a/{ID}.ccr-tip.json", None),
        (f"{ID}.jsonl", None),
        ("-a/memory/MEMORY.md", None),
        ("x/local_1/audit.jsonl", None),
    ],
)
def test_a_path_says_which_stream_it_is(path: str, unit: Unit | None) -> None:
    """Transcripts and subagents' transcripts are streams; what lies beside them is not."""
    assert SOURCE.unit(path) == unit


def start_of(pid: int) -> str:
    """Read when a process started, as Claude Code writes it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs Linux's /proc")
def test_only_a_running_process_keeps_its_session_alive(tmp_path: Path) -> None:
    """A killed process leaves its file, and its pid may be reused. Keys are never read."""
    folder = tmp_path / ".claude" / "sessions"
    folder.mkdir(parents=True)
    me = os.getpid()
    entries = {
        f"{me}.json": f'{{"pid":{me},"sessionId":"here","procStart":"{start_of(me)}","status":"idle"}}',
        "2.json": f'{{"pid":{me},"sessionId":"without-start"}}',
        "3.json": f'{{"pid":{me},"sessionId":"other-process","procStart":"1"}}',
        "4.json": '{"pid":4194999,"sessionId":"dead"}',
        "5.json": '{"pid":99999999999999999999,"sessionId":"absurd"}',
        "6.json": '{"pid":-1,"sessionId":"everybody"}',
        "7.json": '{"pid":',
        f"{me}.fc81.key": f'{{"pid":{me},"sessionId":"key"}}',
    }
    for name, text in entries.items():
        (folder / name).write_text(text)
    os.symlink(folder / f"{me}.json", folder / "8.json")
    os.mkfifo(folder / "9.json")
    places = UserDirs(home=str(tmp_path), environ={}, platform="linux")
    assert sorted(set(SOURCE.live(places))) == ["here", "without-start"]
