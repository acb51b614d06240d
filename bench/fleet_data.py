"""What an endpoint's store takes, and what lists of 100,000 sessions cost. `bench/fleet.py` prints it.

PYTHONPATH=daemon python bench/fleet_data.py
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import random
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

import corpus
from sessiond import zstd
from sessiond.endpoint.server import changes, offloader
from sessiond.endpoint.server.blobs import FileBlobs
from sessiond.endpoint.server.decision import Sender
from sessiond.endpoint.server.packer import pack
from sessiond.endpoint.server.push import PushRequest, apply
from sessiond.endpoint.server.records import envelope, put
from sessiond.endpoint.server.run import running_store
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.state import Record
from sessiond.endpoint.server.tokens import Access
from sessiond.endpoint.wire import ChangesAnswer, Limits, PushAppend, PushSession, StreamLength
from sessiond.session import Session

SEGMENT = 1 << 20
BACKLOG = 96 << 20
"""Bytes of transcripts whose stored size is measured, of which a third is pushed line by line."""
SESSIONS = 100_000
DEVICE = uuid.UUID(int=1)
MACHINES, PROJECTS, BRANCHES = 300, 997, 500
TOOLS = [*["claude-code"] * 60, *["codex"] * 38, "aider", "goose"]
FIRST_MS = 1_700_000_000_000
FILTERS = {
    "newest": {},
    "last active": {"sort": "active"},
    "rare tool": {"tool": "goose"},
    "machine": {"machine_id": "machine7"},
    "id": {"id": "0f"},
    "directory": {"text": "project99"},
    "directory, no hit": {"text": "no such project", "sort": "active"},
    "rare branch": {"branch": "branch7"},
    "model, no hit": {"model": "no such model"},
    "gone": {"gone": "true"},
    "1000 at once": {"limit": "1000"},
}


def push(store: SqliteStore, *items: PushAppend) -> None:
    """Store a push without a server."""
    access = Access(user="default", scopes=frozenset({"push"}))
    request = PushRequest(store, Limits(), Sender(access=access, device=DEVICE))
    request.prepare([msgspec.json.encode(each) for each in items])
    with store.write() as db:
        (outcome,) = apply(store, db, [request])
    assert not isinstance(outcome, Exception)
    assert all(each.status == "stored" for each in outcome.results), outcome.results


def append(session: uuid.UUID, offset: int, data: bytes) -> PushAppend:
    """Return the append of a part of a transcript, compressed as a daemon does it."""
    frame = zstd.compress(data, 1)
    return PushAppend(
        machine_id="machine",
        session=session,
        stream="main",
        generation=0,
        offset=offset,
        length=len(data),
        sha256=hashlib.sha256(frame).hexdigest(),
        data=base64.b64encode(frame).decode(),
        encoding="zstd",
    )


def store_backlog(store: SqliteStore) -> int:
    """Push transcripts: two of three in segments, the others line by line. Return how many bytes."""
    total = 0
    with tempfile.TemporaryDirectory() as directory:
        for number, made in enumerate(corpus.make(directory, 60, BACKLOG)):
            with open(os.path.join(directory, made.path), "rb") as file:
                data = file.read()
            session, offset = uuid.UUID(int=number + 1), 0
            parts = data.splitlines(keepends=True) if number % 3 == 0 else []
            parts = parts or [data[at : at + SEGMENT] for at in range(0, len(data), SEGMENT)]
            for at in range(0, len(parts), 50):
                items = []
                for part in parts[at : at + 50]:
                    for cut in range(0, len(part), SEGMENT):
                        piece = part[cut : cut + SEGMENT]
                        items.append(append(session, offset, piece))
                        offset += len(piece)
                push(store, *items)
            total += len(data)
    return total


def used(store: SqliteStore) -> int:
    """Return the bytes of the database that are in use."""
    with store.read() as db:
        pages, free, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def print_sizes() -> None:
    """Print what a GB of transcript takes."""
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(os.path.join(directory, "store"))
        total = store_backlog(store)
        pushed = used(store)
        while pack(store, 1):
            pass
        packed = used(store)
        store.blobs = FileBlobs(os.path.join(directory, "objects"), "bench")
        while offloader.offload(store):
            pass
        left = used(store)
        with store.read() as db:
            (objects,) = db.execute("SELECT sum(bytes) FROM objects").fetchone()
        store.close()
    print(f"MB for each GB of transcript ({total / 1e6:.0f} MB were pushed):")
    print(f"  as pushed {pushed / total * 1000:.0f}, packed {packed / total * 1000:.0f}", end="")
    print(f", with objects {(left + objects) / total * 1000:.0f} (of that in the database {left / total * 1000:.1f})")


def add_sessions(store: SqliteStore, count: int) -> None:
    """Add sessions with records and streams, without their bytes."""
    chance = random.Random(1)
    for at in range(0, count, 1000):
        numbers = range(at, min(at + 1000, count))
        with store.write() as db:
            last = changes.take_positions(db, "default", len(numbers), 0)
            made = {}
            for number in numbers:
                session, machine = uuid.UUID(int=chance.getrandbits(128), version=4), f"machine{number % MACHINES}"
                made["default", machine, str(session)] = record(number, session, machine, chance)
            first = last - len(numbers) + 1
            put(db, made, {key: first + index for index, key in enumerate(made)})
            streams = [(number + 1, *key) for number, key in zip(numbers, made, strict=True)]
            db.executemany("INSERT INTO streams VALUES (?, ?, ?, ?, 'main', NULL)", streams)
            rows = [(number + 1, chance.randrange(200_000)) for number in numbers]
            db.executemany(
                "INSERT INTO generations (stream, generation, keep, length) VALUES (?, 0, 0, ?)",
                rows,
            )


def record(number: int, session: uuid.UUID, machine: str, chance: random.Random) -> Record:
    """Return a record as it is stored."""
    began = datetime.fromtimestamp((FIRST_MS + number * 60_000) / 1000, UTC)
    item = PushSession(
        revision=FIRST_MS + number * 60_000 + 5000,
        device_id=DEVICE,
        record=Session(
            id=session,
            tool=chance.choice(TOOLS),
            tool_version="2.1.0",
            started_at=began,
            ended_at=None if number % 50 == 0 else began + timedelta(hours=1),
            model="gpt-5" if number % 3 else "claude-opus-4-5",
            working_directory=f"/home/ada/src/project{number % PROJECTS}",
            git_branch=f"branch{number % BRANCHES}" if number % 5 == 0 else "main",
            source_path=f"/home/ada/.claude/projects/-src-project{number % PROJECTS}/{session}.jsonl",
            message_count=number % 300,
            machine_id=machine,
        ),
        title=f"Fix number {number} of the engine, and the tests that show it",
        gone_at=FIRST_MS if number % 400 == 0 else None,
        streams=[StreamLength(name="main", generation=0, length=1000)],
    )
    return Record(item, envelope(item))


def print_lists() -> None:
    """Print the milliseconds of lists, and the seconds of all changes."""
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(directory)
        add_sessions(store, SESSIONS)
        size = used(store)
        with running_store(store) as it:

            def get(path: str, **query: str) -> bytes:
                url = f"{it.url}{path}?{urllib.parse.urlencode(query)}"
                headers = {"Authorization": f"Bearer {it.token}"}
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
                    return bytes(answer.read())

            print(f"{SESSIONS} sessions ({size / 1e6:.0f} MB of records), ms: best of 3, CPU of server and client")
            for name, query in FILTERS.items():
                wall, cpu = best(lambda query=query: get("/v1/sessions", **query))  # type: ignore[misc]
                print(f"  {name:20} {wall * 1000:7.1f} {cpu * 1000:7.1f}")
            decode = msgspec.json.Decoder(ChangesAnswer).decode  # as sessiond's own clients do
            begun, cpu = time.monotonic(), time.process_time()
            since, count, more = {}, 0, True
            while more:
                page = decode(get("/v1/changes", limit="1000", **since))
                since, more, count = {"since": page.next}, page.more, count + len(page.sessions)
            assert count == SESSIONS
            took, cpu = time.monotonic() - begun, time.process_time() - cpu
            print(f"  all of /v1/changes   {took:7.2f} s {cpu:7.2f} s CPU")
        store.close()


def best(function: Callable[[], object]) -> tuple[float, float]:
    """Return the least seconds and CPU seconds of three calls."""
    found = []
    for _ in range(3):
        begun, cpu = time.monotonic(), time.process_time()
        function()
        found.append((time.monotonic() - begun, time.process_time() - cpu))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print_sizes()
    print_lists()


if __name__ == "__main__":
    main()
