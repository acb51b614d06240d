"""`sync` without a daemon: everything is captured and pushed once, in this process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from sessiond import logs, pause, state
from sessiond.clock import now_ms
from sessiond.config import Config, Loaded
from sessiond.daemon import once
from sessiond.daemon.config_watch import ConfigWatch
from sessiond.daemon.engine import Engine, EngineOptions
from sessiond.daemon.once import SyncResult, sync_once
from sessiond.endpoint.server import Running, running
from sessiond.errors import AlreadyRunning, StateError
from sessiond.ingest.pipeline import decode
from sessiond.restored import Mark, Origin, RestoredSessions
from sessiond.session import Fold, session_id
from sessiond.sources import find_sources
from sessiond.sources.base import Root
from sessiond.spool import Spool
from sessiond.spool.verification import BEGUN, EACH_MS
from sessiond.watch import WatchedRoot
from support.capture import session, write
from support.harness import TOKEN, claude, encode, settings_of
from support.program import SOURCE

SAMPLES = Path(__file__).parents[1] / "conformance" / "samples"


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Restore the handler that `sync` replaces."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `sync` try a torn file again at once."""
    monkeypatch.setattr(once, "SCAN_RETRY_SECONDS", 0.0)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Running]:
    """Serve an endpoint."""
    with running(str(tmp_path / "endpoint"), token=TOKEN) as made:
        yield made


def sync(base: Path, url: str, environ: Mapping[str, str] | None = None, **settings: object) -> SyncResult:
    """Capture and push everything in the home below `base`."""
    given = {"state_dir": str(base / "state"), "endpoint": {"url": url}, "redact": "off", **settings}
    loaded = Loaded(config=msgspec.convert(given, type=Config))
    return sync_once(loaded, {"HOME": str(base / "home"), "SESSIOND_TOKEN": TOKEN, **(environ or {})})


@contextmanager
def locked(directory: str) -> Iterator[state.Lock]:
    """Hold the lock of a state directory, as a daemon does."""
    lock = state.Lock(directory)
    try:
        yield lock
    finally:
        lock.release()


def grow(path: str, lines: int) -> None:
    """Append lines of 256 KiB that can't be compressed to less than half."""
    with open(path, "ab") as file:
        for number in range(lines):
            file.write(encode(claude(session(1), 100 + number, text=os.urandom(128 << 10).hex())))


def test_everything_is_at_the_endpoint_though_the_outbox_is_small(tmp_path: Path, endpoint: Running) -> None:
    """Bytes that wait for room are read after each push, in the same run."""
    grow(write(tmp_path, 1, age=0), 8)
    write(tmp_path, 2, age=0)
    done = sync(tmp_path, endpoint.url, outbox={"max_bytes": 1 << 20})
    assert done.empty
    assert (done.unread, done.waiting.behind, done.totals.waiting) == (0, 0, 0)
    assert [(tool.tool, tool.sessions) for tool in done.tools] == [("claude-code", 2)]


def test_each_copy_of_a_document_is_captured_by_the_first_sync(tmp_path: Path, endpoint: Running) -> None:
    """Otherwise `verify` finds a file that is not captured right after a `sync` that ended well."""
    [document] = (SAMPLES / "gemini-cli" / "0.25-document").rglob("*00000040.json")
    copies = [tmp_path / "home" / ".gemini" / "tmp" / project / "chats" / document.name for project in ("one", "two")]
    for copy in copies:
        copy.parent.mkdir(parents=True)
        shutil.copy(document, copy)
    assert sync(tmp_path, endpoint.url).empty
    with closing(Spool(str(tmp_path / "state"), readonly=True)) as spool:
        files = [spool.catalog.file(str(copy)) for copy in copies]
    assert [file is not None and file.checkpoint is not None for file in files] == [True, True]


def test_a_restored_session_is_pushed_to_another_endpoint_by_the_same_sync(tmp_path: Path, endpoint: Running) -> None:
    """It has no message of its own, so it is not captured before another endpoint than that of the mark answers."""
    path = write(tmp_path, 1, age=0)
    [source] = [each for each in find_sources() if each.tool == "claude-code"]
    fold = Fold()
    decode(source, Path(path).read_bytes(), fold, now_ms())
    identity = session_id("claude-code", session(1), "")
    mark = Mark(
        continues=Origin(machine_id="other", id=identity),
        directory="/home/dev/project",
        endpoint="00000000-0000-4000-8000-000000000001",
        restored_ms=now_ms(),
        keys=b"".join(key.to_bytes(8, "little") for key in fold.messages),
    )
    RestoredSessions(str(tmp_path / "state")).add(identity, mark)
    done = sync(tmp_path, endpoint.url)
    assert done.empty
    assert [(tool.tool, tool.sessions) for tool in done.tools] == [("claude-code", 1)]


def test_an_endpoint_that_does_not_answer_is_tried_once(tmp_path: Path) -> None:
    """The result shows what waits. A user who watches does not have to wait for retries."""
    write(tmp_path, 1, age=0)
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        done = sync(tmp_path, url)
    assert not done.empty
    assert done.endpoint.failures == 1
    assert done.endpoint.kind == "unreachable"


def test_a_pause_of_the_user_holds(tmp_path: Path, endpoint: Running) -> None:
    """New data is captured and not pushed."""
    write(tmp_path, 1, age=0)
    state.prepare(str(tmp_path / "state"))
    pause.write(str(tmp_path / "state"), pause.Paused(pushing=pause.INDEFINITELY))
    done = sync(tmp_path, endpoint.url)
    assert done.paused == pause.INDEFINITELY
    assert not done.empty
    assert done.waiting.sessions == 1


def test_a_file_in_a_rewrite_is_tried_several_times_and_counted(tmp_path: Path, endpoint: Running) -> None:
    """It is half of a document. Everything else is at the endpoint."""
    write(tmp_path, 1, age=0)
    torn = tmp_path / "home/.gemini/tmp/project/chats/session-2026-09-01T10-00-5f1d7c1e.json"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"sessionId": "5f1d7c1e-0000-4000-8000-00000000000a", "messages": [')
    done = sync(tmp_path, endpoint.url)
    assert done.unread == 1
    assert not done.empty
    assert done.only_unread


def test_another_sync_may_take_this_one_for_a_daemon(tmp_path: Path, endpoint: Running) -> None:
    """It sends SIGUSR1 to the holder of the lock, which would end this process."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    sync(tmp_path, endpoint.url)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN


def test_a_daemon_that_runs_keeps_its_lock(tmp_path: Path, endpoint: Running) -> None:
    """The lock is free after a sync."""
    sync(tmp_path, endpoint.url)
    with locked(str(tmp_path / "state")), pytest.raises(AlreadyRunning):
        sync(tmp_path, endpoint.url)
    assert sync(tmp_path, endpoint.url).empty


def starts(base: Path) -> int:
    """Run `sync` with the built-in archive; return how often the archive was started."""
    with logs.recorded() as events:
        done = sync(base, "")
    assert done.empty
    assert done.totals.acknowledged == done.totals.captured > 0
    return sum(event["event"] == "endpoint.started" for event in events)


def imported(base: Path) -> set[str]:
    """Run `sync` with the built-in archive in a process of its own; return the modules that it imported."""
    code = "import sys; from sessiond.cli import main; code = main(['sync']); print(*sys.modules); sys.exit(code)"
    env = {"HOME": str(base / "home"), "SESSIOND_STATE_DIR": str(base / "state"), "SESSIOND_CONFIG": os.devnull}
    env |= {"PYTHONPATH": SOURCE, "PATH": os.defpath, "SESSIOND_REDACT": "off"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def held(base: Path, number: int) -> int:
    """Return how many bytes of a session the archive has."""
    with closing(sqlite3.connect(base / "state/archive/endpoint.db")) as store:
        rows = store.execute(
            "SELECT max(length) FROM generations JOIN streams USING (stream) WHERE session = ?", (session(number),)
        )
        return int(rows.fetchone()[0] or 0)


def test_the_archive_is_started_only_if_it_may_lack_something(tmp_path: Path) -> None:
    """Without news, `sync` reads in its file that it is the one that acknowledged everything, and what came last."""
    path, archive = write(tmp_path, 1, age=0), tmp_path / "state/archive"
    assert starts(tmp_path) == 1
    assert starts(tmp_path) == 0
    slow = {
        "httpx",
        "watchdog",
        "starlette",
        "asyncio",
        "ssl",
        "hyperscan",
        "rich",
        "tenacity",
        "structlog",
        "http.client",
    }
    assert imported(tmp_path) & slow == set()
    shutil.copytree(archive, tmp_path / "backup")
    with open(path, "ab") as file:
        file.write(encode(claude(session(1), 50)))
    assert starts(tmp_path) == 1
    assert held(tmp_path, 1) == os.path.getsize(path)

    shutil.rmtree(archive)
    shutil.copytree(tmp_path / "backup", archive)  # it lacks the last line
    assert starts(tmp_path) == 1
    assert held(tmp_path, 1) == os.path.getsize(path)
    assert starts(tmp_path) == 0

    shutil.rmtree(archive)
    assert starts(tmp_path) == 1
    assert held(tmp_path, 1) == os.path.getsize(path)

    with closing(Spool(str(tmp_path / "state"))) as spool:
        (since,) = {value.rpartition(" ")[2] for value in [spool.meta(BEGUN)] if value}
        spool.set_meta(BEGUN, f" {int(since) - EACH_MS}")  # the daily comparison is due
    assert starts(tmp_path) == 1
    assert starts(tmp_path) == 0
    with closing(Spool(str(tmp_path / "state"))) as spool, spool.transaction():
        spool.forgotten.order([session(7)], 1, everywhere=True)
    assert starts(tmp_path) == 1
    assert starts(tmp_path) == 0


class Unwatchable(WatchedRoot, frozen=True):
    """A root that can't be watched."""

    def __getattribute__(self, name: str) -> object:
        """Raise when the watcher starts."""
        if name == "root":
            raise StateError("no")
        return super().__getattribute__(name)


class UnwatchableFiles(ConfigWatch):
    """Files of a configuration that can't be watched."""

    def roots(self) -> list[WatchedRoot]:
        """Return a root that can't be watched."""
        return [Unwatchable(owner="config", root=Root(path="/"))]


def test_an_engine_that_can_not_start_leaves_no_archive_behind(tmp_path: Path) -> None:
    """The next engine of the same process starts another one, which the first one's lock would refuse."""
    directory = str(tmp_path / "state")
    state.prepare(directory)
    config = msgspec.convert({"state_dir": directory, "redact": "off"}, type=Config)
    files = UnwatchableFiles(Loaded(config=config), {}, str(tmp_path / "config.toml"))
    with locked(directory) as lock, logs.recorded() as events, pytest.raises(StateError, match="no"):
        Engine(settings_of(config), {"HOME": str(tmp_path)}, lock, EngineOptions(config_files=files))
    (pid,) = [event["pid"] for event in events if event["event"] == "endpoint.started"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(pid)), 0)
