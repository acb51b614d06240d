"""A real `sessiond run` in its own home, an endpoint behind a proxy that can fail, and checks of both.

The proxy listens on 127.0.0.1 in the test's process, so that a test decides what becomes of each request. The
judge compares what the tools wrote with what the endpoint holds: nothing lost, nothing twice.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any

import pytest

from sessiond import state
from sessiond.endpoint.server import Running, running
from sessiond.spool import Spool, health
from support.empty_store import put_store
from support.harness import claude, encode
from support.program import SOURCE, Program, run
from support.rules_cache import put_rules

SOON = 120.0
"""Seconds until a test gives up on an event; far more than anything takes on a machine that is busy with more."""
TOKEN = "SENTINEL-token-that-must-not-appear-anywhere"
PROJECT = ".claude/projects/-home-dev-project"
MACHINE = "testbox"


def until(so: Callable[[], Any], what: str = "it", seconds: float = SOON, *, every: float = 0.02) -> Any:
    """Wait for a condition; return its first true value. The intervals grow, as a try takes time as well."""
    end, pause = time.monotonic() + seconds, every
    while True:
        found = so()
        if found:
            return found
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(pause)
        pause = min(pause * 1.2, 5 * every)


def session(number: int) -> str:
    """Make the id of the n-th session."""
    return f"{number:08x}-5f1d-4000-8000-{number:012x}"


class Proxy(ThreadingHTTPServer):
    """Forwards requests to the real endpoint; `fate` may answer, delay or drop instead.

    A fate gets the request and `forward()`, which has the endpoint do it and returns (status, headers, body);
    it answers through the request, or returns what `forward` gave, or None once it has done all itself.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, listen: int = 0) -> None:
        super().__init__(("127.0.0.1", listen), Request)
        self.port = port
        self.fate: Callable[[Request], None] | None = None
        self.seen: list[tuple[str, str | None]] = []
        """Path and Authorization of each request."""
        self.received = 0
        """Bytes of all pushes."""
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore it: a client that is killed leaves its connection behind, as these tests intend."""

    def pushes(self) -> int:
        """Count the pushes that came in."""
        return sum(path == "/v1/push" for path, _ in self.seen)

    def end(self) -> None:
        """Stop accepting requests, and release those that hang."""
        self.over.set()
        self.shutdown()
        self.server_close()


class Request(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def handle_any(self) -> None:
        """Answer one request."""
        length = int(self.headers.get("content-length", 0))
        self.body = self.rfile.read(length)
        if len(self.body) < length:
            self.cut()  # who sent it was killed meanwhile
            return
        self.server.seen.append((self.path, self.headers.get("authorization")))
        if self.path == "/v1/push":
            self.server.received += len(self.body)
        if self.server.fate is None:
            self.forward_on()
        else:
            self.server.fate(self)

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server calls them so

    def forward(self) -> tuple[int, str, bytes]:
        """Forward the request to the endpoint; return its status, content type and body."""
        link = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=SOON)
        headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
        link.request(self.command, self.path, self.body or None, headers)
        answer = link.getresponse()
        body = answer.read()
        link.close()
        return answer.status, answer.headers.get("content-type", ""), body

    def forward_on(self) -> None:
        """Forward the request to the endpoint, and its answer to the client."""
        self.answer(*self.forward())

    def answer(self, status: int, kind: str = "application/json", body: bytes = b"{}", **headers: str) -> None:
        """Answer."""
        self.send_response_only(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def cut(self) -> None:
        """End the connection in the middle of a request or an answer."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(2)

    def hang(self) -> None:
        """Answer nothing until the test is over."""
        self.server.over.wait(SOON)
        self.cut()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class World:
    """A home, a state directory, a configuration, an endpoint and daemons."""

    def __init__(self, base: str, endpoint: Running, proxy: Proxy) -> None:
        self.base = base
        self.home = os.path.join(base, "home")
        self.state = os.path.join(base, "state")
        self.config = os.path.join(base, "config", "config.toml")
        self.token_file = os.path.join(base, "config", "token")
        self.endpoint = endpoint
        self.proxy = proxy
        self.started: list[subprocess.Popen[bytes] | Program] = []
        self.logs: list[str] = []
        self.settings = {"rescan": '"2s"'}
        self.limits = ""
        os.makedirs(os.path.join(self.home, PROJECT))
        os.makedirs(os.path.dirname(self.config))
        put_rules(self.state)
        self.configure()

    def configure(self, token: str = TOKEN, **endpoint: str) -> None:
        """Write the configuration and the token."""
        self.write_token(token)
        url = endpoint.pop("url", f'"{self.proxy.url}"')
        lines = [f'machine_id = "{MACHINE}"', f'state_dir = "{self.state}"']
        lines += [f"{key} = {value}" for key, value in self.settings.items()]
        lines += ["[endpoint]", f"url = {url}", f'token_file = "{self.token_file}"']
        lines += [f"{key} = {value}" for key, value in endpoint.items()]
        with open(self.config, "w") as file:
            file.write("\n".join(lines) + "\n")

    def write_token(self, token: str) -> None:
        """Replace the token file."""
        with open(os.open(self.token_file + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(token + "\n")
        os.replace(self.token_file + ".new", self.token_file)

    # The daemon

    def environ(self, **more: str) -> dict[str, str]:
        """Make the environment of a daemon, with nothing of ours but the path of the program."""
        mine = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR")}
        return {**mine, "HOME": self.home, "PYTHONPATH": SOURCE, **more}

    def command(self, *words: str) -> list[str]:
        """Make the command line of sessiond."""
        return [sys.executable, "-P", "-m", "sessiond", *words, "--config", self.config]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return run([*words, "--config", self.config], self.environ(), cwd=self.base)

    def start(
        self, prefix: Sequence[str] = (), *, wait: bool = True, **environ: str
    ) -> subprocess.Popen[bytes] | Program:
        """Start a daemon; wait until it says that it runs. With a prefix or a path it is a new interpreter."""
        log = os.path.join(self.base, f"stderr-{len(self.logs)}")
        self.logs.append(log)
        with open(log, "wb") as file:
            daemon = self._start([*prefix], file, environ)
        self.started.append(daemon)
        if wait:
            until(lambda: "daemon.started" in self.said() or daemon.poll() is not None, "daemon.started")
            assert daemon.poll() is None, self.said()
        return daemon

    def _start(self, prefix: list[str], file: IO[bytes], environ: dict[str, str]) -> subprocess.Popen[bytes] | Program:
        if not prefix and "PYTHONPATH" not in environ:
            words = ["run", "--config", self.config]
            return Program(words, self.environ(**environ), stdout=file, stderr=file, cwd=self.base)
        return subprocess.Popen(
            [*prefix, *self.command("run")],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=self.environ(**environ),
            cwd=self.base,
            start_new_session=True,
        )

    def said(self, number: int = -1) -> str:
        """Read what a daemon wrote to stderr."""
        with open(self.logs[number], errors="surrogateescape") as file:
            return file.read()

    def events(self, name: str, number: int = -1) -> list[dict[str, Any]]:
        """Return the logged events of this name."""
        lines = [json.loads(line) for line in self.said(number).splitlines() if line.startswith("{") and name in line]
        return [line for line in lines if line.get("event") == name]

    def stop(self, daemon: subprocess.Popen[bytes] | Program | None = None, number: int = signal.SIGTERM) -> int:
        """End a daemon; return its exit code."""
        daemon = daemon or self.started[-1]
        daemon.send_signal(number)
        try:
            return daemon.wait(SOON)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.said()}") from None

    def kill(self) -> None:
        """Kill the daemons that still run: each is the leader of its own session."""
        for daemon in self.started:
            if daemon.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(daemon.pid, signal.SIGCONT)
                    os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait(SOON)

    def look(self, pid: int = 0) -> None:
        """Ask the daemon to scan everything and push now, instead of when that is due."""
        os.kill(pid or self.pid(), signal.SIGUSR1)

    def pid(self) -> int:
        """Read the daemon's pid from the lock; the started process may be strace."""
        holder = state.running(self.state)
        assert holder is not None, self.said()
        return holder.pid

    # The tool

    def path(self, number: int) -> str:
        """Return the file of a session."""
        return os.path.join(self.home, PROJECT, f"{session(number)}.jsonl")

    def write(self, number: int, *lines: int, size: int = 20, mode: str = "ab") -> str:
        """Append lines to a session, numbered, each with `size` characters of text."""
        with open(self.path(number), mode) as file:
            for line in lines:
                role = "assistant" if line % 2 else "user"
                text = f"{line} " + "text "[: max(size, 5)] * (size // 5)
                file.write(encode(claude(session(number), line, role=role, text=text)))
        return self.path(number)

    # The judge

    def get(self, path: str) -> Any:
        """Send a request to the endpoint itself."""
        link = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=SOON)
        link.request("GET", path, headers={"Authorization": f"Bearer {self.endpoint.token}"})
        answer = link.getresponse()
        body = answer.read()
        link.close()
        return body if answer.status == 200 else None

    def held(self, name: str) -> bytes | None:
        """Return the bytes of a session's main stream at the endpoint."""
        found: bytes | None = self.get(f"/v1/sessions/{MACHINE}/{name}/streams/main")
        return found

    def files(self) -> dict[str, str]:
        """Map the sessions that lie in the home to their files."""
        found = {}
        for folder, _, names in os.walk(os.path.join(self.home, ".claude/projects")):
            for name in names:
                path = os.path.join(folder, name)
                if name.endswith(".jsonl") and len(name) == 42 and os.path.isfile(path) and not os.path.islink(path):
                    found[name.removesuffix(".jsonl")] = path
        return found

    def arrived(self, *numbers: int) -> bool:
        """Return whether the endpoint has everything of these sessions, or of all."""
        files = {session(number): self.path(number) for number in numbers} if numbers else self.files()
        for name, path in files.items():
            with open(path, "rb") as file:
                content = file.read()
            if self.held(name) != content[: content.rfind(b"\n") + 1]:
                return False
        return True

    def arrives(self, *numbers: int, seconds: float = SOON) -> None:
        """Wait until it has, and nothing waits in the outbox any more."""
        try:
            until(lambda: self.arrived(*numbers), "all arrived", seconds)
            if not numbers:
                until(self.records_match, "all records arrived", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.missing()}\n{self.said()[-3000:]}") from None

    def missing(self) -> dict[str, tuple[int, int]]:
        """Return the sessions that differ, each with its bytes here and at the endpoint."""
        here = {name: os.path.getsize(path) for name, path in self.files().items()}
        return {name: (size, len(self.held(name) or b"")) for name, size in here.items()}

    def records(self) -> dict[str, dict[str, Any]]:
        """Map sessions to their records at the endpoint."""
        found: dict[str, dict[str, Any]] = {}
        after = ""
        while True:
            page = json.loads(self.get(f"/v1/sessions?limit=500{after}"))
            found |= {item["record"]["id"]: item for item in page["sessions"]}
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    def records_match(self) -> bool:
        """Return whether each record counts the messages in its file."""
        records = self.records()
        for name, path in self.files().items():
            with open(path, "rb") as file:
                lines = file.read().count(b"\n")
            if name not in records or records[name]["record"]["message_count"] != lines:
                return False
        return True

    def judge(self) -> None:
        """Check that nothing was lost or stored twice: one generation with the bytes of each file, and no more
        sessions.
        """
        assert self.arrived(), self.missing()
        assert set(self.records()) == set(self.files())
        for name in self.files():
            streams = json.loads(self.get(f"/v1/sessions/{MACHINE}/{name}/streams"))["streams"]
            assert [stream["name"] for stream in streams] == ["main"]
            assert [each["generation"] for each in streams[0]["generations"]] == [0], streams

    def endpoint_bytes(self) -> int:
        """Count what came in by pushes so far, in bytes as they were sent."""
        return self.proxy.received

    # The spool

    @contextmanager
    def spool(self) -> Iterator[Spool]:
        """Read the spool, as `status` does."""
        spool = Spool(self.state, readonly=True)
        try:
            yield spool
        finally:
            spool.close()

    def captured(self, number: int) -> bool:
        """Return whether the spool has a file up to its last newline, sent or not."""
        with self.spool() as spool:
            file = spool.catalog.file(self.path(number))
        return bool(file and file.checkpoint and file.checkpoint.offset == os.path.getsize(self.path(number)))

    def memory(self, pid: int) -> int:
        """Return the peak memory of a process, in bytes."""
        with open(f"/proc/{pid}/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))

    def held_length(self, name: str) -> int:
        """Return how long a session's main stream is at the endpoint."""
        answer = self.get(f"/v1/sessions/{MACHINE}/{name}/streams")
        streams = json.loads(answer)["streams"] if answer else []
        return streams[0]["generations"][-1]["length"] if streams else 0

    def waiting(self) -> int:
        """Count what waits in the outbox."""
        with self.spool() as spool:
            waiting = spool.stats.waiting()
        return waiting.sessions + waiting.segments

    def health(self) -> health.EndpointHealth:
        """Read the state of the endpoint, as `status` does."""
        with self.spool() as spool:
            return health.read_endpoint(spool)

    def check_spool(self) -> None:
        """Check every page with SQLite."""
        connection = sqlite3.connect(os.path.join(self.state, "spool.db"))
        try:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            connection.close()


@contextmanager
def world(base: object, token: str | None = TOKEN) -> Iterator[World]:
    """Yield an empty world, which is deleted with the test."""
    directory = os.path.join(str(base), "endpoint")
    put_store(directory)
    with running(directory, token=token) as endpoint:
        proxy = Proxy(int(endpoint.url.rpartition(":")[2]))
        made = World(str(base), endpoint, proxy)
        try:
            yield made
        finally:
            made.kill()
            proxy.end()


def strace(*words: str) -> list[str]:
    """Make a command run under strace, which injects the given faults."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    prefix = ["strace", "-f", "-qq", "-o", "/dev/null", *words]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    return prefix


def namespaced(script: str, *, mounts: bool = False, hostname: bool = False) -> list[str]:
    """Make a command run in its own namespaces, after a script that prepares them."""
    options = "-Ur" + "m" * mounts + "u" * hostname
    prefix = ["unshare", options, "sh", "-c", f'{script} && exec "$@"', "sh"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("user namespaces are not available here")
    return prefix


def entering(pid: int, *, mounts: bool = False) -> list[str]:
    """Make a command run in the namespaces of a process."""
    return ["nsenter", f"--target={pid}", "--user", *(["--mount"] if mounts else []), "--preserve-credentials"]
