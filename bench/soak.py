"""Load with faults for ten minutes, and then: is what the tools wrote what the endpoint holds?

Sessions are appended to, in halves too, replaced, rewritten and deleted, while the endpoint refuses, cuts, asks for
patience and is restarted, and the daemon is killed. Another endpoint is configured: from the archive to one, to the
other and back. Tokens are revoked and replaced, and other processes open the stores. Everything is on loopback, in one
directory, and bounded. At the end each file's SHA-256 is compared with what the endpoint gives back, and so is each
session that is reported safe. Only a session whose file is gone, or was rewritten, may be reported lost: what
it had before may be at an endpoint that is not configured any more. What the daemon held on the way (memory, open
files, threads, spool, log) must not have grown. Redaction is on, and secrets are planted: what has to arrive is what
the redactor makes of each file.

The faults come from a bag that has each kind once, so that none is left out; the seed is drawn and printed. In the
second half of the time the daemon itself is left alone: what grows in a process shows only in a long life.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import time
import urllib.request

import corpus
import measure
from processes import TOKEN, clear
from run import default_directory
from sessiond.redact.examples import expand
from sessiond.redact.policy import Policy
from sessiond.redact.redactor import Redactor
from sessiond.spool import Spool
from sessiond.spool.safety import State
from soak_endpoints import ARCHIVE, COMMANDS, Endpoints, SoakDaemon

MOST_SESSIONS = 60
MOST_BYTES = 200 << 20
"""Past either, nothing new is begun: only what is there is changed."""
GROWTH = 12 << 20
"""Bytes of memory that the last third of a life may have above the first."""
WARM_UP = 120_000
"""Milliseconds of a daemon's life that say nothing of growth: it starts, and its caches and the allocator's fill."""
MINUTES = 300_000
"""Milliseconds between two values of memory that are printed."""
SPOOL = 64 << 20
"""Bytes that the spool may have once all is pushed: it gives free pages back when they are 32 MiB."""
DAEMON_FAULTS = ("daemon killed", "daemon stopped", "endpoint changed", "endpoint changed back")
"""Only in the first half of the time."""
FAULTS = ("429", "cut", "refuse", "endpoint killed", "endpoint stopped", "token replaced", *COMMANDS, *DAEMON_FAULTS)
SECRET = "ghp_<A36>"
SETTLED = 240.0


class Session:
    """A session of Claude Code, written like its tool does."""

    def __init__(self, home: str, rnd: random.Random, text: corpus.Text) -> None:
        self.writer = corpus.Claude(rnd, text, "/home/ada/work/project-00", corpus.NOW)
        self.path = os.path.join(home, corpus.claude_path(self.writer.session, self.writer.cwd))
        self.content = b""
        self.alive = True
        self.rewritten = False
        self.half = b""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)

    def more(self) -> bytes:
        """Write a turn."""
        lines = self.writer.prompt() + self.writer.tool(self.writer.rnd.randint(30, 30_000)) + self.writer.answer()
        if self.writer.rnd.random() < 0.2:
            secret = expand(SECRET, str(self.writer.rnd.random()))
            lines.append(json.dumps({"type": "progress", "sessionId": self.writer.session, "said": f"key: {secret}"}))
        return "".join(line + "\n" for line in lines).encode()

    def append(self, data: bytes) -> None:
        """Add to the file, as its tool does."""
        with open(self.path, "ab") as file:
            file.write(data)
        self.content += data

    def replace(self, content: bytes) -> None:
        """Replace the file by another one."""
        with open(self.path + ".new", "wb") as file:
            file.write(content)
        os.replace(self.path + ".new", self.path)
        self.content, self.half, self.rewritten = content, b"", True

    def rewrite(self, content: bytes) -> None:
        """Overwrite it in place."""
        with open(self.path, "r+b") as file:
            file.write(content)
            file.truncate()
        self.content, self.half, self.rewritten = content, b"", True


class Soak:
    """The home, the writes and faults so far, and the samples."""

    def __init__(self, directory: str, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.redactor = Redactor(Policy())
        self.bag: list[str] = []
        self.text = corpus.Text(self.rnd)
        self.home = os.path.join(directory, "home")
        os.makedirs(self.home)
        self.endpoints = Endpoints(directory, self.rnd)
        self.daemon = SoakDaemon(self.home, os.path.join(directory, "state"), "")
        self.daemon.configure("", "")
        self.daemon.start()
        self.sessions: list[Session] = []
        self.done: dict[str, int] = {}
        self.samples: list[dict[str, int]] = []
        self.started = time.monotonic()
        self.seconds = self.fault_ends = self.next_fault = 0.0

    def note(self, what: str) -> None:
        """Count an action."""
        self.done[what] = self.done.get(what, 0) + 1

    def write(self) -> None:
        """Do one thing that a tool does."""
        alive = [session for session in self.sessions if session.alive]
        size = sum(len(session.content) for session in self.sessions)
        roomy = len(self.sessions) < MOST_SESSIONS and size < MOST_BYTES
        if not alive or (roomy and self.rnd.random() < 0.05):
            alive.append(Session(self.home, self.rnd, self.text))
            self.sessions.append(alive[-1])
            self.note("begun")
        session = self.rnd.choice(alive)
        chance = self.rnd.random()
        if session.half:
            session.append(session.half)
            session.half = b""
        elif chance < 0.70:
            if size < MOST_BYTES:
                session.append(session.more())
                self.note("appended")
        elif chance < 0.88:
            data = session.more()
            cut = self.rnd.randrange(1, len(data))
            session.append(data[:cut])
            session.half = data[cut:]
            self.note("torn")
        elif chance < 0.94:
            lines = session.content.splitlines(keepends=True)
            session.replace(b"".join(lines[: self.rnd.randint(1, max(1, len(lines)))]) + session.more())
            self.note("replaced")
        elif chance < 0.97 and session.content:
            session.rewrite(session.more() * self.rnd.randint(1, 3))
            self.note("rewritten")
        elif self._captured(session):
            os.unlink(session.path)
            session.alive = False
            self.note("deleted")

    def _captured(self, session: Session) -> bool:
        """Return whether the daemon has captured all of it; only then may it be deleted."""
        found = self.daemon.ask(
            "SELECT folded, queued FROM stream JOIN session ON session.id = stream.session"
            f" WHERE uuid = '{session.writer.session}'"
        )
        return bool(found) and found[0] == found[1] == len(session.content) and session.content.endswith(b"\n")

    def fault(self) -> None:
        """Begin or end a fault if it is due."""
        now = time.monotonic()
        if self.fault_ends and now > self.fault_ends:
            self.heal()
        if now < self.next_fault:
            return
        self.next_fault = now + self.rnd.uniform(3, 12)
        if not self.bag:
            kinds = [kind for kind in FAULTS if kind not in DAEMON_FAULTS or now - self.started < self.seconds / 2]
            self.bag = self.rnd.sample(kinds, len(kinds))
        kind = self.bag.pop()
        if kind in DAEMON_FAULTS and now - self.started >= self.seconds / 2:
            return
        self.note(kind)
        self.break_something(kind, now)

    def heal(self) -> None:
        """End a temporary fault."""
        self.fault_ends = 0.0
        for name, proxy in self.endpoints.proxies.items():
            proxy.mode = "pass"
            if name not in self.endpoints.tokens:
                self.endpoints.replace_token(name)

    def break_something(self, kind: str, now: float) -> None:
        """Begin a fault."""
        server = self.rnd.choice(list(self.endpoints.servers))
        if kind in COMMANDS:
            self.endpoints.run_command(kind)
        elif kind.startswith("endpoint changed"):
            self.endpoints.change(self.daemon)
            self.samples = []
        elif kind.startswith("endpoint"):
            endpoint = self.endpoints.servers[server]
            endpoint.stop(kill=kind.endswith("killed"))
            endpoint.start()
        elif kind == "token replaced":
            if server in self.endpoints.tokens:
                self.endpoints.revoke_token(server)
                self.fault_ends = now + self.rnd.uniform(0.5, 4)
        elif kind.startswith("daemon"):
            self.daemon.stop(kill=kind.endswith("killed"))
            self.daemon.start()
            self.samples = []  # a new process follows
        else:
            self.fault_ends = now + self.rnd.uniform(0.5, 4)
            for proxy in self.endpoints.proxies.values():
                proxy.mode = kind

    def sample(self) -> None:
        """Store the daemon's present resources."""
        pid = self.daemon.pid
        try:
            held = {
                "at": int((time.monotonic() - self.started) * 1000),
                "memory": measure.resident(pid, alone=True),
                "descriptors": measure.descriptors(pid),
                "threads": measure.threads(pid),
            }
        except OSError:
            return
        for name, path in (("spool", "spool.db"), ("wal", "spool.db-wal"), ("log", "log/sessiond.log")):
            whole = os.path.join(self.daemon.state, path)
            held[name] = os.path.getsize(whole) if os.path.exists(whole) else 0
        self.samples.append(held)

    def run(self, seconds: float) -> None:
        """Write, inject faults and sample until the time is over."""
        self.seconds = seconds
        next_look = 5.0
        leaves_archive = seconds / 8
        while (now := time.monotonic() - self.started) < seconds:
            self.write()
            self.fault()
            if leaves_archive and now >= leaves_archive:
                leaves_archive = 0.0
                if self.endpoints.current == ARCHIVE:
                    self.endpoints.change(self.daemon, "first")
            if now >= seconds / 2 and self.endpoints.current == ARCHIVE:
                self.endpoints.change(self.daemon)  # in the second half it stays at an endpoint
                self.samples = []
            if now >= next_look:
                self.sample()
                next_look = now + 2
            if self.daemon.process.poll() is not None:
                raise SystemExit(f"the daemon ended with {self.daemon.process.returncode}")
            time.sleep(self.rnd.uniform(0.02, 0.3))

    def settle(self) -> float:
        """End all faults, complete torn lines, and wait until the endpoint has everything."""
        self.heal()
        for session in self.sessions:
            if session.alive and session.half:
                session.append(session.half)
                session.half = b""
        began = time.monotonic()
        time.sleep(3)
        measure.wait(lambda: self.daemon.pushed() and not self.differing(), SETTLED, 2.0)
        self.sample()
        return time.monotonic() - began

    def differing(self) -> list[str]:
        """Compare every file with the endpoint's copy, and with its reported state."""
        found = []
        port = self.endpoints.servers[self.endpoints.current].port
        spool = Spool(self.daemon.state, readonly=True)
        try:
            with spool.snapshot():
                states, others = spool.safety.states(self.endpoints.url)
        finally:
            spool.close()
        for session in self.sessions:
            if not session.content:
                continue  # begun, and nothing said: that is no session yet
            url = f"http://127.0.0.1:{port}/v1/sessions/bench/{session.writer.session}/streams/main"
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    held = hashlib.sha256(answer.read()).hexdigest()
            except OSError as error:
                held = str(error)
            same = held == hashlib.sha256(self.redactor.mask(session.content).data).hexdigest()
            state = states.get(session.writer.session, others)
            if state is State.LOST and (session.rewritten if same else not session.alive):
                continue  # only an endpoint that is not configured any more has the rest, and that is reported
            if not same or state is not State.SAFE:
                found.append(
                    f"{session.writer.session}: {len(session.content)} bytes, alive: {session.alive},"
                    f" {state.word}, {held}"
                )
        return found

    @property
    def steady(self) -> list[dict[str, int]]:
        """The samples of the last life of the daemon after it has warmed up, or all if it was short."""
        began = self.samples[0]["at"]
        return [one for one in self.samples if one["at"] - began >= WARM_UP] or self.samples

    def course(self, what: str) -> str:
        """Return the values of the last life in MB: at its start, after each five minutes, and at its end."""
        began, due, said = self.samples[0]["at"], 0, []
        for one in self.samples:
            if one["at"] - began >= due or one is self.samples[-1]:
                said.append(f"{one[what] / 1e6:.1f} at {(one['at'] - began) / 60_000:.0f} min")
                due += MINUTES
        return ", ".join(said)

    def complaints(self) -> list[str]:
        """Return the resources that grew."""
        steady = self.steady
        third = max(1, len(steady) // 3)
        first, last = steady[:third], steady[-third:]
        said = []
        for what, most in (("memory", GROWTH), ("descriptors", 8), ("threads", 2)):
            grown = statistics.median(one[what] for one in last) - statistics.median(one[what] for one in first)
            if grown > most:
                said.append(f"{what} grew by {grown:,.0f}")
        if self.samples[-1]["spool"] > SPOOL:
            said.append(f"the spool has {self.samples[-1]['spool'] / 1e6:.0f} MB with nothing in its outbox")
        hours = (time.monotonic() - self.started) / 3600
        if self.samples[-1]["log"] / hours > 20 << 20:
            said.append(f"the log grows by {self.samples[-1]['log'] / hours / 1e6:.0f} MB an hour")
        return said

    def slope(self, what: str) -> float:
        """Fit a line through the steady samples; return its slope per hour."""
        times = [one["at"] for one in self.steady]
        return statistics.linear_regression(times, [one[what] for one in self.steady]).slope * 3_600_000

    def close(self) -> None:
        """End all that was started."""
        self.daemon.stop()
        self.endpoints.close()


def main() -> int:
    """Run the soak and print the result; return 0 if nothing was lost and nothing grew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1000), help="drawn by default")
    parser.add_argument("--dir", default=os.path.join(default_directory(), "soak"))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:.0f} s", flush=True)
    soak = Soak(clear(options.dir), options.seed)
    try:
        soak.run(options.seconds)
        try:
            took = soak.settle()
        except TimeoutError:
            print("\n".join(["not the same at the end:", *soak.differing()]))
            return 1
        said = soak.complaints()
    finally:
        soak.close()
    said += soak.endpoints.check_stores()
    size = sum(len(session.content) for session in soak.sessions)
    ends = {what: [one[what] for one in soak.samples] for what in soak.samples[0] if what != "at"}
    print(f"{options.seconds:.0f} s, seed {options.seed}, load {measure.load():.1f}: {json.dumps(soak.done)}")
    print(
        f"{len(soak.sessions)} sessions, {size / 1e6:.0f} MB: the same at both ends {took:.0f} s after the last fault"
    )
    for what, seen in ends.items():
        print(f"{what:<12} first {seen[0]:>12,}  median {statistics.median(seen):>14,.0f}  most {max(seen):>12,}")
    print(f"the last life of the daemon: {(soak.samples[-1]['at'] - soak.samples[0]['at']) / 1000:.0f} s")
    print(f"memory in MB: {soak.course('memory')}")
    print(f"memory: {soak.slope('memory') / 1e6:+.1f} MB an hour, log: {soak.slope('log') / 1e6:+.1f} MB an hour")
    for complaint in said:
        print(f"NOT FLAT: {complaint}")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
