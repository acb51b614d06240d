"""A part of what is called safe is read from the endpoint each day, and compared with what was queued."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import msgspec
import pytest
from test_safety import SECRET, World, content, lines

from sessiond import zstd
from sessiond.daemon.periodic_check import PeriodicCheck
from sessiond.endpoint.server import tokens
from sessiond.errors import EndpointError
from sessiond.frozen_record import to_json
from sessiond.spool.safety import State
from sessiond.spool.sizes import SIZES, Sizes
from sessiond.spool.verification import EACH_MS, RESULT, read_verification
from sessiond.upload import read_back as read_back_module
from sessiond.upload.read_back import DAYS, LEAST, MOST, ReadBack, part_of_day, read_back
from support.harness import CLAUDE, SESSION, claude

ALL = 1 << 30


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(read_back_module, "REQUEST", 1)
    monkeypatch.setattr(read_back_module, "ROUNDS", 1)
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def replace(world: World, old: bytes, new: bytes) -> None:
    """Change bytes at the endpoint, where nothing else tells of it."""
    assert len(old) == len(new)
    database = Path(world.harness.endpoint.store.directory, "endpoint.db")
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        for chunk, frame in db.execute("SELECT rowid, frame FROM chunks").fetchall():
            text = zstd.decompress(frame, 1 << 24)
            db.execute("UPDATE chunks SET frame = ? WHERE rowid = ?", (zstd.compress(text.replace(old, new)), chunk))


def vanish(world: World) -> None:
    """Delete the tool's file, and push that it is gone."""
    Path(world.harness.home, CLAUDE).unlink()
    world.harness.settle()


def read(world: World, budget: int = ALL) -> ReadBack:
    harness = world.harness
    result = ReadBack()
    for found in read_back(harness.uploading, budget):
        result = found
    return result


def write(world: World, sessions: int, count: int = 3) -> dict[str, int]:
    """Push sessions; return their lengths."""
    made = [f"{number:x}{SESSION[1:]}" for number in range(sessions)]
    for session in made:
        written = [claude(session, number) for number in range(count)]
        world.harness.write(CLAUDE.replace(SESSION, session), *written)
    world.harness.settle()
    return {session: Path(world.harness.home, CLAUDE.replace(SESSION, session)).stat().st_size for session in made}


def asked(world: World, since: int = 0) -> list[str]:
    """The addresses of streams that were read, in their order."""
    return [path for path, _ in world.harness.transport.requests[since:] if "/streams/" in path]


def test_other_bytes_at_the_endpoint_are_replaced_by_those_of_the_file(world: World) -> None:
    world.settle_at("first", lines(3, text="one thing"))
    replace(world, b"one thing", b"two thing")
    assert world.state() is State.SAFE, "nothing tells of it yet"
    assert read(world).different == 1
    assert world.state() is State.WAITING
    world.harness.settle()
    assert world.harness.held(SESSION) == content(world)
    assert world.state() is State.SAFE
    assert read(world).different == 0


def test_a_session_that_lost_bytes_before_is_compared_as_well(world: World) -> None:
    """Bytes of an earlier generation are nowhere. Those of the current one must not follow them unnoticed."""
    world.settle_at("first", lines(3, text="one thing"))
    world.harness.spool.connection.execute("UPDATE stream SET lost = 9, lost_before = 9")
    assert world.state() is State.LOST
    replace(world, b"one thing", b"two thing")
    assert read(world).different == 1
    world.harness.settle()
    assert world.harness.held(SESSION) == content(world)
    assert read(world).different == 0


def test_other_bytes_of_a_file_that_is_gone_count_as_lost(world: World) -> None:
    world.settle_at("first", lines(3, text="one thing"))
    vanish(world)
    replace(world, b"one thing", b"two thing")
    assert read(world).different == 1
    world.harness.settle()
    assert world.state() is State.LOST


@pytest.mark.parametrize("gone", [False, True])
def test_masked_bytes_are_compared_as_they_were_sent(world: World, gone: bool) -> None:
    world.close()
    world.harness.settings["redact"] = "mask"
    world.harness.open()
    world.settle_at("first", lines(3, text=f"a token {SECRET}"))
    assert SECRET.encode() not in world.harness.held(SESSION)
    if gone:
        vanish(world)
    size = len(world.harness.held(SESSION))
    assert msgspec.structs.asdict(read(world)) == {"read_bytes": size, "by_digest": 0, "different": 0}


def test_a_round_reads_each_stream_once(world: World) -> None:
    """A part each day goes on where the last one ended, also after a restart; then the next round begins."""
    world.settle_at("first", [])
    sizes = write(world, 5)
    before = len(world.harness.transport.requests)
    some = max(sizes.values()) + 1
    assert read(world, some).read_bytes < sum(sizes.values())
    world.close()
    world.configure("first")
    days = [read(world, some).read_bytes for _ in range(9)]
    paths = asked(world, before)
    assert len(set(paths)) == 5
    assert sorted(paths.count(path) for path in set(paths))[0] >= 3
    assert min(days) > 0 and max(days) <= 2 * some


def test_small_streams_count_as_a_request_each(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else ten thousand of them would be ten thousand requests a day."""
    monkeypatch.setattr(read_back_module, "REQUEST", 1 << 20)
    world.settle_at("first", [])
    write(world, 5, count=1)
    before = len(world.harness.transport.requests)
    read(world, 2 << 20)
    assert len(asked(world, before)) == 2


def test_a_long_stream_is_read_in_parts(world: World) -> None:
    """It takes several days: a part ends between two captured runs, and no byte of a round is read twice."""
    world.configure("first")
    for number in range(6):
        world.harness.write(CLAUDE, claude(SESSION, number, text="x" * 1000))
        world.harness.settle()
    size = len(content(world))
    read_bytes = 0
    for _ in range(20):
        if read_bytes >= size:
            break
        found = read(world, size // 4)
        assert 0 < found.read_bytes < size
        read_bytes += found.read_bytes
    assert read_bytes == size


def test_a_later_part_of_a_long_stream_goes_on_where_the_last_one_ended(world: World) -> None:
    world.configure("first")
    for letter in "abcdef":
        world.harness.write(CLAUDE, claude(SESSION, ord(letter), text=letter * 1000))
        world.harness.settle()
    replace(world, b"f" * 1000, b"g" * 1000)
    part = len(content(world)) // 4
    found = [read(world, part).different for _ in range(3)]
    assert found == [0, 0, 1]


def test_a_stream_that_was_rewritten_between_two_parts_is_read_from_its_start(world: World) -> None:
    world.configure("first")
    for number in range(4):
        world.harness.write(CLAUDE, claude(SESSION, number))
        world.harness.settle()
    assert read(world, 10).read_bytes < len(content(world))
    world.harness.write(CLAUDE, *lines(2, 50), mode="wb")
    world.harness.settle()
    assert msgspec.structs.asdict(read(world)) == {"read_bytes": len(content(world)), "by_digest": 0, "different": 0}


def test_what_an_earlier_version_masked_is_not_called_different(world: World) -> None:
    """It did not store digests of masked bytes: whether they differ can't be known."""
    world.settle_at("first", lines(3, text="one thing"))
    world.harness.spool.connection.execute("UPDATE extent SET masked = x''")
    assert read(world).different == 0
    replace(world, b"one thing", b"two thing")
    assert read(world).different == 0
    assert world.state() is State.SAFE


def use_digests(monkeypatch: pytest.MonkeyPatch, rounds: int = 1 << 20) -> None:
    """Have few streams read whose digests are known; none by default."""
    monkeypatch.setattr(read_back_module, "ROUNDS", rounds)


def test_a_known_digest_is_compared_and_not_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one request for all streams. The others are read, and their digests are known from then on."""
    use_digests(monkeypatch)
    world.settle_at("first", [])
    sizes = write(world, 4)
    before = len(world.harness.transport.requests)
    assert msgspec.structs.asdict(read(world)) == {"read_bytes": 0, "by_digest": 4, "different": 0}
    assert [path for path, _ in world.harness.transport.requests[before:]] == ["/v1/offsets"]
    world.harness.spool.connection.execute("DELETE FROM pushed_digest WHERE number > 2")
    found = read(world)
    assert found.by_digest == 2 and found.read_bytes == sum(sizes.values()) // 2
    assert read(world).by_digest == 4


def test_each_stream_is_read_in_one_round_of_eight(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint states the right digests, and its disk has other bytes: only reading shows that."""
    use_digests(monkeypatch, 8)
    world.settle_at("first", [])
    sizes = write(world, 5)
    before = len(world.harness.transport.requests)
    rounds = [read(world) for _ in range(8)]
    assert {each.different for each in rounds} == {0}
    paths = asked(world, before)
    assert len(paths) == len(set(paths)) == 5, "once each"
    assert sum(each.read_bytes for each in rounds) == sum(sizes.values())
    replace(world, b"hello", b"HELLO")
    assert sum(read(world).different for _ in range(8)) == 5


@pytest.mark.parametrize("readable", [True, False])
def test_another_digest_is_another_content(world: World, monkeypatch: pytest.MonkeyPatch, readable: bool) -> None:
    """With a token that only pushes, too: it may ask for digests."""
    use_digests(monkeypatch)
    world.settle_at("first", lines(3, text="one thing"))
    server = world.servers["first"]
    if not readable:
        world.close()
        token = tokens.add(server.store, "pusher", scopes=["push"])
        with server.store.write() as db:
            db.execute("UPDATE tokens SET device = ? WHERE name = 'pusher'", (str(world.harness.device_id),))
        world.servers["first"] = msgspec.structs.replace(server, token=token)
        world.configure("first")
    assert read(world).by_digest == 1
    replace(world, b"one thing", b"two thing")
    server.store.digests.clear()
    assert msgspec.structs.asdict(read(world)) == {"read_bytes": 0, "by_digest": 0, "different": 1}
    world.harness.settle()
    assert world.state() is State.SAFE
    assert read(world).by_digest == 1


def test_digests_cost_less_of_a_day_than_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """But something: a digest that the endpoint did not keep costs it a reading of all bytes."""
    use_digests(monkeypatch, 8)
    monkeypatch.setattr(read_back_module, "DIGEST", 1)
    monkeypatch.setattr(read_back_module, "REQUEST", 1)
    world.settle_at("first", [])
    size = min(write(world, 5).values())
    assert read(world, 1).by_digest == 1
    found = read(world, size // 2)
    assert (found.by_digest, found.read_bytes) == (4, 0)


def page(*_: object) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/html"}, stream=httpx.ByteStream(b"<html>Log in</html>"))


def streams(
    answer: Callable[..., httpx.Response],
) -> Callable[[httpx.Request, Callable[[], httpx.Response]], httpx.Response]:
    return lambda request, send: answer(request, send) if "/streams/" in request.url.path else send()


def test_a_login_page_is_no_content(world: World) -> None:
    """Nothing is doubted, neither for one page in place of bytes nor for a network that answers nothing else."""
    world.settle_at("first", lines(3))
    answers = [page]
    world.harness.transport.fate = streams(lambda _, send: answers.pop()() if answers else send())
    assert read(world).different == 0
    assert not answers
    world.harness.transport.fate = page
    with pytest.raises(EndpointError):
        read(world)
    assert world.state() is State.SAFE


def test_a_stream_that_the_endpoint_lost_is_pushed_again(world: World) -> None:
    world.settle_at("first", lines(3))
    held = world.harness.held(SESSION)
    database = Path(world.harness.endpoint.store.directory, "endpoint.db")
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        for table in ("chunks", "generations", "streams"):
            db.execute(f"DELETE FROM {table}")
    assert read(world).different == 1
    world.harness.settle()
    assert world.harness.held(SESSION) == held
    assert world.state() is State.SAFE


def test_a_token_that_only_pushes_reads_nothing(world: World) -> None:
    world.settle_at("first", lines(3))
    world.close()
    server = world.servers["first"]
    world.servers["first"] = msgspec.structs.replace(server, token=tokens.add(server.store, "pusher", scopes=["push"]))
    world.configure("first")
    assert read(world) == ReadBack()
    assert world.state() is State.SAFE


@pytest.mark.parametrize(
    ("captured", "part"),
    [(0, LEAST), (LEAST * DAYS - 1, LEAST), (LEAST * DAYS * 2, LEAST * 2), (MOST * DAYS * 9, MOST)],
)
def test_the_part_of_a_day(world: World, captured: int, part: int) -> None:
    spool = world.harness.spool
    assert part_of_day(spool) == LEAST
    spool.set_meta(SIZES, to_json(Sizes(tools={"codex": captured - captured // 3, "amp": captured // 3})))
    assert part_of_day(spool) == part


@pytest.mark.parametrize("metered", [False, True])
def test_the_daily_check_reads_unless_the_network_is_metered(world: World, metered: bool) -> None:
    world.settle_at("first", lines(3, text="one thing"))
    harness = world.harness
    check = harness.pusher.check = PeriodicCheck(harness.uploading, lambda: metered)
    replace(world, b"one thing", b"two thing")
    harness.now_ms += EACH_MS
    while check.step():
        pass
    result = read_verification(harness.spool.meta(RESULT))
    assert result is not None
    assert (result.sessions, result.incomplete, result.different) == (1, 0, not metered)
    assert result.read_bytes == (0 if metered else result.read_bytes)
    harness.settle()
    assert (harness.held(SESSION) == content(world)) is not metered
