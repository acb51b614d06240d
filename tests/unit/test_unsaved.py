"""Running tools that save nothing are found, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sessiond.unsaved import BUSY_MS, Unsaved, find_unsaved
from support.processes import start_listed

BOOTED_MS, NOW_MS = 1_790_000_000_000, 1_790_001_000_000
STARTED_MS = BOOTED_MS + 500_000
HOME = "/home/ada"
CHILD = {"CLAUDE_CODE_CHILD_SESSION": "1"}
SESSION = "0a000000-0000-4000-8000-000000000001"


class Proc:
    """An imitation of /proc."""

    def __init__(self, base: Path) -> None:
        self.path, self._last = base / "proc", 4000
        self.path.mkdir()
        (self.path / "stat").write_text(f"cpu 1 2 3\nbtime {BOOTED_MS // 1000}\n")
        (self.path / "self").mkdir()

    def add(self, *arguments: str, terminal: bool = True, home: str = HOME, parent: int = 1, **variables: str) -> int:
        """Add a process; return its id."""
        self._last += 1
        folder = self.path / str(self._last)
        (folder / "fd").mkdir(parents=True)
        (folder / "cmdline").write_bytes(b"".join(os.fsencode(each) + b"\0" for each in arguments))
        pairs = {"HOME": home, "PATH": "/bin", **variables}
        (folder / "environ").write_bytes(b"\0".join(f"{key}={value}".encode() for key, value in pairs.items()))
        ticks = (STARTED_MS - BOOTED_MS) // 1000 * os.sysconf("SC_CLK_TCK")
        (folder / "stat").write_text(f"{self._last} (a) b) S {parent} {'0 ' * 17}{ticks} 0 0\n")
        os.symlink("/dev/pts/3" if terminal else "pipe:[4711]", folder / "fd/0")
        return self._last

    def find(self, home: str = HOME, user: int | None = None) -> list[Unsaved]:
        return find_unsaved({"HOME": home} if home else {}, NOW_MS, proc=str(self.path), user=user)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.mark.parametrize(
    "program",
    [
        ["claude"],
        ["/opt/bin/claude", "-c"],
        ["node", "/x/claude-code/cli.js"],
        ["node", "--no-warnings", "--max-old-space-size=8192", "/x/claude-code/cli.js"],
        ["/home/ada/.local/share/claude/versions/2.1.332"],
        ["claude", "update the loom"],
    ],
)
def test_an_inherited_marker_is_found_with_its_fix(proc: Proc, program: list[str]) -> None:
    pid = proc.add(*program, **CHILD)
    (found,) = proc.find()
    assert (found.tool, found.pid, found.deliberate) == ("claude-code", pid, False)
    assert "CLAUDE_CODE_CHILD_SESSION" in found.reason
    assert "CLAUDE_CODE_FORCE_SESSION_PERSISTENCE=1" in found.fix and "/export" in found.fix


@pytest.mark.parametrize(
    "options",
    [
        {},
        CHILD | {"CLAUDE_CODE_FORCE_SESSION_PERSISTENCE": "1"},
        CHILD | {"TMUX": "/tmp/tmux-1000/default,1,0"},
        {"CLAUDE_CODE_CHILD_SESSION": "0"},
        {"CLAUDE_CODE_SKIP_PROMPT_HISTORY": ""},
        {"CLAUDECODE": "1", "CLAUDE_CODE_SESSION_ID": SESSION},
    ],
)
def test_a_process_that_saves_is_no_alarm(proc: Proc, options: dict[str, str]) -> None:
    proc.add("claude", **options)
    assert proc.find() == []


def test_what_a_session_starts_for_itself_is_no_alarm(proc: Proc) -> None:
    """Every command of Claude Code has the marker. Without a terminal, or with -p, Claude Code saves all the same."""
    proc.add("claude", "-p", "weave", **CHILD)
    proc.add("claude", terminal=False, **CHILD)
    proc.add("bash", "-c", "claude", **CHILD)
    proc.add("vim", "claude", **CHILD)
    proc.add("node", "server.js", **CHILD)
    proc.add("node", **CHILD)
    proc.add("node", "--version", **CHILD)
    proc.add("claude", "mcp", "serve", **CHILD)
    proc.add("claude", "update", **CHILD)
    assert proc.find() == []


@pytest.mark.parametrize(
    ("arguments", "tool"),
    [
        (["claude", "-p", "--no-session-persistence", "weave"], "claude-code"),
        (["codex", "exec", "--ephemeral", "weave"], "codex"),
        (["node", "/usr/bin/codex", "exec", "--ephemeral"], "codex"),
        (["node", "--max-old-space-size=4096", "/x/qwen-code/cli.js", "--chat-recording=false"], "qwen-code"),
        (["qwen", "--chat-recording=false"], "qwen-code"),
        (["qwen", "--chat-recording", "false", "weave"], "qwen-code"),
        (["goose", "run", "--no-session", "-t", "weave"], "goose"),
    ],
)
def test_an_argument_that_asks_for_it_is_deliberate(proc: Proc, arguments: list[str], tool: str) -> None:
    proc.add(*arguments, terminal=False)
    (found,) = proc.find()
    assert (found.tool, found.deliberate) == (tool, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["codex", "exec", "explain --no-session-persistence"],
        ["codex", "exec", "--ephemerals"],
        ["codex", "exec", "explain what --ephemeral does"],
        ["codex", "exec", "--", "--ephemeral"],
        ["claude", "-p", "what does --no-session-persistence do"],
        ["qwen", "-p", "explain --chat-recording=false please"],
        ["qwen", "--chat-recording=true"],
        ["goose", "session"],
    ],
)
def test_other_arguments_are_no_alarm(proc: Proc, arguments: list[str]) -> None:
    proc.add(*arguments)
    assert proc.find() == []


def test_one_session_of_two_processes_is_found_once(proc: Proc) -> None:
    """npm's script of Codex starts its program, and Qwen Code starts itself again with more memory."""
    script = proc.add("node", "/usr/bin/codex", "exec", "--ephemeral")
    proc.add("/opt/codex/codex", "exec", "--ephemeral", parent=script)
    other = proc.add("codex", "exec", "--ephemeral")
    assert sorted(each.pid for each in proc.find()) == [script, other]


def test_a_variable_that_switches_saving_off_is_found(proc: Proc) -> None:
    proc.add("claude", "-p", terminal=False, CLAUDE_CODE_SKIP_PROMPT_HISTORY="true")
    (found,) = proc.find()
    assert "CLAUDE_CODE_SKIP_PROMPT_HISTORY" in found.reason and not found.deliberate


def test_only_processes_of_this_home_and_user_are_examined(proc: Proc) -> None:
    proc.add("claude", home="/home/eve", **CHILD)
    assert proc.find() == [] and proc.find("/home/eve/") != []
    assert proc.find("") == []
    proc.add("claude", **CHILD)
    assert proc.find() != [] and proc.find(user=os.getuid() + 1) == []


def test_a_process_that_can_not_be_read_hides_no_other(proc: Proc) -> None:
    for missing in ("cmdline", "environ", "stat", "fd/0"):
        (proc.path / str(proc.add("claude", **CHILD)) / missing).unlink()
    (proc.path / str(proc.add("claude", **CHILD)) / "stat").write_text("gone")
    proc.add("")
    last = proc.add("claude", **CHILD)
    assert [each.pid for each in proc.find()] == [last]


@pytest.mark.parametrize(
    ("status", "busy_ms", "written_ms", "found"),
    [
        ("busy", BUSY_MS, None, True),
        ("busy", BUSY_MS, STARTED_MS - 1000, True),  # resumed, and nothing was added
        ("busy", BUSY_MS - 1, None, False),  # the first prompt was given a moment ago
        ("busy", 3_600_000, STARTED_MS + 1000, False),  # a command that takes an hour
        ("idle", 3_600_000, None, False),  # it was not asked anything yet
        ("idle", 3_600_000, STARTED_MS - 1000, False),  # resumed, and not asked anything yet
    ],
)
def test_a_transcript_that_does_not_grow_is_found(
    proc: Proc, tmp_path: Path, status: str, busy_ms: int, written_ms: int | None, found: bool
) -> None:
    home = tmp_path / "home"
    pid = proc.add("claude", home=str(home))
    transcript = home / f".claude/projects/-loom/{SESSION}.jsonl"
    transcript.parent.mkdir(parents=True)
    (home / ".claude/sessions").mkdir()
    owner = {"pid": pid, "sessionId": SESSION, "status": status, "updatedAt": NOW_MS - busy_ms}
    (home / f".claude/sessions/{pid}.json").write_text(json.dumps(owner))
    if written_ms is not None:
        transcript.write_text("{}\n")
        os.utime(transcript, (written_ms / 1000,) * 2)
    assert [each.pid for each in proc.find(str(home))] == ([pid] if found else [])


def test_settings_that_keep_no_transcript_are_the_reason(proc: Proc, tmp_path: Path) -> None:
    """In older versions, zero days meant that nothing is written. Later ones refuse that value and write."""
    pid = proc.add("claude", CLAUDE_CONFIG_DIR=str(tmp_path))
    (tmp_path / "settings.json").write_text('{"cleanupPeriodDays": 0}')
    assert proc.find() == []
    (tmp_path / "sessions").mkdir()
    owner = {"pid": pid, "sessionId": SESSION, "status": "busy", "updatedAt": NOW_MS - BUSY_MS}
    (tmp_path / f"sessions/{pid}.json").write_text(json.dumps(owner))
    (found,) = proc.find()
    assert "cleanupPeriodDays" in found.reason and "cleanupPeriodDays" in found.fix


@pytest.mark.parametrize("text", ["", "[]", '{"sessionId":7}', '{"sessionId":"../x","status":"busy","updatedAt":1}'])
def test_a_record_of_another_shape_is_no_alarm(proc: Proc, tmp_path: Path, text: str) -> None:
    pid = proc.add("claude", CLAUDE_CONFIG_DIR=str(tmp_path))
    (tmp_path / "sessions").mkdir()
    (tmp_path / f"sessions/{pid}.json").write_text(text)
    assert proc.find() == []


def test_macos_shows_processes_with_their_environment() -> None:
    lines = [
        f"  501  1 ttys001  claude --model opus HOME={HOME} CLAUDE_CODE_CHILD_SESSION=1 TERM=xterm",
        f"  502  1 ??       claude HOME={HOME} CLAUDE_CODE_CHILD_SESSION=1",
        f"  503  1 ttys002  codex exec --ephemeral HOME={HOME}",
        f"  505  503 ttys002  /opt/codex exec --ephemeral HOME={HOME}",
        "  504  1 ttys003  -zsh",
        "garbage",
        "",
    ]
    found = find_unsaved({"HOME": HOME}, NOW_MS, ps=lambda: "\n".join(lines))
    assert [(each.tool, each.pid) for each in found] == [("claude-code", 501), ("codex", 503)]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS hides the environment of its own programs")
def test_a_real_process_is_found(tmp_path: Path) -> None:
    """The system's own list of processes has what the imitation above has. An interactive one has a terminal."""
    environ = {"HOME": str(tmp_path), "PATH": os.defpath}
    controller, terminal = os.openpty()
    processes = [
        start_listed(arguments, environ | variables, stdin=stdin, executable="/bin/sleep")
        for arguments, stdin, variables in (
            (["claude", "60"], terminal, CHILD),
            (["claude", "61"], subprocess.DEVNULL, CHILD),
            (["claude", "62"], terminal, {}),
        )
    ]
    try:
        (found,) = find_unsaved(environ, NOW_MS)
        assert (found.tool, found.pid) == ("claude-code", processes[0].pid)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        os.close(controller)
        os.close(terminal)
