"""The copy of the built-in archive, with endpoints and archives that fail, refuse or give wrong answers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest
from test_safety import OTHER, World, content, delete, lines

from sessiond.errors import EndpointError
from sessiond.spool.safety import State
from sessiond.upload import bind, store_batch, upload
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, pushed

Send = Callable[[], httpx.Response]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def archived(world: World, *sessions: str, size: int = 3, text: str = "hello") -> dict[str, bytes]:
    """Fill the archive with sessions whose files are deleted afterwards; return their bytes."""
    harness, found = world.harness, {}
    for session in sessions:
        path = harness.write(
            CLAUDE.replace(SESSION, session), *(claude(session, each, text=noise(text, size)) for each in range(size))
        )
        found[session] = Path(path).read_bytes()
    harness.settle()
    for session in sessions:
        os.unlink(os.path.join(harness.home, CLAUDE.replace(SESSION, session)))
    harness.settle()
    return found


def noise(text: str, size: int) -> str:
    """Return incompressible text if a session is to be copied in several batches."""
    return os.urandom(2000).hex() if size > 100 else text


def answer(value: object, status: int = 200) -> httpx.Response:
    kind = "application/json" if status == 200 else "application/problem+json"
    return httpx.Response(status, headers={"content-type": kind}, stream=httpx.ByteStream(json.dumps(value).encode()))


def try_push(harness: DaemonHarness, count: int = 12) -> None:
    for _ in range(count):
        with suppress(EndpointError):
            harness.push()


def streams_fail(
    session: str, response: Callable[[], httpx.Response]
) -> Callable[[httpx.Request, Send], httpx.Response]:
    def fate(request: httpx.Request, send: Send) -> httpx.Response:
        listing = request.method == "GET" and request.url.path.endswith(f"{session}/streams")
        return response() if listing else send()

    return fate


@pytest.mark.parametrize(
    "response",
    [
        lambda: answer({"type": "not-found", "title": "no"}, 404),
        lambda: answer({"type": "forbidden", "title": "no", "detail": "the token needs the scope read"}, 403),
        lambda: answer({"streams": [{"name": "main", "generations": [{"generation": -1}]}]}),
        lambda: answer({"streams": "x" * (5 << 20)}),
    ],
    ids=["404", "403", "undecodable", "too long"],
)
def test_one_session_that_cannot_be_compared_stops_no_other(
    world: World, response: Callable[[], httpx.Response]
) -> None:
    """The endpoint reports a part of it but does not return it: everything else is copied, and new data is pushed."""
    harness = world.harness
    kept = archived(world, SESSION, OTHER, size=320)
    world.configure("first")
    bind(harness.uploading)
    harness.transfer.prepare()
    harness.transfer.step(size=1)  # a part of one of them
    harness.transfer.close()
    begun = next(each for each in kept if harness.get(f"/v1/sessions/testbox/{each}").status_code == 200)
    (other,) = set(kept) - {begun}
    harness.transport.fate = streams_fail(begun, response)
    try_push(harness)
    assert harness.held(other) == kept[other]
    assert world.state(other) is State.SAFE
    assert world.state(begun) is not State.SAFE
    fresh = SESSION[:-1] + "9"
    harness.write(CLAUDE.replace(SESSION, fresh), claude(fresh, 1))
    harness.scan()
    try_push(harness, 3)
    assert fresh in harness.held_sessions()
    harness.transport.fate = None
    with harness.spool.transaction():
        harness.spool.archived.retry()
    harness.retrying.identify_again()  # as `queue retry` has it
    harness.settle()
    assert harness.held(begun) == kept[begun]
    assert world.state(begun) is State.SAFE


def test_a_body_limit_before_the_endpoint_halves_what_is_copied(world: World) -> None:
    """A proxy may take less at once than the endpoint says, as nginx does with 1 MB by default."""
    harness = world.harness
    kept = archived(world, SESSION, OTHER, size=320)
    world.configure("first")

    def fate(request: httpx.Request, send: Send) -> httpx.Response:
        if request.url.path == "/v1/push" and len(request.content) > 300_000:
            return answer({"title": "too large"}, 413)
        return send()

    harness.transport.fate = fate
    try_push(harness, 60)
    harness.transport.fate = None
    assert {session: harness.held(session) for session in kept} == kept
    assert world.counts().acknowledged == 2


def test_what_the_archive_has_lost_is_not_called_acknowledged(world: World) -> None:
    """The archive acknowledged more than it holds: it was restored from an older copy."""
    harness = world.harness
    harness.write(CLAUDE, *lines(3))
    harness.settle()
    shutil.copytree(world.base / "archive", world.base / "older")
    half = len(content(world))
    harness.write(CLAUDE, *lines(3, 4))
    harness.settle()
    whole = len(content(world))
    delete(world)
    harness.settle()
    world.servers["archive"] = world.serve(world.base / "older")
    world.configure("first")
    bind(harness.uploading)
    harness.transfer.prepare()
    while harness.transfer.step().more:
        pass
    (acked,) = harness.spool.connection.execute("SELECT acked FROM stream").fetchone()
    assert acked <= half
    harness.settle()
    assert world.state() is State.LOST
    assert world.counts().lost_bytes == whole - half


def test_an_endpoint_that_discards_what_it_acknowledges_is_not_believed(world: World) -> None:
    harness = world.harness
    archived(world, SESSION)
    world.configure("first")

    def fate(request: httpx.Request, send: Send) -> httpx.Response:
        if request.url.path != "/v1/push":
            return send()
        count = len(decoded(request))
        return answer({"batch": request.headers["sessiond-batch"], "results": [{"status": "stored"}] * count})

    harness.transport.fate = fate
    try_push(harness)
    assert world.state() is not State.SAFE
    assert not harness.spool.stats.totals(harness.address).complete
    assert harness.spool.safety.archive().pending == 1


def test_digests_of_other_bytes_are_not_believed(world: World) -> None:
    harness = world.harness
    kept = archived(world, SESSION)
    world.configure("first")
    calls = 0

    def fate(request: httpx.Request, send: Send) -> httpx.Response:
        nonlocal calls
        if request.url.path != "/v1/offsets":
            return send()
        calls += 1
        whole = json.loads(send().read())
        for each in whole["streams"]:
            if each.get("after") is not None:
                each["after"] = hashlib.sha256(str(calls).encode()).hexdigest()
        return answer(whole)

    harness.transport.fate = fate
    try_push(harness)
    assert world.state() is not State.SAFE
    harness.transport.fate = None
    with harness.spool.transaction():
        harness.spool.archived.retry()
    harness.settle()
    assert kept[SESSION] == harness.held(SESSION)
    assert world.state() is State.SAFE


def decoded(request: httpx.Request) -> list[bytes]:
    return pushed(request.headers["content-encoding"], request.content).split(b"\n")[:-1]


def test_a_copy_under_other_numbers_goes_on_after_a_kill(world: World) -> None:
    """The endpoint has other bytes under the archive's numbers: a kill must not make it begin again and again."""
    harness = world.harness
    world.settle_at("first", lines(3, text="of an earlier life"))
    world.lose()
    world.configure("archive")
    harness.write(CLAUDE, *(claude(SESSION, each, text=os.urandom(2000).hex()) for each in range(1200)))
    harness.settle()
    later = content(world)
    delete(world)
    harness.settle()
    world.configure("first")
    for _ in range(4):
        harness.now_ms += 1000
        bind(harness.uploading)
        harness.transfer.prepare()
        for _ in range(2):
            harness.transfer.step(size=1000)
        harness.close()
        harness.client.close()
        harness.open()
    harness.settle()
    (main_stream,) = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
    numbers = [each["generation"] for each in main_stream["generations"]]
    assert harness.held(SESSION, generation=numbers[-1]) == later
    assert len(numbers) == 2, numbers
    assert world.state() is State.SAFE


def test_a_restored_endpoint_is_found_at_the_next_push(world: World) -> None:
    """The daemon runs on, and its next push fits: after it, both sides would name the same push again."""
    harness = world.harness
    world.configure("first")
    bind(harness.uploading)
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    harness.scan()
    upload(harness.uploading)
    copy_store(world.base / "first", world.base / "copy")
    harness.write(CLAUDE, *lines(3))
    harness.scan()
    while upload(harness.uploading).more:
        pass
    delete(world)
    while upload(harness.uploading).more:
        pass
    assert world.state() is State.SAFE
    restored = world.serve(world.base / "copy")
    harness.transport.fate = lambda request, send: redirected(harness, request, restored.url)
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 2))
    harness.scan()
    harness.now_ms += 1000
    upload(harness.uploading)
    assert world.state() is not State.SAFE
    harness.settle()
    assert world.state() is State.LOST
    assert world.state(OTHER) is State.SAFE


def test_two_copies_of_a_state_directory_do_not_ask_for_everything_at_each_push(world: World) -> None:
    harness = world.harness
    world.settle_at("first", lines(3))
    asked = 0
    for number in range(10):
        with harness.spool.transaction():
            store_batch(harness.uploading, f"push {number}", "a push of the other copy")
        (unknown,) = harness.spool.connection.execute("SELECT count(*) FROM stream WHERE NOT known").fetchone()
        asked += unknown
        harness.settle()
        harness.now_ms += 1000
    assert asked == 1  # the others wait for the next question of who the endpoint is


def redirected(harness: DaemonHarness, request: httpx.Request, url: str) -> httpx.Response:
    to = httpx.URL(url)
    address = request.url.copy_with(port=to.port)
    sent = httpx.Request(request.method, address, headers=request.headers, content=request.content)
    return harness.transport.real.handle_request(sent)


def copy_store(source: Path, target: Path) -> None:
    """Back a store up while it is served."""
    target.mkdir()
    with (
        closing(sqlite3.connect(source / "endpoint.db")) as live,
        closing(sqlite3.connect(target / "endpoint.db")) as to,
    ):
        live.backup(to)
