"""One run of the daemon in this process, with its real threads: heartbeats, and pauses that end by themselves."""

from __future__ import annotations

import gc
import io
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from sessiond import logs, pause, state
from sessiond.config import load
from sessiond.daemon import daemon_run
from sessiond.daemon.daemon_run import CLOCK_CHECK, DaemonRun, Handover, Host
from sessiond.daemon.heartbeat import PATIENCE
from sessiond.daemon.messages import Message
from sessiond.daemon.notify import ServiceNotifier
from sessiond.daemon.settings import Settings, resolve_settings
from sessiond.daemon.supervisor import Crash, Supervisor
from sessiond.daemon.throttle import Throttle
from sessiond.errors import SpoolDamaged, StateFull
from sessiond.ingest.policy_changes import TERMS
from sessiond.spool.health import REBUILT
from support.capture import lab, write
from support.rules_cache import put_rules

PATIENT = 60.0
"""Seconds until a test gives up on a thread."""
HOUR_MS = 3_600_000


class Notifications(ServiceNotifier):
    """A service manager that stores what it is sent."""

    def __init__(self) -> None:
        super().__init__({})
        self.heartbeats = 0

    def __call__(self, **fields: str) -> None:
        self.heartbeats += "WATCHDOG" in fields


class Clock:
    """The main thread's monotonic clock, moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@contextmanager
def hosted(
    base: Path, notifications: Notifications, pause_ms: int | None = None, *, config: str = os.devnull
) -> Iterator[tuple[Host, Settings]]:
    """Prepare a run whose endpoint does not answer. Claude Code is paused for `pause_ms`."""
    directory = str(base / "state")
    environ = {
        "HOME": str(base),
        "SESSIOND_STATE_DIR": directory,
        "SESSIOND_ENDPOINT__URL": "http://127.0.0.1:9",
        "SESSIOND_ENDPOINT__TIMEOUT": "1s",
    }
    state.prepare(directory)
    put_rules(directory)
    settings = resolve_settings(load(config, environ), environ)
    if pause_ms is not None:
        paused = pause.Paused(sources={"claude-code": time.time_ns() // 1_000_000 + pause_ms})
        pause.write(directory, paused)
        settings = msgspec.structs.replace(settings, paused=paused)
    lock = state.Lock(directory)
    try:
        yield Host(environ=environ, file=None, lock=lock, messages=queue.SimpleQueue(), notify=notifications), settings
    finally:
        lock.release()


@contextmanager
def running(
    base: Path, notifications: Notifications, pause_ms: int | None = None, *, config: str = os.devnull
) -> Iterator[DaemonRun]:
    """Start a run whose endpoint does not answer; end it with the block."""
    with hosted(base, notifications, pause_ms, config=config) as (host, settings):
        run = DaemonRun(host, settings)
        try:
            yield run
        finally:
            run.end(last=True, whole=True)


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def iterate(run: DaemonRun, *loops: str) -> None:
    """Wait until each of these loops has started another iteration."""
    for name in loops:
        loop = getattr(run.engine, name)
        before = loop.iterations
        run.engine.ping()
        until(lambda loop=loop, before=before: loop.iterations > before)


@pytest.mark.parametrize(
    ("hung", "step", "other"),
    [("capture_loop", "add_batch", "upload_loop"), ("upload_loop", "apply_messages", "capture_loop")],
)
def test_no_heartbeat_is_sent_while_a_thread_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hung: str, step: str, other: str
) -> None:
    """A real thread blocks, as in a read from a dead disk. The service manager then restarts the daemon."""
    clock, notifications = Clock(), Notifications()
    stuck, released = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        stuck.set()
        released.wait()

    with running(tmp_path, notifications) as run:
        monkeypatch.setattr(daemon_run, "time", clock)
        try:
            for expected in (1, 2, 3):
                iterate(run, hung, other)
                run.send_heartbeat()
                assert notifications.heartbeats == expected, "both threads work"
                clock.now += PATIENCE + 1
            iterate(run, hung, other)
            monkeypatch.setattr(getattr(run.engine, hung), step, hang)
            # The first ping may still run the step that the loop had looked up before.
            until(lambda: run.engine.ping() or stuck.is_set())
            iterate(run, other)
            run.send_heartbeat()
            sent = notifications.heartbeats  # its last iteration began before it hung
            for _ in range(3):
                clock.now += PATIENCE + 1
                iterate(run, other)
                run.send_heartbeat()
                assert notifications.heartbeats == sent
        finally:
            monkeypatch.undo()
            released.set()
        iterate(run, hung, other)
        run.send_heartbeat()
        assert notifications.heartbeats == sent + 1, "it works again"


def test_a_paused_source_comes_back_on_time(tmp_path: Path) -> None:
    """The main thread wakes when the pause ends, not at the next check of the wall clock a minute later."""
    ended: queue.SimpleQueue[Message | BaseException] = queue.SimpleQueue()
    with running(tmp_path, Notifications(), pause_ms=HOUR_MS) as run:
        before = run.config_watch
        thread = threading.Thread(target=lambda: ended.put(run.run()), daemon=True)
        thread.start()
        until(lambda: run.config_watch is not before)  # the configuration was read again, as after each start
        end_ms = time.time_ns() // 1_000_000 + 500
        paused = pause.Paused(sources={"claude-code": end_ms})
        pause.write(run.engine.resources.directory, paused)
        run.settings = msgspec.structs.replace(run.settings, paused=paused)
        began = time.monotonic()
        run.host.messages.put(Message.NETWORK)
        assert ended.get(timeout=PATIENT) is Message.EDITED
        assert time.monotonic() - began < CLOCK_CHECK / 2
        assert time.time_ns() // 1_000_000 >= end_ms, "and not before"
        assert run.settings.paused.sources == {}


def test_what_is_doubtful_about_the_configuration_is_logged_at_the_start(tmp_path: Path) -> None:
    """Every user of the machine can change the file, and so read what this one writes."""
    config, stream = tmp_path / "config.toml", io.StringIO()
    config.write_text("")
    config.chmod(0o666)
    logs.configure(format="json", stream=stream, environ={})
    try:
        with running(tmp_path, Notifications(), config=str(config)):
            pass
    finally:
        logs.configure(level="warning")
    doubted = [line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == "config.doubted"]
    assert "every user of this machine can change" in doubted[0]["reason"]


def test_a_run_that_follows_another_one_starts_no_second_time(tmp_path: Path) -> None:
    """The daemon starts once, however often its threads do. A failure under the old settings is forgotten."""
    with logs.recorded() as events, running(tmp_path, Notifications()) as run:
        run.end(last=False, whole=True)
        following = DaemonRun(run.host, run.settings, Handover(config_watch=run.config_watch))
        following.end(last=False, whole=True)
        assert [event["event"] for event in events].count("daemon.started") == 1
        assert "daemon.stopped" not in {event["event"] for event in events}


def supervised(base: Path, *messages: Message | BaseException) -> list[str]:
    """Run engines until one of these messages is the last, and return the log events; raise what ends the process."""
    ready: list[str] = []
    with logs.recorded() as events, hosted(base, Notifications()) as (host, settings):
        for message in messages:
            host.messages.put(message)
        try:
            Supervisor(host, settings).run(ready.append)
        finally:
            assert ready == ["http://127.0.0.1:9"], "once, however many engines there are"
    return [event["event"] for event in events]


def test_a_damaged_spool_is_rebuilt_by_another_engine_of_the_same_process(tmp_path: Path) -> None:
    """The old one is set aside. The engine after that finds nothing to rebuild."""
    events = supervised(tmp_path, SpoolDamaged("a page is damaged"), Message.DIED, Message.STOP)
    assert events.count("spool.rebuilt") == 1
    assert (events.count("daemon.started"), events.count("daemon.stopped")) == (1, 1)


def test_damage_that_shows_only_when_the_spool_is_read_is_repaired_as_well(tmp_path: Path) -> None:
    """No check of the file finds a frame that can't be unpacked, but new redaction rules do. `status` shows it."""
    write(tmp_path, 1, age=0)
    with lab(tmp_path) as harness:
        harness.look()
        with harness.resources.spool.transaction():
            harness.resources.spool.connection.execute("UPDATE segment SET data = x'00' WHERE length > 0")
            harness.resources.spool.set_meta(TERMS, "other rules")
    assert supervised(tmp_path, Message.STOP).count("spool.rebuilt") == 1
    with lab(tmp_path) as harness:
        assert harness.resources.spool.meta(REBUILT)


def test_a_spool_that_is_damaged_again_ends_the_process(tmp_path: Path) -> None:
    """The disk fails, and rebuilding again and again would hide that."""
    with pytest.raises(SpoolDamaged, match="second"):
        supervised(tmp_path, SpoolDamaged("first"), SpoolDamaged("second"))


def test_an_engine_that_ended_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """A token that is replaced every hour would otherwise make the process grow."""
    counts: list[int] = []

    class Counting(Notifications):
        def __call__(self, **fields: str) -> None:
            if "STOPPING" in fields:
                counts.append(sum(isinstance(each, Throttle) for each in gc.get_objects()))

    gc.collect()
    gc.disable()
    try:
        for restarts in (0, 3):
            with hosted(tmp_path, Counting()) as (host, settings):
                for message in (*[Message.DIED] * restarts, Message.STOP):
                    host.messages.put(message)
                Supervisor(host, settings).run(lambda _: None)
            gc.collect()
    finally:
        gc.enable()
    assert counts[0] == counts[1] > 0


def test_an_engine_that_ends_for_another_reason_rebuilds_nothing(tmp_path: Path) -> None:
    """For example, the built-in archive has to be started again."""
    assert "spool.rebuilt" not in supervised(tmp_path, Message.DIED, Message.STOP)


@pytest.mark.parametrize(("error", "raised"), [(ValueError("x"), Crash), (StateFull("full"), StateFull)])
def test_an_error_of_a_thread_ends_the_process(tmp_path: Path, error: Exception, raised: type[Exception]) -> None:
    """The service manager starts it again. An unexpected error says that it is a bug."""
    with pytest.raises(raised):
        supervised(tmp_path, error)
