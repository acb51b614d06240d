"""Stream digests (`after`): the endpoint computes them from its bytes, checks those of clients, and returns them."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from endpoint_lines import SESSION, Line, Pusher, append, generation, sender, store_push
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.endpoint.server import Running, checkpoints, streams
from sessiond.endpoint.server.digester import Digester
from sessiond.endpoint.server.digests import APART
from sessiond.endpoint.server.packer import pack
from sessiond.endpoint.server.push import PushRequest
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.stream_digest import EMPTY, StreamDigest
from sessiond.endpoint.wire import Limits

WRONG = "0" * 64


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Yield an empty store."""
    made = SqliteStore(str(tmp_path / "store"))
    yield made
    made.close()


def after(data: bytes) -> str:
    """Return the stream digest of bytes."""
    digest = StreamDigest()
    digest.update(data)
    return digest.hexdigest()


def text(length: int, seed: int = 1) -> bytes:
    """Return random text."""
    return random.Random(seed).randbytes(length // 2 + 1).hex().encode()[:length]


def push(store: SqliteStore, *lines: Line) -> list[str]:
    """Push lines without a server."""
    request = PushRequest(store, Limits(), sender())
    results = store_push(store, request, *map(msgspec.json.encode, lines)).results
    return [each.problem.type if each.problem else each.status for each in results]


def position(pusher: Pusher, **asked: Any) -> dict[str, Any]:
    """Return the endpoint's position in the stream `main`."""
    wanted = {"machine_id": "ada", "streams": [{"session": SESSION, "stream": "main"}], **asked}
    answer = pusher.post("/v1/offsets", json=wanted)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["streams"]
    return dict(found)


def digest(store: SqliteStore, stream: int, number: int, length: int) -> tuple[str, int]:
    """Return the stream digest of a generation, and how many bytes were read for it."""
    digester = Digester(store)
    (found,) = asyncio.run(digester.digests([streams.State(stream, number, length, None, follows_sha256=False)]))
    return found, digester.hashed


def test_the_endpoint_returns_it_where_it_is_asked_for(pusher: Pusher) -> None:
    """A client that knows stream digests gets them instead of a SHA-256, after a mismatch and with the offsets."""
    first, second = b"one\n", text(3_000)
    assert position(pusher, after=True) == {
        "session": SESSION,
        "stream": "main",
        "generation": None,
        "length": 0,
        "sha256": None,
    }
    assert pusher.said(append(0, first, after=after(first)), append(4, second, after=None)) == ["stored"] * 2
    found = position(pusher, after=True)
    assert (found["length"], found["after"], found["sha256"]) == (3_004, after(first + second), None)
    (stale,) = pusher.lines(append(9_000, b"x", after=None))
    known = {name: stale["problem"].get(name) for name in ("generation", "offset", "after", "sha256")}
    assert known == {"generation": 0, "offset": 3_004, "after": after(first + second), "sha256": None}
    (unknown,) = pusher.lines(append(5, b"x", stream="none", after=None))
    assert (unknown["problem"]["offset"], unknown["problem"]["after"]) == (0, EMPTY)


def test_a_client_of_an_earlier_version_gets_a_sha256(pusher: Pusher) -> None:
    """A line without the field is stored and answered as before, also beside lines that have it."""
    first, second = b"one\n", b"two\n"
    assert pusher.said(append(0, first, after=after(first)), append(4, second)) == ["stored"] * 2
    whole = hashlib.sha256(first + second).hexdigest()
    (stale,) = pusher.lines(append(9, b"x"))
    assert (stale["problem"]["sha256"], stale["problem"].get("after")) == (whole, None)
    found = position(pusher)
    assert (found["sha256"], found.get("after")) == (whole, None)
    assert pusher.said(append(8, b"three\n", after=after(b"one\ntwo\nthree\n"))) == ["stored"]
    assert position(pusher, after=True)["after"] == after(b"one\ntwo\nthree\n")


def test_an_append_behind_other_bytes_is_refused(pusher: Pusher) -> None:
    """The endpoint believes no digest: it compares it with its own, and stores nothing if they differ."""
    held = text(5_000)
    assert pusher.said(append(0, b"first", after=WRONG), append(0, held, after=None)) == ["offset-mismatch", "stored"]
    other = b"!" + held[1:]
    (refused,) = pusher.lines(append(5_000, b"more", after=after(other + b"more")))
    known = [refused["problem"][name] for name in ("type", "generation", "offset", "after")]
    assert known == ["offset-mismatch", 0, 5_000, after(held)]
    assert pusher.bytes_of() == held
    assert pusher.said(append(5_000, b"more", after=after(held + b"more"))) == ["stored"]
    assert pusher.bytes_of() == held + b"more"


def test_a_generation_that_keeps_other_bytes_is_refused(pusher: Pusher) -> None:
    """The digest of the kept bytes is compared where the endpoint knows it: for all bytes of a generation."""
    held = text(2_000)
    assert pusher.said(append(0, held, after=None)) == ["stored"]
    assert pusher.said(generation(1, 0, 2_000, after=WRONG)) == ["offset-mismatch"]
    assert pusher.said(generation(1, 0, 2_000, after=after(held))) == ["stored"]
    assert pusher.said(append(2_000, b"x", generation=1, after=WRONG)) == ["offset-mismatch"]
    assert pusher.said(append(2_000, b"x", generation=1, after=after(held + b"x"))) == ["stored"]
    assert position(pusher, after=True)["after"] == after(held + b"x")


def test_the_digest_survives_a_restart(endpoint: Running, pusher: Pusher) -> None:
    """After a restart no digest is in memory. The bytes are still there, and what a client sends is compared again."""
    held = text(3_000)
    assert pusher.said(append(0, held, after=None)) == ["stored"]
    endpoint.store.digests.clear()
    moved = endpoint.store.blobs is not None
    wrong = pusher.said(append(3_000, b"x", after=WRONG))
    assert wrong == (["stored"] if moved else ["offset-mismatch"]), "objects are not read in a transaction"
    whole = held + b"x" if moved else held
    assert position(pusher, after=True)["after"] == after(whole), "what was claimed is not believed"
    assert pusher.said(append(len(whole), b"y", after=WRONG)) == ["offset-mismatch"]


def test_a_long_stream_is_not_hashed_again(store: SqliteStore) -> None:
    """A restart forgets the digests in memory. Then only what is behind the last checkpoint is read."""
    data = text(APART * 5 + 1_000)
    parts = [data[at : at + 3 * APART] for at in range(0, len(data), 3 * APART)]
    lines = [append(at * 3 * APART, part, after=None) for at, part in enumerate(parts)]
    assert push(store, *lines) == ["stored"] * 2
    store.digests.clear()
    assert digest(store, 1, 0, len(data)) == (after(data), 1_000)
    store.digests.clear()
    assert push(store, append(len(data), b"x", after=WRONG)) == ["offset-mismatch"]
    store.digests.clear()
    keep = 4 * APART + 500
    assert push(store, generation(1, 0, keep, after=None), append(keep, b"x", generation=1, after=WRONG)) == [
        *("stored", "stored")
    ], "the digest in the middle of a generation is not known in the transaction that begins another one"
    assert digest(store, 1, 1, keep + 1) == (after(data[:keep] + b"x"), 501)


def test_the_checkpoints_of_an_old_store_are_made_once(store: SqliteStore) -> None:
    """A stream that an earlier version stored is hashed when its digest is asked for, and never again."""
    data = text(APART * 4)
    assert push(store, append(0, data)) == ["stored"]
    assert digest(store, 1, 0, len(data)) == (after(data), len(data))
    store.digests.clear()
    assert digest(store, 1, 0, len(data)) == (after(data), 0)


def test_an_erased_session_leaves_no_checkpoint(endpoint: Running, pusher: Pusher) -> None:
    """A digest tells whether somebody has certain bytes."""
    assert pusher.said(append(0, text(APART * 2), after=None)) == ["stored"]
    query = "SELECT count(*) FROM checkpoints"
    with endpoint.store.read() as db:
        assert db.execute(query).fetchone()[0] == 2
    assert pusher.delete(f"/v1/sessions/ada/{SESSION}").status_code == 200
    with endpoint.store.read() as db:
        assert db.execute(query).fetchone()[0] == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "rewrite", "restart", "pack"]),
        st.integers(0, 5),
        st.sampled_from([1, 1_024, 3_000, APART, 2 * APART + 5]),
        st.sampled_from(["unset", "null", "right", "wrong"]),
    ),
    max_size=20,
)


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_whatever_is_pushed_the_digest_is_that_of_the_bytes(steps: list[tuple[str, int, int, str]]) -> None:
    """A right digest is never refused, a wrong one is never returned, and a refused append changes nothing."""
    held: dict[int, bytes] = {}
    with TemporaryDirectory() as directory:
        store = SqliteStore(directory)
        for what, pick, size, kind in steps:
            known = sorted(held)
            which = known[pick % len(known)] if known else 0
            before = held.get(which, b"")
            if what == "restart":
                store.digests.clear()
            elif what == "pack":
                pack(store, 1)
            elif what == "rewrite" and known:
                kept = before[: size * 7 % (len(before) + 1)]
                line = generation(known[-1] + 1, which, len(kept)) | _field(kind, kept)
                if push(store, line) == ["stored"]:
                    held[known[-1] + 1] = kept
                else:
                    assert kind == "wrong"
            elif what == "append":
                added = text(size, pick)
                line = append(len(before), added, generation=which) | _field(kind, before + added)
                if push(store, line) == ["stored"]:
                    held[which] = before + added
                else:
                    assert kind == "wrong"
            with store.read() as db:
                rows = db.execute("SELECT generation, length FROM generations ORDER BY generation").fetchall()
            assert rows == [(number, len(held[number])) for number in sorted(held)]
            for number, length in rows:
                assert digest(store, 1, number, length)[0] == after(held[number])
        store.close()


def _field(kind: str, data: bytes) -> Line:
    return {} if kind == "unset" else {"after": {"null": None, "right": after(data), "wrong": WRONG}[kind]}


def test_only_so_much_is_read_in_a_transaction(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many streams whose digests are not in memory delay no push of another device: their lines are stored at once."""
    data = text(checkpoints.RECALLED + 1)
    assert push(store, append(0, data)) == ["stored"]
    assert push(store, append(len(data), b"x", after=WRONG)) == ["stored"], "too much to read"
    monkeypatch.setattr(checkpoints, "RECALL_SECONDS", 0)
    assert push(store, append(0, b"y", stream="b")) == ["stored"]
    assert push(store, append(1, b"z", stream="b", after=WRONG)) == ["stored"], "the time is used up"
    assert digest(store, 1, 0, len(data) + 1)[0] == after(data + b"x")
