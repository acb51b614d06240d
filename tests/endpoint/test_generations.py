"""Generations and the bytes that they share."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import closing
from tempfile import TemporaryDirectory
from uuid import UUID

import httpx
import msgspec
import pytest
from endpoint_lines import DEVICE, SESSION, Pusher, append, generation, sender, store_push
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.endpoint.read_client import PIECE, ReadClient
from sessiond.endpoint.server import Running, reading, streams
from sessiond.endpoint.server.digester import Digester
from sessiond.endpoint.server.packer import pack
from sessiond.endpoint.server.push import PushRequest
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.wire import Limits
from sessiond.errors import NotFound


def test_a_new_generation_keeps_the_start_of_its_previous_one(pusher: Pusher) -> None:
    """A rewrite costs what changed, and what was there before stays readable."""
    pusher.said(append(0, b"one\ntwo\nthree\n"))
    assert pusher.said(generation(1, 0, 8), append(8, b"3\n", generation=1)) == ["stored", "stored"]
    assert pusher.bytes_of() == b"one\ntwo\n3\n"
    assert pusher.bytes_of(generation=0) == b"one\ntwo\nthree\n"
    (held,) = pusher.get(f"/v1/sessions/ada/{SESSION}/streams").json()["streams"]
    assert held["generations"] == [
        {"generation": 0, "previous": None, "keep": 0, "length": 14},
        {"generation": 1, "previous": 0, "keep": 8, "length": 10},
    ]


def test_an_older_generation_still_takes_its_own_appends(pusher: Pusher) -> None:
    """Segments that waited in the outbox are not lost because a rewrite overtook them."""
    pusher.said(append(0, b"one\n"), generation(1, 0, 2))
    assert pusher.said(append(4, b"two\n")) == ["stored"]
    assert pusher.bytes_of(generation=0) == b"one\ntwo\n"
    assert pusher.bytes_of(generation=1) == b"on"


def test_a_generation_that_is_not_known_is_answered_with_the_current_one(pusher: Pusher) -> None:
    """After a restored backup the client learns from which generation to go on."""
    (nothing,) = pusher.lines(append(0, b"x", generation=2))
    assert (nothing["problem"]["type"], nothing["problem"]["generation"]) == ("no-generation", 0)
    pusher.said(append(0, b"one\n"))
    for line in (append(4, b"x", generation=2), generation(3, 2, 1)):
        (unknown,) = pusher.lines(line)
        assert unknown["problem"]["type"] == "no-generation"
        assert (unknown["problem"]["generation"], unknown["problem"]["offset"]) == (0, 4)
        assert unknown["problem"]["sha256"] == hashlib.sha256(b"one\n").hexdigest()


def test_an_impossible_generation_is_refused(pusher: Pusher) -> None:
    """A generation shares bytes that the endpoint has, of an older generation, and never changes which."""
    pusher.said(append(0, b"one\n"), generation(2, 0, 3))
    assert pusher.said(
        generation(0, None, 0),
        generation(3, None, 1),
        generation(3, 3, 1),
        generation(3, 2, 4),
        generation(2, 0, 2),
        generation(1, 0, 1),
    ) == ["invalid", "invalid", "invalid", "offset-mismatch", "offset-mismatch", "offset-mismatch"]
    assert pusher.said(generation(2, 0, 3), generation(3, 2, 3)) == ["duplicate", "stored"]


def test_a_stream_may_begin_with_any_generation_that_keeps_nothing(pusher: Pusher) -> None:
    """A new endpoint gets the present generation, without the older ones."""
    assert pusher.said(generation(7, 6, 0), append(0, b"new\n", generation=7)) == ["stored", "stored"]
    assert pusher.bytes_of() == b"new\n"
    assert pusher.said(append(0, b"old\n")) == ["stored"]
    assert pusher.bytes_of() == b"new\n"
    assert pusher.bytes_of(generation=0) == b"old\n"


def test_sharing_copies_nothing(endpoint: Running, pusher: Pusher) -> None:
    """A hundred generations of a document cost only their tails."""
    big = b"".join(hashlib.sha256(str(n).encode()).hexdigest().encode() for n in range(16_000))
    pusher.said(append(0, big))
    keep = len(big)
    for number in range(1, 101):
        pusher.said(generation(number, number - 1, keep), append(keep, b"tail of one line\n", generation=number))
        keep += 10
    assert len(pusher.bytes_of()) == len(big) + 99 * 10 + 17
    with endpoint.store.read() as db:
        stored = db.execute("SELECT sum(length(frame)), count(*) FROM chunks").fetchone()
    assert stored[0] < len(big)
    assert stored[1] == 101


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 5), st.sampled_from([1, 7, 3_000, 70_000])),
        st.tuples(st.just("rewrite"), st.integers(0, 5), st.floats(0, 1)),
        st.tuples(st.just("forget"), st.just(0), st.just(0)),
        st.tuples(st.just("pack"), st.sampled_from([1, 3]), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, cuts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4))
def test_every_generation_reads_as_it_was_written(
    steps: list[tuple[str, int, float]], cuts: list[tuple[float, float]]
) -> None:
    """For any sharing between generations, bytes, ranges and digests are those of a plain copy."""
    held: dict[int, bytes] = {}
    with TemporaryDirectory() as directory:
        store = SqliteStore(directory)
        for count, (what, pick, size) in enumerate(steps):
            known = sorted(held)
            which = known[pick % len(known)] if known else 0
            if what == "append":
                added = (f"{count}." * int(size)).encode()[: int(size)]
                before = held.get(which, b"")
                line = append(len(before), added, generation=which)
                held[which] = before + added
            elif what == "rewrite" and known:
                keep = int(size * len(held[which]))
                line = generation(known[-1] + 1, which, keep)
                held[known[-1] + 1] = held[which][:keep]
            else:
                if what == "pack":
                    pack(store, pick)
                store.digests.clear()
                continue
            for said in ("stored", "duplicate"):
                (result,) = store_push(store, PushRequest(store, Limits(), sender()), msgspec.json.encode(line)).results
                assert result.status == said
        with store.read() as db:
            stream = streams.find(db, "default", "ada", SESSION, "main")
            numbers = [each.generation for _, _, each in streams.generations(db, "default", "ada", SESSION, ("", -1))]
            assert numbers == sorted(held)
            found = [stream and streams.find_generation(db, stream, number) for number in numbers]
            lives = [each for each in found if each]
            assert len(lives) == len(held)
            assert lives == [] or stream is not None
            states = [streams.State(stream or 0, each.generation, each.length, each.sha256) for each in lives]
            digests = asyncio.run(Digester(store).digests(states))
            assert digests == [hashlib.sha256(held[each.generation]).hexdigest() for each in lives]
            for life in lives:
                assert stream is not None
                plain = held[life.generation]
                assert reading.read(store, stream, life.generation, 0, life.length) == plain
                for one, other in cuts:
                    start, end = sorted((int(one * len(plain)), int(other * len(plain))))
                    assert reading.read(store, stream, life.generation, start, end) == plain[start:end]
        store.close()


def test_a_client_reads_the_generation_that_it_names(endpoint: Running, pusher: Pusher) -> None:
    """The current generation is the default, and the client may name an end."""
    pusher.said(append(0, b"one\ntwo\n"), generation(1, 0, 4), append(4, b"2\n", generation=1))
    with closing(ReadClient(endpoint.url, endpoint.token, device_id=UUID(DEVICE))) as client:

        def read(number: int | None, end: int | None = None) -> bytes:
            return b"".join(client.stream("ada", UUID(SESSION), "main", generation=number, end=end))

        assert (read(0), read(1), read(None)) == (b"one\ntwo\n", b"one\n2\n", b"one\n2\n")
        assert (read(0, 5), read(None, 1)) == (b"one\nt", b"o")
        with pytest.raises(NotFound):
            read(2)


def test_a_client_reads_a_long_stream_in_pieces() -> None:
    """Up to its end or the one that it wants, whether or not a piece ends there."""
    content = bytes(range(256)) * (3 * PIECE // 256) + b"end"
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["range"])
        first, last = (int(number) for number in asked[-1].removeprefix("bytes=").split("-"))
        if first >= size:
            return httpx.Response(416)
        return httpx.Response(206, stream=httpx.ByteStream(content[: min(last + 1, size)][first:]))

    transport = httpx.MockTransport(answer)
    with closing(ReadClient("http://127.0.0.1:1", "token", device_id=UUID(DEVICE), transport=transport)) as client:
        for size, end, requests in ((len(content), None, 4), (3 * PIECE, None, 4), (len(content), 2 * PIECE, 2)):
            asked.clear()
            read = b"".join(client.stream("ada", UUID(SESSION), "main", end=end))
            assert read == content[:size][:end]
            assert len(asked) == requests
