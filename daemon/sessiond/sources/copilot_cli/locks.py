"""Which sessions of Copilot CLI are open now: `inuse.<pid>.lock` says it, if that process runs (field-notes A.8)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from sessiond.sources.processes import runs

LOCK = re.compile(r"inuse\.(\d+)\.lock")


def live_below(states: str) -> Iterator[str]:
    """Name the sessions of a directory of states whose process runs; a killed one leaves its lock."""
    with suppress(OSError):
        for folder in os.listdir(states):
            with suppress(OSError):
                locks = map(LOCK.fullmatch, os.listdir(f"{states}/{folder}"))
                if any(lock and runs(int(lock[1])) for lock in locks):
                    yield folder
