"""A second process beside a live store: no acknowledged byte is lost, whatever it does and however we end.

`SESSIOND_TRIALS=300` (or `-m slow`) raises the number of random trials.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from endpoint_lines import DEVICE, SESSION, Pusher, append
from test_serve import command, serve, serving

from sessiond.endpoint.server import Running, running, tokens
from sessiond.endpoint.server.lock import NAME, StoreLock
from sessiond.endpoint.server.sqlite_schema import FILE, connect
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.errors import AlreadyRunning, StateError
from sessiond.sqlite_files import create_private
from support.program import Program

TRIALS = int(os.environ.get("SESSIOND_TRIALS", "2"))
BACKUP = (
    "import sqlite3, sys\n"
    "source, copy = sqlite3.connect(sys.argv[1]), sqlite3.connect(sys.argv[2])\n"
    "source.backup(copy)\n"
    "copy.close(), source.close()\n"
)


def open_and_close(path: Path) -> None:
    """Open and close the store in another process, as every command does."""
    script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM facts').fetchall()"
    subprocess.run([sys.executable, "-c", f"{script}; db.close()", str(path)], check=True)


def backup(path: Path, copy: Path) -> None:
    """Copy a live store as docs/operations.md says, in another process."""
    subprocess.run([sys.executable, "-c", BACKUP, str(path), str(copy)], check=True, timeout=60)


def sessions(path: Path) -> set[str]:
    """Return the sessions of which a store file holds a stream; it must be undamaged."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return {row[0] for row in db.execute("SELECT session FROM streams")}


def test_a_reader_does_not_drop_the_locks_of_the_writer(tmp_path: Path) -> None:
    """The write-ahead log stays the same file while we run, although others open and close the store."""
    with running(str(tmp_path)) as it, Pusher(it.url, it.token) as pusher:
        assert pusher.said(append(0, b"a")) == ["stored"]
        log = (tmp_path / f"{FILE}-wal").stat().st_ino
        for _ in range(3):
            with it.store.read(), it.store.read():  # a new connection beside the one in use
                open_and_close(tmp_path / FILE)
        assert (tmp_path / f"{FILE}-wal").stat().st_ino == log
        assert pusher.said(append(1, b"b")) == ["stored"]
        with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as other:
            assert other.execute("SELECT length FROM generations").fetchall() == [(2,)]


@pytest.mark.parametrize("what", ["list", "add", "revoke", "adopt", "backup"])
def test_a_command_beside_a_live_store_loses_nothing(tmp_path: Path, what: str) -> None:
    """After the command, a push and kill -9, all pushed bytes are in the file."""
    data = ("--data", str(tmp_path))
    pushed = [str(uuid.UUID(int=number)) for number in range(4)]
    with serving(tmp_path) as (process, url, token), Pusher(url, token) as pusher:
        assert command("token", "add", "old", *data).returncode == 0
        assert pusher.said(append(0, b"x", session=pushed[0])) == ["stored"]
        assert pusher.get("/v1/sessions").status_code == 200  # a reader's connection
        if what == "backup":
            backup(tmp_path / FILE, tmp_path / "copy.db")
            assert sessions(tmp_path / "copy.db") == set(pushed[:1])
        elif what == "adopt":
            assert command("adopt", "ada", *data).returncode in (0, 1)
        else:
            name = {"list": [], "add": ["new"], "revoke": ["old"]}[what]
            assert command("token", what, *name, *data).returncode == 0
        for session in pushed[1:]:
            assert pusher.said(append(0, b"x", session=session)) == ["stored"]
        process.kill()
        process.wait()
    assert sessions(tmp_path / FILE) == set(pushed)


def test_a_revoked_token_is_refused_whatever_ran_before(tmp_path: Path) -> None:
    """Each token command is seen by the next request, and a backup has all that was acknowledged before it."""
    data = ("--data", str(tmp_path))
    with serving(tmp_path) as (_, url, token):
        stolen = command("token", "add", "stolen", *data).stdout.strip()
        with Pusher(url, token) as pusher, Pusher(url, stolen) as thief:
            assert pusher.said(append(0, b"x")) == ["stored"]
            assert thief.get("/v1/sessions").status_code == 200
            command("token", "list", *data)
            command("token", "revoke", "stolen", *data)
            assert thief.get("/v1/sessions").status_code == 401
            assert pusher.said(append(1, b"y")) == ["stored"]
            backup(tmp_path / FILE, tmp_path / "copy.db")
            added = command("token", "add", "added", *data).stdout.strip()
            with Pusher(url, added) as new:
                assert new.get("/v1/sessions").status_code == 200
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT length FROM generations").fetchall() == [(2,)]


def test_a_second_serve_is_refused_and_names_the_first(tmp_path: Path) -> None:
    """It is refused through a link to the directory or the file too. After kill -9 the lock is free at once."""
    data, linked, apart = tmp_path / "data", tmp_path / "linked", tmp_path / "apart"
    data.mkdir()
    linked.symlink_to(data)
    with serving(data) as (process, _, _):
        apart.mkdir()
        (apart / FILE).symlink_to(data / FILE)
        for directory in (data, linked, apart):
            second = command("--data", str(directory), "--port", "0")
            assert (second.returncode, second.stdout) == (75, "")
            assert f"pid {process.pid}" in second.stderr
        process.kill()
        process.wait()
    assert (data / NAME).exists()
    with serving(linked):
        pass


def test_a_child_waits_for_the_lock_of_one_that_is_ending(tmp_path: Path) -> None:
    """A killed daemon's archive may still be ending its requests when the next daemon starts another one."""
    lock = StoreLock(str(tmp_path))
    options = ["--data", str(tmp_path), "--port", "0", "--announce", "-", "--token-file", str(tmp_path / "token")]
    child = serve(*options, "--until-eof", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    while not (tmp_path / "token").exists():  # made just before the lock is asked for
        assert child.poll() is None
    lock.release()
    assert json.loads(child.stdout.readline())["pid"] == child.pid
    assert child.stdin is not None
    child.stdin.close()
    child.stdout.close()
    assert child.wait(30) == 0


def test_the_lock_counts_for_the_file_that_is_there(tmp_path: Path) -> None:
    """A deleted lock file is made again, a link is not followed, and a file that can't be locked is an error."""
    with StoreLock(str(tmp_path)) as first:
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}"):
            StoreLock(str(tmp_path))
        assert Path(first.path).read_text() == f"{os.getpid()}\n"
    with StoreLock(str(tmp_path)):
        pass
    (tmp_path / NAME).unlink()
    with StoreLock(str(tmp_path)) as again:
        assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
        assert os.path.samestat(os.stat(again.path), os.stat(tmp_path / NAME))
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="can't lock"):
        StoreLock(str(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


def test_the_holder_of_a_lock_without_a_pid_is_unknown(tmp_path: Path) -> None:
    """The file is written after it is locked; a read-only holder may not have written it at all."""
    with open(tmp_path / NAME, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunning, match="pid unknown"):
            StoreLock(str(tmp_path))


def test_a_store_with_two_names_is_refused(tmp_path: Path) -> None:
    """Two processes under two names of one file would each have a write-ahead log of their own."""
    SqliteStore(str(tmp_path / "a")).close()
    (tmp_path / "b").mkdir()
    os.link(tmp_path / "a" / FILE, tmp_path / "b" / FILE)
    with pytest.raises(StateError, match="2 names"):
        SqliteStore(str(tmp_path / "b"))


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_nothing_is_acknowledged_once_the_file_is_gone(endpoint: Running, pusher: Pusher, suffix: str) -> None:
    """If the store is deleted while the endpoint runs, it fails, and loses nothing that it answered with `stored`."""
    assert pusher.said(append(0, b"x")) == ["stored"]
    os.unlink(os.path.join(endpoint.store.directory, FILE + suffix))
    answer = pusher.post("/v1/push", content=json.dumps(append(1, b"y")))
    assert answer.status_code == 500


def test_an_endpoint_without_its_store_ends_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    """Another store has replaced its own, and its write-ahead log must not be removed."""
    with serving(tmp_path) as (process, url, token), Pusher(url, token) as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
        for suffix in ("", "-wal", "-shm"):
            os.rename(tmp_path / f"{FILE}{suffix}", tmp_path / f"old{suffix}")
        with contextlib.closing(SqliteStore(str(tmp_path))) as other:
            log = (tmp_path / f"{FILE}-wal").stat()
            assert pusher.post("/v1/push", content=json.dumps(append(1, b"y"))).status_code == 500
            assert process.wait(60) == 1
            tokens.add(other, "kept")
            assert os.path.samestat((tmp_path / f"{FILE}-wal").stat(), log)
    assert sessions(tmp_path / "old") == {SESSION}
    assert sessions(tmp_path / FILE) == set()


def test_a_file_is_created_private_and_opened_by_nobody_else_meanwhile(tmp_path: Path) -> None:
    """Many threads open it at once, and the locks of the first connection survive the others."""
    path = tmp_path / FILE
    gate = threading.Barrier(8)

    def create() -> None:
        gate.wait()
        create_private(str(path))
        connect(str(tmp_path)).close()

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with contextlib.closing(connect(str(tmp_path))) as db:
        db.execute("BEGIN IMMEDIATE")
        create_private(str(path))
        script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        other = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
        assert "database is locked" in other.stderr
    assert path.stat().st_mode & 0o777 == 0o600


class Trial:
    """One random run: two pushers, two readers, commands of other processes, and an end."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.directory = directory
        self.store = directory / FILE
        self.stop = threading.Event()
        self.ending = threading.Event()
        """Set before the endpoint is ended. After that it may answer that it is shutting down."""
        self.acknowledged: dict[str, str] = {}
        """The SHA-256 of each stream that was answered with `stored`, by its session."""
        self.unexpected: list[str] = []

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `sessiond serve` on the live store; every one succeeds."""
        done = command(*words, "--data", str(self.directory))
        assert done.returncode == 0, done.stderr
        return done

    def run(self) -> None:
        """Run the trial, and compare what was acknowledged with what is stored."""
        self.command("token", "add", "pusher")
        with self._serving() as (process, url, token):
            threads = [threading.Thread(target=self._push, args=(url, token, seed)) for seed in range(2)]
            threads += [threading.Thread(target=self._read, args=(url, token)) for _ in range(2)]
            for thread in threads:
                thread.start()
            self._await_pushes(process, 5)
            for number in range(self.random.randrange(1, 5)):
                self._disturb(number)
                self._await_pushes(process, len(self.acknowledged) + self.random.randrange(1, 20))
            end = self.random.choice([signal.SIGTERM, signal.SIGKILL])
            self.ending.set()
            process.send_signal(end)
            process.wait(60)
            self.stop.set()
            for thread in threads:
                thread.join()
        assert self.unexpected == []
        with running(str(self.directory), token) as it, Pusher(it.url, token) as pusher:
            for session, digest in self.acknowledged.items():
                answer = pusher.get(f"/v1/sessions/ada/{session}/streams/main")
                assert answer.status_code == 200, f"{session} is lost after {end.name}"
                assert hashlib.sha256(answer.content).hexdigest() == digest
        assert sessions(self.store) >= self.acknowledged.keys()

    @contextlib.contextmanager
    def _serving(self) -> Iterator[tuple[Program, str, str]]:
        with serving(self.directory) as it:
            try:
                yield it
            finally:
                self.stop.set()
                it[0].kill()

    def _await_pushes(self, process: Program, count: int) -> None:
        end = time.monotonic() + 60
        while len(self.acknowledged) < count and process.poll() is None and time.monotonic() < end:
            self.stop.wait(0.005)
        assert len(self.acknowledged) >= count, "the pushers were held up"

    def _disturb(self, number: int) -> None:
        what = self.random.choice(["list", "add", "revoke", "adopt", "backup", "serve", "open"])
        if what == "list":
            self.command("token", "list")
        elif what == "add":
            self.command("token", "add", f"t{number}")
        elif what == "revoke":
            self.command("token", "add", f"r{number}")
            self.command("token", "revoke", f"r{number}")
        elif what == "adopt":
            done = command("adopt", "ada", "--data", str(self.directory))
            assert done.returncode in (0, 1)
        elif what == "serve":
            assert command("--data", str(self.directory), "--port", "0").returncode == 75
        elif what == "open":
            open_and_close(self.store)
        else:
            before, copy = set(self.acknowledged), self.directory / f"copy{number}"
            backup(self.store, copy)
            assert sessions(copy) >= before

    def _push(self, url: str, token: str, seed: int) -> None:
        content = random.Random(f"{self.random.random()} {seed}")
        with Pusher(url, token) as pusher:
            while not self.stop.is_set():
                texts = [content.randbytes(content.randrange(100, 15_000)).hex().encode() for _ in range(3)]
                lines: list[dict[str, Any]] = [append(0, text, session=str(uuid.uuid4())) for text in texts]
                try:
                    said = pusher.said(*lines, headers={"Sessiond-Device": DEVICE})
                except httpx.TransportError:
                    return  # it was killed: this push may be stored or not
                except AssertionError as error:
                    if not self.ending.is_set() or '"status":503' not in str(error):
                        self.unexpected.append(str(error))
                    return  # nothing of it was acknowledged
                if said != ["stored"] * 3:
                    self.unexpected.append(str(said))
                self.acknowledged |= {line["session"]: line["sha256"] for line in lines}

    def _read(self, url: str, token: str) -> None:
        with Pusher(url, token) as pusher:
            while not self.stop.is_set():
                for session in list(self.acknowledged)[-3:]:
                    try:
                        answer = pusher.get(f"/v1/sessions/ada/{session}/streams/main")
                    except httpx.TransportError:
                        return
                    if answer.status_code == 503 and self.ending.is_set():
                        return
                    if answer.status_code != 200:
                        self.unexpected.append(f"read {answer.status_code}")
                self.stop.wait(0.002)


@pytest.mark.parametrize("seed", range(TRIALS))
def test_random_processes_and_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    """Every acknowledged byte is still there, and the file is a sound database."""
    Trial(tmp_path, seed).run()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_a_hundred_random_trials_lose_nothing(tmp_path: Path, seed: int) -> None:
    Trial(tmp_path, seed).run()


def test_a_token_made_by_another_process_is_seen_at_once(endpoint: Running) -> None:
    """The processes share only files, so nothing is cached that another process may change."""
    secret = tokens.generate()
    other = SqliteStore(endpoint.store.directory)
    tokens.add(other, "other", secret)
    other.close()
    assert (
        httpx.get(f"{endpoint.url}/v1/sessions", headers={"Authorization": f"Bearer {secret}"}, timeout=60).status_code
        == 200
    )
