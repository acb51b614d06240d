"""A store in PostgreSQL: its tables, several processes at the same time, and a database that goes away."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path

import msgspec
import pytest
from endpoint_lines import DEVICE, SESSION, Pusher, append, generation, record, sender
from postgres import new_database

from sessiond.cli import main
from sessiond.endpoint import server as endpoint_server
from sessiond.endpoint.server import Running, accounts, erase, tokens, usage
from sessiond.endpoint.server.opening import open_url, serving_store
from sessiond.endpoint.server.packer import pack
from sessiond.endpoint.server.push import PushRequest, apply
from sessiond.endpoint.server.run import running_store
from sessiond.endpoint.wire import Limits
from sessiond.errors import ConfigError, StateError

TOKEN = "sd_" + "t" * 43


@pytest.fixture
def url() -> Iterator[str]:
    """Yield the address of a database with tables."""
    with new_database() as it:
        yield it


@contextmanager
def processes(url: str, count: int) -> Iterator[list[Running]]:
    """Serve a database `count` times, each with connections and hashes of its own, as processes do."""
    with ExitStack() as closing_all:
        stores = [closing_all.enter_context(closing(open_url(url))) for _ in range(count)]
        yield [closing_all.enter_context(running_store(store, TOKEN)) for store in stores]


def test_only_migrate_creates_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """A database without them is refused with the command that helps. A second migration changes nothing."""
    import psycopg

    from sessiond.endpoint.server.postgres_migration import migrations

    with new_database(empty=True) as url:
        with pytest.raises(StateError, match="no tables") as refused:
            open_url(url)
        assert "sessiond serve migrate" in str(refused.value.hint)
        assert main(["serve", "migrate", "--store", url]) == 0
        assert main(["serve", "migrate", "--store", url]) == 0
        said = capsys.readouterr().err.splitlines()
        latest = migrations()[-1][0]
        assert said == [f"migrated the tables to version {latest}", "the tables are up to date"]
        assert main(["serve", "token", "add", "laptop", "--store", url]) == 0
        secret = capsys.readouterr().out.strip()
        with processes(url, 1) as (it,), Pusher(it.url, secret) as pusher:
            assert pusher.said(record(), append(0, b"x")) == ["stored", "stored"]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO schema_version VALUES (99)")
        with pytest.raises(StateError, match="newer sessiond"):
            open_url(url)


def test_migrations_at_the_same_time_run_once() -> None:
    """Several processes may be upgraded at once."""
    from sessiond.endpoint.server.postgres_migration import migrate, migrations

    with new_database(empty=True) as url, ThreadPoolExecutor(3) as threads:
        ran = list(threads.map(migrate, [url] * 3))
    assert sorted(chain(*ran)) == [number for number, _ in migrations()]


def test_a_database_of_version_1_gets_its_sums(url: str) -> None:
    """What users stored before quotas existed counts as well."""
    import psycopg

    from sessiond.endpoint.server.postgres_migration import migrate, migrations

    with processes(url, 1) as (it,), Pusher(it.url, TOKEN) as pusher:
        assert pusher.said(record(), append(0, b"x" * 500), generation(1, 0, 10)) == ["stored"] * 3
        assert pusher.delete(f"/v1/sessions/ada/{uuid.UUID(int=5)}").status_code == 200
        (before,) = accounts.list_users(it.store)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE audit, tenants, objects, checkpoints, expired")
        connection.execute("ALTER TABLE generations DROP COLUMN waiting")
        connection.execute("ALTER TABLE sessions DROP COLUMN active_ms, DROP COLUMN place")
        connection.execute('CREATE INDEX sessions_by_start ON sessions ("user")')
        connection.execute('CREATE INDEX sessions_by_tool ON sessions ("user")')
        connection.execute("ALTER TABLE chunks DROP COLUMN object, DROP COLUMN at, DROP COLUMN size")
        dropped = ("held", "quota", "tenant", "keep_days")
        connection.execute("ALTER TABLE users " + ", ".join(f"DROP COLUMN {each}" for each in dropped))
        connection.execute("DELETE FROM schema_version WHERE version > 1")
    assert migrate(url) == [number for number, _ in migrations() if number > 1]
    with closing(open_url(url)) as store:
        assert accounts.list_users(store) == [before]
        with store.read() as db:
            assert usage.recount(db, "default") == before.held > 1000


def test_processes_make_one_sequence_of_a_stream(url: str) -> None:
    """Whatever process a line reaches, it is stored once, and the other process knows."""
    with processes(url, 2) as (one, two), Pusher(one.url, TOKEN) as first, Pusher(two.url, TOKEN) as second:
        assert first.said(record(), append(0, b"a\n")) == ["stored", "stored"]
        assert second.said(append(0, b"a\n"), append(2, b"b\n")) == ["duplicate", "stored"]
        stale = first.lines(append(0, b"X\n"), append(2, b"c\n"), generation(1, 0, 3))
        assert [each["status"] for each in stale] == ["problem", "problem", "stored"]
        assert stale[1]["problem"]["offset"] == 4
        assert second.said(append(3, b"z", generation=1), record()) == ["stored", "duplicate"]
        assert (first.bytes_of(), second.bytes_of(generation=0)) == (b"a\nbz", b"a\nb\n")


def test_processes_decide_one_after_another_about_a_stream(url: str) -> None:
    """Each byte is stored by one of them, and the other finds it there instead of failing."""

    def push(at: Running, letter: bytes) -> int:
        stored = offset = 0
        with Pusher(at.url, TOKEN) as pusher:
            while stored < 15:
                (result,) = pusher.lines(append(offset, letter))
                stored += result["status"] == "stored"
                offset = result["problem"]["offset"] if "problem" in result else offset + 1
        return stored

    with processes(url, 2) as (one, two), ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(push, (one, two), (b"a", b"b"))) == 30
        with Pusher(one.url, TOKEN) as pusher:
            assert sorted(pusher.bytes_of()) == sorted(b"a" * 15 + b"b" * 15)


def test_a_follower_of_two_processes_misses_no_change(url: str) -> None:
    """A position is visible only after all lower ones, also while both processes store pushes."""
    seen: set[str] = set()
    done = threading.Event()

    def push(number: int) -> None:
        at = (one, two)[number % 2]
        with Pusher(at.url, TOKEN, str(uuid.UUID(int=number + 1))) as pusher:
            for turn in range(15):
                session = str(uuid.UUID(int=1000 * number + turn))
                name = f"machine{number}"
                line = record(id=session, machine_id=name) | {"device_id": str(uuid.UUID(int=number + 1))}
                assert pusher.said(line, append(0, b"x", session=session, machine_id=name)) == ["stored"] * 2

    def follow() -> None:
        since = ""
        with Pusher(one.url, TOKEN) as reader:
            while True:
                last = done.is_set()
                page = reader.get("/v1/changes" + (f"?since={since}" if since else "")).json()
                seen.update(each["record"]["id"] for each in page["sessions"])
                since = page["next"]
                if last and not page["more"]:
                    return

    with processes(url, 2) as (one, two), ThreadPoolExecutor(5) as threads:
        follower = threads.submit(follow)
        try:
            list(threads.map(push, range(4)))
        finally:
            done.set()
        follower.result()
    assert seen == {str(uuid.UUID(int=1000 * number + turn)) for number in range(4) for turn in range(15)}


def waits_for_a_lock(url: str, push: Future[list[str]]) -> None:
    """Return once a transaction waits for a lock. It fails if the push ends instead."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            assert not push.done()


def test_a_push_waits_for_an_erasure_and_is_refused(url: str) -> None:
    """The lock of the user keeps a push of another process from storing what is being erased."""
    with processes(url, 2) as (one, two), Pusher(two.url, TOKEN) as pusher, ThreadPoolExecutor(1) as threads:
        assert pusher.said(record(), append(0, b"x")) == ["stored", "stored"]
        with one.store.write() as db:
            one.store.lock_user(db, "default")
            late = threads.submit(pusher.said, append(1, b"y"))
            waits_for_a_lock(url, late)
            erase.erase_rows(db, one.store, "default", SESSION, [""])
            erase._add_tombstones(db, one.store, "default", SESSION, [""], ["ada"])
            assert not late.done()
        assert late.result() == ["forgotten"]
        assert pusher.get(f"/v1/sessions/ada/{SESSION}").status_code == 404


def test_the_first_pushes_of_a_device_are_counted_once(url: str) -> None:
    """Two processes get them, of two machines. Both would add the row of the device to the sum of the user."""
    with processes(url, 2) as (one, two), Pusher(two.url, TOKEN) as pusher, ThreadPoolExecutor(1) as threads:
        push = PushRequest(one.store, Limits(), msgspec.structs.replace(sender(), batch="first"))
        push.prepare([json.dumps(append(0, b"x")).encode()])
        with one.store.write() as db:
            apply(one.store, db, [push])
            late = threads.submit(pusher.said, append(0, b"y", machine_id="desk"))
            waits_for_a_lock(url, late)
        assert late.result() == ["stored"]
        (user,) = accounts.list_users(one.store)
        with one.store.read() as db:
            assert usage.recount(db, "default") == user.held


def test_processes_that_store_at_once_keep_one_sum(url: str) -> None:
    """Of each user and of the tenant, whichever process stores what."""

    def push(number: int) -> None:
        user = "ab"[number % 2]
        device = str(uuid.UUID(int=number + 1))
        with Pusher(both[number % 3 % 2].url, secrets[number], device) as pusher:
            for count in range(8):
                line = record(count + 1, device=device, machine_id=f"m{number}", message_count=10**count)
                text = append(count, b"x", machine_id=f"m{number}")
                assert pusher.said(line, text) == ["stored", "stored"]
            if user == "a":
                assert pusher.delete(f"/v1/sessions/m{number}/{SESSION}").status_code == 200

    with processes(url, 2) as both, ThreadPoolExecutor(6) as threads:
        store = both[0].store
        accounts.set_tenant(store, "acme", quota=10**9)
        secrets = [tokens.add(store, str(number), user="ab"[number % 2]) for number in range(6)]
        for user in "ab":
            accounts.set_user(store, user, tenant="acme")
        list(threads.map(push, range(6)))
        held = {each.user: each.held for each in accounts.list_users(store)}
        with store.read() as db:
            assert held == {user: usage.recount(db, user) for user in "ab"}
        assert [each.held for each in accounts.list_tenants(store)] == [sum(held.values())]


def test_a_revoked_token_stores_nothing_more(url: str) -> None:
    """The other process sees it with the next push."""
    with processes(url, 2) as (one, two):
        secret = tokens.add(one.store, "laptop")
        with Pusher(two.url, secret) as pusher:
            assert pusher.said(append(0, b"x")) == ["stored"]
            tokens.revoke(one.store, "laptop")
            assert pusher.post("/v1/push", content=json.dumps(append(1, b"y"))).status_code == 401


def test_a_lost_connection_fails_one_push(url: str) -> None:
    """The push is not acknowledged, and sent again it is stored: the endpoint connects again."""
    import psycopg

    with processes(url, 1) as (it,), Pusher(it.url, TOKEN) as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        headers = {"Content-Type": "application/x-ndjson"}
        answers = [
            pusher.post("/v1/push", content=json.dumps(append(1, b"y")), headers=headers).status_code for _ in range(20)
        ]
        assert answers[-1] == 200
        assert set(answers) <= {200, 503}
        assert pusher.bytes_of() == b"xy"


def test_a_packed_stream_reads_as_before(url: str) -> None:
    """Two packers at the same time change nothing twice."""
    content = b""
    with processes(url, 2) as (one, two), Pusher(one.url, TOKEN) as pusher:
        for number in range(20):
            line = f"line {number}\n".encode()
            assert pusher.said(append(len(content), line)) == ["stored"]
            content += line
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda it: pack(it.store, 1), (one, two)))
        assert pusher.bytes_of() == content
        with one.store.read() as db:
            assert db.execute("SELECT count(*) FROM chunks").fetchone() == (1,)


def test_text_that_postgresql_cannot_store_matches_nothing(url: str) -> None:
    """A name with U+0000 is answered like an unknown one, and a record with it is stored."""
    with processes(url, 1) as (it,), Pusher(it.url, TOKEN) as pusher:
        assert pusher.said(record(working_directory="/a\0b", git_branch="x\0")) == ["stored"]
        assert pusher.get("/v1/sessions", params={"tool": "a\0"}).json()["sessions"] == []
        (found,) = pusher.get("/v1/sessions").json()["sessions"]
        assert found["record"]["working_directory"] == "/a\0b"


def test_options_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """Each error names what to do."""
    with pytest.raises(ConfigError, match="PostgreSQL"):
        open_url("mysql://localhost")
    with pytest.raises(ConfigError, match="max-bytes"), serving_store("", url, 1 << 30, 0):
        pass
    assert main(["serve", "--store", url, "--data", "somewhere"]) != 0
    assert "two stores" in capsys.readouterr().err
    with pytest.raises(StateError, match="can't be used now"):
        open_url("postgresql://127.0.0.1:1/nothing")


def test_the_token_of_two_devices_is_bound_to_one(url: str) -> None:
    """Its first pushes reach two processes at the same moment. One of the devices gets it."""
    with processes(url, 2) as (one, two), ThreadPoolExecutor(2) as threads:
        secret = tokens.add(one.store, "shared")

        def push(at: Running, device: str) -> int:
            with Pusher(at.url, secret, device) as pusher:
                while True:
                    line = append(0, b"x", machine_id=device)
                    headers = {"Content-Type": "application/x-ndjson"}
                    status = pusher.post("/v1/push", content=json.dumps(line), headers=headers).status_code
                    if status != 503:
                        return status

        devices = [DEVICE, str(uuid.UUID(int=9))]
        assert sorted(threads.map(push, (one, two), devices)) == [200, 403]


def test_subqueries_in_from_have_names() -> None:
    """PostgreSQL requires it before version 16, and the tests may run with a later one."""
    folder = Path(endpoint_server.__file__).parent
    subquery = re.compile(r'FROM[" \n]*\((?:SELECT)[^()]*\)(?! AS )')
    found = {path.name: subquery.findall(path.read_text()) for path in folder.glob("*.py")}
    assert {name: each for name, each in found.items() if each} == {}
