"""The directory for temporary files of the tests: in memory where the machine has room for it."""

from __future__ import annotations

import os
import tempfile

MEMORY = "/dev/shm"
ROOM = 4 << 30
"""Bytes that must be free there; a run of the whole suite needs less than a quarter of it at once."""


def use_memory(directory: str = MEMORY) -> None:
    """Put temporary files, and those of the programs that tests start, into memory.

    A test waits on a disk for each transaction, dozens of times, and longer the more runs beside it. No test
    depends on these waits: a kill loses nothing that the kernel has, and power cuts are simulated (`power.py`).
    Without effect where TMPDIR is set, the directory is missing (macOS) or small (containers), or forbids programs.
    """
    if "TMPDIR" in os.environ or not os.access(directory, os.W_OK | os.X_OK):
        return
    found = os.statvfs(directory)
    if found.f_bavail * found.f_frsize < ROOM or found.f_flag & os.ST_NOEXEC:
        return
    os.environ["TMPDIR"] = directory
    tempfile.tempdir = None  # pytest has asked for it already
