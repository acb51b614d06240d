"""A home with hostile content: links to secrets, FIFOs, strange names, far too much of everything."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from process_lab import TOKEN, World, session, until

from support.harness import claude, encode

SECRET = "the-private-key-of-somebody"


@pytest.fixture
def projects(world: World) -> Path:
    """Make the directory of a tool's projects, with an ordinary session in it."""
    world.write(1, 1, 2)
    return Path(world.home, ".claude/projects")


def lines(number: int, text: str = "hello") -> bytes:
    """Make a session's file."""
    return b"".join(encode(claude(session(number), line, text=text)) for line in (0, 2))


def test_what_is_no_file_is_left_alone(world: World, projects: Path) -> None:
    """A FIFO does not block; a socket, a device and a directory with a session's name do no harm."""
    os.mkfifo(projects / "-home-dev-project" / f"{session(90)}.jsonl")
    (projects / "-home-dev-project" / f"{session(91)}.jsonl").mkdir()
    here = os.getcwd()
    os.chdir(projects / "-home-dev-project")  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{session(92)}.jsonl")
        os.chdir(here)
        (projects / "-home-dev-project" / f"{session(93)}.jsonl").symlink_to("/dev/zero")
        daemon = world.start()
        world.arrives(1)
        os.mkfifo(projects / "-home-dev-project" / f"{session(94)}.jsonl")
        world.write(2, 1)
        world.arrives(2)
    assert set(world.records()) == {session(1), session(2)}
    assert daemon.poll() is None


def test_a_file_of_somebody_else_is_not_read(world: World, projects: Path) -> None:
    """A hard link to another user's file differs from our files only in its owner. It is reported and skipped."""
    if os.geteuid():
        pytest.skip("only root can make a file of somebody else")
    foreign = projects / "-home-dev-project" / f"{session(60)}.jsonl"
    foreign.write_bytes(lines(60, SECRET))
    os.chown(foreign, 65534, 65534)
    world.start()
    world.arrives(1)
    until(lambda: world.events("ingest.skipped"), "its name")
    assert set(world.records()) == {session(1)}


NAMES = [b"line\nbreak", b"\x1b[2J\x1b[31mred", b"\xff\xfe\x80", "é".encode() * 100, b"a b;$(x)`y`'\"", b"%00%2e%2e"]


def test_any_name_of_a_directory_is_fine(world: World, projects: Path) -> None:
    """The sessions arrive, and no byte of their names controls the terminal of a reader of the log."""
    files = {}
    for number, name in enumerate(NAMES, 5):
        folder = os.path.join(os.fsencode(projects), name)
        os.mkdir(folder)
        files[number] = os.path.join(folder, session(number).encode() + b".jsonl")
        with open(files[number], "wb") as file:
            file.write(lines(number))
        # One more can't be read, so that its name is logged.
        os.mkfifo(os.path.join(folder, session(number + 50).encode() + b".jsonl"))
        os.mkdir(os.path.join(folder, b"x"))
    world.start()
    for number in files:
        until(lambda number=number: world.held(session(number)) == lines(number), "the session")
    for number, path in files.items():
        more = encode(claude(session(number), 4))
        with open(path, "ab") as file:
            file.write(more)
        until(lambda number=number, more=more: world.held(session(number)) == lines(number) + more, "the next line")
    assert "\x1b" not in world.said()
    assert all(line.startswith("{") for line in world.said().splitlines())
    records = until(lambda: len(found := world.records()) == len(NAMES) + 1 and found, "the records")
    for number in files:
        assert records[session(number)]["record"]["source_path"].endswith(".jsonl")


def test_an_unreadable_directory_stops_no_other(world: World, projects: Path) -> None:
    """The others are read, and this one once it is readable."""
    closed = projects / "closed"
    closed.mkdir()
    (closed / f"{session(7)}.jsonl").write_bytes(lines(7))
    closed.chmod(0)
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    try:
        world.start(drop)
        world.arrives(1)
        assert world.held(session(7)) is None
    finally:
        closed.chmod(0o700)
    world.look()
    until(lambda: world.held(session(7)) == lines(7), "the closed one")


def test_a_file_that_lives_for_a_moment_stops_nobody(world: World, projects: Path) -> None:
    """Files are made and deleted at once, a hundred times. A file that stays arrives."""
    daemon = world.start()
    for number in range(100, 200):
        world.write(number, 1)
        os.unlink(world.path(number))
    world.write(2, 1)
    world.arrives(1, 2)
    assert daemon.poll() is None


def test_the_token_is_nowhere_but_in_its_file(world: World, tmp_path: Path) -> None:
    """It is not in logs, the spool, the command line or the environment, at any level and in any failure."""
    world.settings["log"] = '{ level = "debug" }'
    world.configure()
    world.write(1, *range(20))
    daemon = world.start(["env"])
    world.arrives()
    for fate in (401, 500, 302, 400):
        world.proxy.fate = lambda request, status=fate: request.answer(
            status, "application/problem+json", b'{"title":"your token %s is bad"}' % TOKEN.encode(), Location=TOKEN
        )
        world.write(1, 100 + fate)
        daemon.send_signal(10)
        until(lambda status=fate: str(status) in (world.health().reason or ""), f"the word of {fate}")
    with open(f"/proc/{daemon.pid}/cmdline", "rb") as file:
        assert TOKEN.encode() not in file.read()
    with open(f"/proc/{daemon.pid}/environ", "rb") as file:
        assert TOKEN.encode() not in file.read()
    world.proxy.fate = None
    daemon.send_signal(10)
    world.arrives()
    status = world.run("status")
    assert TOKEN not in status.stdout + status.stderr
    assert world.stop(daemon) == 0
    found = [path for path in [*Path(world.state).rglob("*"), *map(Path, world.logs)] if path.is_file()]
    assert len(found) > 4
    for path in found:
        assert TOKEN.encode() not in path.read_bytes(), path


def test_a_long_line_is_carried_and_memory_stays_flat(world: World) -> None:
    """A line of 64 MB is captured with less than 150 MB of memory."""
    with open(world.path(1), "wb") as file:
        file.write(encode(claude(session(1), 0)))
        file.write(b'{"type":"progress","data":"' + b"0123456789abcdef" * (4 << 20) + b'"}\n')
        file.write(encode(claude(session(1), 2)))
    daemon = world.start()
    until(lambda: world.held_length(session(1)) == os.path.getsize(world.path(1)), "all of it")
    assert until(lambda: world.records().get(session(1)), "its record")["record"]["message_count"] == 2
    assert world.memory(daemon.pid) < 150 << 20


@pytest.mark.slow
def test_a_sparse_file_of_two_gigabytes_is_carried_and_memory_stays_flat(world: World) -> None:
    """A crash of the tool left a hole, with lines before and behind it."""
    world.write(1, 0)
    with open(world.path(1), "ab") as file:
        file.truncate(2 << 30)
        file.seek(2 << 30)
        file.write(b"\n" + encode(claude(session(1), 2)))
    daemon = world.start()
    until(lambda: world.held_length(session(1)) == os.path.getsize(world.path(1)), "all of it", 280, every=0.2)
    assert world.memory(daemon.pid) < 150 << 20


@pytest.mark.slow
def test_a_hundred_thousand_files_are_found_and_kept_in_little_memory(world: World) -> None:
    """All are captured; an append to one of them is seen."""
    for number in range(100_000):
        folder = os.path.join(world.home, f".claude/projects/p{number // 1000}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{session(number)}.jsonl"), "wb") as file:
            file.write(b'{"type":"progress"}\n')
    world.proxy.fate = lambda request: request.answer(503)
    daemon = world.start()

    def captured() -> bool:
        with world.spool() as spool:
            return spool.stats.waiting().segments == 100_000

    until(captured, "all of them", 280, every=2)  # counting them takes time that the daemon needs
    assert world.memory(daemon.pid) < 200 << 20
    world.write(200_000, 1)
    began = time.monotonic()
    until(lambda: world.captured(200_000), "one more")
    assert time.monotonic() - began < 10
