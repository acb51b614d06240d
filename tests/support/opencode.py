"""A database of OpenCode."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from support.harness import NOW_MS

PAGE = 4096
"""Bytes of a page."""


def write_database(path: Path, sessions: int) -> None:
    """Write a database of OpenCode with sessions that take several pages each."""
    path.parent.mkdir(parents=True)
    database = sqlite3.connect(path)
    database.executescript(
        f"""PRAGMA page_size = {PAGE};
        CREATE TABLE session (id TEXT PRIMARY KEY, title TEXT, directory TEXT, time_created INT, time_updated INT,
                              parent_id TEXT, version TEXT, revert TEXT);
        CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INT, time_updated INT, data TEXT);
        CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, time_created INT, time_updated INT,
                           data TEXT);
        CREATE INDEX message_session ON message (session_id);
        CREATE INDEX part_session ON part (session_id);"""
    )
    for number in range(sessions):
        name, time = f"ses_{number:04d}abcdefgh", NOW_MS - 100_000 + number
        text = json.dumps({"type": "text", "text": "x" * 16_000})
        data = json.dumps({"role": "user", "time": {"created": time}})
        row = (name, "a title", "/home/u/app", time, time, None, "1.2", None)
        database.execute("INSERT INTO session VALUES (?,?,?,?,?,?,?,?)", row)
        database.execute("INSERT INTO message VALUES (?,?,?,?,?)", (f"msg_{number}", name, time, time, data))
        part = (f"prt_{number}", f"msg_{number}", name, time, time, text)
        database.execute("INSERT INTO part VALUES (?,?,?,?,?,?)", part)
    database.commit()
    database.close()
