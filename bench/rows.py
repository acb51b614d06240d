"""The rows of the table: each measures one budget and yields its figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import corpus
import measure
import rivals
from processes import ROOT, TOKEN, Daemon, Endpoint, clear, environment

MB = 1 << 20
NOWHERE = "http://127.0.0.1:9"
"""The discard port, where nothing listens: what is captured stays in the outbox."""


@dataclass
class Plan:
    """The data to measure with."""

    directory: str
    quick: bool
    rivals: bool
    corpus: str
    large: str

    def room(self, name: str) -> str:
        """Make an empty directory for a row; another run has its own."""
        return clear(os.path.join(self.resources, name))

    @property
    def resources(self) -> str:
        """Return the directory for the states of this run's rows."""
        return os.path.join(self.directory, f"rooms-{os.getpid()}")

    def others(self) -> list[type[rivals.Rival]]:
        """List the rivals that are installed."""
        return [rival for rival in rivals.RIVALS if self.rivals and rival.installed(self.directory)]


@dataclass
class Figure:
    """One number: its program, its meaning, and the load while it was measured."""

    row: str
    who: str
    what: str
    value: str
    budget: str = ""
    load: float = 0.0

    def line(self) -> str:
        """Show it in a terminal."""
        budget = f"   (budget {self.budget})" if self.budget else ""
        return f"{self.row:<8} {self.who:<11} {self.what:<44} {self.value:>14}   load {self.load:.1f}{budget}"

    def table_row(self) -> str:
        """Format it for a document."""
        return f"| {self.row} | {self.who} | {self.what} | {self.value} | {self.budget} | {self.load:.1f} |"


def figure(row: str, who: str, what: str, value: str, budget: str = "") -> Figure:
    """Make a figure with the present load."""
    return Figure(row, who, what, value, budget, round(measure.load(), 1))


def cold(plan: Plan) -> Iterator[Figure]:
    """Measure a cold start, until all records and transcripts are in the outbox."""
    made = corpus.read(plan.corpus)
    size, wanted = sum(one.bytes for one in made), len({(one.tool, one.session) for one in made})
    label = f"{size / 1e6:,.0f} MB in {wanted:,} sessions"
    daemon = Daemon(plan.corpus, plan.room("cold"), NOWHERE)
    daemon.start()
    peak = measure.Peak(daemon.pid)
    wall = measure.wait(daemon.captured, 1800, 0.05)
    spent, most = measure.cost(daemon.pid), peak.stop()
    sessions, messages = daemon.counts()
    daemon.stop()
    expected = sum(one.prompts + one.answers for one in made)
    if (sessions, messages) != (wanted, expected):
        raise RuntimeError(f"captured {sessions} sessions, {messages} messages of {wanted}, {expected}")
    floor = subprocess.run(
        [sys.executable, os.path.join(ROOT, "bench", "floor.py"), plan.corpus],
        env=environment(plan.corpus),
        stdout=subprocess.PIPE,
        check=True,
    )
    least = json.loads(floor.stdout)
    per = 1e9 / size
    yield figure("cold", "sessiond", f"CPU for {label}", f"{spent.cpu:.1f} s", "8 s for 1 GB")
    yield figure("cold", "sessiond", "of it: to start, and to compile the rules once", f"{_first_start(plan):.1f} s")
    yield figure("cold", "sessiond", "CPU per GB, all of it", f"{spent.cpu * per:.1f} s", "8 s")
    yield figure("cold", "floor", "CPU per GB", f"{least['all'] * per:.1f} s")
    for step in ("read", "decode", "scan", "compress"):
        yield figure("cold", "floor", f"of it: {step}", f"{least[step] * per:.1f} s")
    yield figure("cold", "sessiond", "CPU, times the floor", f"{spent.cpu / least['all']:.2f}", "2")
    yield figure("cold", "sessiond", "wall", f"{wall:.1f} s")
    yield figure("cold", "sessiond", "memory, peak", f"{most / MB:.0f} MB", "80 MB")
    yield figure("cold", "sessiond", "read / written", f"{spent.read / 1e6:,.0f} / {spent.written / 1e6:,.0f} MB")
    for kind in plan.others():
        home = rivals.copy(plan.corpus, plan.room(f"cold-{kind.name}"))
        rival = kind(plan.directory, home)
        rival.start()
        peak = measure.Peak(rival.pid)
        try:
            wall = measure.wait(lambda rival=rival: rival.sessions() >= wanted, 900, 0.2)
            note = ""
        except TimeoutError:
            wall, note = 900.0, f", given up at {rival.sessions():,} sessions"
        spent, most = measure.cost(rival.pid), peak.stop()
        yield figure("cold", rival.name, "CPU, wall", f"{spent.cpu:.1f} s, {wall:.1f} s{note}")
        yield figure("cold", rival.name, "memory, peak", f"{most / MB:.0f} MB")
        yield from _rival_after(plan, rival, wanted)
        rival.stop()
        clear(home)


def _first_start(plan: Plan) -> float:
    """Measure the CPU of a first start that has one line to read."""
    room = plan.room("first")
    home = os.path.join(room, "home")
    _use_codex(home)
    daemon = Daemon(home, os.path.join(room, "state"), NOWHERE)
    daemon.start()
    measure.wait(lambda: daemon.captured() and daemon.counts()[0] == 1, 60, 0.05)
    spent = measure.cost(daemon.pid)
    daemon.stop()
    return spent.cpu


def _rival_after(plan: Plan, rival: rivals.Rival, wanted: int) -> Iterator[Figure]:
    """Measure a rival that has captured everything: idle, a line appended, a warm start."""
    _quiet(rival.pid)
    seconds = 15 if plan.quick else 60
    before = measure.cost(rival.pid)
    time.sleep(seconds)
    spent = measure.cost(rival.pid) - before
    yield figure("idle", rival.name, f"CPU, {wanted:,} sessions", f"{100 * spent.cpu / seconds:.2f} %")
    yield figure("idle", rival.name, "wakeups per second", f"{spent.switches / seconds:.1f}")
    yield figure("idle", rival.name, "memory", f"{measure.resident(rival.pid) / MB:.0f} MB")
    file = next(one for one in corpus.read(plan.corpus) if one.thread and one.tool == "claude-code")
    waits, before = [], measure.cost(rival.pid)
    for number in range(5 if plan.quick else 20):
        marker = f"marker{number}x{uuid.uuid4().hex}"
        began = _append(os.path.join(rival.home, file.path), file.session, marker)
        try:
            measure.wait(lambda marker=marker: rival.sees(file.session, marker), 30)
            waits.append(time.perf_counter() - began)
        except TimeoutError:
            waits.append(30.0)
        time.sleep(1.5)
    spent = measure.cost(rival.pid) - before
    yield figure("line", rival.name, "in its own store, p50 / p95", _percentiles(waits))
    yield figure("line", rival.name, "CPU per line", f"{1000 * spent.cpu / len(waits):.0f} ms")
    rival.stop()
    rival.start()
    _quiet(rival.pid)
    yield figure("warm", rival.name, f"CPU until quiet, {wanted:,} sessions", f"{measure.cost(rival.pid).cpu:.2f} s")


def _quiet(pid: int, limit: float = 90) -> None:
    began, since, last = time.monotonic(), time.monotonic(), measure.cost(pid).cpu
    while time.monotonic() - since < 3 and time.monotonic() - began < limit:
        time.sleep(0.5)
        now = measure.cost(pid).cpu
        since, last = time.monotonic() if now - last > 0.02 else since, now


def _percentiles(waits: list[float]) -> str:
    ordered = sorted(waits)
    high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return f"{statistics.median(ordered):.2f} / {high:.2f} s"


def _line(session: str, text: str) -> bytes:
    """Make a line as Claude Code writes them."""
    own = uuid.uuid4()
    return (
        f'{{"parentUuid":"{uuid.uuid4()}","isSidechain":false,"userType":"external","cwd":"/home/ada/work/project-00",'
        f'"sessionId":"{session}","version":"2.1.44","gitBranch":"main","type":"user",'
        f'"message":{{"role":"user","content":"{text}"}},"uuid":"{own}",'
        f'"timestamp":"{time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())}.000Z"}}\n'
    ).encode()


def _append(path: str, session: str, text: str) -> float:
    with open(path, "ab") as file:
        file.write(_line(session, text))
    return time.perf_counter()


def warm(plan: Plan) -> Iterator[Figure]:
    """Restart without changes, then measure the idle daemon."""
    made = corpus.read(plan.large)
    label = f"{len({one.session for one in made}):,} sessions"
    room = plan.room("warm")
    endpoint = Endpoint(os.path.join(room, "endpoint"))
    daemon = Daemon(plan.large, os.path.join(room, "state"), f"http://127.0.0.1:{endpoint.port}")
    daemon.start()
    measure.wait(lambda: daemon.captured() and daemon.pushed(), 3600, 0.5)
    daemon.stop()
    daemon.start()
    daemon.settle(300)
    spent = measure.cost(daemon.pid)
    yield figure("warm", "sessiond", f"CPU until quiet, {label}", f"{spent.cpu:.2f} s", "1 s")
    yield figure("warm", "sessiond", "read (the spool and Python itself)", f"{spent.read / 1e6:.1f} MB")
    seconds = 15 if plan.quick else 60
    before = measure.cost(daemon.pid)
    time.sleep(seconds)
    spent = measure.cost(daemon.pid) - before
    yield figure("idle", "sessiond", f"CPU, {label}, {seconds} s", f"{100 * spent.cpu / seconds:.2f} %", "0.0 %")
    yield figure("idle", "sessiond", "wakeups per second", f"{spent.switches / seconds:.2f}", "1")
    yield figure("idle", "sessiond", "memory", f"{measure.resident(daemon.pid) / MB:.0f} MB", "45 MB")
    synced = measure.fsyncs(daemon.pid, seconds)
    yield figure("idle", "sessiond", f"fsyncs in {seconds} s", "not traced" if synced is None else str(synced), "0")
    yield from _status(daemon, "running")
    daemon.stop()
    yield from _status(daemon, "stopped")
    endpoint.stop()


def _status(daemon: Daemon, how: str) -> Iterator[Figure]:
    walls, cpus = [], []
    for _ in range(11):
        used = os.times()
        began = time.perf_counter()
        command = [sys.executable, "-m", "sessiond", "status"]
        subprocess.run(command, env=daemon.environment, stdout=subprocess.DEVNULL, check=False)
        walls.append(time.perf_counter() - began)
        now = os.times()
        cpus.append(now.children_user + now.children_system - used.children_user - used.children_system)
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    yield figure("status", "sessiond", f"wall (CPU), {how}", f"{1000 * wall:.0f} ms ({1000 * cpu:.0f} ms)", "100 ms")


def line(plan: Plan) -> Iterator[Figure]:
    """Append one line, and wait for the endpoint's acknowledgement."""
    yield from _lines(plan, "a new session", 0)
    yield from _lines(plan, "a session of 190 MB", (20 if plan.quick else 190) * 1_000_000)
    yield _line_floor(plan)


def _line_floor(plan: Plan) -> Figure:
    """Measure what no daemon can avoid: one request by httpx and two commits, once for each line."""
    room, count = plan.room("floor"), 10 if plan.quick else 30
    endpoint = Endpoint(os.path.join(room, "endpoint"))
    command = [sys.executable, os.path.join(ROOT, "bench", "line_floor.py"), str(count)]
    command += [f"http://127.0.0.1:{endpoint.port}/v1", os.path.join(room, "spool.db")]
    least = subprocess.run(command, env=environment(room, SESSIOND_TOKEN=TOKEN), stdout=subprocess.PIPE, check=True)
    endpoint.stop()
    return figure("line", "floor", "CPU of a request and two commits", f"{1000 * float(least.stdout):.1f} ms")


def _lines(plan: Plan, label: str, size: int) -> Iterator[Figure]:
    room = plan.room("line")
    home, session = os.path.join(room, "home"), str(uuid.uuid4())
    path = os.path.join(home, corpus.claude_path(session, "/home/ada/work/project-00"))
    os.makedirs(os.path.dirname(path))
    rnd = corpus.random.Random(2)
    text = corpus.Text(rnd)
    writer = corpus.Claude(rnd, text, "/home/ada/work/project-00", corpus.NOW, session=session)
    with open(path, "wb") as file:
        for one in corpus.session_lines(writer, max(size, 5_000), 0):
            file.write(one.encode() + b"\n")
    endpoint = Endpoint(os.path.join(room, "endpoint"))
    proxy = measure.Proxy(endpoint.port)
    daemon = Daemon(home, os.path.join(room, "state"), proxy.url)
    daemon.start()
    measure.wait(lambda: daemon.captured() and daemon.pushed(), 300, 0.1)
    daemon.settle(60)
    count = 10 if plan.quick else 30
    # What this session says next: prompts, answers, calls and their results, short ones and long ones.
    following = corpus.session_lines(writer, 1 << 40, 0)
    for _ in range(2):  # the rules of the redaction are loaded with the first line after a start
        with open(path, "ab") as file:
            file.write(next(following).encode() + b"\n")
        daemon.settle(60)
    proxy.reset()
    before, waits, sizes, pushes = measure.cost(daemon.pid), [], 0, 0
    for _ in range(count):
        data = next(following).encode() + b"\n"
        with open(path, "ab") as file:
            file.write(data)
        began = time.perf_counter()
        sizes += len(data)
        measure.wait(lambda began=began: proxy.traffic.answered > began, 30, 0.005)
        waits.append(proxy.traffic.answered - began)
        time.sleep(rnd.uniform(0.4, 1.2))
    spent, traffic = measure.cost(daemon.pid) - before, proxy.reset()
    pushes = len(traffic.requests)
    yield figure("line", "sessiond", f"to the ack, p50 / p95, {label}", _percentiles(waits), "0.4 / 1.2 s")
    yield figure("line", "sessiond", "requests per line", f"{pushes / count:.2f}", "1")
    each = f"{sizes / count:.0f}, {traffic.bodies / count:.0f}, {traffic.sent / count:.0f} B"
    yield figure("line", "sessiond", "mean line, body, body and headers", each)
    yield figure("line", "sessiond", "body, times the line", f"{traffic.bodies / sizes:.2f}", "0.5")
    yield figure("line", "sessiond", "CPU per line", f"{1000 * spent.cpu / count:.1f} ms", "3 ms")
    yield figure("line", "sessiond", "read per line", f"{spent.read / count / 1024:.0f} KB", "64 KB")
    daemon.stop()
    proxy.close()
    endpoint.stop()


def big(plan: Plan) -> Iterator[Figure]:
    """Read a very large file, and a very long line, beside the memory that it takes."""
    size = (200 if plan.quick else 2_000) * 1_000_000
    yield _large_file(plan, f"a session of {size / 1e6:,.0f} MB", size, 0)
    yield _large_file(plan, "a line of 60 MB", 0, 60 * MB)
    yield _large_file(plan, "a line of 200 MB", 0, 200 * MB)


def _large_file(plan: Plan, label: str, size: int, length: int) -> Figure:
    room = plan.room("big")
    home, session = os.path.join(room, "home"), str(uuid.uuid4())
    path = os.path.join(home, corpus.claude_path(session, "/home/ada/work/project-00"))
    os.makedirs(os.path.dirname(path))
    rnd = corpus.random.Random(3)
    text = corpus.Text(rnd)
    writer = corpus.Claude(rnd, text, "/home/ada/work/project-00", corpus.NOW, session=session)
    unit = "".join(one + "\n" for one in corpus.session_lines(writer, 50_000_000 if size else 5_000, 0)).encode()
    with open(path, "wb") as file:
        for _ in range(max(1, size // len(unit))):
            file.write(unit)
        if length:
            part = text.take(rnd, 1_000_000)
            file.write(_line(session, part * (length // len(part.encode()))))
    daemon = Daemon(home, os.path.join(room, "state"), NOWHERE)
    daemon.start()
    measure.wait(daemon.captured, 900, 0.1)
    most = measure.peak(daemon.pid)
    daemon.stop()
    clear(room)
    return figure("big", "sessiond", f"memory, peak, {label}", f"{most / MB:.0f} MB", "150 MB")


def _use_codex(home: str) -> None:
    """Write a session of one line to a home."""
    rnd = corpus.random.Random(6)
    writer = corpus.Codex(rnd, corpus.Text(rnd), "/home/ada/work/project-00", corpus.NOW)
    path = os.path.join(home, corpus.codex_path(writer.session, corpus.NOW))
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as file:
        file.writelines(line + "\n" for line in writer.head())


def root(plan: Plan) -> Iterator[Figure]:
    """Make a tool's directory after the start."""
    waits = []
    for number in range(3):
        room = plan.room("root")
        home, session = os.path.join(room, "home"), str(uuid.uuid4())
        _use_codex(home)  # another tool is in use, so that the rules of the redaction are loaded
        daemon = Daemon(home, os.path.join(room, "state"), NOWHERE)
        daemon.start()
        daemon.settle(30)
        path = os.path.join(home, corpus.claude_path(session, f"/home/ada/work/project-{number:02d}"))
        os.makedirs(os.path.dirname(path))
        began = _append(path, session, "hello")
        measure.wait(lambda daemon=daemon: daemon.counts()[0] == 2, 150)
        waits.append(time.perf_counter() - began)
        daemon.stop()
    yield figure("root", "sessiond", "to the record, the worst of 3", f"{max(waits):.2f} s", "2 s")


def outage(plan: Plan) -> Iterator[Figure]:
    """Stop the endpoint for a while, and measure how long after its return the next push comes."""
    seconds = 10 if plan.quick else 60
    room = plan.room("outage")
    home, session = os.path.join(room, "home"), str(uuid.uuid4())
    path = os.path.join(home, corpus.claude_path(session, "/home/ada/work/project-00"))
    os.makedirs(os.path.dirname(path))
    _append(path, session, "hello")
    endpoint = Endpoint(os.path.join(room, "endpoint"))
    proxy = measure.Proxy(endpoint.port)
    daemon = Daemon(home, os.path.join(room, "state"), proxy.url)
    daemon.start()
    measure.wait(lambda: daemon.captured() and daemon.pushed(), 60)
    proxy.mode = "refuse"
    _append(path, session, "while it was away")
    time.sleep(seconds)
    proxy.mode = "pass"
    well = time.perf_counter()
    measure.wait(lambda: proxy.traffic.answered > well, 330)
    waited = proxy.traffic.answered - well
    yield figure("outage", "sessiond", f"to the next ack, after {seconds} s away", f"{waited:.1f} s", "the backoff")
    daemon.stop()
    proxy.close()
    endpoint.stop()


ROWS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "cold": cold,
    "warm": warm,
    "idle": lambda _: iter(()),  # measured with `warm`, and with the rivals' `cold`
    "status": lambda _: iter(()),
    "line": line,
    "big": big,
    "root": root,
    "outage": outage,
}
