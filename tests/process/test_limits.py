"""Shortages: disk space, descriptors, watches, working disks."""

from __future__ import annotations

import os
import resource
import subprocess
import time

from process_lab import World, entering, namespaced, session, strace, until

from sessiond import state
from support.harness import claude, encode


def test_a_full_disk_stops_capturing_until_there_is_room(world: World) -> None:
    """It is reported where that is still possible (the lock file, the log). The daemon stays alive, and goes on by
    itself.
    """
    disk = namespaced(f"mount -t tmpfs -o size=2m,mode=0700 none {world.state}", mounts=True)
    world.proxy.fate = lambda request: request.answer(503)
    daemon = world.start(disk)
    inside = entering(daemon.pid, mounts=True)
    for number in range(12):
        with open(world.path(number), "wb") as file:  # random: it doesn't compress
            file.write(encode(claude(session(number), 3, text=os.urandom(200_000).hex())))
        world.write(number, 1, 2)
    until(lambda: world.events("spool.filled"), "spool.filled")
    lock = until(lambda: _lock(inside, world) if "stopped" in _lock(inside, world) else None, "the lock's word")
    assert "full" in lock
    os.makedirs(os.path.join(world.home, ".codex/sessions"))  # a root appears: there is no room to note even that
    for _ in range(2):  # and a scan must not end it
        world.look(daemon.pid)
        time.sleep(0.5)
    assert daemon.poll() is None, world.said()
    subprocess.run([*inside, "mount", "-o", "remount,size=64m", world.state], check=True)
    until(lambda: '"stopped":null' in _lock(inside, world), "the lock's word")
    world.proxy.fate = None
    world.look(daemon.pid)  # the wait after a 503 is longer the longer all this took
    world.arrives(*range(12))
    world.judge()
    assert world.stop(daemon) == 0


def _lock(inside: list[str], world: World) -> str:
    return subprocess.run(
        [*inside, "cat", f"{world.state}/{state.LOCK}"], capture_output=True, check=True, text=True
    ).stdout


def test_a_daemon_on_a_full_disk_still_ends_in_order(world: World) -> None:
    """SIGTERM while nothing can be written is no crash."""
    disk = namespaced(f"mount -t tmpfs -o size=1m,mode=0700 none {world.state}", mounts=True)
    world.proxy.fate = lambda request: request.answer(503)
    daemon = world.start(disk)
    for number in range(8):
        with open(world.path(number), "wb") as file:
            file.write(encode(claude(session(number), 3, text=os.urandom(200_000).hex())))
    until(lambda: world.events("spool.filled"), "spool.filled")
    world.write(1, 1)
    began = time.monotonic()
    assert world.stop(daemon) == 0, world.said()
    assert time.monotonic() - began < 10


def test_a_file_that_can_not_be_read_stops_no_other(world: World) -> None:
    """One file gives EIO: the others are captured, the file is reported, and read once the disk works again."""
    bad = world.write(1, 1, 2)
    world.write(2, 1, 2)
    trap = strace("-e", "trace=pread64", "-P", bad, "-e", "inject=pread64:error=EIO:when=1..3")
    world.start(trap)
    world.arrives(2)
    with world.spool() as spool:
        assert "Input/output error" in until(lambda: getattr(spool.catalog.file(bad), "trouble", None), "its trouble")

    def read_again() -> bool:
        world.look()  # a scan while the disk fails leaves no trace to wait for
        return world.arrived(1)

    until(read_again, "the file", every=0.3)
    world.arrives()
    world.judge()


def test_without_descriptors_it_waits_and_goes_on(world: World) -> None:
    """Every open fails with EMFILE: the daemon stays alive, and reads new data once there are descriptors again."""
    world.write(1, 1)
    daemon = world.start()
    world.arrives()
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir(f"/proc/{daemon.pid}/fd")) + 1
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used, hard))
    free = used - len(os.listdir(f"/proc/{daemon.pid}/fd"))
    assert free < 4
    os.mkdir(os.path.join(world.home, ".claude/projects/another"))
    with open(os.path.join(world.home, ".claude/projects/another", f"{session(3)}.jsonl"), "wb") as file:
        file.write(encode(claude(session(3), 1)))
    world.write(1, 2)
    world.write(2, 1, 2)
    for _ in range(2):
        world.look()
        time.sleep(0.5)
    assert daemon.poll() is None, world.said()
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
    world.look()
    world.arrives(1, 2)
    until(lambda: world.held(session(3)), "the third")
    assert daemon.poll() is None, world.said()


def test_few_descriptors_are_enough(world: World) -> None:
    """Their number does not grow with the files: 40 suffice for 300 sessions."""
    limited = ["sh", "-c", 'ulimit -n 40 && exec "$@"', "sh"]
    for number in range(300):
        world.write(number, 1)
    daemon = world.start(limited)
    world.arrives()
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < 30


def test_too_few_watches_are_made_up_for_by_looking(world: World) -> None:
    """There are five inotify watches for thirty directories: the shortage is reported, and everything arrives."""
    for number in range(30):
        os.makedirs(os.path.join(world.home, f".claude/projects/p{number}"))
    world.start(namespaced("echo 5 > /proc/sys/user/max_inotify_watches"))
    until(lambda: world.events("watch.limited"), "watch.limited")
    for number in range(30):
        path = os.path.join(world.home, f".claude/projects/p{number}", f"{session(number)}.jsonl")
        with open(world.write(number, 1, 2), "rb") as source, open(path, "wb") as file:
            file.write(source.read())
        os.unlink(world.path(number))
    world.arrives()
    world.judge()


def test_without_inotify_it_looks_instead(world: World) -> None:
    """If there is no inotify instance left, it starts nevertheless and reports it, and everything arrives."""
    world.start(namespaced("echo 0 > /proc/sys/user/max_inotify_instances"))
    assert until(lambda: world.events("watch.limited"), "watch.limited")[0]["hint"].startswith("sudo sysctl ")
    world.write(1, 1, 2)
    world.arrives()
    world.judge()
