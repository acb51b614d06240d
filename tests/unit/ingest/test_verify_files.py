"""How a tool's file compares with what was captured of it, and with what the endpoint has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from sessiond import zstd
from sessiond.endpoint.wire import RemotePosition
from sessiond.ingest.context import ReadContext
from sessiond.ingest.verify_files import FileChecker, FileVerdict
from sessiond.privacy import Exclusion, Masking, Terms
from sessiond.reader import Digest
from sessiond.redact.policy import Policy
from sessiond.spool.rows import StreamState
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness

OTHER = "6" + SESSION[1:]
OTHER_FILE = CLAUDE.replace(SESSION, OTHER)
SECRET = "ghp_" + "a1B2c3D4e5F6a7B8c9D0e1F2a3B4c5D6e7F8"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """Yield a home with one session that the endpoint has."""
    with daemon_harness(tmp_path) as made:
        made.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, text=f"my key is {SECRET}"))
        made.settle()
        yield made


def checker(harness: DaemonHarness) -> FileChecker:
    return FileChecker(
        spool=harness.spool,
        reading=ReadContext(digest=Digest(harness.device.seed), now_ms=harness.now_ms, scratch=harness.state),
        masking=Masking(),
        exclusion=Exclusion(),
        restored=harness.ingesting.restored,
        machine_id=harness.machine_id,
        oldest_ms=None,
    )


def verdict(harness: DaemonHarness, relative: str, **changes: object) -> FileVerdict:
    """Return the verdict on a file of the home; `changes` are those of the checker."""
    (place,) = harness.places(os.path.join(harness.home, relative))
    return replace(checker(harness), **changes).check(place)[0]


def test_a_file_is_captured_until_it_changes(harness: DaemonHarness) -> None:
    assert verdict(harness, CLAUDE) is FileVerdict.CAPTURED
    harness.write(CLAUDE, claude(SESSION, 3))
    assert verdict(harness, CLAUDE) is FileVerdict.CHANGED
    harness.write(CLAUDE, mode="wb")
    assert verdict(harness, CLAUDE) is FileVerdict.CAPTURED, "emptied: it may be the first half of a rewrite"
    os.unlink(os.path.join(harness.home, CLAUDE))
    assert verdict(harness, CLAUDE) is FileVerdict.NONE


def test_a_file_of_a_session_that_is_to_be_captured_is_new(harness: DaemonHarness) -> None:
    path = harness.write(OTHER_FILE, claude(OTHER, 1))
    written_ms = os.stat(path).st_mtime_ns // 1_000_000
    assert verdict(harness, OTHER_FILE) is FileVerdict.NEW
    assert verdict(harness, OTHER_FILE, oldest_ms=written_ms) is FileVerdict.NEW
    assert verdict(harness, OTHER_FILE, oldest_ms=written_ms + 1) is FileVerdict.NONE
    assert verdict(harness, CLAUDE, oldest_ms=written_ms + 1) is FileVerdict.CAPTURED
    for excluded, expected in (("/home/dev/*", FileVerdict.NONE), ("/home/dev/other", FileVerdict.NEW)):
        exclusion = Exclusion([excluded], harness.home)
        assert verdict(harness, OTHER_FILE, exclusion=exclusion) is expected
    with harness.spool.transaction():
        harness.spool.forgotten.order([OTHER], harness.now_ms, everywhere=True)
    assert verdict(harness, OTHER_FILE) is FileVerdict.NONE


def test_an_empty_file_is_not_missed(harness: DaemonHarness) -> None:
    """A tool creates its file before it writes to it."""
    harness.write(OTHER_FILE)
    assert verdict(harness, OTHER_FILE) is FileVerdict.NONE


def test_a_file_that_can_not_be_read_is_named_with_its_reason(harness: DaemonHarness) -> None:
    packed = ".codex/sessions/2026/09/01/rollout-2026-09-01T10-00-00-5f1d7c1e-0000-7000-8000-000000000003.jsonl.zst"
    path = harness.write(packed, zstd.compress(b"{}\n" * 100)[:-3])
    (place,) = harness.places(path)
    found, reason = checker(harness).check(place)
    assert found is FileVerdict.UNREADABLE
    assert "can't be decompressed" in reason
    with harness.spool.transaction():
        harness.spool.connection.execute(
            "INSERT INTO file (path, tool, trouble) VALUES (?, 'codex', 'what was said before')", (os.fsencode(path),)
        )
    assert checker(harness).check(place) == (FileVerdict.UNREADABLE, "what was said before")


def compare(harness: DaemonHarness, held: bytes | None, size: int = 1 << 20, **changes: object) -> list[bool | None]:
    """Compare the file with an endpoint that has these bytes, which come in parts; return the verdict, if any."""

    def fetch(_: StreamState) -> Iterator[bytes]:
        assert held is not None
        return (held[at : at + size] for at in range(0, len(held), size))

    (place,) = harness.places(os.path.join(harness.home, CLAUDE))
    made = replace(checker(harness), **changes)

    def position(stream: StreamState) -> RemotePosition | None:
        if held is None:
            return None
        digest = sha256(held).hexdigest()
        return RemotePosition(session=UUID(SESSION), stream=stream.name, generation=0, length=len(held), sha256=digest)

    return [equal for _, equal in made.compare(place, position, fetch)]


def content(harness: DaemonHarness) -> bytes:
    return Path(harness.home, CLAUDE).read_bytes()


def test_equal_bytes_are_equal(harness: DaemonHarness) -> None:
    assert compare(harness, content(harness)) == [True]
    assert compare(harness, None) == [], "it has no such stream: that is another problem"


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_bytes_that_are_masked_by_other_rules_are_equal(harness: DaemonHarness, size: int) -> None:
    """The endpoint has what was queued. Earlier versions did not store whether that was masked."""
    raw = content(harness)
    rules = Masking(Terms(policy=Policy(), version="with rules"))
    assert compare(harness, raw, size, masking=rules) == [True]
    masked = raw.replace(SECRET.encode(), b"*" * len(SECRET))
    assert masked != raw
    assert compare(harness, masked, size) == [False]
    harness.spool.connection.execute("UPDATE extent SET masked = x''")
    assert compare(harness, masked, size) == [True]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_other_bytes_are_different(harness: DaemonHarness, size: int) -> None:
    """One letter, also one that masks may have, one byte less at either end, and one more."""
    raw = content(harness)
    masks = raw.replace(b"hello", b"hallo"), b"*" * len(raw)
    assert raw not in masks
    for held in (*masks, raw.replace(b"my key", b"my Key"), raw[:-1], raw[1:], raw + b"*", raw + raw, b""):
        assert compare(harness, held, size) == [False]


def test_only_what_the_endpoint_has_of_an_unchanged_file_is_compared(harness: DaemonHarness) -> None:
    raw = content(harness)
    harness.write(CLAUDE, claude(SESSION, 3))
    assert compare(harness, raw) == [True], "what was captured of it is still there"
    harness.scan()
    assert compare(harness, raw) == [], "the rest is on its way"
    harness.settle()
    raw = content(harness)
    harness.write(CLAUDE, b"x" * len(raw), mode="wb")
    assert compare(harness, raw) == [None], "it has other bytes by now"
    harness.write(CLAUDE, b"x" * (len(raw) - 1), mode="wb")
    assert compare(harness, raw) == [], "it is shorter"
