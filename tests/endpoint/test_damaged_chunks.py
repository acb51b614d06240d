"""A stored chunk of one stream can't be read any more: all other streams go on, and the client learns which it is."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from endpoint_lines import SESSION, Pusher, append, generation, record

from sessiond.endpoint.server import Running, offloader, packer, reads, streams
from sessiond.endpoint.server.digester import UNREADABLE, Digester
from sessiond.endpoint.server.store import Store
from sessiond.logs import log

OTHER = "0198c0de-0000-7000-8000-0000000000ff"
CONTENT = random.Random(5).randbytes(3000).hex().encode()
Damage = Callable[[Store], None]


def cut(store: Store) -> None:
    """Replace the last half of a frame, or of an object, by nothing."""
    with store.write() as db:
        db.execute("UPDATE chunks SET frame = ? WHERE frame IS NOT NULL AND stream = 1", (b"(\xb5/\xfd",))
        db.execute("UPDATE chunks SET size = 5 WHERE object IS NOT NULL AND stream = 1")


def shorten(store: Store) -> None:
    """Claim more bytes of each chunk than come out of its frame."""
    with store.write() as db:
        db.execute("UPDATE chunks SET length = length + 1 WHERE stream = 1")
        db.execute("UPDATE generations SET length = length + 1 WHERE stream = 1")


def lose(store: Store) -> None:
    """Delete all chunks of the stream."""
    with store.write() as db:
        db.execute("DELETE FROM chunks WHERE stream = 1")


def fill(pusher: Pusher, store: Store, damage: Damage) -> None:
    """Push two sessions in several chunks each, and damage the first one."""
    half = len(CONTENT) // 2
    lines: list[Any] = [record(), append(0, CONTENT[:half]), append(half, CONTENT[half:])]
    lines += [record(id=OTHER), append(0, CONTENT[:half], session=OTHER), append(half, CONTENT[half:], session=OTHER)]
    assert pusher.said(*lines) == ["stored"] * 6
    damage(store)
    store.digests.clear()  # as after a restart
    with store.write() as db:
        db.execute("DELETE FROM checkpoints")
        db.execute("UPDATE generations SET sha256 = NULL")


@pytest.fixture(params=[cut, shorten, lose], ids=lambda each: each.__name__)
def damaged(request: pytest.FixtureRequest, endpoint: Running, pusher: Pusher) -> Running:
    fill(pusher, endpoint.store, request.param)
    return endpoint


def offsets(pusher: Pusher, *, after: bool) -> dict[str, dict[str, Any]]:
    keys = [{"session": session, "stream": "main"} for session in (SESSION, OTHER)]
    answer = pusher.post("/v1/offsets", json={"machine_id": "ada", "streams": keys, "after": after})
    assert answer.status_code == 200, answer.text
    return {each["session"]: each for each in answer.json()["streams"]}


@pytest.mark.parametrize("erased", [False, True])
def test_a_stream_that_was_erased_meanwhile_is_not_logged_as_damaged(
    endpoint: Running, pusher: Pusher, monkeypatch: pytest.MonkeyPatch, *, erased: bool
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(log, "error", lambda event, **keys: logged.append(event))
    fill(pusher, endpoint.store, lose)
    with endpoint.store.read() as db:
        state = streams.find_state(db, "default", "ada", SESSION, "main")
    assert state is not None
    if erased:
        with endpoint.store.write() as db:
            db.execute("DELETE FROM generations WHERE stream = ?", (state.stream,))
    assert asyncio.run(Digester(endpoint.store).digests([state])) == [UNREADABLE]
    assert logged == ([] if erased else ["endpoint.damaged"])


@pytest.mark.parametrize("after", [True, False])
def test_its_digest_is_that_of_no_content_and_others_are_answered(
    damaged: Running, pusher: Pusher, *, after: bool
) -> None:
    """One request names many streams: a client would learn nothing about any of them."""
    found, key = offsets(pusher, after=after), "after" if after else "sha256"
    assert found[SESSION][key] == UNREADABLE
    assert found[OTHER][key] != UNREADABLE
    assert found[OTHER]["length"] == len(CONTENT)


def test_reading_it_is_answered_404_and_others_are_read(damaged: Running, pusher: Pusher) -> None:
    answer = pusher.get(f"/v1/sessions/ada/{SESSION}/streams/main")
    assert (answer.status_code, answer.json()["type"]) == (404, "damaged")
    other = pusher.get(f"/v1/sessions/ada/{OTHER}/streams/main")
    assert (other.status_code, other.content) == (200, CONTENT)


def test_a_push_goes_on_and_begins_a_new_generation(damaged: Running, pusher: Pusher) -> None:
    """A repeated append is answered as one of other bytes, with the digest of no content, and others are stored."""
    results = pusher.lines(append(0, CONTENT, after="f" * 64), append(len(CONTENT), b"more", session=OTHER))
    assert [each["status"] for each in results] == ["problem", "stored"]
    assert results[0]["problem"]["after"] == UNREADABLE
    assert pusher.said(generation(1, 0, 0), append(0, CONTENT, generation=1)) == ["stored"] * 2
    assert pusher.bytes_of() == CONTENT


def test_packing_and_moving_go_on(damaged: Running, pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream stays as it is; all others are packed, and moved if there is an object store."""
    monkeypatch.setattr(offloader, "SMALLEST", 1)
    for _ in range(20):
        if not packer.pack(damaged.store, 1):
            break
    else:
        raise AssertionError("it packs the same chunks again and again")
    for _ in range(20):
        if damaged.store.blobs is None or not offloader.offload(damaged.store, 1):
            break
    else:
        raise AssertionError("it moves the same chunks again and again")
    with damaged.store.read() as db:
        (left,) = db.execute("SELECT count(*) FROM chunks WHERE object IS NULL AND stream <> 1").fetchone()
    assert left == (0 if damaged.store.blobs is not None else 1)
    assert pusher.get(f"/v1/sessions/ada/{OTHER}/streams/main").content == CONTENT


def test_damage_behind_the_first_step_is_named_by_the_second_answer(
    endpoint: Running, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer has begun when it is found, so it is cut off."""
    monkeypatch.setattr(reads, "STEP", 1000)
    pieces = [os.urandom(500).hex().encode() for _ in range(4)]
    assert pusher.said(record(), *(append(1000 * at, piece) for at, piece in enumerate(pieces))) == ["stored"] * 5
    with endpoint.store.write() as db:
        db.execute("UPDATE chunks SET frame = ? WHERE stream = 1 AND start = 2000", (b"(\xb5/\xfd",))
    address = f"/v1/sessions/ada/{SESSION}/streams/main"
    with pytest.raises(Exception, match=r"peer closed|incomplete"):
        pusher.get(address)
    answer = pusher.get(address)
    assert (answer.status_code, answer.json()["type"]) == (404, "damaged")
    assert pusher.get(address, headers={"Range": "bytes=0-1999"}).content == b"".join(pieces[:2])
    assert pusher.get(address, headers={"Range": "bytes=3000-"}).content == pieces[3]
