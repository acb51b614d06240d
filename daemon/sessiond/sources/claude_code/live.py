"""Which sessions of Claude Code are open now: `sessions/<pid>.json` says it, if that process runs (field-notes A.8)."""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape, glob

import msgspec

from sessiond.sources.places import peek
from sessiond.sources.processes import runs


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
        if owner.session_id and runs(owner.pid, owner.proc_start):
            yield owner.session_id
