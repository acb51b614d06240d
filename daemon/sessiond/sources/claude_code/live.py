"""Which sessions of Claude Code are open now: `sessions/<pid>.json` says it, if that process runs (field-notes A.8)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import escape, glob

import msgspec

from sessiond.sources.base import peek


class _Owner(msgspec.Struct, rename="camel"):
    pid: int
    session_id: str
    proc_start: str | None = None


OWNER = msgspec.json.Decoder(_Owner)


def live_below(home: str) -> Iterator[str]:
    """Name the sessions of a home of Claude Code whose process runs; a killed one leaves its file."""
    for file in glob(escape(home) + "sessions/[0-9]*.json"):
        try:
            owner = OWNER.decode(peek(file))
        except ValueError:
            continue
        if owner.session_id and _runs(owner.pid, owner.proc_start):
            yield owner.session_id


def _runs(pid: int, start: str | None) -> bool:
    """Tell whether it is still that process: `procStart` is field 22 of Linux's /proc/<pid>/stat."""
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
