"""The copy of the built-in archive while things change: sessions without a record, other writers, a revoked token."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from test_safety import OTHER, SECRET, World
from test_transfer import Send, answer, archived, try_push

from sessiond.endpoint.server import running
from sessiond.endpoint.wire import Limits
from sessiond.errors import EndpointError, Refused
from sessiond.spool.safety import State
from sessiond.upload import bind
from support.harness import CLAUDE, SESSION, TOKEN, claude

UNKNOWN = "5f1d7c1e-0000-4000-8000-0000000000aa"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def push_bytes(world: World, session: str, content: bytes, offset: int = 0, **more: str) -> None:
    """Push bytes of a session to the archive without a record, as another process on this machine."""
    push_lines(world, appended(session, content, offset, **more))


def appended(session: str, content: bytes, offset: int = 0, **more: str) -> dict[str, object]:
    """Return a line of a push."""
    return {
        "op": "append",
        "machine_id": "testbox",
        "session": session,
        "stream": "main",
        "generation": 0,
        "offset": offset,
        "length": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "data": content.decode(),
    } | more


def push_lines(world: World, *lines: dict[str, object]) -> None:
    """Push lines to the archive."""
    archive = world.servers["archive"]
    headers = {"Authorization": f"Bearer {archive.token}", "Sessiond-Device": str(world.harness.device_id)}
    body = "\n".join(json.dumps(line) for line in lines)
    answered = httpx.post(f"{archive.url}/v1/push", content=body, headers=headers, timeout=60)
    assert {each["status"] for each in answered.json()["results"]} == {"stored"}, answered.text


def copied(world: World) -> tuple[int, int]:
    """Return how many sessions of the archive are known, and how many of them are still to be copied."""
    archive = world.harness.spool.safety.archive()
    return archive.sessions, archive.pending


def test_bytes_without_a_record_are_copied(world: World) -> None:
    """The archive refused the record, or never got it. The bytes may exist nowhere else."""
    harness = world.harness
    kept = archived(world, SESSION)
    text = b'{"a":1}\n' * 40_000
    push_bytes(world, UNKNOWN, text)
    push_bytes(world, UNKNOWN, b"x", stream="agents/a")
    world.configure("first")
    harness.settle()
    assert harness.held(UNKNOWN) == text
    assert harness.held(UNKNOWN, "agents/a") == b"x"
    assert harness.held(SESSION) == kept[SESSION]
    assert copied(world) == (2, 0)


def test_bytes_without_a_record_are_masked_too(world: World) -> None:
    """The archive may have been filled without masking."""
    harness = world.harness
    push_bytes(world, UNKNOWN, f'{{"t":"{SECRET}"}}\n'.encode())
    harness.settings["redact"] = "mask"
    world.configure("first")
    harness.settle()
    assert SECRET.encode() not in harness.held(UNKNOWN)
    assert len(harness.held(UNKNOWN)) == len(SECRET) + 9


@pytest.mark.parametrize("recorded", [True, False])
def test_what_another_process_adds_during_the_copy_is_copied(world: World, recorded: bool) -> None:
    """A session that was copied already grows, and a new one appears, before the copy ends."""
    harness = world.harness
    kept = archived(world, SESSION, OTHER, size=320)
    if not recorded:
        push_bytes(world, UNKNOWN, b"begin\n")
    world.configure("first")
    bind(harness.uploading)
    harness.transfer.prepare()
    while copied(world)[1] == 2 + (not recorded):
        harness.transfer.step(size=300_000)
    assert copied(world)[1]
    (done,) = harness.spool.connection.execute("SELECT session FROM archived WHERE copied").fetchone()
    if recorded:
        push_bytes(world, done, b"more\n", offset=len(kept[done]))
        kept[done] += b"more\n"
    else:
        push_bytes(world, UNKNOWN, b"end\n", offset=6)
    fresh = UNKNOWN[:-1] + "b"
    push_bytes(world, fresh, b"new\n")
    while harness.transfer.step().more:
        pass
    assert {each: harness.held(each) for each in kept} == kept
    assert harness.held(fresh) == b"new\n"
    if not recorded:
        assert harness.held(UNKNOWN) == b"begin\nend\n"
    assert copied(world) == (3 if recorded else 4, 0)


def test_an_archive_that_was_restored_is_listed_from_its_beginning(world: World) -> None:
    """Its sequence of changes is shorter than the stored position: no change may be skipped."""
    harness = world.harness
    kept = archived(world, SESSION)
    world.configure("first")
    harness.settle()
    assert copied(world) == (1, 0)
    harness.spool.set_meta("archive.position", "WyIyYjQ0NzlhOS0xMjZmLTRkM2YtYjM5NC1kY2U3OWViMjViODAiLDk5XQ")
    harness.transfer.close()
    harness.transfer.prepare()
    assert copied(world) == (1, 1)
    harness.settle()
    assert copied(world) == (1, 0)
    assert harness.held(SESSION) == kept[SESSION]


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_revoked_during_the_copy_sets_no_session_aside(world: World, status: int) -> None:
    """All sessions wait, and are copied with the next token."""
    harness = world.harness
    kept = archived(world, SESSION, OTHER, size=320)
    world.configure("first")
    bind(harness.uploading)
    harness.transfer.prepare()
    harness.transfer.step(size=1)  # a part of one session
    harness.transfer.close()
    asked = 0

    def revoked(request: httpx.Request, send: Send) -> httpx.Response:
        nonlocal asked
        asked += request.url.path == "/v1/offsets"
        if asked == 1 and request.url.path == "/v1/offsets":
            return send()  # the last request before the token is revoked
        return answer({"type": "unauthorized", "title": "no"}, status)

    harness.transfer.prepare()
    harness.transport.fate = revoked
    with pytest.raises(Refused):
        harness.transfer.step()
    try_push(harness, 3)
    assert harness.spool.safety.archive().refused == 0
    harness.transport.fate = None
    harness.settle()
    assert {each: harness.held(each) for each in kept} == kept
    assert copied(world) == (2, 0)


def test_a_login_page_during_the_copy_sets_no_session_aside(world: World) -> None:
    harness = world.harness
    kept = archived(world, SESSION, size=320)
    world.configure("first")
    bind(harness.uploading)
    harness.transfer.prepare()
    harness.transfer.step(size=1)

    def portal(request: httpx.Request, send: Send) -> httpx.Response:
        if request.url.path == "/v1/offsets":
            return send()
        return httpx.Response(200, headers={"content-type": "text/html"}, stream=httpx.ByteStream(b"<html>"))

    harness.transport.fate = portal
    for _ in range(5):
        with suppress(EndpointError):
            harness.transfer.step()
    assert harness.spool.safety.archive().refused == 0
    harness.transport.fate = None
    harness.settle()
    assert harness.held(SESSION) == kept[SESSION]


def test_an_endpoint_that_asks_for_smaller_pushes_refuses_nothing(world: World, tmp_path: Path) -> None:
    """Well compressed data reaches the limit of a push before that of a batch, more often than TRIES."""
    harness = world.harness
    path = harness.write(CLAUDE, *(claude(SESSION, each, text="again " * 2000) for each in range(400)))
    kept = Path(path).read_bytes()
    harness.settle()
    os.unlink(path)
    harness.settle()
    limits = Limits(segment=300_000, appended=300_000)
    world.servers["first"] = world.stack.enter_context(running(str(tmp_path / "strict"), token=TOKEN, limits=limits))
    world.configure("first")
    harness.settle(60)
    assert harness.spool.safety.archive().refused == 0
    assert harness.held(SESSION) == kept
    assert world.state() is State.SAFE


def test_an_endpoint_that_stores_nothing_of_a_push_is_an_endpoint_that_fails(world: World) -> None:
    """It refuses a push of a single line as too large: repeating it at once would loop."""
    harness = world.harness
    archived(world, SESSION)
    world.configure("first")
    bind(harness.uploading)
    harness.transfer.prepare()

    def full(request: httpx.Request, send: Send) -> httpx.Response:
        if request.url.path != "/v1/push":
            return send()
        problem = {"status": "problem", "problem": {"type": "push-full", "title": "no"}}
        count = 2  # a record and one append
        return answer({"batch": request.headers["sessiond-batch"], "results": [problem] * count})

    harness.transport.fate = full
    with pytest.raises(EndpointError, match="smaller"):
        harness.transfer.step()
    assert harness.spool.safety.archive().refused == 0
    harness.transport.fate = None
    harness.settle()
    assert copied(world) == (1, 0)


def test_many_sessions_cost_a_few_requests_each(world: World) -> None:
    """Listing and planning do not read all sessions again for each batch."""
    harness, count = world.harness, 150
    harness.settle()
    push_lines(world, *(appended(str(uuid.UUID(int=number)), b"x\n") for number in range(1, count + 1)))
    world.configure("first")
    bind(harness.uploading)
    harness.transfer.prepare()
    assert copied(world) == (count, count)
    harness.transport.requests.clear()
    while harness.transfer.step().more:
        pass
    assert copied(world) == (count, 0)
    assert len(harness.transport.requests) < 2.1 * count  # the position before and after, and a push of many
    assert harness.held(str(uuid.UUID(int=count))) == b"x\n"
