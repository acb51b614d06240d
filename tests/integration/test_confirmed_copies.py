"""The endpoint's copy of a session whose file is gone is read, and compared with what was queued."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
import pytest
from test_crossed_restores import diverge, generations
from test_safety import SECRET, World, content, lines

from sessiond.daemon.confirmation import RETRY_SECONDS
from sessiond.endpoint import read_client
from sessiond.endpoint.server import tokens
from sessiond.spool.confirmation import Confirmations
from sessiond.spool.safety import State
from sessiond.status import read_status
from support.harness import CLAUDE, SESSION

Send = Callable[[], httpx.Response]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def doubt(world: World) -> None:
    """Delete the tool's file, and doubt that the endpoint has what was pushed; its position is known then."""
    harness = world.harness
    os.unlink(os.path.join(harness.home, CLAUDE))
    with harness.spool.transaction():
        harness.spool.catalog.change_endpoint(None, None)
        harness.spool.catalog.distrust_positions()
    harness.scan()
    while Confirmations(harness.spool.connection).next() is None:
        harness.push()
        harness.scan()


def page(status: int, content: bytes = b"<html>Log in</html>") -> httpx.Response:
    return httpx.Response(status, headers={"content-type": "text/html"}, stream=httpx.ByteStream(content))


def reads(answer: Callable[[httpx.Request, Send], httpx.Response]) -> Callable[[httpx.Request, Send], httpx.Response]:
    """Return a fate that concerns only the bytes of streams."""
    return lambda request, send: answer(request, send) if "/streams/" in request.url.path else send()


def test_a_page_of_a_proxy_is_no_other_content(world: World) -> None:
    """A login page in place of the bytes, and then of all else: nothing counts as lost, and it is tried again."""
    world.settle_at("first", lines(3))
    doubt(world)
    harness = world.harness
    harness.transport.fate = lambda *_: page(200)
    assert not all(harness.confirmation.step() for _ in range(9))
    assert world.state() is State.WAITING
    assert 0 < (harness.confirmation.idle_seconds() or 0) <= RETRY_SECONDS
    assert not harness.confirmation.step()
    harness.transport.fate = None
    harness.settle()
    assert world.state() is State.SAFE


@pytest.mark.parametrize("status", [200, 404])
def test_one_wrong_answer_is_not_believed(world: World, status: int) -> None:
    world.settle_at("first", lines(3))
    doubt(world)
    answers = [page(status)]
    world.harness.transport.fate = reads(lambda _, send: answers.pop() if answers else send())
    while world.harness.confirmation.step():
        pass
    assert not answers
    assert world.state() is State.SAFE


@pytest.mark.parametrize("statuses", [(403, 404), (404, 403), (403, 200), (401, 404), (404, 401)])
def test_a_refusal_and_one_wrong_answer_are_no_difference(world: World, statuses: tuple[int, int]) -> None:
    """A difference needs two answers about the bytes, and a refusal is none."""
    world.settle_at("first", lines(3))
    doubt(world)
    answers = [page(status) for status in reversed(statuses)]
    world.harness.transport.fate = reads(lambda _, send: answers.pop() if answers else send())
    while world.harness.confirmation.step():
        pass
    assert world.state() is State.WAITING
    world.harness.clock.advance(RETRY_SECONDS)
    while world.harness.confirmation.step():
        pass
    assert world.state() is State.SAFE


def test_bytes_that_differ_at_the_end_cost_only_the_end(world: World) -> None:
    """What is equal before the first difference is safe, counted in whole extents."""
    harness = world.harness
    world.settle_at("first", lines(2))
    start = len(content(world))
    harness.write(CLAUDE, *lines(2, 10))
    harness.settle()
    size = len(content(world))
    doubt(world)

    def cut(_: httpx.Request, send: Send) -> httpx.Response:
        answer = send()
        return page(answer.status_code, answer.read()[:-1] + b"!")

    harness.transport.fate = reads(cut)
    while harness.confirmation.step():
        pass
    assert world.state() is State.LOST
    assert world.counts().lost_bytes == size - start


def test_of_bytes_that_differ_from_the_start_nothing_is_safe(world: World) -> None:
    world.settle_at("first", lines(3))
    size = len(content(world))
    doubt(world)
    world.harness.transport.fate = reads(lambda _, send: page(200, b"!" + send().read()[1:]))
    while world.harness.confirmation.step():
        pass
    assert world.state() is State.LOST
    assert world.counts().lost_bytes == size


def test_the_comparison_pauses_after_each_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of them the upload thread pushes what was captured meanwhile."""
    monkeypatch.setattr(read_client, "PIECE", 200)
    world.settle_at("first", lines(3))
    doubt(world)
    harness = world.harness
    before, after = len(harness.transport.requests), list[int]()
    while harness.confirmation.step():
        after.append(len(harness.transport.requests) - before)
    assert after[0] == 1
    assert after[-1] >= len(world.harness.held(SESSION)) // 200
    assert all(later - earlier <= 1 for earlier, later in pairwise(after))
    assert world.state() is State.SAFE


def test_what_a_token_that_only_pushes_cannot_read_is_unknown(world: World) -> None:
    """Nothing is called safe, and nothing lost: it waits, `status` says why, and it is compared once that is possible.

    The endpoint is asked again after minutes only.
    """
    world.settle_at("first", lines(3))
    harness, whole = world.harness, world.servers["first"]
    world.close()
    token = tokens.add(whole.store, "pusher", scopes=["push"])
    world.servers["first"] = msgspec.structs.replace(whole, token=token)
    world.configure("first")
    doubt(world)
    harness.settle()
    assert world.state() is State.WAITING
    assert world.counts().lost_bytes == 0
    assert harness.confirmation.idle_seconds()
    asked = len(harness.transport.requests)
    assert not harness.confirmation.step()
    assert len(harness.transport.requests) == asked
    environ = {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state}
    found = read_status(None, environ)
    assert found.unreadable == 1
    assert any("can't be checked, because the token can't read there" in each.what for each in found.advice)
    world.close()
    world.servers["first"] = whole
    world.configure("first")
    harness.settle()
    assert world.state() is State.SAFE
    assert read_status(None, environ).unreadable == 0


def test_queued_bytes_that_are_masked_again_are_recognized(world: World) -> None:
    """New rules changed what was queued: the endpoint has the bytes as they were masked last."""
    harness = world.harness
    world.settle_at("first", [])
    harness.write(CLAUDE, *lines(3, text=f"a token {SECRET}"))
    harness.scan()
    world.close()
    harness.settings["redact"] = "mask"
    harness.open()
    harness.settle()
    assert SECRET.encode() not in harness.held(SESSION)
    doubt(world)
    harness.settle()
    assert world.state() is State.SAFE


@pytest.mark.parametrize("rewritten", [False, True])
def test_nothing_is_added_to_a_copy_that_differs(world: World, rewritten: bool) -> None:
    """The file comes back with a line more, or with another end: all of it goes into a generation of its own."""
    first, ours, theirs = diverge(world, queued=False)
    path = Path(world.harness.home, CLAUDE)
    path.unlink()
    world.configure("first")
    world.harness.settle()
    assert world.state() is State.LOST
    path.write_bytes(ours[: len(ours) // 3 * 2] if rewritten else ours)
    world.harness.write(CLAUDE, *lines(1, 50))
    now = path.read_bytes()
    world.harness.ingest(str(path))  # before a scan notes that it was gone
    world.harness.settle()
    held = generations(world)
    assert held[:2] == [first, theirs]
    assert held[-1] == now
    assert not any(each.startswith(theirs[:-1]) for each in held[2:])
    assert world.state() is State.SAFE


def test_a_file_that_comes_back_meanwhile_is_compared_instead(world: World) -> None:
    """What the comparison of the endpoint's bytes finds is no longer stored then."""
    world.settle_at("first", lines(3))
    kept = content(world)
    doubt(world)
    harness = world.harness
    harness.transport.fate = reads(lambda *_: page(404))
    assert harness.confirmation.step()
    harness.transport.fate = None
    Path(harness.home, CLAUDE).write_bytes(kept)
    harness.scan()
    while harness.confirmation.step():
        pass
    harness.settle()
    assert generations(world) == [kept]
    assert world.state() is State.SAFE
