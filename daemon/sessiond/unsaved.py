"""Finds running tools that save no transcript, so that there is nothing to capture.

Only processes of this user with the same home are examined, and only their arguments and environment. `status` uses
this too, so nothing slow is imported; that is why the facts about the tools are here and not in their sources. Their
references are in docs/formats.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from itertools import pairwise

from sessiond.frozen_record import FrozenRecord, parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LONGEST = 1 << 20
"""Bytes of arguments, of an environment or of a file that are read."""
BUSY_MS = 30_000
"""How long Claude Code must be busy before a transcript is missed."""
INTERPRETERS = {"node", "bun", "deno"}
OFF = {"", "0", "false", "no", "off"}
SWITCHES = {"codex": "--ephemeral", "goose": "--no-session", "qwen-code": "--chat-recording=false"}
"""The argument with which a tool saves nothing, by tool."""
PROGRAMS = {"claude": "claude-code", "codex": "codex", "goose": "goose", "qwen": "qwen-code"}
"""The tool of a program."""
PACKAGES = {"/claude-code/": "claude-code", "/claude/versions/": "claude-code", "/qwen-code/": "qwen-code"}
"""The tool of a program or script, by a part of its path: a native Claude Code is named after its version."""
COMMANDS = {"auth", "config", "doctor", "install", "mcp", "plugin", "plugins", "setup-token", "update", "upgrade"}
"""Commands of Claude Code that hold no session."""
RESTART = "end it, and start it again without that; what was said so far can't be captured"
EXPORT = "type /export in it to save what was said so far, then "


class Unsaved(FrozenRecord):
    """A running process of a tool that saves no transcript."""

    tool: str
    pid: int
    reason: str
    fix: str
    deliberate: bool = False
    """Whether an argument asks for that."""


class Process(FrozenRecord):
    """A running process of a tool."""

    tool: str
    pid: int
    parent: int
    arguments: tuple[str, ...]
    variables: dict[str, str]
    interactive: bool
    """Whether its input is a terminal."""
    started_ms: int | None = None

    def has(self, variable: str) -> bool:
        """Return whether an environment variable switches something on."""
        return self.variables.get(variable, "").lower() not in OFF

    def has_switch(self, switch: str) -> bool:
        """Return whether an argument is a switch, `--name` or `--name=value`. A prompt may contain one."""
        arguments = self.arguments[: self.arguments.index("--")] if "--" in self.arguments else self.arguments
        name, _, value = switch.partition("=")
        apart = bool(value) and (name, value) in pairwise(arguments)
        return switch in arguments or apart


def find_unsaved(
    environ: Mapping[str, str],
    now_ms: int,
    *,
    proc: str = "/proc",
    ps: Callable[[], str] | None = None,
    user: int | None = None,
) -> list[Unsaved]:
    """Return the running processes that save no transcript. Those that can't be examined are left out.

    `proc` is Linux's directory of processes. With `ps`, which is the default on macOS, its output is read instead.
    `user` is the owner of the processes; None is the one of this process.
    """
    home, found = environ.get("HOME", "").rstrip("/"), dict[int, tuple[int, Unsaved]]()
    if ps is None and sys.platform == "darwin":
        ps = _run_ps
    listed = _from_proc(proc, os.getuid() if user is None else user) if ps is None else _from_ps(ps())
    for process in listed if home else ():
        if process.variables.get("HOME", "").rstrip("/") == home:
            unsaved = _examine(process, now_ms)
            if unsaved is not None:
                found[process.pid] = process.parent, unsaved
    # A script of npm, or a tool that starts itself again with more memory, is one of two processes with one session.
    return [each for parent, each in found.values() if parent not in found or found[parent][1].tool != each.tool]


def _examine(process: Process, now_ms: int) -> Unsaved | None:
    if process.tool == "claude-code":
        return None if COMMANDS.intersection(process.arguments[:1]) else _examine_claude(process, now_ms)
    switch = SWITCHES[process.tool]
    if not process.has_switch(switch):
        return None
    return _unsaved(process, f"it runs with {switch}", RESTART, deliberate=True)


def _examine_claude(process: Process, now_ms: int) -> Unsaved | None:
    """Return why Claude Code saves nothing; docs/formats/claude-code.md has the conditions."""
    if process.has_switch("--no-session-persistence"):
        return _unsaved(process, "it runs with --no-session-persistence", RESTART, deliberate=True)
    if process.has("CLAUDE_CODE_SKIP_PROMPT_HISTORY"):
        fix = f"{EXPORT}restart it without CLAUDE_CODE_SKIP_PROMPT_HISTORY"
        return _unsaved(process, "CLAUDE_CODE_SKIP_PROMPT_HISTORY is set", fix)
    # A prompt given by -p, or from a program, is saved all the same; inside tmux the variable is ignored.
    prints = "-p" in process.arguments or "--print" in process.arguments
    nested = process.interactive and not prints and "TMUX" not in process.variables
    if nested and process.has("CLAUDE_CODE_CHILD_SESSION") and not process.has("CLAUDE_CODE_FORCE_SESSION_PERSISTENCE"):
        fix = f"{EXPORT}restart it with CLAUDE_CODE_FORCE_SESSION_PERSISTENCE=1, or unset the variable in that terminal"
        return _unsaved(process, "it inherited CLAUDE_CODE_CHILD_SESSION from another Claude Code", fix)
    if _lacks_transcript(process, now_ms):
        if _keeps_nothing(process):
            fix = f'{EXPORT}set "cleanupPeriodDays" to 3650 in its settings.json, and restart it'
            return _unsaved(process, '"cleanupPeriodDays" is 0 in its settings.json', fix)
        fix = f"{EXPORT}look for an error in it, such as a full disk or a directory that it may not write to"
        return _unsaved(process, "it is at work, and its transcript has not grown since it was started", fix)
    return None


def _unsaved(process: Process, reason: str, fix: str, *, deliberate: bool = False) -> Unsaved:
    return Unsaved(tool=process.tool, pid=process.pid, reason=reason, fix=fix, deliberate=deliberate)


def _config_dir(process: Process) -> str:
    return process.variables.get("CLAUDE_CONFIG_DIR") or f"{process.variables['HOME']}/.claude"


def _keeps_nothing(process: Process) -> bool:
    """Return whether the settings make an older Claude Code write no transcript. Later ones refuse that value."""
    with suppress(OSError, ValueError):
        return parse_object(_read(f"{_config_dir(process)}/settings.json")).get("cleanupPeriodDays") == 0
    return False


def _lacks_transcript(process: Process, now_ms: int) -> bool:
    """Return whether a process has been busy for a while and wrote nothing to its transcript since its start.

    One that is idle may not have been asked anything yet.
    """
    home = _config_dir(process)
    try:
        owner = parse_object(_read(f"{home}/sessions/{process.pid}.json"))
    except (OSError, ValueError):
        return False
    session, updated_ms, started_ms = owner.get("sessionId"), owner.get("updatedAt"), process.started_ms
    if owner.get("status") != "busy" or not isinstance(session, str) or "/" in session:
        return False
    if started_ms is None or not isinstance(updated_ms, int) or now_ms - updated_ms < BUSY_MS:
        return False
    for directory in _list(f"{home}/projects"):
        try:
            written = os.stat(f"{home}/projects/{directory}/{session}.jsonl").st_mtime_ns // 1_000_000
        except OSError:
            continue
        if written >= started_ms:
            return False
    return True


# The processes


def _tool_of(arguments: list[str]) -> tuple[str | None, int]:
    """Return the tool of a process, and the number of arguments that are its program: an interpreter has options."""
    at = 0
    if os.path.basename(arguments[0]) in INTERPRETERS:
        at = next((number for number, each in enumerate(arguments) if number and not each.startswith("-")), 0)
    program = arguments[at]
    tool = next((tool for part, tool in PACKAGES.items() if part in program), None)
    return tool or PROGRAMS.get(os.path.basename(program)), at + 1


def _from_proc(proc: str, user: int) -> Iterator[Process]:
    """Iterate over the tools' processes of a user, from Linux's /proc."""
    booted = None
    for name in _list(proc):
        directory = f"{proc}/{name}"
        try:
            if not name.isdigit() or os.stat(directory).st_uid != user:
                continue
            arguments = os.fsdecode(_read(f"{directory}/cmdline")).rstrip("\0").split("\0")
            tool, program = _tool_of(arguments)
            if tool is None:
                continue
            started, parent = _stat(directory)
            booted = _boot_ms(proc) if booted is None else booted
            pairs = (pair.partition("=") for pair in os.fsdecode(_read(f"{directory}/environ")).split("\0"))
            yield Process(
                tool=tool,
                pid=int(name),
                parent=parent,
                arguments=tuple(arguments[program:]),
                variables={key: value for key, _, value in pairs},
                interactive=os.readlink(f"{directory}/fd/0").startswith(("/dev/pts/", "/dev/tty")),
                started_ms=booted + started * 1000 // os.sysconf("SC_CLK_TCK"),
            )
        except (OSError, ValueError, LookupError):
            continue  # it has ended, or belongs to a container that may not be examined


def _boot_ms(proc: str) -> int:
    line = next(line for line in _read(f"{proc}/stat").splitlines() if line.startswith(b"btime "))
    return int(line.split()[1]) * 1000


def _stat(directory: str) -> tuple[int, int]:
    """Return when a process was started, in clock ticks since the boot, and its parent: fields 22 and 4 of its stat."""
    fields = _read(f"{directory}/stat").rpartition(b")")[2].split()
    return int(fields[19]), int(fields[1])


def _from_ps(output: str) -> Iterator[Process]:
    """Iterate over the tools' processes of this user, from the output of macOS's `ps`.

    Arguments and environment are joined by spaces there. So a value with a space in it is cut, which does not matter
    for the variables that are examined.
    """
    for line in output.splitlines():
        pid, parent, terminal, *words = [*line.split(), "", "", ""]
        first = next((at for at, word in enumerate(words) if re.match(r"[A-Z_][A-Z0-9_]*=", word)), len(words))
        tool, program = _tool_of(words[:first]) if words[:first] else (None, 0)
        if tool is None or not (pid.isdigit() and parent.isdigit()):
            continue
        pairs = (word.partition("=") for word in words[first:])
        yield Process(
            tool=tool,
            pid=int(pid),
            parent=int(parent),
            arguments=tuple(words[program:first]),
            variables={key: value for key, _, value in pairs},
            interactive=not terminal.startswith("?"),
        )


def _run_ps() -> str:
    import subprocess  # takes as long as all else in `status`, and Linux does not need it

    command = ["/bin/ps", "-xwwE", "-o", "pid=,ppid=,tty=,command="]
    try:
        found = subprocess.run(command, capture_output=True, timeout=5, check=True)  # noqa: S603 - constant
        return found.stdout.decode("utf-8", "replace")
    except (OSError, subprocess.SubprocessError):
        return ""


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(LONGEST)


def _list(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
