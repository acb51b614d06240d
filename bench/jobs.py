"""What each job of a user costs with 10,000 sessions of this machine and a tenth as many of another one.

Every job is one command. The sessions of this machine have records only; one of the other machine has a transcript of a
megabyte, which is read, exported, restored and erased. The endpoint is a process of its own and is not counted.
"""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from msgspec import structs

import corpus
from processes import TOKEN, Endpoint, environment
from rows import Figure, Plan, figure
from sessiond import exit_codes, state
from sessiond.device import identify
from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.session import Session
from sessiond.spool import Spool
from sessiond.spool.rows import BuiltRecord
from sessiond.spool.safety import BOUND

TOOLS = ("claude-code", "codex", "cursor", "gemini-cli", "opencode")
READ = uuid.UUID("8a1f0000-0000-4000-8000-000000000001")
"""The session of the other machine that has a transcript."""
ROUNDS = 3
"""The least of several runs is reported: other programs only add to it."""
LIMIT = "0.15 s"


class Job(NamedTuple):
    """A job in the words of a user, and the command that does it."""

    what: str
    command: list[str]
    budget: str = ""
    once: bool = False
    """Whether it can't be repeated."""


def jobs(plan: Plan) -> Iterator[Figure]:
    """Measure each job."""
    count = 200 if plan.quick else 10_000
    room = plan.room("jobs")
    endpoint = Endpoint(os.path.join(room, "endpoint"))
    try:
        url = f"http://127.0.0.1:{endpoint.port}"
        home = _make(room, url, count)
        environ = environment(home, SESSIOND_TOKEN=TOKEN, SESSIOND_CONFIG=os.path.join(room, "config.toml"))
        least = min(_run([sys.executable, "-c", "pass"], environ)[0] for _ in range(ROUNDS))
        yield figure("jobs", "floor", "CPU of `python -c pass`", f"{least:.3f} s")
        for job in _list(room):
            runs = [
                _run([sys.executable, "-m", "sessiond", *job.command], environ)
                for _ in range(1 if job.once else ROUNDS)
            ]
            cpu, wall = min(runs)
            words = " ".join("PATH" if word.startswith(room) else word for word in job.command)
            label = f"{job.what}: `{words}`".replace(str(READ), "ID")
            yield figure("jobs", "sessiond", label, f"{cpu:.2f} s, {cpu / least:.1f} x, wall {wall:.2f} s", job.budget)
    finally:
        endpoint.stop()


def _list(room: str) -> list[Job]:
    session = str(READ)
    second, page = os.path.join(room, "second"), os.path.join(room, "page.html")
    os.makedirs(second)
    return [
        Job("the newest 100 of all machines, as on a terminal", ["ls", "--limit", "100"], LIMIT),
        Job("all sessions, into a pipe", ["ls"]),
        Job("sessions of another machine", ["ls", "--machine", "desktop", "--limit", "100"], LIMIT),
        Job("sessions that exist only here", ["ls", "--only-here", "--limit", "100"], LIMIT),
        Job("read a session of another machine", ["show", session]),
        Job("share it", ["export", session, "--format", "html", "-o", page]),
        Job("bring it back into its tool", ["restore", session, "--home", second], once=True),
        Job("prove that a tool's sessions are archived", ["verify", "--tool", "codex"]),
        Job("what is archived, what it takes", ["status"]),
        Job("erase a session everywhere", ["forget", session, "--yes"], once=True),
    ]


def _run(command: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Run a command; return its CPU and wall seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (exit_codes.OK, exit_codes.NOT_RUNNING):  # `status` says that no daemon runs
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def _make(room: str, url: str, count: int) -> str:
    """Make a home, a spool with `count` sessions, and an endpoint with them and those of another machine."""
    home, directory = os.path.join(room, "home"), os.path.join(room, "state")
    os.makedirs(home)
    os.makedirs(directory, mode=0o700)
    with open(os.path.join(room, "config.toml"), "w") as file:
        file.write(f'state_dir = "{directory}"\nmachine_id = "laptop"\n[endpoint]\nurl = "{url}"\n')
    state.prepare(directory)
    device, desktop = identify(directory).device_id, uuid.uuid5(READ, "desktop")
    mine = ReadClient(url, TOKEN, device_id=device)
    about = mine.about()
    lines = []
    spool = Spool(directory)
    with spool.transaction():
        spool.set_meta(BOUND, url)
        spool.set_meta("endpoint", str(about.endpoint_id))
        for number in range(count):
            record = _record(uuid.uuid5(READ, str(number)), "laptop", number, TOOLS[number % len(TOOLS)])
            lines.append(_put(spool, record, number))
    _push(mine, device, lines)
    other = ReadClient(url, TOKEN, device_id=desktop)
    records = [_record(uuid.uuid5(READ, f"d{number}"), "desktop", number, "codex") for number in range(count // 10)]
    _push(other, desktop, [_line(record, f"Add page {number}") for number, record in enumerate(records)])
    _push_transcript(other, desktop)
    with spool.transaction():
        spool.connection.execute("UPDATE session SET pushed = revision")
    spool.close()
    mine.close()
    other.close()
    return home


def _record(session: uuid.UUID, machine: str, number: int, tool: str) -> Session:
    started = corpus.NOW - timedelta(minutes=10 * number + 60)
    return Session(
        id=session,
        tool=tool,
        tool_version="1.2.3",
        started_at=started,
        ended_at=started + timedelta(minutes=number % 50),
        model="claude-opus-4-5-20251101",
        working_directory=f"/home/ada/src/project{number % 40}",
        git_branch="main",
        source_path=f"/home/ada/.tool/{number}.jsonl",
        message_count=number % 300,
        machine_id=machine,
    )


def _line(record: Session, title: str, gone_at: int | None = None) -> wire.PushSession:
    ended = record.ended_at or record.started_at
    return wire.PushSession(
        record=record, revision=int(ended.timestamp() * 1000), device_id=READ, title=title, gone_at=gone_at
    )


def _put(spool: Spool, record: Session, number: int) -> wire.PushSession:
    """Store a session in the spool; of every hundredth one, the tool has deleted the files."""
    line = _line(record, f"Mend the flaky test {number} of the scheduler", 1 if number % 100 == 0 else None)
    row = spool.catalog.add_session(record.id, record.tool, str(record.id))
    made = BuiltRecord(record=record, parent=None, title=line.title, opening=None, active_ms=line.revision)
    spool.catalog.put_record(spool.catalog.session_by_row(row), made, line.revision, touched=True)
    if line.gone_at is not None:
        spool.catalog.set_gone(row, line.gone_at)
    return line


def _push(client: ReadClient, device: uuid.UUID, lines: Sequence[wire.Push]) -> None:
    """Push lines as a device."""
    for start in range(0, len(lines), 500):
        batch = [
            structs.replace(line, device_id=device) if isinstance(line, wire.PushSession) else line
            for line in lines[start : start + 500]
        ]
        results = client.push(batch, str(uuid.uuid4())).results
        if any(each.status != "stored" for each in results):
            raise RuntimeError(f"the endpoint did not store everything: {results}")


def _push_transcript(client: ReadClient, device: uuid.UUID) -> None:
    """Push the session that has a transcript."""
    rnd = corpus.random.Random(7)
    author = corpus.Claude(rnd, corpus.Text(rnd), "/home/ada/src/project1", corpus.NOW, session=str(READ))
    text = "".join(f"{line}\n" for line in corpus.session_lines(author, 1_000_000, 0))
    append = wire.PushAppend(
        machine_id="desktop",
        session=READ,
        stream="main",
        generation=0,
        offset=0,
        length=len(text.encode()),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        data=text,
    )
    _push(client, device, [_line(_record(READ, "desktop", 1, "claude-code"), "Weave a scarf"), append])
