"""Which processes run, for tools that note whose a session is."""

from __future__ import annotations

import os


def runs(pid: int, start: str | None = None) -> bool:
    """Tell whether a process of this user runs; a killed one leaves its note, and its number goes to another.

    `start`: when it began, as field 22 of Linux's /proc/<pid>/stat says it.
    """
    if pid < 1:
        return False  # kill would ask for whole groups
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return start in (None, stream.read().rpartition(b")")[2].split()[19].decode())
    except OSError:
        return True
