"""Lines of a push as a client writes them, and the few requests that the tests repeat."""

from __future__ import annotations

import hashlib
import json
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx

from sessiond.endpoint.server import Running
from sessiond.endpoint.server.app import build
from sessiond.endpoint.server.body import Bodies
from sessiond.endpoint.server.connections import Connections
from sessiond.endpoint.server.decision import Sender
from sessiond.endpoint.server.push import CpuBudget, PushOutcome, PushRequest, apply
from sessiond.endpoint.server.server import Server, in_thread
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.tokens import Access

SESSION = "0198c0de-0000-7000-8000-000000000001"
DEVICE = "11111111-1111-4111-8111-111111111111"
OTHER_DEVICE = "22222222-2222-4222-8222-222222222222"

Line = dict[str, Any]


def store_push(store: SqliteStore, push: PushRequest, *lines: bytes, budget: CpuBudget | None = None) -> PushOutcome:
    """Store a push in a transaction of its own, without a server. Raises: WrongDevice, Revoked."""
    push.prepare(list(lines))
    with store.write() as db:
        (outcome,) = apply(store, db, [push], budget)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def record(revision: int = 1, *, device: str = DEVICE, **fields: Any) -> Line:
    """Make a `session` line; further fields are those of the record."""
    return {
        "op": "session",
        "revision": revision,
        "device_id": device,
        "record": {
            "id": SESSION,
            "tool": "codex",
            "tool_version": "0.58.0",
            "started_at": "2026-11-01T10:00:00Z",
            "ended_at": None,
            "model": "gpt-5",
            "working_directory": "/home/ada/engine",
            "git_branch": "main",
            "source_path": None,
            "message_count": 2,
            "machine_id": "ada",
        }
        | fields,
    }


def append(offset: int, appended: bytes, *, generation: int = 0, **fields: Any) -> Line:
    """Make an `append` line to the stream `main`."""
    return {
        "op": "append",
        "machine_id": "ada",
        "session": SESSION,
        "stream": "main",
        "generation": generation,
        "offset": offset,
        "length": len(appended),
        "sha256": hashlib.sha256(appended).hexdigest(),
        "data": appended.decode(),
    } | fields


def generation(number: int, previous: int | None, keep: int, **fields: Any) -> Line:
    """Make a `generation` line of the stream `main`."""
    return {
        "op": "generation",
        "machine_id": "ada",
        "session": SESSION,
        "stream": "main",
        "generation": number,
        "previous": previous,
        "keep": keep,
    } | fields


def sender(device: str = DEVICE, user: str = "default") -> Sender:
    """Return the sender of a push without a server."""
    return Sender(access=Access(user=user, scopes=frozenset({"push"})), device=uuid.UUID(device))


class Pusher(httpx.Client):
    """A client with a token; its requests are from one device."""

    pushed: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    """Called after each push."""

    def __init__(self, url: str, token: str, device: str = DEVICE) -> None:
        headers = {"Authorization": f"Bearer {token}", "Sessiond-Device": device}
        super().__init__(base_url=url, headers=headers, timeout=20, verify=False)

    def lines(self, *lines: Line | bytes, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """Push lines, and return the result of each."""
        body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        batch = uuid.uuid4().hex
        answer = self.post(
            "/v1/push",
            content=body,
            headers={"Content-Type": "application/x-ndjson", "Sessiond-Batch": batch} | (headers or {}),
        )
        assert answer.status_code == 200, answer.text
        type(self).pushed()
        assert answer.headers["content-type"] == "application/json"
        said = answer.json()
        assert said["batch"] == batch
        assert len(said["results"]) == len(lines)
        return list(said["results"])

    def said(self, *lines: Line | bytes, headers: dict[str, str] | None = None) -> list[str]:
        """Push lines, and return the result of each: stored, duplicate, or the type of the problem."""
        results = self.lines(*lines, headers=headers)
        return [each["problem"]["type"] if each["status"] == "problem" else each["status"] for each in results]

    def bytes_of(self, stream: str = "main", **query: int) -> bytes:
        """Read a stream of the session."""
        answer = self.get(f"/v1/sessions/ada/{SESSION}/streams/{stream}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.content


@contextmanager
def serving(
    directory: Path,
    *,
    bodies: Bodies | None = None,
    connections: Connections | None = None,
    listener: socket.socket | None = None,
) -> Iterator[Running]:
    """Serve a store with limits of the test's own."""
    token = "sd_" + "0" * 32
    store = SqliteStore(str(directory / "limited"))
    with listener or socket.create_server(("127.0.0.1", 0)) as sock:
        server = Server(build(store, secrets=(token,), bodies=bodies), connections=connections)
        with in_thread(server, sock):
            yield Running(f"http://127.0.0.1:{sock.getsockname()[1]}", token, store)
    store.close()
