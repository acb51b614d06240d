"""A home with tools, the engine of a daemon without its threads, and an endpoint that can fail, for tests.

Time is a number that the test moves; the endpoint is real, in this process, behind a transport that tests
can make fail in the ways networks and servers do.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import msgspec
from msgspec.structs import replace

from sessiond import state
from sessiond.config import Config, Endpoint, Loaded, Outbox, SourceSettings, Token
from sessiond.daemon.backlog import Entry, Rank
from sessiond.daemon.built_in_archive import BuiltInArchive
from sessiond.daemon.capture_loop import CaptureLoop
from sessiond.daemon.engine import Engine, EngineOptions
from sessiond.daemon.messages import EraseForgotten, MoreRoom
from sessiond.daemon.pusher import Target
from sessiond.daemon.resources import Opening, Resources
from sessiond.daemon.settings import Settings
from sessiond.daemon.throttle import READING, Throttle
from sessiond.daemon.work_queue import Work
from sessiond.device import identify
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.server import Running, running
from sessiond.errors import EndpointError
from sessiond.ingest import IngestContext, Location, Outcome
from sessiond.pause import Paused
from sessiond.sources import find_sources
from sessiond.spool import Spool
from sessiond.transfer import Transfer
from sessiond.upload import BatchResult
from sessiond.watch import Batch, WatchedRoot
from support.clock import NOW_MS as NOW_MS
from support.clock import ManualClock
from support.empty_spool import put_spool
from support.empty_store import put_store
from support.faulty_transport import FaultyTransport
from support.faulty_transport import pushed as pushed

TOKEN = "test-token-of-the-daemon_harness"


class ServedArchive(BuiltInArchive):
    """The built-in archive beside another endpoint, served by the test. Anything may have been written to it."""

    def __init__(self, served: Running | None, device_id: uuid.UUID) -> None:
        self._served, self._device_id, self._opened = served, device_id, itertools.count()

    def exists(self) -> bool:
        """Return whether there is one."""
        return self._served is not None

    def files(self) -> str:
        """Return another text each time, as if its files had changed."""
        return str(next(self._opened))

    def open(self) -> ReadClient:
        """Return a client that reads it."""
        assert self._served is not None
        return ReadClient(self._served.url, self._served.token, device_id=self._device_id)


class Unlocked(state.Lock):
    """A lock that nobody sees: the commands that a test runs find no daemon."""

    def __init__(self) -> None: ...

    def note(self, *, stopped: str | None) -> None:
        """Record nothing."""


class DaemonHarness:
    """A home, a state directory, and the engine of a daemon in them, whose loops the test drives."""

    def __init__(
        self,
        base: str,
        endpoint: Running,
        *,
        budget: int = 512 << 20,
        open_spool: Callable[[str], Spool] = Spool,
        machine_id: str = "testbox",
        configured: bool = False,
    ) -> None:
        self.home = os.path.join(base, "home")
        self.state = os.path.join(base, "state")
        self.endpoint = endpoint
        self.clock = ManualClock()
        self.budget = budget
        os.makedirs(self.home, exist_ok=True)
        state.prepare(self.state)
        self.transport = FaultyTransport()
        self.machine_id = machine_id
        # As `status` finds it configured. None: the built-in archive.
        self.address = endpoint.url if configured else ""
        self.settings: dict[str, Any] = {"redact": "off"}
        """Further settings of the configuration. They apply from the next `open`, and so does `environ`."""
        self.environ: dict[str, str] = {}
        self.enabled = True
        """Whether the sources are switched on."""
        self.archive: Running | None = None
        """The built-in archive, where another endpoint is configured beside it."""
        self.open_spool = open_spool
        self.open()

    @property
    def now_ms(self) -> int:
        """The time, which only the test moves."""
        return self.clock.ms

    @now_ms.setter
    def now_ms(self, ms: int) -> None:
        self.clock.set(ms)

    def open(self) -> None:
        """Open the engine, as after a restart."""
        if self.open_spool is Spool:  # others may be killed while they create their tables
            put_spool(self.state)
        self.device = device = identify(self.state)
        self.device_id = device.device_id
        opening = Opening(
            clock=self.clock,
            open_spool=self.open_spool,
            settle_ms=0,
            archive=ServedArchive(self.archive, self.device_id),
        )
        target = Target(self.endpoint.url, Token(self.endpoint.token), self.transport)
        options = EngineOptions(once=True, target=target, opening=opening)
        self.engine = Engine(settings_of(self.config()), {"HOME": self.home, **self.environ}, Unlocked(), options)
        self.engine.inboxes.upload.sleep = self.clock.advance  # type: ignore[method-assign]
        self.spool = self.engine.resources.spool
        self.pusher = pusher = self.engine.upload_loop.pusher
        self.client, self.retrying, self.uploading = pusher.client, pusher.retrying, pusher.context
        self.confirmation, self.erasure = pusher.confirmation, pusher.erasure
        self._present = set[WatchedRoot]()

    def config(self) -> Config:
        """Return the configuration that is in force from the next `open`."""
        config = msgspec.convert(self.settings, type=Config)
        off = {} if self.enabled else {source.tool: SourceSettings(enabled=False) for source in find_sources()}
        return replace(
            config,
            state_dir=self.state,
            machine_id=self.machine_id,
            endpoint=Endpoint(url=self.address),
            outbox=Outbox(max_bytes=self.budget),
            sources={**config.sources, **off},
        )

    def restart(self, **settings: object) -> None:
        """Restart with other settings."""
        self.settings |= settings
        self.close()
        self.open()

    @property
    def ingesting(self) -> IngestContext:
        """What capturing works with. Another context replaces the capture loop too."""
        return self.engine.resources.ingest

    @ingesting.setter
    def ingesting(self, context: IngestContext) -> None:
        engine = self.engine
        engine.resources.roots[:] = list(context.roots)
        engine.resources.ingest = replace(context, roots=engine.resources.roots)
        engine.watcher.add(engine.resources.watched)
        reading = Throttle(READING)
        engine.capture_loop = CaptureLoop(engine.resources, engine.watcher, Unlocked(), engine.inboxes, reading)

    def resources(self, config: Config | None = None) -> Resources:
        """Return what another pusher works with."""
        archive = BuiltInArchive(self.state, self.device_id)
        return replace(self.engine.resources, config=config or Config(), archive=archive)

    @property
    def transfer(self) -> Transfer:
        """The copy of the built-in archive."""
        return self.pusher.archive.transfer

    def close(self) -> None:
        """Stop cleanly."""
        self.engine.stop()

    def kill(self) -> None:
        """End without another write, as after SIGKILL."""
        self.client.close()
        self.engine.watcher.close()
        self.spool.close()

    def write(self, relative: str, *lines: dict | bytes | str, mode: str = "ab") -> str:
        """Append lines to a tool's file (or replace it: mode "wb"); return its path."""
        path = os.path.join(self.home, relative)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, mode) as file:
            for line in lines:
                file.write(line if isinstance(line, bytes) else encode(line))
        return path

    # Capturing

    def places(self, path: str) -> Sequence[Location]:
        """Return the locations of a path."""
        return self.engine.capture_loop.scanner.locate(path)

    def ingest(self, path: str, rank: Rank = Rank.CHANGED) -> list[Outcome]:
        """Capture what a path has, as after an event or, with another rank, as a scan does."""
        return [outcome for _, outcome in self.engine.capture_loop.read(Entry(rank, 0, path, 0)).outcomes]

    def known(self) -> list[str]:
        """List the files that were seen and not yet found missing."""
        rows = self.spool.connection.execute(
            "SELECT path FROM file WHERE gone_ms IS NULL AND (checkpoint IS NOT NULL OR trouble IS NOT NULL)"
        )
        return [os.fsdecode(row[0]) for row in rows.fetchall()]

    def scan(self) -> None:
        """Scan the roots that exist, or did at the last scan, and capture what changed."""
        roots = self._existing()
        self.engine.inboxes.capture.put(MoreRoom())  # there may be, after a push that the upload loop did not make
        if self._present != set(roots):
            self.engine.watcher.add(())  # which looks again for the roots that exist, as after an event
        self.engine.capture_loop.add_batch(Batch(rescan=tuple(self._present.union(roots))))
        self._present = set(roots)
        self.work()

    def _existing(self) -> list[WatchedRoot]:
        """Return the roots that exist. Few of the hundreds do, so most are told by the first name below the home."""
        names, home = {*os.listdir(self.home), ""}, f"{self.home}/"
        return [
            root
            for root in self.engine.resources.watched
            if (path := root.root.path).removeprefix(home).partition("/")[0] in names and os.path.lexists(path)
        ]

    def work(self) -> None:
        """Do what is queued for the capture loop."""
        loop = self.engine.capture_loop
        loop.add_batch(Batch())  # with the messages of the upload loop
        while isinstance(work := loop.queue.next(self.clock.monotonic()), Work):
            loop.do(work)

    def forget(self, *sessions: str, everywhere: bool = True) -> None:
        """Store tombstones as the command does, and have the capture loop erase what is here."""
        with self.spool.transaction():
            self.spool.forgotten.order(sessions, self.now_ms, everywhere=everywhere)
        self.engine.inboxes.capture.put(EraseForgotten())
        self.work()

    # Pushing

    def push(self) -> BatchResult:
        """Push one batch, whatever failed before. Raises: EndpointError, which the upload loop only stores."""
        self.clock.advance(1)
        self.erasure.try_again()
        self.confirmation.try_again()
        try:
            result = self.pusher.attempt()
        except EndpointError as error:
            self.pusher.fail(error)
            raise
        self.engine.upload_loop.notify_capture(result)
        self.engine.capture_loop.add_batch(Batch())  # it erases what was forgotten; the rest waits for `work`
        return result

    def settle(self, rounds: int = 20, decide: Callable[[], None] = lambda: None) -> None:
        """Capture and push until nothing is left to do. `decide` does what the user does about parked items."""
        for _ in range(rounds):
            self.scan()
            with suppress(EndpointError):
                while self.push().more:
                    pass
            decide()
            waiting = self.spool.stats.waiting()
            if not (waiting.sessions or waiting.segments or self._has_behind()):
                return
        read = self.spool.connection.execute
        streams = read(
            "SELECT id, name, generation, folded, queued, acked, known, gap_from, gap_to, held, lost, unproven"
            " FROM stream"
        ).fetchall()
        segments = read("SELECT stream, generation, offset, length, previous, keep, parked FROM segment").fetchall()
        raise AssertionError(f"not settled: {self.spool.stats.waiting()} {streams} {segments} {self.push()}")

    def _has_behind(self) -> bool:
        """Return whether a stream has to be read again. What the user erased is not read."""
        catalog = self.spool.catalog
        sessions = {catalog.session_by_row(catalog.stream(number).session).uuid for number in catalog.behind(1000)}
        return any(not self.spool.forgotten.has(str(session)) for session in sessions)

    # What the endpoint has

    def forget_dictionary(self) -> None:
        """Make the endpoint replace what it knows as this device's last push."""
        headers = {"Authorization": f"Bearer {self.endpoint.token}", "Sessiond-Device": str(self.device_id)}
        answer = _client().post(f"{self.endpoint.url}/v1/push", headers=headers, content=b'{"op":"nothing"}' * 9)
        assert answer.status_code == 200

    def get(self, path: str, **params: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.endpoint.token}"}
        return _client().get(f"{self.endpoint.url}{path}", headers=headers, params=params)

    def held_sessions(self) -> dict[str, dict]:
        """Map session ids to their sessions at the endpoint."""
        return {item["record"]["id"]: item for item in self.get("/v1/sessions", limit=500).json()["sessions"]}

    def held(self, session: str, stream: str = "main", generation: int | None = None) -> bytes:
        """Return the bytes of a stream at the endpoint."""
        params = {} if generation is None else {"generation": generation}
        answer = self.get(f"/v1/sessions/{self.machine_id}/{session}/streams/{stream}", **params)
        assert answer.status_code == 200, answer.text
        return answer.content


@functools.cache
def _client() -> httpx.Client:
    """Return the client of the questions to endpoints: to make one takes longer than a question.

    It keeps no connection, which an endpoint would have to close before its end.
    """
    return httpx.Client(verify=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


@contextmanager
def daemon_harness(base: object, **options: Any) -> Iterator[DaemonHarness]:
    """Yield a home with its own endpoint, deleted with the test."""
    directory = os.path.join(str(base), "endpoint")
    put_store(directory)
    with running(directory, token=TOKEN) as endpoint:
        harness = DaemonHarness(str(base), endpoint, **options)
        try:
            yield harness
        finally:
            harness.close()


def settings_of(config: Config, token: str | None = None) -> Settings:
    """Return the settings of a run with this configuration and without a pause."""
    return Settings(
        loaded=Loaded(config=config), token=None if token is None else Token(token), paused=Paused(), terms=""
    )


def encode(line: dict | str) -> bytes:
    return (line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)).encode() + b"\n"


def claude(session: str, number: int, *, role: str = "user", text: str = "hello", **more: object) -> dict:
    """Make a line as Claude Code 2.1 writes it."""
    message: dict = {"role": role, "content": text}
    if role == "assistant":
        message = {
            "id": f"msg_{session[:8]}_{number}",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4-5-20251101",
            "content": [{"type": "text", "text": text}],
        }
    return {
        "parentUuid": None,
        "isSidechain": False,
        "userType": "external",
        "cwd": "/home/dev/project",
        "sessionId": session,
        "version": "2.1.330",
        "gitBranch": "main",
        "type": role,
        "message": message,
        "uuid": str(uuid.uuid5(uuid.UUID(session), str(number))),
        "timestamp": f"2026-09-01T10:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
        **more,
    }


SESSION = "5f1d7c1e-0000-4000-8000-000000000001"
CLAUDE = f".claude/projects/-home-dev-project/{SESSION}.jsonl"
