"""Checks whether the process that a tool recorded as a session's owner is still running."""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import escape, glob

import msgspec

from sessiond.sources.records import parse
from sessiond.sources.user_dirs import read_small_file


class _Owner(msgspec.Struct, rename="camel"):
    """`<pid>.json`, which a running process of Claude Code keeps."""

    pid: int
    session_id: str
    proc_start: str | None = None


OWNER = msgspec.json.Decoder(_Owner)


def running_sessions(directory: str) -> Iterator[str]:
    """Iterate over the native ids of sessions whose process is running, from the files `<pid>.json` in a directory."""
    for file in glob(escape(directory) + "/[0-9]*.json"):
        try:
            owner = parse(OWNER, read_small_file(file))
        except ValueError:
            continue
        if owner.session_id and is_running(owner.pid, owner.proc_start):
            yield owner.session_id


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
