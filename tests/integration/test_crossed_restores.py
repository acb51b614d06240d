"""Both sides are restored from older copies, the daemon goes on, and then a later copy of its state is restored.

Then the endpoint may have other bytes under the number of a generation that this state has as acknowledged.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from test_safety import SECRET, World, content, lines

from sessiond.spool import health
from sessiond.spool.safety import State
from sessiond.upload import bind
from support.harness import CLAUDE, SESSION


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def restore_state(world: World, name: str) -> None:
    """Put a copy of the state directory in place of the state."""
    world.harness.close()
    shutil.rmtree(world.harness.state)
    shutil.copytree(world.base / name, world.harness.state)


def generations(world: World) -> list[bytes]:
    """Return what the endpoint has of the session, generation by generation."""
    harness = world.harness
    (stream,) = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
    return [harness.held(SESSION, generation=each["generation"]) for each in stream["generations"]]


def diverge(world: World, *, queued: bool) -> tuple[bytes, bytes, bytes]:
    """Make the endpoint hold another second generation than this state pushed; return the contents of all three.

    With `queued`, the state still has a line of its second generation to push.
    """
    harness = world.harness
    world.settle_at("first", lines(2))
    first = content(world)
    harness.close()
    shutil.copytree(harness.state, world.base / "old state")
    harness.open()
    shutil.copytree(world.base / "first", world.base / "old endpoint")
    harness.write(CLAUDE, *lines(3, 10), mode="wb")
    harness.settle()
    if queued:
        harness.write(CLAUDE, *lines(2, 20))
        harness.scan()
    ours = content(world)
    harness.close()
    shutil.copytree(harness.state, world.base / "new state")
    restore_state(world, "old state")
    world.servers["first"] = world.serve(world.base / "old endpoint")
    harness.write(CLAUDE, *lines(3, 30), mode="wb")
    world.configure("first")
    harness.settle()
    theirs = content(world)
    assert generations(world) == [first, theirs]
    restore_state(world, "new state")
    return first, ours, theirs


def test_equal_numbers_of_a_file_that_is_there_are_no_proof(world: World) -> None:
    """Number and length are equal, the bytes are not: the file is pushed as a generation of its own."""
    first, ours, theirs = diverge(world, queued=False)
    assert len(ours) == len(theirs)
    Path(world.harness.home, CLAUDE).write_bytes(ours)
    world.configure("first")
    world.harness.settle()
    assert generations(world) == [first, theirs, ours]
    assert world.state() is State.SAFE


def test_nothing_is_appended_to_what_cannot_be_compared(world: World) -> None:
    """The file is gone. What is still queued goes behind a placeholder, and what the endpoint may lack is lost."""
    first, ours, theirs = diverge(world, queued=True)
    os.unlink(os.path.join(world.harness.home, CLAUDE))
    world.configure("first")
    world.harness.settle()
    held = generations(world)
    assert held[:2] == [first, theirs]
    (rest,) = held[2:]
    pushed = len(theirs)
    assert rest[:pushed].startswith(b'{"type":"sessiond","lost_bytes":%d}' % pushed)
    assert rest[pushed:] == ours[pushed:]
    assert world.state() is State.LOST
    assert world.counts().lost_bytes == pushed


def test_an_endpoint_with_an_older_state_of_ours_is_no_foreign_one(world: World) -> None:
    """Its last batch is one of those that were pushed. So equal numbers are equal bytes, and no file is read."""
    harness = world.harness
    world.settle_at("first", lines(2))
    shutil.copytree(world.base / "first", world.base / "old endpoint")
    harness.write(CLAUDE, *lines(2, 10))
    harness.settle()
    ours = content(world)
    world.servers["first"] = world.serve(world.base / "old endpoint")
    world.configure("first")
    bind(harness.uploading)
    (stream,) = harness.spool.catalog.streams(1)
    assert not stream.unproven
    harness.settle()
    assert generations(world) == [ours]
    assert health.read_copies(harness.spool).diverged_ms == []


def secret_lines(count: int, start: int) -> list[dict]:
    return lines(count, start, text=f"the token is {SECRET}")


def unwatched(world: World) -> None:
    """Delete the tool's file and configure the endpoint, which answers as far as it has the session's bytes."""
    os.unlink(os.path.join(world.harness.home, CLAUDE))
    world.configure("first")


def test_equal_numbers_without_the_file_are_compared_with_what_was_queued(world: World) -> None:
    """The endpoint's bytes are as many as ours, but others: they count as lost, and nothing is called safe."""
    first, ours, theirs = diverge(world, queued=False)
    assert len(ours) == len(theirs)
    unwatched(world)
    world.harness.settle()
    assert generations(world) == [first, theirs]
    assert world.state() is State.LOST
    assert world.counts().lost_bytes == len(ours)


@pytest.mark.parametrize("written", [lines, secret_lines])
def test_bytes_that_were_queued_are_recognized_without_the_file(
    world: World, written: Callable[[int, int], list[dict]]
) -> None:
    """An endpoint that may have other bytes has ours, also if secrets were masked: the session is safe."""
    harness = world.harness
    harness.settings["redact"] = "mask"
    world.settle_at("first", written(3, 1))
    unwatched(world)
    with harness.spool.transaction():
        harness.spool.catalog.change_endpoint(None, None)
        harness.spool.catalog.distrust_positions()
    harness.scan()
    assert harness.push().asked
    harness.scan()
    assert world.state() is State.WAITING  # the endpoint's bytes were not read yet
    harness.settle()
    assert world.state() is State.SAFE
    (stream,) = harness.spool.catalog.streams(1)
    assert not stream.unproven
