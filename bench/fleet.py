"""Print the performance of `sessiond serve` under the pushes of many devices.

    PYTHONPATH=daemon python bench/fleet.py [--daemon OTHER/daemon] [--devices 20,200,1000] [--seconds 8]
    PYTHONPATH=daemon python bench/fleet.py --postgres postgresql://... [--processes 2]

Closed loop: each device sends its next push as soon as the last one is answered. Open loop: `--rate` pushes a second
of all devices together. The last row adds four devices that push a backlog in segments of 1 MiB. Bodies are made
before the clock starts: a session line and an append of one line of the corpus, compressed like the daemon's own
pushes, with the digest of the stream. Each device has a token of its own. `--daemon` serves with the package of another
checkout, so that two versions can be compared in one run. `--postgres` serves an empty database, made by `sessiond
serve migrate`, with several processes; all tables are emptied before each row, and the CPU is that of these processes,
without PostgreSQL's.

Without `--postgres` and `--daemon`, the stored size of transcripts and the time of lists follow (fleet_data.py).

Columns: answered live pushes a second; their median and 99th percentile in ms; CPU of the server in ms and bytes
written in KB for each push; peak memory in MB; answers 503.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

import corpus
import fleet_data
from sessiond import zstd
from sessiond.endpoint import dictionary
from sessiond.endpoint.stream_digest import StreamDigest

ADD_TOKENS = (
    "import sys\n"
    "from sessiond.endpoint.server import tokens\n"
    "try:\n"
    "    from sessiond.endpoint.server.sqlite_store import SqliteStore as Store\n"
    "except ImportError:\n"  # an older version
    "    from sessiond.endpoint.server.store import Store\n"
    "store = Store(sys.argv[1])\n"
    "for number in range(int(sys.argv[2])):\n"
    "    tokens.add(store, f'token {number}', f'bench-token-{number:08}')\n"
    "store.close()\n"
)
SERVE = "serve", "--port", "0", "--announce", "-", "--until-eof"
LONGEST = 20_000
"""Bytes of the longest line that is pushed live."""
SEGMENT = 1 << 20
"""Bytes of an append of a device that pushes a backlog."""
PUSHES = 16_000
"""Live pushes that are prepared for each row, and at least 12 for each device."""
BACKLOGS = 4
"""Devices that push a backlog in the last row."""


@dataclass
class Push:
    """A prepared request body."""

    encoding: str
    body: bytes
    plain: bytes
    """The lines, for a server that lost the dictionary."""


@dataclass
class Device:
    """A device, its token and its prepared pushes."""

    device: str
    token: str
    pushes: list[Push]
    live: bool = True


@dataclass
class Load:
    """The measurements of the devices."""

    seconds: list[float] = field(default_factory=list)
    """Of each live push until its answer."""
    answers: Counter[int] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    backlog: int = 0
    """Bytes of backlog that were stored."""


def transcript() -> list[bytes]:
    """Return lines of the corpus in random order."""
    with tempfile.TemporaryDirectory() as directory:
        lines: list[bytes] = []
        for made in corpus.make(directory, 40, 12 << 20):
            with open(os.path.join(directory, made.path), "rb") as file:
                lines += [line for line in file if len(line) < LONGEST]
    random.Random(1).shuffle(lines)
    return lines


def session_line(device: str, machine: str, session: str, number: int, length: int) -> dict[str, object]:
    """Return the operation that pushes a session's record."""
    project = f"/home/{machine}/src/engine"
    return {
        "op": "session",
        "revision": number + 1,
        "device_id": device,
        "record": {
            "id": session,
            "tool": "claude-code",
            "tool_version": "2.1.0",
            "started_at": "2026-11-28T10:00:00.000Z",
            "ended_at": None,
            "model": "claude-opus-4-5",
            "working_directory": project,
            "git_branch": "main",
            "source_path": f"/home/{machine}/.claude/projects/-src-engine/{session}.jsonl",
            "message_count": number,
            "machine_id": machine,
        },
        "parent": None,
        "title": "Fix the engine",
        "gone_at": None,
        "streams": [{"name": "main", "generation": 0, "length": length}],
    }


def append_line(machine: str, session: str, offset: int, data: bytes, *, packed: bool) -> dict[str, object]:
    """Return the operation that appends a part of a transcript, without the digest of the stream."""
    fields: dict[str, object] = {"op": "append", "machine_id": machine, "session": session, "stream": "main"}
    fields |= {"generation": 0, "offset": offset, "length": len(data)}
    if packed:
        frame = zstd.compress(data, 1)
        encoded = base64.b64encode(frame).decode()
        return fields | {"encoding": "zstd", "sha256": hashlib.sha256(frame).hexdigest(), "data": encoded}
    return fields | {"sha256": hashlib.sha256(data).hexdigest(), "data": data.decode()}


def prepare(number: int, count: int, lines: list[bytes], *, live: bool, digests: bool) -> Device:
    """Return a device with `count` pushes. `digests`: each append has the digest of its stream."""
    name = f"machine{number}"
    chance = random.Random(name)
    device, session = (str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(2))
    start = chance.randrange(len(lines))
    known, digest, pushes = b"", StreamDigest(), []
    for turn in range(count):
        data = lines[(start + turn) % len(lines)]
        if not live:
            data = b"".join(lines[(start + turn * 400 + at) % len(lines)] for at in range(400))[:SEGMENT]
        append = append_line(name, session, digest.length, data, packed=not live)
        digest.update(data)
        if digests:
            append["after"] = digest.hexdigest()
        operations = session_line(device, name, session, turn, digest.length), append
        plain = b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in operations)
        encoding, body = "zstd", zstd.compress(plain, 3)
        if known:
            encoding, body = dictionary.ENCODING, dictionary.pack(plain, known, 3)
        known = dictionary.extended(known, plain)
        pushes.append(Push(encoding, body, plain))
    return Device(device, f"bench-token-{number:08}", pushes, live)


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, device: Device, push: Push
) -> tuple[int, bytes, float]:
    """Send a push; return the status, the body and the seconds of Retry-After."""
    headers = (
        "POST /v1/push HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        f"Authorization: Bearer {device.token}\r\nSessiond-Device: {device.device}\r\n"
        f"Sessiond-Batch: {uuid.uuid4().hex}\r\n"
        f"Content-Encoding: {push.encoding}\r\nContent-Length: {len(push.body)}\r\n\r\n"
    )
    writer.write(headers.encode() + push.body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    fields = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return int(head[0].split()[1]), body, float(fields.get("retry-after", 0))


async def run_device(device: Device, port: int, load: Load, gap: float, end: float) -> None:
    """Send the pushes of a device until they or the time are used up. `gap`: seconds between two; 0: none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = time.monotonic() + random.random() * gap
    for prepared in device.pushes:
        push = prepared
        await asyncio.sleep(max(0.0, due - time.monotonic()) if gap else 0.0)
        begun = due if gap else time.monotonic()
        due += gap
        status = 0
        while status != 200 and time.monotonic() < end:
            status, body, wait = await exchange(reader, writer, device, push)
            load.answers[status] += 1
            if status == 415:
                push = Push("zstd", zstd.compress(push.plain, 3), push.plain)
            elif status != 200:
                await asyncio.sleep(wait * random.uniform(1, 1.1) if wait else random.random())
        if status != 200:
            break
        load.problems.update(each["problem"]["type"] for each in json.loads(body)["results"] if each.get("problem"))
        if device.live:
            load.seconds.append(time.monotonic() - begun)
        else:
            load.backlog += SEGMENT
    writer.close()


def counters(pid: int) -> tuple[float, int, float]:
    """Return a process's CPU seconds, written bytes and peak memory in MB."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    with open(f"/proc/{pid}/io") as file:
        written = next(int(line.split()[1]) for line in file if line.startswith("write_bytes"))
    with open(f"/proc/{pid}/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), written, peak / 1024


@contextmanager
def serving(daemon: str, tokens: int) -> Iterator[list[tuple[int, int]]]:
    """Serve an empty store with this many tokens: port and process id."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-c", ADD_TOKENS, directory, str(tokens)]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": daemon}, check=True)
        with process(daemon, "--data", directory) as served:
            yield [served]


@contextmanager
def serving_postgres(daemon: str, tokens: int, url: str, processes: int) -> Iterator[list[tuple[int, int]]]:
    """Empty a database, and serve it with this many tokens and processes: port and id of each."""
    import psycopg

    from sessiond.endpoint.server.opening import open_url
    from sessiond.endpoint.server.tokens import add

    with psycopg.connect(url) as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
            " AND tablename NOT IN ('facts', 'schema_version')"
        ).fetchall()
        connection.execute(f"TRUNCATE {', '.join(name for (name,) in names)}")
    with closing(open_url(url)) as store:
        for number in range(tokens):
            add(store, f"token {number}", f"bench-token-{number:08}")
    with ExitStack() as stack:
        yield [stack.enter_context(process(daemon, "--store", url)) for _ in range(processes)]


@contextmanager
def process(daemon: str, *store: str) -> Iterator[tuple[int, int]]:
    """Run an endpoint until the context ends: its port and its process id."""
    command = [sys.executable, "-m", "sessiond", *SERVE, *store]
    environ = {**os.environ, "PYTHONPATH": daemon}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        url = json.loads(started.stdout.readline())["url"]
        yield int(url.rpartition(":")[2]), started.pid
        started.stdin.close()
        started.wait(60)


async def run(devices: list[Device], ports: list[int], rate: float, seconds: float) -> tuple[Load, float]:
    """Run all devices at once, each with one port; return what they saw, and the seconds until the last was done."""
    load, begun = Load(), time.monotonic()
    gap = sum(each.live for each in devices) / rate if rate else 0.0
    await asyncio.gather(
        *(
            run_device(each, ports[number % len(ports)], load, gap if each.live else 0.0, begun + seconds)
            for number, each in enumerate(devices)
        )
    )
    return load, time.monotonic() - begun


def measure(served: list[tuple[int, int]], devices: list[Device], rate: float, seconds: float) -> str:
    """Push to these endpoints, and return a row."""
    before = [counters(pid) for _, pid in served]
    load, took = asyncio.run(run(devices, [port for port, _ in served], rate, seconds))
    after = [counters(pid) for _, pid in served]
    cpu, written = (sum(now[at] - then[at] for now, then in zip(after, before, strict=True)) for at in (0, 1))
    peak = max(each[2] for each in after)
    times, stored = sorted(load.seconds), load.answers[200]
    at = [times[min(len(times) - 1, int(len(times) * share))] * 1000 for share in (0.5, 0.99)] if times else [0, 0]
    row = f"{len(times) / took:8.0f} {at[0]:8.0f} {at[1]:8.0f} {cpu / stored * 1000:8.2f}"
    row += f" {written / stored / 1000:8.1f} {peak:6.0f} {load.answers[503]:6}"
    others = {str(status): count for status, count in load.answers.items() if status not in (200, 503)}
    if load.backlog:
        row += f"  backlog {load.backlog / took / 1e6:.0f} MB/s"
    return row + (f"  {others | dict(load.problems)}" if others or load.problems else "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "daemon")
    parser.add_argument("--daemon", default=here)
    parser.add_argument("--postgres", metavar="URL")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", default="20,200,1000")
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--without-digests", action="store_true", help="push like clients without stream digests")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines = transcript()
    print("                         push/s   p50 ms   p99 ms   CPU ms  written   peak    503")
    rows = [(f"{count} devices", count, 0.0, 0) for count in map(int, options.devices.split(","))]
    rows.append((f"200 devices, {options.rate:.0f}/s", 200, options.rate, 0))
    rows.append((f"200, {options.rate / 5:.0f}/s, {BACKLOGS} backlogs", 200, options.rate / 5, BACKLOGS))
    for label, count, rate, backlogs in rows:
        wanted = max(12, int(rate * options.seconds if rate else PUSHES) // count)
        digests = not options.without_digests
        devices = [prepare(number, wanted, lines, live=True, digests=digests) for number in range(count)]
        devices += [prepare(count + number, 60, lines, live=False, digests=digests) for number in range(backlogs)]
        if options.postgres:
            made = serving_postgres(options.daemon, len(devices), options.postgres, options.processes)
        else:
            made = serving(options.daemon, len(devices))
        with made as served:
            print(f"{label:22}", measure(served, devices, rate, options.seconds), flush=True)
    if options.daemon == here and not options.postgres:
        fleet_data.print_sizes()
        fleet_data.print_lists()


if __name__ == "__main__":
    main()
