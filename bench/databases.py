"""The cost of capturing one changed session of a tool's large database.

The store is OpenCode's (docs/formats/opencode.md): 2,000 sessions, 5 GB, a part 26 KB on average, as in a real store of
13.5 GB with 508,000 parts. A tenth as many of each for `--quick`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import corpus
import measure
from processes import Daemon
from rows import MB, NOWHERE, Figure, Plan, figure

STORE = ".local/share/opencode/opencode.db"
FORMAT = 1
"""A store of another format is generated again."""
MEAN = 26_000
"""Bytes of a part: most are short, some are the output of a tool."""
SESSION_PARTS = 96
MESSAGE_PARTS = 3
ASKED = '{{"role":"user","time":{{"created":{at}}},"agent":"build"}}'
ANSWERED = (
    '{{"role":"assistant","time":{{"created":{at},"completed":{at}}},"modelID":"model-1","providerID":"stub",'
    '"path":{{"cwd":"/home/ada/work/project-00","root":"/"}},"cost":0}}'
)
TABLES = """
CREATE TABLE session (id text PRIMARY KEY, project_id text NOT NULL, parent_id text, slug text NOT NULL,
    directory text NOT NULL, title text NOT NULL, version text NOT NULL, revert text, time_created integer NOT NULL,
    time_updated integer NOT NULL);
CREATE TABLE message (id text PRIMARY KEY, session_id text NOT NULL, time_created integer NOT NULL,
    time_updated integer NOT NULL, data text NOT NULL);
CREATE TABLE part (id text PRIMARY KEY, message_id text NOT NULL, session_id text NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL, data text NOT NULL);
CREATE INDEX message_session_time_created_id_idx ON message (session_id, time_created, id);
CREATE INDEX part_message_id_id_idx ON part (message_id, id);
CREATE INDEX part_session_idx ON part (session_id);
CREATE TABLE session_message (id text PRIMARY KEY, session_id text NOT NULL, type text NOT NULL, seq integer NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL, data text NOT NULL);
CREATE UNIQUE INDEX session_message_session_seq_idx ON session_message (session_id, seq);
CREATE TABLE event_sequence (aggregate_id text PRIMARY KEY, seq integer NOT NULL, owner_id text);
"""


@dataclass
class Store:
    """A tool's database, written as the tool does; ids ascend like its own."""

    path: str
    number: int = 0

    def open(self) -> sqlite3.Connection:
        """Open it as the tool does, and keep its -wal."""
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        return self.connection

    def say(self, session: str, data: str, bodies: list[str], at: int) -> None:
        """Write a message and its parts."""
        self.number += 1
        message = f"msg_{self.number:010x}000ABCDEFGHIJKL"
        self.connection.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", (message, session, at, at, data))
        for body in bodies:
            self.number += 1
            row = (f"prt_{self.number:010x}000ABCDEFGHIJKL", message, session, at, at, body)
            self.connection.execute("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", row)


def session_name(number: int) -> str:
    """Return the id of a session."""
    return f"ses_{number:012x}ABCDEFGHIJKLMN"


def ensure(base: str, sessions: int) -> str:
    """Make a home with the store unless it exists; return it."""
    home = os.path.join(base, f"database-{sessions}")
    if not os.path.exists(os.path.join(home, f"made-{FORMAT}")):
        shutil.rmtree(home, ignore_errors=True)
        make(home, sessions)
        with open(os.path.join(home, f"made-{FORMAT}"), "w"):
            pass
    return home


def make(home: str, sessions: int) -> None:
    """Write the store: the tables as the tool makes them, the rows in one go."""
    store = Store(os.path.join(home, STORE))
    os.makedirs(os.path.dirname(store.path))
    rnd = corpus.random.Random(4)
    text = corpus.Text(rnd)
    connection = store.open()
    connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + TABLES)
    connection.execute("BEGIN")
    for number in range(sessions):
        session, start = session_name(number), int(corpus.NOW.timestamp() * 1000) - (sessions - number) * 600_000
        row = (session, "p", None, "slug", "/home/ada/work/project-00", f"Task {number}", "1.18.34", None, start, start)
        connection.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO event_sequence VALUES (?, ?, NULL)", (session, SESSION_PARTS * 2))
        for turn in range(SESSION_PARTS // MESSAGE_PARTS):
            at = start + turn * 15_000
            if turn % 4 == 0:
                store.say(session, ASKED.format(at=at), [f'{{"type":"text","text":"{text.take(rnd, 200)}"}}'], at)
            parts = [f'{{"type":"text","text":"{text.take(rnd, 800)}"}}']
            for _ in range(MESSAGE_PARTS - 1):
                output = text.take(rnd, min(int(rnd.expovariate(1 / (1.5 * MEAN))), 1_000_000))
                parts.append(f'{{"type":"tool","tool":"bash","state":{{"status":"completed","output":"{output}"}}}}')
            store.say(session, ANSWERED.format(at=at + 1), parts, at)
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def database(plan: Plan) -> Iterator[Figure]:
    """Change one session of a large database, and measure the cost until its record is new."""
    sessions, rounds = (100, 5) if plan.quick else (2_000, 20)
    home = plan.room("database")
    kept = ensure(plan.directory, sessions)
    path = os.path.join(home, STORE)
    os.makedirs(os.path.dirname(path))
    shutil.copyfile(os.path.join(kept, STORE), path)
    size = os.path.getsize(path)
    label = f"{size / 1e9:,.1f} GB in {sessions:,} sessions"
    daemon = Daemon(home, plan.room("database-state"), NOWHERE)
    daemon.start()
    measure.wait(lambda: daemon.captured() and daemon.counts()[0] == sessions, 3600, 0.2)
    most = measure.peak(daemon.pid)
    daemon.settle(300)
    spent = measure.cost(daemon.pid)
    yield figure("database", "sessiond", f"CPU, first capture of {label}", f"{spent.cpu:.1f} s")
    yield figure("database", "sessiond", "memory, peak", f"{most / MB:.0f} MB", "150 MB")
    store = Store(path, number=1 << 36)
    tool, waits, costs = store.open(), [], []
    for number in range(rounds):
        session, at = session_name(number * sessions // rounds), int(time.time() * 1000)
        before, (_, counted) = measure.cost(daemon.pid), daemon.counts()
        tool.execute("BEGIN")
        store.say(session, ASKED.format(at=at), ['{"type":"text","text":"and once more, please"}'], at)
        tool.execute("UPDATE event_sequence SET seq = seq + 2 WHERE aggregate_id = ?", (session,))
        tool.execute("UPDATE session SET time_updated = ? WHERE id = ?", (at, session))
        tool.execute("COMMIT")
        waits.append(measure.wait(lambda counted=counted: daemon.counts()[1] == counted + 1, 60))
        time.sleep(1)  # after the record: storing the database's checkpoint
        costs.append(measure.cost(daemon.pid) - before)
    daemon.stop()
    tool.close()
    cpu, read = (statistics.median(getattr(cost, name) for cost in costs) for name in ("cpu", "read"))
    yield figure("database", "sessiond", "CPU, one session changed", f"{1000 * cpu:.0f} ms", "milliseconds")
    yield figure("database", "sessiond", f"read, a session is {size / sessions / 1e6:.1f} MB", f"{read / 1e6:.1f} MB")
    yield figure("database", "sessiond", "wall to the record (0.2 s settle)", f"{statistics.median(waits):.2f} s")
