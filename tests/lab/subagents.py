"""`python subagents.py HOME` prints how many transcripts below a home have the prompt of the lab's subagent.

A transcript is a file of JSON, or a session in a database with the tables of OpenCode. Notes about a subagent and the
log of a program are none.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress

PROMPT = "hello from subagent"
SESSIONS = "SELECT count(DISTINCT session_id) FROM part WHERE instr(data, ?)"
NO_TRANSCRIPTS = ("meta.json", "unified.jsonl")
OURS = "state"
"""The directory in the home of a machine in which the lab keeps the state of sessiond."""


def transcripts(home: str) -> int:
    """Return how many transcripts have the prompt."""
    return sum(map(_count, _files(home)))


def _files(home: str) -> Iterator[str]:
    for folder, folders, names in os.walk(home):
        if folder == home and OURS in folders:
            folders.remove(OURS)
        yield from (os.path.join(folder, name) for name in names if _may_be_one(name))


def _may_be_one(name: str) -> bool:
    return name.endswith((".json", ".jsonl", ".db")) and name not in NO_TRANSCRIPTS


def _count(path: str) -> int:
    if not path.endswith(".db"):
        with open(path, "rb") as file:
            return PROMPT.encode() in file.read()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database, suppress(sqlite3.OperationalError):
        ((count,),) = database.execute(SESSIONS, (PROMPT,))
        return int(count)
    return 0  # a database without such a table


if __name__ == "__main__":
    print(transcripts(sys.argv[1]))
