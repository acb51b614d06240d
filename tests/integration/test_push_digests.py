"""A push carries the digest of each stream, so that the endpoint appends nothing behind other bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sessiond import zstd
from sessiond.endpoint.stream_digest import EMPTY, StreamDigest
from sessiond.errors import Unreachable
from sessiond.spool import pushed_digests
from sessiond.spool.pushed_digests import PushedDigests
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, pushed


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def digest_of(data: bytes) -> str:
    digest = StreamDigest()
    digest.update(data)
    return digest.hexdigest()


def watch(harness: DaemonHarness) -> list[dict[str, Any]]:
    """Return the list to which all lines about streams are added that are pushed from now on."""
    seen: list[dict[str, Any]] = []

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.url.path == "/v1/push":
            lines = pushed(request.headers["content-encoding"], request.content).splitlines()
            seen.extend(line for line in map(json.loads, lines) if line["op"] != "session")
        return send()

    harness.transport.fate = fate
    return seen


def replace_bytes(harness: DaemonHarness, data: bytes) -> None:
    """Replace what the endpoint has of its only stream by as many other bytes, as a failing disk does."""
    store = harness.endpoint.store
    with store.write() as db:
        db.execute("DELETE FROM checkpoints")
        db.execute("UPDATE chunks SET frame = ? WHERE length = ?", (zstd.compress(data), len(data)))
        assert db.execute("SELECT count(*) FROM chunks").fetchone() == (1,)
    store.digests.clear()


def restart(harness: DaemonHarness) -> None:
    harness.close()
    harness.open()


def test_each_append_has_the_digest_up_to_its_end(harness: DaemonHarness) -> None:
    """Also after a restart, because the spool keeps the state; and behind a rewrite that only appended."""
    lines = watch(harness)
    path = Path(harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, text="x" * 40_000)))
    harness.settle()
    restart(harness)
    watched = watch(harness)
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.settle()
    content = path.read_bytes()
    appended = lines + watched
    assert len(appended) > 1
    assert [line["after"] for line in appended] == [
        digest_of(content[: line["offset"] + line["length"]]) for line in appended
    ]
    assert harness.held(SESSION) == content


def test_a_rewrite_begins_anew(harness: DaemonHarness) -> None:
    """The digest of a new generation is known if it keeps nothing. In the middle of the old one it is not."""
    for number in (1, 2):
        harness.write(CLAUDE, claude(SESSION, number))
        harness.settle()
    lines = watch(harness)
    path = Path(harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 7), mode="wb"))
    harness.settle()
    assert [(line["op"], line["after"]) for line in lines] == [("generation", None), ("append", None)]
    lines = watch(harness)
    harness.write(CLAUDE, claude(SESSION, 9), mode="wb")
    harness.settle()
    assert [(line["op"], line["after"]) for line in lines] == [
        ("generation", None),
        ("append", digest_of(path.read_bytes())),
    ]


def test_nothing_is_appended_behind_other_bytes(harness: DaemonHarness) -> None:
    """The endpoint's disk changed bytes. The next append shows it, and the whole file is pushed again."""
    path = Path(harness.write(CLAUDE, claude(SESSION, 1)))
    harness.settle()
    first = path.read_bytes()
    other = first.replace(b"hello", b"HELLO")
    replace_bytes(harness, other)
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.settle()
    assert harness.held(SESSION) == path.read_bytes()
    assert harness.held(SESSION, generation=0) == other, "what is there is kept as it is"
    assert harness.spool.stats.waiting().segments == 0


def test_a_wrong_digest_of_the_client_costs_one_push(harness: DaemonHarness) -> None:
    """The spool's state is wrong, and both sides have the same bytes: the append is refused once, and then stored."""
    path = Path(harness.write(CLAUDE, claude(SESSION, 1)))
    harness.settle()
    with harness.spool.transaction():
        harness.spool.connection.execute("UPDATE pushed_digest SET chain = randomblob(32)")
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()
    lines = watch(harness)
    harness.settle()
    assert harness.held(SESSION) == path.read_bytes()
    assert [line["after"] is None for line in lines] == [False, True]
    assert {line["generation"] for line in lines} == {0}
    assert list(harness.spool.safety.unsafe()) == []


def test_an_endpoint_that_knows_no_digests_gets_none(harness: DaemonHarness) -> None:
    """An earlier version of the endpoint is sent lines as before, and answers with a SHA-256 that is compared."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.url.path == "/v1/offsets":
            wanted = json.loads(request.content)
            assert wanted.pop("after")
            body = json.dumps(wanted).encode()
            names = ("authorization", "sessiond-device", "content-type")
            headers = {name: request.headers[name] for name in names}
            answer = httpx.post(str(request.url), headers=headers, content=body, timeout=60)
            return httpx.Response(
                200, stream=httpx.ByteStream(answer.content), headers={"content-type": "application/json"}
            )
        if request.url.path == "/v1":
            answer = send()
            about = json.loads(answer.read())
            about["features"].remove("after")
            return httpx.Response(
                200, stream=httpx.ByteStream(json.dumps(about).encode()), headers={"content-type": "application/json"}
            )
        return send()

    lines = watch(harness)
    path = Path(harness.write(CLAUDE, claude(SESSION, 1)))
    harness.settle()
    assert "after" in lines[0]
    other = watch(harness)
    watching = harness.transport.fate
    assert watching is not None
    harness.transport.fate = lambda request, send: watching(request, lambda: fate(request, send))
    harness.retrying.identify_again()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.settle()
    with harness.spool.transaction():
        harness.spool.connection.execute("UPDATE stream SET known = 0, unproven = 1, acked = 0")
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.settle()
    assert [line for line in other if "after" in line] == []
    assert [line["generation"] for line in other] == [0, 0], "the SHA-256 is equal, so the stream continues"
    assert harness.held(SESSION) == path.read_bytes()


def test_the_spool_keeps_the_last_streams_only(harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool of many old sessions does not grow by a kilobyte for each of their streams."""
    monkeypatch.setattr(pushed_digests, "KEPT", 50)
    stored = PushedDigests(harness.spool.connection)
    with harness.spool.transaction():
        for stream in range(1, 401):
            stored.put(stream, 0, StreamDigest())
    kept = [stream for stream in range(1, 401) if stored.find(stream) is not None]
    assert kept == list(range(351, 401))
    assert {stored.digest(stream, 0, 0) for stream in range(1, 401)} == {EMPTY}
    assert stored.digest(1, 1, 0) is stored.digest(1, 0, 1) is None
    lengths = "SELECT max(length(chain) + length(rest)) FROM pushed_digest WHERE digest IS NOT NULL"
    assert harness.spool.connection.execute(lengths).fetchone() == (0,)


def test_a_forgotten_session_leaves_no_digest(harness: DaemonHarness) -> None:
    """The state has the last bytes of the stream."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    count = "SELECT count(*) FROM pushed_digest"
    assert harness.spool.connection.execute(count).fetchone() == (1,)
    harness.forget(SESSION)
    assert harness.spool.connection.execute(count).fetchone() == (0,)


@pytest.mark.parametrize("other", [False, True])
def test_after_a_lost_answer_the_endpoint_is_asked_for_its_digest(harness: DaemonHarness, other: bool) -> None:
    """It is not known then what the endpoint has. Nothing is pushed twice, and no other bytes pass for those pushed."""
    path = Path(harness.write(CLAUDE, claude(SESSION, 1)))
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()

    def lose(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        answer = send()
        if request.url.path == "/v1/push":
            raise httpx.ReadError("the answer is lost")
        return answer

    harness.transport.fate = lose
    with pytest.raises(Unreachable):
        harness.push()
    harness.transport.fate = None
    content = path.read_bytes()
    if other:
        with harness.endpoint.store.write() as db:
            db.execute("DELETE FROM chunks WHERE start > 0")
            db.execute("UPDATE chunks SET length = ?, frame = ?", (len(content), zstd.compress(content.upper())))
        harness.endpoint.store.digests.clear()
    harness.settle()
    lines = watch(harness)
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.settle()
    assert [line["after"] for line in lines] == [digest_of(path.read_bytes())]
    assert [line["generation"] for line in lines] == [int(other)]
    assert harness.held(SESSION) == path.read_bytes()
