"""A store of an earlier version is migrated, and keeps every byte that it had."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Pusher, append, record

from sessiond import zstd
from sessiond.clock import now_ms
from sessiond.endpoint.server import Running, accounts, invites, keeping, running, tokens, usage
from sessiond.endpoint.server.sqlite_schema import FILE, VERSION
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.sqlite_tables import SESSIONS

VERSION_1 = Path(__file__).with_name("store_version_1.sql")
"""The tables of version 1, as that version made them."""
ENDPOINT = "2b4479a9-126f-4d3f-b394-dce79eb25b80"
TEXT = b'{"n":1}\n{"n":2}\n'
SECRET = "sd_" + "x" * 43


def make(directory: Path) -> None:
    """Make a store of version 1: a session with two generations, one of them with that version's largest revision."""
    directory.mkdir(exist_ok=True)
    record = {
        "id": SESSION, "tool": "codex", "tool_version": None, "started_at": "2026-11-01T10:00:00Z", "ended_at": None,
        "model": None, "working_directory": "/w", "git_branch": None, "source_path": None, "message_count": 2,
        "machine_id": "ada",
    }  # fmt: skip
    envelope = {
        "record": record, "device_id": DEVICE, "parent": None, "title": "t", "gone_at": 2**63 - 1,
        "streams": [{"name": "main", "generation": 1, "length": 2**63 - 1}],
    }  # fmt: skip
    with contextlib.closing(sqlite3.connect(directory / FILE, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(VERSION_1.read_text())
        db.execute("INSERT INTO facts VALUES ('endpoint_id', ?), ('change', 7)", (ENDPOINT,))
        db.execute("INSERT INTO tokens VALUES ('laptop', ?, 5)", (tokens.hash_secret(SECRET),))
        db.execute("INSERT INTO machines VALUES ('ada', ?, 0)", (DEVICE,))
        db.execute("INSERT INTO devices VALUES (?, 'batch')", (DEVICE,))
        row = ("ada", SESSION, 2**63 - 1, 7, "codex", "/w", 1, None, json.dumps(envelope))
        db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO streams VALUES (3, 'ada', ?, 'main')", (SESSION,))
        digest = hashlib.sha256(TEXT).hexdigest()
        db.execute(
            "INSERT INTO generations VALUES (3, 0, NULL, 0, NULL, ?, ?), (3, 1, 0, 8, 0, 9, NULL)", (len(TEXT), digest)
        )
        db.execute("INSERT INTO chunks VALUES (1, 3, 0, 0, ?, ?)", (len(TEXT), zstd.compress(TEXT)))
        db.execute("INSERT INTO chunks VALUES (2, 3, 1, 8, 1, ?)", (zstd.compress(b"!"),))
        db.execute("PRAGMA user_version = 1")


def stored(path: Path) -> list[object]:
    """Return what must not change: bytes, generations, envelopes, tokens' hashes."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        return [
            db.execute(f"SELECT {what}").fetchall()
            for what in (
                "chunk, stream, generation, start, length, frame FROM chunks ORDER BY 1",
                "stream, generation, previous, keep, base, length, sha256 FROM generations ORDER BY 1, 2",
                "stream, machine, session, name FROM streams",
                "machine, session, change, tool, directory, started_ms, ended_ms, envelope FROM sessions ORDER BY 1, 2",
                "machine, device, open FROM machines",
                "device, batch FROM devices",
                "name, sha256, made_ms FROM tokens",
                "value FROM facts WHERE name = 'endpoint_id'",
            )
        ]


def test_a_store_of_version_1_keeps_every_byte(tmp_path: Path) -> None:
    """Everything belongs to the default user afterwards. A token of that version still pushes and reads."""
    make(tmp_path)
    before = stored(tmp_path / FILE)
    SqliteStore(str(tmp_path)).close()
    assert stored(tmp_path / FILE) == before
    with running(str(tmp_path)) as it, Pusher(it.url, SECRET) as pusher:
        assert str(it.store.endpoint_id) == ENDPOINT
        assert pusher.bytes_of(generation=0) == TEXT
        assert pusher.bytes_of() == TEXT[:8] + b"!"
        (session,) = pusher.get("/v1/sessions").json()["sessions"]
        assert session["revision"] == 2**52, "above the largest no client could go"
        assert session["streams"][0]["length"] == session["gone_at"] == 2**53 - 1
        assert pusher.get("/v1/changes").json()["sessions"] == [session]
        assert pusher.said(append(9, b"?", generation=1)) == ["stored"]
        assert_sums(it)
        assert len(pusher.get("/v1/changes").json()["sessions"]) == 1
        assert tokens.list_tokens(it.store)[0].user == "default"


def assert_sums(endpoint: Running) -> None:
    """Compare the running sum of the user, which the migration began, with a count of all rows."""
    with endpoint.store.read() as db:
        counted = usage.recount(db, "default")
    (user,) = [each for each in accounts.list_users(endpoint.store) if each.user == "default"]
    assert user.held == counted > 0


def remove_invites(db: sqlite3.Connection) -> None:
    """Remove the table and the column that version 6 added, and what later ones did."""
    db.execute("DROP TABLE expired")
    db.execute("DROP TABLE audit")
    db.execute("DROP TABLE checkpoints")
    db.execute("DROP TABLE tenants")
    for column in ("held", "quota", "tenant", "keep_days"):
        db.execute(f"ALTER TABLE users DROP COLUMN {column}")
    db.execute("DROP TABLE objects")
    db.execute("DROP INDEX generations_waiting")
    db.execute("ALTER TABLE generations DROP COLUMN waiting")
    for column in ("object", "at", "size"):
        db.execute(f"ALTER TABLE chunks DROP COLUMN {column}")
    db.execute("DROP TABLE invites")
    db.execute("ALTER TABLE tokens DROP COLUMN invite")
    db.execute("DROP INDEX generations_with_tails")
    db.execute("ALTER TABLE generations DROP COLUMN tails")
    db.execute("ALTER TABLE generations DROP COLUMN packed")
    db.execute("DROP INDEX sessions_by_start")
    db.execute("DROP INDEX sessions_by_active")
    db.execute("CREATE INDEX sessions_by_start ON sessions (user, started_ms, machine, session)")
    for column in ("branch", "model", "gone", "active_ms", "place"):
        db.execute(f"ALTER TABLE sessions DROP COLUMN {column}")


def test_a_store_of_version_3_keeps_its_streams(tmp_path: Path) -> None:
    """Its streams have records, and a stream that is pushed afterwards may have another media type."""
    store = SqliteStore(str(tmp_path))
    secret = tokens.add(store, "laptop")
    store.close()
    with running(str(tmp_path)) as it, Pusher(it.url, secret) as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        remove_invites(db)
        db.execute("DROP TABLE forgotten")
        db.execute("ALTER TABLE streams DROP COLUMN media_type")
        db.execute("PRAGMA user_version = 3")
    with running(str(tmp_path)) as it, Pusher(it.url, secret) as pusher:
        assert pusher.bytes_of() == b"x"
        image = {**append(0, b"y"), "stream": "image-cache/1.png", "media_type": "image/png"}
        assert pusher.said(image) == ["stored"]
        streams = pusher.get(f"/v1/sessions/ada/{SESSION}/streams").json()["streams"]
        assert [each["media_type"] for each in streams] == ["image/png", "application/x-ndjson"]
        assert_sums(it)


def test_a_store_of_version_5_takes_invitations(tmp_path: Path) -> None:
    """Its tokens stay valid, and a new device gets one with an invitation."""
    store = SqliteStore(str(tmp_path))
    secret = tokens.add(store, "laptop")
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        remove_invites(db)
        db.execute("ALTER TABLE forgotten DROP COLUMN everywhere")
        db.execute("PRAGMA user_version = 5")
    with running(str(tmp_path)) as it, Pusher(it.url, secret) as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
        asked = {"code": invites.add(it.store, lifetime=60), "device_id": OTHER_DEVICE, "machine_id": "desk"}
        assert pusher.post("/v1/enrol", json=asked).status_code == 200
        assert len(tokens.list_tokens(it.store)) == 2
        assert pusher.delete(f"/v1/sessions/{SESSION}").json()["machines"] == ["ada"]


def test_a_store_of_version_2_keeps_its_tokens(tmp_path: Path) -> None:
    """A token stays bound to its device, and can be released afterwards."""
    store = SqliteStore(str(tmp_path))
    secret = tokens.add(store, "laptop", user="ada")
    with store.write() as db:
        db.execute("UPDATE tokens SET device = ?", (DEVICE,))
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        db.execute("ALTER TABLE tokens DROP COLUMN released")
        remove_invites(db)
        db.execute("DROP TABLE forgotten")
        db.execute("ALTER TABLE streams DROP COLUMN media_type")
        db.execute("PRAGMA user_version = 2")
    with running(str(tmp_path)) as it, Pusher(it.url, secret) as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
        tokens.rebind(it.store, "laptop")
        assert pusher.post("/v1/push", content=json.dumps(append(1, b"y"))).status_code == 403
        (token,) = tokens.list_tokens(it.store)
        assert (token.user, token.device) == ("ada", None)


def test_a_store_of_version_12_gets_a_rule(tmp_path: Path) -> None:
    """Its users, tenants and sums are as before, and sessions can be let go afterwards."""
    store = SqliteStore(str(tmp_path))
    secret = tokens.add(store, "laptop")
    accounts.set_tenant(store, "acme", quota=10**9)
    store.close()
    with running(str(tmp_path)) as it, Pusher(it.url, secret) as pusher:
        assert pusher.said(append(0, b"x"), record(ended_at="2020-01-02T10:00:00Z")) == ["stored", "stored"]
        accounts.set_user(it.store, "default", tenant="acme")
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        db.execute("DROP TABLE expired")
        db.execute("DROP TABLE checkpoints")
        for table in ("users", "tenants"):
            db.execute(f"ALTER TABLE {table} DROP COLUMN keep_days")
        db.execute("PRAGMA user_version = 12")
    with running(str(tmp_path)) as it, Pusher(it.url, secret) as pusher:
        assert pusher.bytes_of() == b"x"
        assert_sums(it)
        assert accounts.list_tenants(it.store)[0].quota == 10**9
        accounts.set_tenant(it.store, "acme", keep_days=30)
        assert keeping.expire(it.store, now_ms()) == 1
        assert_sums(it)


def test_a_store_of_version_14_keeps_its_sessions(tmp_path: Path) -> None:
    """Its table of sessions gets row numbers, in the order in which a follower reads it, and new indexes."""
    store = SqliteStore(str(tmp_path))
    secret = tokens.add(store, "laptop")
    store.close()
    ids = [f"{number}{SESSION[1:]}" for number in (3, 1, 2)]
    with running(str(tmp_path)) as it, Pusher(it.url, secret) as pusher:
        for each in ids:
            assert pusher.said(record(id=each), append(0, b"x", session=each)) == ["stored", "stored"]
        lists = [pusher.get(path).json()["sessions"] for path in ("/v1/changes", "/v1/sessions")]
    with contextlib.closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        for index in ("change", "start", "active"):
            db.execute(f"DROP INDEX sessions_by_{index}")
        db.execute("ALTER TABLE sessions RENAME TO present")
        db.executescript(SESSIONS.replace("\n);", "\n) WITHOUT ROWID;"))
        db.execute("INSERT INTO sessions SELECT * FROM present")
        db.execute("DROP TABLE present")
        db.execute("PRAGMA user_version = 14")
    before = stored(tmp_path / FILE)
    with running(str(tmp_path)) as it, Pusher(it.url, secret) as pusher:
        assert [pusher.get(path).json()["sessions"] for path in ("/v1/changes", "/v1/sessions")] == lists
    assert stored(tmp_path / FILE) == before
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        assert [row[0] for row in db.execute("SELECT session FROM sessions ORDER BY rowid")] == ids
        indexes = db.execute(
            "SELECT name FROM pragma_index_list('sessions') WHERE origin = 'c' ORDER BY name"
        ).fetchall()
        assert indexes == [("sessions_by_active",), ("sessions_by_change",), ("sessions_by_start",)]


def test_many_processes_may_open_an_old_store_at_once(tmp_path: Path) -> None:
    """One of them migrates it, the others wait."""
    make(tmp_path)
    before = stored(tmp_path / FILE)
    failed: list[BaseException] = []

    def open_it() -> None:
        try:
            SqliteStore(str(tmp_path)).close()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert stored(tmp_path / FILE) == before


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """A failure at any statement leaves version 1 with all of its tables, and the next start migrates it."""
    make(tmp_path / "old")
    before = stored(tmp_path / "old" / FILE)
    for number in range(1, 400, 3):
        copy = tmp_path / str(number)
        shutil.copytree(tmp_path / "old", copy)
        with contextlib.closing(sqlite3.connect(copy / FILE, isolation_level=None)) as db:
            left = number

            def stop(action: int, *_: object) -> int:
                nonlocal left
                left -= action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)
                return sqlite3.SQLITE_OK if left > 0 else sqlite3.SQLITE_DENY

            from sessiond.endpoint.server import sqlite_schema as schema

            db.set_authorizer(stop)
            with contextlib.suppress(sqlite3.DatabaseError):
                schema._upgrade(db, str(copy / FILE))
            db.set_authorizer(None)
            version = db.execute("PRAGMA user_version").fetchone()[0]
        assert version in (1, VERSION)
        assert stored(copy / FILE) == before
        SqliteStore(str(copy)).close()
        assert stored(copy / FILE) == before
        shutil.rmtree(copy)
        if version == VERSION:
            assert number > 20
            return
    pytest.fail("it never came to its end")
