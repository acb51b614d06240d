"""A home with tools, the parts of a daemon without threads, and an endpoint that can fail, for tests.

Time is a number that the test moves; the endpoint is real, in this process, behind a transport that tests
can make fail in the ways networks and servers do.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256

import httpx
from msgspec.structs import replace

from sessiond import state, zstd
from sessiond.config import Config
from sessiond.daemon.built_in_archive import BuiltInArchive
from sessiond.daemon.confirmation import Confirmation
from sessiond.daemon.erasure import Erasure
from sessiond.daemon.resources import Resources
from sessiond.device import identify
from sessiond.endpoint import dictionary
from sessiond.endpoint.read_client import ReadClient as Client
from sessiond.endpoint.retry import RetryingClient
from sessiond.endpoint.server import Running, running
from sessiond.endpoint.transport import make_transport
from sessiond.errors import EndpointError
from sessiond.ingest import IngestContext, Location, Outcome, ingest
from sessiond.ingest.backlog import catch_up
from sessiond.ingest.forget import erase_forgotten
from sessiond.ingest.pins import Pins
from sessiond.ingest.policy_changes import apply_policy_changes
from sessiond.privacy import Exclusion, Masking
from sessiond.reader import Digest
from sessiond.restored import RestoredSessions
from sessiond.sources import find_sources
from sessiond.sources.base import UserDirs
from sessiond.spool import Spool
from sessiond.transfer import Transfer
from sessiond.upload import BatchResult, UploadContext, begin_run, bind, unbind_changed_endpoint, upload
from sessiond.upload.digests import PushDigests
from sessiond.upload.forgotten import learn_forgotten
from support.clock import NOW_MS as NOW_MS
from support.clock import ManualClock
from support.empty_spool import put_spool
from support.empty_store import put_store

TOKEN = "test-token-of-the-daemon_harness"
_DICTIONARIES: dict[bytes, bytes] = {}


class FaultyTransport(httpx.BaseTransport):
    """A transport in front of the real one; `fate` is called with each request and may answer or fail instead."""

    def __init__(self) -> None:
        self.real = httpx.HTTPTransport(verify=False)  # reading the authorities takes longer than most tests
        self.fate: Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response] | None = None
        self.requests: list[tuple[str, int]] = []
        self.encodings: list[str] = []
        """Of the pushes."""
        self.delivered: list[str] = []
        """Paths of the requests that the real endpoint answered."""
        self.withheld: frozenset[str] = frozenset()
        """Features that the endpoint has and does not tell of: it is one of an older version."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        if request.url.path == "/v1/push":
            self.encodings.append(request.headers["content-encoding"])
            pushed(self.encodings[-1], body)
        self.requests.append((request.url.path, len(body)))
        fresh = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        if self.fate is not None:
            return self.fate(request, lambda: self.deliver(fresh))
        answer = self.deliver(fresh)
        if request.url.path == "/v1" and self.withheld:
            about = json.loads(answer.read())
            about["features"] = [name for name in about["features"] if name not in self.withheld]
            return httpx.Response(
                answer.status_code,
                headers={"content-type": "application/json"},
                stream=httpx.ByteStream(json.dumps(about).encode()),
            )
        return answer

    def deliver(self, request: httpx.Request) -> httpx.Response:
        """Return the answer of the real endpoint."""
        answer = self.real.handle_request(request)
        self.delivered.append(request.url.path)
        return answer

    def close(self) -> None:
        self.real.close()


def pushed(encoding: str, body: bytes) -> bytes:
    """Decode the body of a push. Every body must pass through here, as a later one may refer to it."""
    known = b""
    if encoding == dictionary.ENCODING:
        digest, body = dictionary.unpack(body)
        known = _DICTIONARIES[digest]
    plain = b"".join(zstd.decompress_stream((body,), 1 << 30, known))
    grown = dictionary.extended(known, plain)
    _DICTIONARIES[sha256(grown).digest()] = grown
    return plain


class DaemonHarness:
    """A home, a state directory, and the steps of a daemon in them."""

    def __init__(
        self, base: str, endpoint: Running, *, budget: int = 512 << 20, make_spool: Callable[[str], Spool] = Spool
    ) -> None:
        self.home = os.path.join(base, "home")
        self.state = os.path.join(base, "state")
        self.endpoint = endpoint
        self.clock = ManualClock()
        self.budget = budget
        os.makedirs(self.home, exist_ok=True)
        state.prepare(self.state)
        self.transport = FaultyTransport()
        self.machine_id = "testbox"
        self.address = ""  # as `status` finds it configured: none, so the built-in archive
        self.masking = Masking()
        self.exclusion = Exclusion()
        self.records_only: frozenset[str] = frozenset()
        self.enabled = True
        """Whether the sources are switched on."""
        self.archive: Running | None = None
        """The built-in archive, where another endpoint is configured beside it."""
        self.make_spool: Callable[[str], Spool] = make_spool
        self.open()

    @property
    def now_ms(self) -> int:
        """The time, which only the test moves."""
        return self.clock.ms

    @now_ms.setter
    def now_ms(self, ms: int) -> None:
        self.clock.set(ms)

    def open(self) -> None:
        """Open the daemon's parts, as after a restart."""
        if self.make_spool is Spool:  # others may be killed while they create their tables
            put_spool(self.state)
        self.device = device = identify(self.state)
        self.device_id = device.device_id
        self.spool = self.make_spool(self.state)
        here = UserDirs(home=self.home, environ={}, platform="linux")
        places = [(source, root) for source in find_sources() for root in source.roots(here)]
        self.ingesting = IngestContext(
            spool=self.spool,
            roots=places if self.enabled else [],
            dormant=[] if self.enabled else places,
            machine_id=self.machine_id,
            digest=Digest(device.seed),
            pins=Pins(os.path.join(self.state, "pins")),
            budget=self.budget,
            idle_after_ms=1_800_000,
            now_ms=self.clock.now_ms,
            settle_ms=0,
            masking=self.masking,
            exclusion=self.exclusion,
            restored=RestoredSessions(self.state),
            records_only=self.records_only,
        )
        apply_policy_changes(self.ingesting)
        self.client = Client(
            self.endpoint.url,
            self.endpoint.token,
            device_id=device.device_id,
            transport=make_transport(self.endpoint.url, network=self.transport),
        )
        self.retrying = RetryingClient(self.client, sleep=lambda _: None)
        self.uploading = UploadContext(
            restored=RestoredSessions(self.state),
            spool=self.spool,
            client=self.retrying,
            reader=self.client,
            digest=self.ingesting.digest,
            clock=self.clock,
            stream_digests=PushDigests(self.spool),
            machine_id=self.machine_id,
            device_id=device.device_id,
            address=self.address,
            runs=begin_run(self.spool),
        )
        self.confirmation = Confirmation(self.uploading)
        unbind_changed_endpoint(self.spool, self.address)
        self.transfer = Transfer(self.uploading, self._open_archive, self.masking.twin)
        self.erasure = Erasure(self.uploading, None if self.archive is None else self.transfer.forget)

    def resources(self, config: Config | None = None) -> Resources:
        """Return what the daemon's loops work with. No root is watched: the test decides what is read."""
        return Resources(
            config=config or Config(),
            directory=self.state,
            device=self.device,
            machine_id=self.machine_id,
            spool=self.spool,
            roots=[],
            listed_roots=[],
            ingest=self.ingesting,
            environ={},
            archive=BuiltInArchive(self.state, self.device_id),
        )

    def _open_archive(self) -> Client:
        assert self.archive is not None
        return Client(self.archive.url, self.archive.token, device_id=self.device_id)

    def close(self) -> None:
        """Stop, cleanly or (it makes no difference to what is on the disk) not."""
        self.transfer.close()
        self.spool.close()

    def write(self, relative: str, *lines: dict | bytes | str, mode: str = "ab") -> str:
        """Append lines to a tool's file (or replace it: mode "wb"); return its path."""
        path = os.path.join(self.home, relative)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, mode) as file:
            for line in lines:
                file.write(line if isinstance(line, bytes) else encode(line))
        return path

    def ingest(self, path: str) -> list[Outcome]:
        """Capture what a path has."""
        return [ingest(self.ingesting, place) for place in self.places(path)]

    def places(self, path: str) -> list[Location]:
        return self.ingesting.index(path)

    def scan(self) -> None:
        """Capture all files, and note those that are gone."""
        seen, sessionless = set(), list[Location]()
        for folder, _, names in os.walk(self.home):
            for name in names:
                path = os.path.join(folder, name)
                for place in self.places(path):
                    seen.add(place.path)
                    if ingest(self.ingesting, place).sessionless:
                        sessionless.append(place)
        for place in sessionless:  # the daemon reads them again once it has captured their session
            ingest(self.ingesting, place)
        for path in self.known():
            if path not in seen:
                self.ingest(path)
        catch_up(self.ingesting, limit=1000)

    def known(self) -> list[str]:
        """List the files that were seen and not yet found missing."""
        rows = self.spool.connection.execute(
            "SELECT path FROM file WHERE gone_ms IS NULL AND (checkpoint IS NOT NULL OR trouble IS NOT NULL)"
        )
        return [os.fsdecode(row[0]) for row in rows.fetchall()]

    def push(self) -> BatchResult:
        """Push one batch."""
        self.now_ms += 1000
        if self.retrying.must_identify():
            bind(self.uploading)
            if learn_forgotten(self.spool, self.client.forgotten, self.now_ms, self.machine_id):
                erase_forgotten(self.ingesting)
        try:
            result = self._push_next()
            self.erasure.try_again()
            more = self.erasure.step()
            if not result.more:
                self.confirmation.try_again()
                more |= self.confirmation.step()
            if result.forgotten:
                erase_forgotten(self.ingesting)
            return replace(result, more=result.more or more)
        except EndpointError:
            self.retrying.identify_again()
            raise

    def _push_next(self) -> BatchResult:
        if self.archive is not None and self.address:
            self.transfer.prepare()
            if self.transfer.pending():
                return replace(self.transfer.step(), more=True)
        return upload(self.uploading)

    def forget(self, *sessions: str, everywhere: bool = True) -> None:
        """Store tombstones as the command does, and erase what is here as the capture thread does."""
        with self.spool.transaction():
            self.spool.forgotten.order(sessions, self.now_ms, everywhere=everywhere)
        erase_forgotten(self.ingesting)

    def settle(self, rounds: int = 20, decide: Callable[[], None] = lambda: None) -> None:
        """Capture and push until nothing is left to do. `decide` does what the user does about parked items."""
        for _ in range(rounds):
            self.scan()
            with suppress(EndpointError):
                while self.push().more:
                    pass
            decide()
            waiting = self.spool.stats.waiting()
            if not (waiting.sessions or waiting.segments or self.spool.catalog.behind(1)):
                return
        read = self.spool.connection.execute
        streams = read(
            "SELECT id, name, generation, folded, queued, acked, known, gap_from, gap_to, held, lost, unproven"
            " FROM stream"
        ).fetchall()
        segments = read("SELECT stream, generation, offset, length, previous, keep, parked FROM segment").fetchall()
        raise AssertionError(f"not settled: {self.spool.stats.waiting()} {streams} {segments} {self.push()}")

    # What the endpoint has

    def forget_dictionary(self) -> None:
        """Make the endpoint replace what it knows as this device's last push."""
        headers = {"Authorization": f"Bearer {self.endpoint.token}", "Sessiond-Device": str(self.device_id)}
        answer = httpx.post(
            f"{self.endpoint.url}/v1/push", headers=headers, content=b'{"op":"nothing"}' * 9, verify=False
        )
        assert answer.status_code == 200

    def get(self, path: str, **params: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.endpoint.token}"}
        return httpx.get(f"{self.endpoint.url}{path}", headers=headers, params=params, verify=False)

    def held_sessions(self) -> dict[str, dict]:
        """Map session ids to their sessions at the endpoint."""
        return {item["record"]["id"]: item for item in self.get("/v1/sessions", limit=500).json()["sessions"]}

    def held(self, session: str, stream: str = "main", generation: int | None = None) -> bytes:
        """Return the bytes of a stream at the endpoint."""
        params = {} if generation is None else {"generation": generation}
        answer = self.get(f"/v1/sessions/{self.machine_id}/{session}/streams/{stream}", **params)
        assert answer.status_code == 200, answer.text
        return answer.content


@contextmanager
def daemon_harness(base: object, **options: int) -> Iterator[DaemonHarness]:
    """Yield a home with its own endpoint, deleted with the test."""
    directory = os.path.join(str(base), "endpoint")
    put_store(directory)
    with running(directory, token=TOKEN) as endpoint:
        harness = DaemonHarness(str(base), endpoint, **options)
        try:
            yield harness
        finally:
            harness.client.close()
            harness.close()


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
