"""No byte is lost or left over, whatever fails while chunks are moved to objects."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from endpoint_lines import SESSION, Pusher, append, record, sender
from object_store import new_prefix
from offloaded import Faulty, Slow, check, check_counters_then_move, push, read, rows
from postgres import new_database
from stores import move_all, new_store

from sessiond.clock import now_ms
from sessiond.endpoint import server as endpoint_server
from sessiond.endpoint.server import erase, objects, offloader, packer, reads, sweeper
from sessiond.endpoint.server.blobs import BlobsUnavailable, FileBlobs
from sessiond.endpoint.server.offloader import offload
from sessiond.endpoint.server.opening import check_blobs, open_blobs, open_url, serving_store
from sessiond.endpoint.server.packer import pack
from sessiond.endpoint.server.run import running_store
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store
from sessiond.errors import ConfigError, StateError

TOKEN = "sd_" + "t" * 43
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move any number of bytes."""
    monkeypatch.setattr(offloader, "SMALLEST", 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Yield a store in a directory, with objects in files."""
    with new_store("sqlite+files", tmp_path / "store") as it:
        yield it


def test_without_object_store_nothing_is_lost(store: Store) -> None:
    """Pushes are stored, moved bytes can't be read, and the packer moves the rest later."""
    assert store.blobs is not None
    store.blobs = faulty = Faulty(store.blobs)
    content = b"first line\n" * 9
    push(store, append(0, content))
    move_all(store)
    faulty.down = True
    with running_store(store, TOKEN) as it, Pusher(it.url, TOKEN) as pusher:
        assert pusher.said(append(len(content), b"second\n"), record()) == ["stored", "stored"]
        address = f"/v1/sessions/ada/{SESSION}/streams/main"
        answer = pusher.get(address)
        assert (answer.status_code, answer.json()["type"]) == (503, "busy")
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
        assert pusher.get(address, headers={"Range": f"bytes={len(content)}-"}).content == b"second\n"
        assert pusher.head(address).status_code == 200
        assert pusher.get("/v1/sessions").json()["sessions"][0]["held"][0]["length"] == len(content) + 7
        with pytest.raises(BlobsUnavailable):
            offload(store, 1)
        faulty.down = False
        assert pusher.get(address).content == content + b"second\n"
        repeated = content[:22]
        assert pusher.said(append(0, repeated), append(0, b"X" + repeated[1:])) == ["duplicate", "offset-mismatch"]
    sweeper.sweep(store, now_ms() + HOUR_MS)
    move_all(store)
    assert read(store) == content + b"second\n"
    check(store)


def test_an_erased_session_is_in_no_object(store: Store) -> None:
    """The receipt says whether its objects are deleted already; the same request completes it."""
    assert store.blobs is not None
    store.blobs = faulty = Faulty(store.blobs)
    other = SESSION[:-1] + "2"
    push(store, append(0, b"erase me\n"), append(0, b"keep me\n") | {"session": other})
    move_all(store)
    with running_store(store, TOKEN) as it, Pusher(it.url, TOKEN) as pusher:
        faulty.down = True
        receipt = pusher.delete(f"/v1/sessions/{SESSION}").json()
        assert (receipt["bytes"], receipt["objects_left"]) == (9, 1)
        assert pusher.get(f"/v1/sessions/ada/{SESSION}/streams/main").status_code == 404
        assert pusher.delete(f"/v1/sessions/{SESSION}").json()["objects_left"] == 1
        faulty.down = False
        assert len(list(faulty.list())) == 2
        again = pusher.delete(f"/v1/sessions/{SESSION}").json()
        assert (again["bytes"], "objects_left" in again) == (0, False)
        assert len(list(faulty.list())) == 1
        assert pusher.get(f"/v1/sessions/ada/{other}/streams/main").content == b"keep me\n"
    check(store)


def test_the_sweep_deletes_what_an_erasure_left(store: Store) -> None:
    """Nobody needs to repeat the request."""
    assert store.blobs is not None
    store.blobs = faulty = Faulty(store.blobs)
    push(store, append(0, b"erase me\n"))
    move_all(store)
    faulty.down = True
    assert erase_session(store).objects_left == 1
    with pytest.raises(BlobsUnavailable):
        sweeper.sweep(store, now_ms())
    faulty.down = False
    sweeper.sweep(store, now_ms())
    assert list(faulty.list()) == []
    check(store)


def erase_session(store: Store) -> erase.Receipt:
    """Erase the session as its device does."""
    access = msgspec.structs.replace(sender().access, scopes=frozenset({"push", "read"}))
    return erase.erase(store, erase.Order(access=access, device=sender().device, session=SESSION))


def test_a_session_that_is_erased_while_its_object_is_written_does_not_come_back(store: Store) -> None:
    """The object arrives after the erasure. The sweep deletes it once no process can write it any more."""
    assert store.blobs is not None
    store.blobs = faulty = Faulty(store.blobs)
    push(store, append(0, b"erase me\n"))
    left = []
    faulty.before_put = lambda: left.append(erase_session(store).objects_left)
    assert not offload(store, 1)
    assert left == [1]
    assert rows(store) == []
    sweeper.sweep(store, now_ms())
    assert len(list(faulty.list())) == 1, "another process might still be writing it"
    sweeper.sweep(store, now_ms() + HOUR_MS)
    assert list(faulty.list()) == []
    check(store)


def test_a_session_that_is_erased_before_its_object_is_begun_is_not_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunks were read before. The receipt says that nothing is left, so no object may have them afterwards."""
    assert store.blobs is not None
    store.blobs = faulty = Faulty(store.blobs)
    push(store, append(0, b"erase me\n"))
    written = []
    faulty.before_put = lambda: written.append(True)
    new_name = objects.new_name

    def erase_then(user: str, data: bytes) -> str:
        assert erase_session(store).objects_left == 0
        return new_name(user, data)

    monkeypatch.setattr(objects, "new_name", erase_then)
    assert not offload(store, 1)
    assert written == []
    check(store)


def test_a_slow_object_store_delays_only_reads_of_bytes(store: Store) -> None:
    """Lists and the check of a load balancer have threads of their own."""
    assert store.blobs is not None
    store.blobs = slow = Slow(store.blobs)
    push(store, append(0, b"hello\n"), record())
    move_all(store)
    with running_store(store, TOKEN) as it, ThreadPoolExecutor(reads.MAX_DOWNLOADS) as threads:

        def download(_: int) -> bytes:
            with Pusher(it.url, TOKEN) as pusher:
                return pusher.bytes_of()

        waiting = [threads.submit(download, number) for number in range(reads.MAX_DOWNLOADS)]
        for _ in waiting:
            slow.entered.acquire()
        with Pusher(it.url, TOKEN) as pusher:
            assert pusher.get("/healthz").status_code == 200
            assert len(pusher.get("/v1/sessions").json()["sessions"]) == 1
            assert pusher.said(append(6, b"more\n")) == ["stored"]
        slow.go.set()
        assert {each.result() for each in waiting} == {b"hello\n"}


@pytest.mark.parametrize("kind", ["sqlite+files", "postgresql+s3"])
def test_chunks_that_were_packed_meanwhile_are_not_stored_twice(kind: str, tmp_path: Path) -> None:
    """Another process merges the chunks, and adds some, while their object is written."""
    with new_store(kind, tmp_path / "store") as store:
        assert store.blobs is not None
        store.blobs = faulty = Faulty(store.blobs)
        for number in range(5):
            push(store, append(number * 6, b"line%d\n" % number))

        def meanwhile() -> None:
            pack(store, 1)
            push(store, append(30, b"line5\n"))

        faulty.before_put = meanwhile
        assert not offload(store, 1)
        faulty.before_put = lambda: None
        assert read(store) == b"line0\nline1\nline2\nline3\nline4\nline5\n"
        sweeper.sweep(store, now_ms() + HOUR_MS)
        check_counters_then_move(store)
        assert read(store) == b"line0\nline1\nline2\nline3\nline4\nline5\n"


def test_the_packer_leaves_chunks_that_were_moved_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read them before, and would store them a second time."""
    for number in range(5):
        push(store, append(number * 6, b"line%d\n" % number))
    jobs = packer._jobs

    def move_then(*arguments: object) -> list[packer.Job]:
        found = jobs(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(packer, "_jobs", jobs)
        offload(store, 1)
        push(store, append(30, b"line5\n"))
        return found

    monkeypatch.setattr(packer, "_jobs", move_then)
    pack(store, 1)
    assert read(store) == b"line0\nline1\nline2\nline3\nline4\nline5\n"
    check_counters_then_move(store)


def test_two_processes_do_not_write_the_same_object(store: Store) -> None:
    """The second one leaves the session alone until the lease ends."""
    assert store.blobs is not None
    store.blobs = faulty = Faulty(store.blobs)
    push(store, append(0, b"hello\n"))
    second = []
    faulty.before_put = lambda: second.append(offload(store, 1)) if not second else None
    assert offload(store, 1)
    assert second == [False]
    check(store)


@pytest.mark.parametrize("kind", ["sqlite+files", "postgresql+s3"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_is_killed_loses_and_leaves_nothing(kind: str, moment: str, tmp_path: Path) -> None:
    """It is killed around the writing of the object, before the rows are committed."""
    database, _, where = kind.partition("+")
    content = b"every byte\n" * 50
    with ExitStack() as closing:
        name = str(tmp_path) if database == "sqlite" else closing.enter_context(new_database())
        place = str(tmp_path / "objects") if where == "files" else closing.enter_context(new_prefix())
        store: Store = SqliteStore(name) if database == "sqlite" else open_url(name)
        closing.callback(store.close)
        push(store, append(0, content))
        here = Path(__file__).parent
        paths = os.pathsep.join([str(here), str(Path(endpoint_server.__file__).parents[3])])
        command = [sys.executable, str(here / "killed_offload.py"), name, place, moment]
        ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=False, timeout=120)
        assert ended.returncode == -9
        store.blobs = open_blobs(place, store.endpoint_id)
        assert len(list(store.blobs.list())) == (moment == "after")
        assert read(store) == content
        assert not offload(store, 1), "the process may still be running"
        sweeper.sweep(store, now_ms() + HOUR_MS)
        assert list(store.blobs.list()) == []
        check_counters_then_move(store)
        assert read(store) == content


def test_objects_of_a_newer_database_are_kept_for_a_day(store: Store) -> None:
    """After a restore from a backup, the database does not know them. A newer backup may be restored instead."""
    assert store.blobs is not None
    store.blobs.put("a/unknown", b"x")
    folder = store.blobs._folder  # type: ignore[attr-defined]
    os.utime(os.path.join(folder, "a/unknown"), (0, 0))
    push(store, append(0, b"hello\n"))
    move_all(store)
    now = now_ms()
    day = sweeper.DAY_MS
    assert sweeper.sweep_unknown(store, now) == 0, "the last listing is unknown"
    assert sweeper.sweep_unknown(store, now + day - 1) == 0, "once a day"
    assert sweeper.sweep_unknown(store, now + 9 * day) == 0, "it may be a backup of nine days ago"
    assert sweeper.sweep_unknown(store, now + 10 * day) == 1
    assert read(store) == b"hello\n"
    check(store)


def test_another_object_store_is_refused_at_the_start(tmp_path: Path) -> None:
    """Reads would fail, and the missing option is only noticed then."""
    data, right, wrong = str(tmp_path / "data"), str(tmp_path / "right"), str(tmp_path / "wrong")
    with serving_store(data, None, None, 0, right) as store:
        push(store, append(0, b"hello\n"))
        move_all(store)
    for blobs in (None, wrong):
        with pytest.raises(ConfigError, match="object store") as refused, serving_store(data, None, None, 0, blobs):
            pass
        assert "--blobs" in str(refused.value.hint)
    with serving_store(data, None, None, 0, right) as store:
        assert read(store) == b"hello\n"
        store.blobs = Faulty(FileBlobs(wrong, str(store.endpoint_id)))
        store.blobs.down = True
        check_blobs(store)  # pushes are stored without it


def test_a_missing_object_is_an_error_that_names_it(store: Store) -> None:
    """It is not answered as if the bytes had never been there."""
    push(store, append(0, b"hello\n"))
    move_all(store)
    assert store.blobs is not None
    (listed,) = store.blobs.list()
    store.blobs.delete([listed.name])
    with pytest.raises(StateError, match="missing") as failed:
        read(store)
    assert "backup" in str(failed.value.hint)


def test_a_repeated_push_of_moved_bytes_is_answered_as_before(store: Store) -> None:
    """It is compared with the object outside of the transaction. New lines of the same push are stored."""
    with running_store(store, TOKEN) as it, Pusher(it.url, TOKEN) as pusher:
        lines = [append(0, b"one\n"), append(4, b"two\n"), record()]
        assert pusher.said(*lines) == ["stored"] * 3
        move_all(store)
        body = b"\n".join(msgspec.json.encode(line) for line in [append(4, b"TWO\n"), *lines, append(8, b"three\n")])
        headers = {"Content-Type": "application/x-ndjson", "Sessiond-Batch": "second"}
        answer = pusher.post("/v1/push", content=body, headers=headers).json()
        assert [each["status"] for each in answer["results"]] == [
            "problem",
            "duplicate",
            "duplicate",
            "duplicate",
            "stored",
        ]
        problem = answer["results"][0]["problem"]
        assert (problem["type"], problem["offset"]) == ("offset-mismatch", 14)
        assert problem["sha256"] == hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()
        assert answer["previous"] not in (None, "second"), "the push before this one"
        assert pusher.bytes_of() == b"one\ntwo\nthree\n"
