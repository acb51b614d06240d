"""Finds running programs of this user, which may hold the files of a tool."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

import msgspec


class _Process(msgspec.Struct, frozen=True):
    words: list[str]
    """The first arguments."""
    directories: list[str] | None = None
    """The working directory, and the values of variables that are paths; None: unknown."""


def running_programs(names: Iterable[str], base: str) -> list[str]:
    """Return which of these programs have a running process that may use the directory `base`.

    A program is known by its executable, or by the script of an interpreter. A process does not use `base` if neither
    its working directory nor a directory that one of its variables names contains `base`.
    """
    wanted = set(names)
    if not wanted:
        return []
    found = {
        os.path.basename(word)
        for process in _processes()
        if process.directories is None or any(_is_below(base, each) for each in process.directories)
        for word in process.words[:2]
    }
    return sorted(wanted & found)


def _is_below(path: str, directory: str) -> bool:
    return directory.startswith("/") and directory != "/" and f"{path}/".startswith(directory.rstrip("/") + "/")


def _processes() -> Iterable[_Process]:
    """Iterate the processes of this user."""
    if os.path.isdir("/proc/self"):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.stat(f"/proc/{entry}").st_uid == os.geteuid():
                        with open(f"/proc/{entry}/cmdline", "rb") as file:
                            words = os.fsdecode(file.read(4096)).split("\0")
                        yield _Process(words, _directories(f"/proc/{entry}"))
                except OSError:
                    continue
        return
    done = subprocess.run(["/bin/ps", "-x", "-o", "args="], capture_output=True, check=False)
    for line in done.stdout.decode(errors="replace").splitlines():
        yield _Process(line.split())


def _directories(process: str) -> list[str] | None:
    """Return the directories that a process works with, also as links resolve; None if they can't be read."""
    try:
        with open(f"{process}/environ", "rb") as file:
            values = [os.fsdecode(each.partition(b"=")[2]) for each in file.read().split(b"\0")]
        paths = [os.readlink(f"{process}/cwd"), *(each for each in values if each.startswith("/"))]
    except OSError:
        return None
    return [*paths, *map(os.path.realpath, paths)] if values[0] else None
