"""The least possible cost of bringing a line to an endpoint: one request by httpx between two commits.

python bench/line_floor.py COUNT URL FILE prints the seconds on a CPU that each took. It waits between them as the
daemon does between two lines: code that has just run is several times faster than code that was not used for a while.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time

import httpx

PAUSE = 0.8
"""Seconds; the mean of what the row of the daemon waits."""


def main() -> None:
    """Do it COUNT times, after two warm-up runs."""
    count, url, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    store = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        store.execute(f"PRAGMA {pragma}")
    store.execute("CREATE TABLE item (data BLOB)")
    began = 0.0
    with httpx.Client(headers={"Authorization": f"Bearer {os.environ['SESSIOND_TOKEN']}"}) as client:
        for number in range(-2, count):
            if number == 0:
                began = time.process_time()
            time.sleep(PAUSE)
            _commit(store, "INSERT INTO item VALUES (?)", os.urandom(1_000))
            client.get(url).raise_for_status().json()
            _commit(store, "DELETE FROM item")
    print((time.process_time() - began) / count)


def _commit(store: sqlite3.Connection, sql: str, *values: object) -> None:
    store.execute("BEGIN IMMEDIATE")
    store.execute(sql, values)
    store.execute("COMMIT")


if __name__ == "__main__":
    main()
