"""How a real daemon starts and ends."""

from __future__ import annotations

import os
import queue
import resource
import shutil
import signal
import sqlite3
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
from process_lab import SOON, Request, World, session, until

from sessiond.daemon import REPEATED_SIGNAL
from sessiond.daemon.archive import Archive
from sessiond.endpoint.client import Client
from sessiond.spool import health
from support.program import SOURCE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_idle_daemon_ends_within_two_seconds(world: World, number: signal.Signals) -> None:
    """It exits with 0, and everything that it pushed is complete."""
    world.write(1, 1, 2, 3)
    daemon = world.start()
    world.arrives()
    began = time.monotonic()
    assert world.stop(daemon, number) == 0
    assert time.monotonic() - began < 2
    assert "daemon.stopped" in world.said()
    world.judge()
    world.check_spool()


def test_a_push_in_flight_does_not_hold_the_end(world: World) -> None:
    """The endpoint accepts the request and hangs: the daemon ends within ten seconds, and the outbox is kept."""
    world.proxy.fate = lambda request: request.hang() if request.path == "/v1/push" else request.forward_on()
    world.write(1, 1, 2, 3)
    daemon = world.start()
    until(world.proxy.pushes, "a push")
    began = time.monotonic()
    assert world.stop(daemon) == 0
    assert time.monotonic() - began < 10
    assert world.waiting()
    world.proxy.fate = None
    world.start()
    world.arrives()
    world.judge()


def test_a_second_signal_ends_it_at_once(world: World) -> None:
    """A user who asks twice does not want to wait. The exit code names the signal."""
    world.proxy.fate = lambda request: request.hang() if request.path == "/v1/push" else request.forward_on()
    world.write(1, 1, 2, 3)
    daemon = world.start()
    until(world.proxy.pushes, "a push")
    daemon.send_signal(signal.SIGTERM)
    time.sleep(REPEATED_SIGNAL + 0.2)
    assert daemon.poll() is None
    began = time.monotonic()
    assert world.stop(daemon) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 1
    world.check_spool()


def test_what_comes_in_while_it_ends_is_captured_at_the_next_start(world: World) -> None:
    """The daemon ends several times while a tool writes; nothing is lost and nothing is stored twice."""
    for number in range(4):
        world.write(1, *range(number * 10, number * 10 + 10))
        daemon = world.start()
        world.write(2, *range(number * 10, number * 10 + 10))
        time.sleep(0.05 * number)  # at another moment of its work each time
        assert world.stop(daemon) == 0
        world.write(1, number + 1000)
        world.check_spool()
    world.start()
    world.arrives()
    world.judge()


def test_a_second_daemon_says_who_runs(world: World) -> None:
    """It exits with 75 and names the pid of the first one, which is not disturbed."""
    first = world.start()
    second = world.start(wait=False)
    assert second.wait(10) == 75
    assert f"pid {first.pid}" in world.said()
    world.write(1, 1)
    world.arrives()
    assert first.poll() is None


def test_the_lock_dies_with_its_process(world: World) -> None:
    """After SIGKILL the next daemon starts at once."""
    first = world.start()
    first.kill()
    first.wait()
    world.start()
    world.write(1, 1)
    world.arrives()


def test_a_configuration_that_can_not_be_read_ends_with_78(world: World) -> None:
    """The error names the line, and nothing was changed."""
    with open(world.config, "a") as file:
        file.write("tiemout = 3\n")
    daemon = world.start(wait=False)
    assert daemon.wait(10) == 78
    assert "tiemout" in world.said()
    assert "Traceback" not in world.said()
    assert not os.path.exists(os.path.join(world.state, "spool.db"))


def refusal(world: World) -> str | None:
    """Read why the daemon kept its old configuration, as `status` does."""
    with world.spool() as spool:
        return spool.meta(health.CONFIG) or None


def test_an_edit_of_the_configuration_is_in_force_at_once(world: World) -> None:
    """A valid edit is applied in the same process. An invalid one is refused, and the last good one stays."""
    daemon = world.start()
    with open(world.config, "a") as file:
        file.write("tiemout = 3\n")
    until(lambda: world.events("config.refused"), "config.refused")
    world.write(1, 1)
    world.arrives()
    assert refusal(world)
    world.configure(timeout='"7s"')
    until(lambda: world.events("config.reloaded"), "config.reloaded")
    until(lambda: not refusal(world), "the end of the refusal")  # `status` shows it no longer
    world.write(1, 2)
    world.arrives()
    assert daemon.poll() is None
    world.judge()


def test_a_refused_edit_is_forgotten_by_the_next_start(world: World) -> None:
    """It was undone while the daemon did not run: `status` must not report it any more."""
    daemon = world.start()
    with open(world.config, "a") as file:
        file.write("tiemout = 3\n")
    until(lambda: refusal(world), "the refusal")
    daemon.kill()
    daemon.wait()
    world.configure()
    world.start()
    until(lambda: not refusal(world), "the end of the refusal")


def test_a_closed_stderr_costs_lines_and_no_more(world: World) -> None:
    """The reader of the log has ended; the daemon continues."""
    daemon = world.start(["sh", "-c", 'exec "$@" 2>&- >&-', "sh"], wait=False)
    world.write(1, 1)
    world.arrives()
    assert daemon.poll() is None
    assert world.stop(daemon) == 0


def test_the_built_in_archive_starts_and_ends_with_it(world: World) -> None:
    """Without a configured endpoint it starts its own, which ends with its parent even after SIGKILL."""
    world.configure(url='""')
    world.write(1, 1, 2)
    daemon = world.start()
    archive = until(lambda: world.events("endpoint.started"), "endpoint.started")[0]
    until(lambda: "upload.acked" in world.said() and not world.waiting(), "the push")
    daemon.kill()
    daemon.wait()
    until(lambda: not os.path.exists(f"/proc/{archive['pid']}"), "the archive's end")
    daemon = world.start()
    archive = until(lambda: world.events("endpoint.started"), "endpoint.started")[0]
    world.write(1, 3)
    until(lambda: "upload.acked" in world.said() and not world.waiting(), "the push")
    assert world.stop(daemon) == 0
    assert not os.path.exists(f"/proc/{archive['pid']}")


def test_an_archive_inherits_no_descriptor(world: World) -> None:
    """It would keep our spool, lock, inotify instance and sockets open after our end."""
    world.configure(url='""')
    world.start()
    pid = until(lambda: world.events("endpoint.started"), "endpoint.started")[0]["pid"]
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    files = [link for link in links if link.startswith(world.base)]
    assert files
    outside = [file for file in files if "/archive/" not in file and "/stderr-" not in file]
    assert outside == []
    assert not [link for link in links if "inotify" in link]


def test_an_error_that_nobody_expected_ends_the_process_with_a_message(world: World) -> None:
    """A thread that dies ends the others too: exit code 70, one line to report, and the spool stays."""
    world.write(1, 1)
    daemon = world.start()
    world.arrives()
    connection = sqlite3.connect(os.path.join(world.state, "spool.db"), timeout=SOON)
    connection.execute("UPDATE session SET uuid = 'what no version of the program writes'")
    connection.commit()
    connection.close()
    world.write(1, 2)
    assert daemon.wait(SOON) == 70
    assert "a bug: " in world.said()
    assert "please report it" in world.said()


def test_a_program_that_is_replaced_runs_on_until_its_restart(world: World, tmp_path: Path) -> None:
    """An upgrade removes the files of the running program: it still captures, pushes, and ends in order."""
    package = tmp_path / "program"
    shutil.copytree(SOURCE, package)
    world.write(1, 1)
    daemon = world.start(PYTHONPATH=str(package))
    world.arrives()
    shutil.rmtree(package)
    world.write(1, 2)
    world.write(2, 1, 2, size=200_000)
    world.arrives()
    os.unlink(world.path(2))
    world.write(1, 3, mode="wb")
    world.arrives(1)
    assert world.stop(daemon) == 0, world.said()
    world.start()
    world.write(1, 4)
    world.arrives(1)


def test_nothing_beside_it_is_imported(world: World) -> None:
    """The working directory has modules named like those of the standard library: none of them is imported."""
    for name in ("json", "sqlite3", "logging", "httpx", "sitecustomize"):
        Path(world.base, f"{name}.py").write_text(f"open({os.path.join(world.base, 'ran')!r}, 'w')\n")
    world.write(1, 1)
    world.start(["env"])
    world.arrives()
    assert not os.path.exists(os.path.join(world.base, "ran"))


def test_another_archive_takes_over_from_a_dead_one(tmp_path: Path) -> None:
    """The archive's owner is notified once, and the next archive has the same store and the same token."""
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    first = Archive(str(tmp_path), lambda: ended.put(None), respawn=0.0)
    client = Client(first.url, first.token.reveal(), device_id=uuid.UUID(int=1))
    who = client.about()
    client.close()
    os.kill(first.pid, signal.SIGKILL)
    ended.get(timeout=SOON)
    first.stop()
    second = Archive(str(tmp_path), lambda: ended.put(None), respawn=0.0)
    client = Client(second.url, first.token.reveal(), device_id=uuid.UUID(int=1))
    assert client.about().endpoint_id == who.endpoint_id
    client.close()
    second.stop()
    assert ended.empty()


@pytest.mark.slow  # there are ten seconds between two starts
def test_a_dead_archive_is_started_again(world: World) -> None:
    """The daemon goes on with a new one; nothing is lost."""
    world.configure(url='""')
    world.start()
    archive = until(lambda: world.events("endpoint.started"), "endpoint.started")[0]
    os.kill(archive["pid"], signal.SIGKILL)
    until(lambda: len(world.events("endpoint.started")) == 2, "another archive")
    world.write(1, 1)
    until(lambda: "upload.acked" in world.said() and not world.waiting(), "the push")


def test_retry_now_is_a_signal(world: World) -> None:
    """SIGUSR1 pushes at once, however long the wait was."""

    def later(request: Request) -> None:
        request.answer(503, Retry_After="3000")

    world.proxy.fate = later
    world.write(1, 1)
    daemon = world.start()
    until(lambda: (world.health().next_attempt_ms or 0) > time.time_ns() // 1_000_000 + 2_000_000, "a long wait")
    world.proxy.fate = None
    daemon.send_signal(signal.SIGUSR1)
    world.arrives()
    assert set(world.records()) == {session(1)}


def test_no_core_is_left_behind(world: World) -> None:
    """Memory has the token and what users wrote: the limit of core dumps is 0."""
    daemon = world.start()
    assert resource.prlimit(daemon.pid, resource.RLIMIT_CORE)[0] == 0
