"""Runs pytest many times, each in a fork of a process that has imported what all tests need except sessiond.

Importing that takes longer than most tests. Each line of standard input is a JSON object with the arguments of pytest,
additions to the environment, a file for the output, and a timeout in seconds; the exit code is printed, or null.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import select
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
"""An option of prctl() (linux/prctl.h)."""
PRELOADED = (
    "pytest",
    "_pytest.assertion.rewrite",
    "hypothesis",
    "hypothesis.stateful",
    "httpx",
    "httpcore",
    "starlette.applications",
    "uvicorn",
    "uvicorn.protocols.http.h11_impl",
    "hyperscan",
    "msgspec",
    "structlog",
    "tenacity",
    "rich.console",
    "rich.progress",
    "watchdog.observers",
    "sqlite3",
)


def main() -> None:
    """Serve until standard input ends."""
    adopt_orphans()
    for name in PRELOADED:
        with suppress(ImportError):
            __import__(name)
    assert not any(name.partition(".")[0] == "sessiond" for name in sys.modules), "the mutant would not be loaded"
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(task["arguments"], task["environ"], task["output"])
        print(json.dumps(wait_for(child, task["timeout"])), flush=True)


def _run(arguments: list[str], environ: dict[str, str], output: str) -> None:
    """Run pytest in this process and end it."""
    code = 70
    try:
        os.setsid()
        os.environ.update(environ)
        nothing = os.open(os.devnull, os.O_RDONLY)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for source, target in ((nothing, 0), (written, 1), (written, 2)):
            os.dup2(source, target)
        import pytest

        code = int(pytest.main(arguments))
        sys.stdout.flush()
        atexit._run_exitfuncs()  # coverage writes what it measured
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def adopt_orphans() -> None:
    """Become the parent of each process below this one whose own parent ends, such as a daemon."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process can't adopt orphans")


def wait_for(child: int, timeout: float) -> int | None:
    """Return the exit code of a child, or None after `timeout` seconds; every process below this one ends with it."""
    watched = os.pidfd_open(child)
    ended = bool(select.select([watched], [], [], timeout)[0])
    os.close(watched)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    kill_children()
    return os.waitstatus_to_exitcode(status) if ended else None


def kill_children() -> None:
    """Kill every process below this one. Those that a killed one leaves behind become children as well."""
    while children := [int(name) for name in filter(str.isdigit, os.listdir("/proc")) if _parent(name) == os.getpid()]:
        for child in children:
            os.kill(child, signal.SIGKILL)  # it stays until waitpid(), so the number can't be another process's
            os.waitpid(child, 0)


def _parent(process: str) -> int | None:
    """Return the number of a process's parent, or None if the process has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.rpartition(")")[2].split()[1])  # the name before it, in parentheses, may contain anything


if __name__ == "__main__":
    main()
