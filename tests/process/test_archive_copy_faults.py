"""The copy of the built-in archive to an endpoint, with real processes: full disks, a revoked token, other writers,
size.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from process_lab import MACHINE, Request, World, entering, namespaced, session, until

from sessiond.endpoint.server import Running, running
from sessiond.spool.archive_counts import ArchiveCounts

ARCHIVE_DEVICE = "33333333-3333-4333-8333-333333333333"


def lines_of(number: int, content: bytes, *, recorded: bool = True) -> list[dict[str, object]]:
    """Return the lines of a push of one session, whose file does not exist any more."""
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    record = {
        "id": session(number), "tool": "codex", "tool_version": None, "started_at": started.isoformat(),
        "ended_at": started.isoformat(), "model": None, "working_directory": "/w", "git_branch": None,
        "source_path": None, "message_count": 1, "machine_id": MACHINE,
    }  # fmt: skip
    append = {
        "op": "append", "machine_id": MACHINE, "session": session(number), "stream": "main", "generation": 0,
        "offset": 0, "length": len(content), "sha256": hashlib.sha256(content).hexdigest(), "data": content.decode(),
    }  # fmt: skip
    first = {"op": "session", "revision": 1, "device_id": ARCHIVE_DEVICE, "record": record}
    return [first, append] if recorded else [append]


def push(endpoint: Running, lines: list[dict[str, object]]) -> None:
    """Push lines to the archive, from another process in the eyes of the daemon."""
    for at in range(0, len(lines), 400):
        request = urllib.request.Request(
            f"{endpoint.url}/v1/push",
            "\n".join(map(json.dumps, lines[at : at + 400])).encode(),
            {
                "Authorization": f"Bearer {endpoint.token}",
                "Content-Type": "application/x-ndjson",
                "Sessiond-Device": ARCHIVE_DEVICE,
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert {each["status"] for each in json.load(answer)["results"]} == {"stored"}


@contextmanager
def archive(world: World) -> Iterator[Running]:
    """Serve the archive in the state directory, as `sessiond serve` does beside a daemon that does not run."""
    with running(os.path.join(world.state, "archive")) as made:
        yield made


def fill(world: World, count: int, *, size: int = 20) -> dict[int, bytes]:
    """Fill the archive with sessions that exist nowhere else, every tenth of them without a record."""
    contents = {number: f'{{"n":{number},"t":"{os.urandom(size).hex()}"}}\n'.encode() for number in range(1, count + 1)}
    with archive(world) as endpoint:
        push(
            endpoint,
            [
                line
                for number, content in contents.items()
                for line in lines_of(number, content, recorded=number % 10 > 0)
            ],
        )
    return contents


def counts(world: World) -> ArchiveCounts:
    """Read how much of the archive is copied, as `status` does."""
    with world.spool() as spool:
        return spool.safety.archive()


def copied(world: World, contents: dict[int, bytes]) -> bool:
    """Return whether the spool says that all of the archive is copied."""
    found = counts(world)
    return found.listed and (found.sessions, found.pending) == (len(contents), 0)


def equal(world: World, contents: dict[int, bytes]) -> bool:
    """Return whether the endpoint has exactly these bytes."""
    return all(world.held(session(number)) == content for number, content in contents.items())


@pytest.mark.slow
def test_two_thousand_sessions_are_copied_while_new_lines_are_pushed(world: World) -> None:
    """A session that is in use does not wait for the archive, and none of the two thousand is missed."""
    contents = fill(world, 2000)
    world.start()
    until(lambda: counts(world).pending, "the list of the archive", 120)
    world.write(9001, 1)
    until(lambda: world.held(session(9001)), "the new session", 120)
    assert counts(world).pending, "it did not wait for the archive"
    until(lambda: copied(world, contents), "the copy", 500, every=0.5)
    assert equal(world, contents)
    assert world.events("archive.copied")
    records = world.records()
    assert {session(number) for number in contents if number % 10} <= set(records)
    assert world.stop() == 0


def test_a_full_disk_at_the_endpoint_delays_the_copy_and_loses_nothing(world: World) -> None:
    """In the middle of the copy, every push is answered 507."""
    contents = fill(world, 120)
    accepted = 0

    def full(request: Request) -> None:
        nonlocal accepted
        if request.path == "/v1/push":
            if accepted:
                request.answer(507, "application/problem+json", b'{"type":"full","title":"x"}')
                return
            accepted += 1
        request.forward_on()

    world.proxy.fate = full
    daemon = world.start()
    until(lambda: world.health().failures, "a failed push")
    assert counts(world).refused == 0
    world.proxy.fate = None
    world.look(daemon.pid)
    until(lambda: copied(world, contents), "the copy", 120)
    assert equal(world, contents)
    assert world.stop() == 0


def test_a_full_disk_under_the_archive_delays_the_copy_and_loses_nothing(world: World) -> None:
    """Neither the spool nor the archive can be written. The daemon lives on, and copies everything afterwards."""
    kept = os.path.join(world.base, "kept")
    disk = namespaced(
        f"mkdir -p {kept} && cp -a {world.state}/. {kept}"
        f" && mount -t tmpfs -o size=64m,mode=0700 none {world.state} && cp -a {kept}/. {world.state}",
        mounts=True,
    )
    contents = fill(world, 60, size=3000)
    world.proxy.fate = lambda request: request.answer(503)
    daemon = world.start(disk)
    inside = entering(daemon.pid, mounts=True)
    filler = f"{world.state}/filler"
    subprocess.run([*inside, "sh", "-c", f"cat /dev/zero > {filler}; true"], capture_output=True, check=True)
    world.proxy.fate = None
    world.write(9001, 1)
    world.look(daemon.pid)
    until(lambda: world.events("spool.filled") or world.events("archive.failed"), "a full disk")
    assert daemon.poll() is None, world.said()
    subprocess.run([*inside, "rm", filler], check=True)
    retry = [*inside, *world.command("queue", "retry")]
    subprocess.run(retry, env=world.environ(), capture_output=True, check=False)  # 1 if nothing was set aside
    world.look(daemon.pid)
    until(lambda: world.held(session(9001)), "the new session", 120)
    until(lambda: equal(world, contents), "the copy", 120, every=0.5)
    assert world.stop(daemon) == 0, world.said()


def test_a_token_that_is_revoked_and_replaced_during_the_copy(world: World) -> None:
    """The copy waits, refuses no session, and continues with the new token."""
    contents = fill(world, 120)
    revoked = False

    def fate(request: Request) -> None:
        nonlocal revoked
        known = request.headers["authorization"] == "Bearer the-new-token"
        if revoked and not known:
            request.answer(401, "application/problem+json", b'{"type":"unauthorized","title":"x"}')
            return
        if known:
            request.headers.replace_header("authorization", f"Bearer {world.endpoint.token}")
        request.forward_on()
        revoked = revoked or request.path == "/v1/push"

    world.proxy.fate = fate
    world.start()
    until(lambda: world.health().kind == "refused", "the refusal")
    found = counts(world)
    assert (found.refused, found.problem) == (0, None)
    assert found.pending
    world.write_token("the-new-token")
    until(lambda: copied(world, contents), "the copy", 120)
    assert equal(world, contents)
    assert world.stop() == 0


def test_another_process_that_writes_to_the_archive_is_not_missed(world: World) -> None:
    """It writes through the archive that the daemon serves, and later while the daemon does not run."""
    contents = fill(world, 120)
    world.start()
    served = until(lambda: world.events("endpoint.started"), "the archive")[0]
    with open(os.path.join(world.state, "archive", "token")) as file:
        endpoint = Running(served["url"], file.read().strip(), None)
    contents[500] = b'{"n":500}\n'
    push(endpoint, lines_of(500, contents[500], recorded=False))
    until(lambda: copied(world, contents), "the copy", 120)
    assert equal(world, contents)
    assert world.stop() == 0
    contents[501], contents[502] = b'{"n":501}\n', b'{"n":502}\n'
    with archive(world) as endpoint:
        push(endpoint, lines_of(501, contents[501]) + lines_of(502, contents[502], recorded=False))
    world.start()
    until(lambda: copied(world, contents), "the copy of what was added", 120)
    assert equal(world, contents)
    assert world.stop() == 0
