"""A spool that is damaged, or was written by a newer sessiond."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from process_lab import World, namespaced, until


def flip(content: bytearray) -> None:
    """Change a byte in every page after the first."""
    chance = random.Random(1)
    for page in range(4096, len(content), 4096):
        content[page + chance.randrange(200)] ^= 0xFF


def zero(content: bytearray) -> None:
    """Overwrite some pages with zeros."""
    for page in range(4096, len(content), 3 * 4096):
        content[page : page + 4096] = bytes(4096)


def truncate(content: bytearray) -> None:
    """Remove the second half."""
    del content[len(content) // 2 // 4096 * 4096 + 100 :]


def scribble(content: bytearray) -> None:
    """Overwrite the header of the database."""
    content[:100] = b"x" * 100


def empty(content: bytearray) -> None:
    """Remove all content."""
    content.clear()


def test_a_damaged_spool_is_set_aside_and_made_anew(world: World) -> None:
    """There is one clear message, nothing is lost, and nothing is sent twice. Each damage is done to the spool that the
    last one left.
    """
    for number in range(5):
        world.write(number, *range(20), size=200)
    path = os.path.join(world.state, "spool.db")
    daemon = world.start()
    world.arrives()
    for line, damage in enumerate((flip, zero, truncate, scribble, empty), 20):
        daemon.kill()
        daemon.wait()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with open(path, "rb") as file:
            content = bytearray(file.read())
        damage(content)
        with open(path, "wb") as file:
            file.write(content)
        before = world.endpoint_bytes()
        world.write(1, line, line + 100)
        daemon = world.start()
        world.arrives()
        world.judge()
        world.check_spool()
        assert world.endpoint_bytes() - before < 10_000, damage  # the new lines, not the old ones again
        if damage is not empty:  # that one is a new spool
            said = world.events("spool.rebuilt")
            assert len(said) == 1, damage
            assert os.path.exists(said[0]["path"])
        assert "Traceback" not in world.said()
        assert daemon.poll() is None


def tear_page(path: str) -> None:
    """Destroy a page that no check at the start reads."""
    connection = sqlite3.connect(path)
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'file'").fetchone()[0]
    connection.close()
    with open(path, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)


def spoil(table: str, column: str, value: str = "x'81a161c0'") -> Callable[[str], None]:
    """Store values that can't be decoded, in a file that is a sound database to SQLite."""

    def spoiled(path: str) -> None:
        connection = sqlite3.connect(path)
        connection.execute(f"UPDATE {table} SET {column} = {value}")
        connection.commit()
        connection.close()

    return spoiled


def date_back(path: str) -> None:
    """Set a schema version that was never released."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE tally")
        connection.execute("PRAGMA user_version = 1")


@pytest.mark.parametrize(
    "damage",
    [
        date_back,
        tear_page,
        spoil("stream", "fold"),
        spoil("file", "checkpoint"),
        spoil("session", "record", "CAST('{}' AS BLOB)"),
    ],
)
def test_damage_that_shows_only_in_use_is_made_good_too(world: World, damage: Callable[[str], None]) -> None:
    """The spool was closed in order and is not checked at the start: the daemon finds the damage, reports it once, and
    goes on with a new spool.
    """
    for number in range(5):
        world.write(number, *range(20), size=200)
    daemon = world.start()
    world.arrives()
    assert world.stop(daemon) == 0
    damage(os.path.join(world.state, "spool.db"))
    daemon = world.start()
    world.write(1, 20)
    world.arrives()
    world.judge()
    assert daemon.poll() is None
    assert len(world.events("spool.rebuilt")) == 1


@pytest.mark.parametrize("size", [200, 60_000])
def test_what_the_disk_spoils_in_the_outbox_is_read_again(world: World, size: int) -> None:
    """A bit of a segment flips. Small segments are unpacked by the daemon, large ones by the endpoint, and both detect
    it.
    """
    world.proxy.fate = lambda request: request.answer(503)
    world.write(1, *range(20), size=size)
    daemon = world.start()
    path = os.path.join(world.state, "spool.db")

    def frames() -> list[tuple[int, bytes]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT rowid, data FROM segment").fetchall()

    until(lambda: len(frames()) > 0, "something waits")
    assert world.stop(daemon) == 0
    with closing(sqlite3.connect(path)) as connection:
        for number, data in frames():
            spoiled = data[:-1] + bytes([data[-1] ^ 1])  # its checksum: all else still decodes
            connection.execute("UPDATE segment SET data = ? WHERE rowid = ?", (spoiled, number))
        connection.commit()
    world.proxy.fate = None
    daemon = world.start()
    world.arrives()
    world.judge()
    assert daemon.poll() is None
    assert len(world.events("spool.rebuilt")) == 1


def test_a_newer_spool_is_refused_and_left_alone(world: World) -> None:
    """An older program must not lose what a newer one stored: it exits with 78 and a hint."""
    world.write(1, 1)
    daemon = world.start()
    world.arrives()
    assert world.stop(daemon) == 0
    path = os.path.join(world.state, "spool.db")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()  # the last one: what it wrote is in the file now
    with open(path, "rb") as file:
        before = file.read()
    daemon = world.start(wait=False)
    assert daemon.wait(10) == 78
    assert "upgrade sessiond" in world.said()
    with open(path, "rb") as file:
        assert file.read() == before
    assert not [name for name in os.listdir(world.state) if "damaged" in name]


def test_the_machine_keeps_its_name(world: World) -> None:
    """A laptop's hostname changes with the network: the id is that of the first start, and nothing is sent again."""
    script = "hostname first"
    lines = Path(world.config).read_text().splitlines(keepends=True)
    Path(world.config).write_text("".join(line for line in lines if not line.startswith("machine_id")))
    world.write(1, 1)
    for name in ("first", "second"):
        daemon = world.start(namespaced(script.replace("first", name), hostname=True))
        until(lambda: not world.waiting() and world.events("upload.acked"), "the push")
        assert world.stop(daemon) == 0
        world.write(1, 2)
    assert {item["record"]["machine_id"] for item in world.records().values()} == {"first"}
