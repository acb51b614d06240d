"""Kill -9 at any moment: nothing is lost or stored twice, and the spool opens."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGUSR1

import pytest
from process_lab import SOON, Request, World, strace, until

WRITES = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,link,rename"
TALKS = "sendto,recvfrom"


def cycle(world: World, calls: str, points: Iterable[int]) -> int:
    """Run a daemon once for each point, in one home, and kill it at its n-th call; return how many died.

    strace counts each kind of call separately in each thread: a point is one such call.
    """
    died = 0
    for life, point in enumerate(points):
        trap = strace("-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL:when={point}")
        world.write(life % 3, *range(life * 10, life * 10 + 3))
        for number in range(4):
            world.write(100 + 4 * life + number, *range(30))
        daemon = world.start(trap, wait=False)
        until(lambda daemon=daemon: daemon.poll() is not None or world.arrived(), "its death or its work")
        if daemon.poll() is None:
            world.kill()  # it got by: no thread of it did so much
        else:
            died += 1
        with suppress(FileNotFoundError):
            world.check_spool()
    world.start()
    world.arrives()
    world.judge()
    return died


def test_a_kill_at_any_write_loses_nothing(world: World) -> None:
    """SIGKILL replaces the n-th write, sync, rename or unlink, while the spool is made and while it works."""
    assert cycle(world, WRITES, (1, 3, 9, 27, 4, 6, 8, 12, 17)) >= 8


def test_a_kill_at_any_word_to_the_endpoint_loses_nothing(world: World) -> None:
    """SIGKILL comes before a request is sent or before its answer is read: it is sent again, and stored once."""
    assert cycle(world, TALKS, (1, 2, 3, 4, 5)) >= 4


@pytest.mark.slow
def test_a_kill_at_every_write_loses_nothing(world: World) -> None:
    """The same happens at every call of a whole run."""
    assert cycle(world, WRITES, (*range(1, 66), *range(2, 60))) >= 70


def test_kills_under_a_writer_and_lost_answers_lose_nothing(world: World) -> None:
    """A tool writes all the time, a fifth of the answers get lost, and the daemon is killed again and again."""
    chance = random.Random(4)

    def lossy(request: Request) -> None:
        if request.path == "/v1/push" and chance.random() < 0.2:
            request.forward()
            request.cut()
        else:
            request.forward_on()

    world.proxy.fate = lossy
    line = 0
    for _ in range(5):
        daemon = world.start()
        daemon.send_signal(SIGUSR1)  # don't wait because of the answer that was lost in the life before
        goal, end = world.proxy.pushes() + chance.randrange(1, 4), time.monotonic() + SOON
        while world.proxy.pushes() < goal and time.monotonic() < end:
            line += 1
            world.write(line % 4 + 1, line, size=chance.choice((20, 2000)))
            time.sleep(0.002)
        daemon.kill()
        daemon.wait()
    world.proxy.fate = None
    world.start()
    world.arrives()
    world.judge()
    world.check_spool()


def test_a_stopped_daemon_that_missed_everything_catches_up(world: World) -> None:
    """After SIGSTOP come 20,000 events, of which the kernel drops a part, and a new directory. After SIGCONT everything
    arrives.
    """
    world.settings["rescan"] = '"600s"'
    world.configure()
    world.write(1, 1)
    world.write(2, 1)
    daemon = world.start()
    world.arrives()
    daemon.send_signal(SIGSTOP)
    with open(world.path(1), "ab", buffering=0) as one, open(world.path(2), "ab", buffering=0) as two:
        for number in range(10_000):
            one.write(b'{"type":"progress","n":%d}\n' % number)
            two.write(b'{"type":"progress","n":%d}\n' % number)
    world.write(3, 1, 2)
    daemon.send_signal(SIGCONT)
    world.arrives(1, 2, 3)
    world.write(3, 3)
    world.arrives(3)  # and it hears again
    world.judge()


def test_a_lost_state_directory_sends_nothing_twice(world: World) -> None:
    """All of it but the token is deleted between two runs: both sides find the same position again."""
    world.write(1, *range(50), size=500)
    daemon = world.start()
    world.arrives()
    daemon.kill()
    daemon.wait()
    device = Path(world.state, "device.toml")
    kept = device.read_bytes()
    shutil.rmtree(world.state)
    device.parent.mkdir(mode=0o700)
    device.write_bytes(kept)
    device.chmod(0o600)
    world.write(1, 50)
    world.start()
    world.arrives()
    world.judge()
