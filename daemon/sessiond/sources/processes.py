"""Checks whether the process that a tool recorded as a session's owner is still running."""

from __future__ import annotations

import os


def is_running(pid: int, start: str | None = None) -> bool:
    """Return whether a process of this user is running.

    A killed process leaves its record behind, and its id may be reused. `start` guards against that: it is the
    process's start time as in field 22 of Linux's /proc/<pid>/stat.
    """
    if pid < 1:
        return False  # os.kill would address process groups
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return start in (None, stream.read().rpartition(b")")[2].split()[19].decode())
    except OSError:
        return True
