"""Finds running programs of this user, which may hold the files of a tool."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable


def running_programs(names: Iterable[str]) -> list[str]:
    """Return which of these programs have a running process: their executable, or the script of an interpreter."""
    wanted = set(names)
    if not wanted:
        return []
    found = {os.path.basename(word) for words in _command_lines() for word in words[:2]}
    return sorted(wanted & found)


def _command_lines() -> Iterable[list[str]]:
    """Iterate the arguments of each process."""
    if os.path.isdir("/proc/self"):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.stat(f"/proc/{entry}").st_uid == os.geteuid():
                        with open(f"/proc/{entry}/cmdline", "rb") as file:
                            yield os.fsdecode(file.read(4096)).split("\0")
                except OSError:
                    continue
        return
    done = subprocess.run(["/bin/ps", "-x", "-o", "args="], capture_output=True, check=False)
    for line in done.stdout.decode(errors="replace").splitlines():
        yield line.split()
