"""A session that its tool spreads over a tree of small files (OpenCode before 1.2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.harness import DaemonHarness, daemon_harness
from support.sample_tree import build

BASE = ".local/share/opencode/storage"
MAIN = "ses_dfc4932aeffem1PXqG1UM00071"


def counts(harness: DaemonHarness) -> dict[str, int]:
    """Return how many messages each session has."""
    return {s.native_id: s.record.message_count for s in harness.spool.catalog.sessions() if s.record}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """Return a home with the sample, not scanned yet."""
    with daemon_harness(tmp_path) as made:
        build("opencode/1.1-files", made.home)
        yield made


def one_part(harness: DaemonHarness) -> Path:
    """Find the file of a text part of the main session."""
    parts = Path(harness.home, BASE, "part").rglob("*.json")
    return next(path for path in sorted(parts) if "Woven" in path.read_text())


def test_half_a_part_is_waited_for(harness: DaemonHarness) -> None:
    """A part that is being rewritten is no reason to report its message as gone (rule 8)."""
    part = one_part(harness)
    whole = part.read_bytes()
    part.write_bytes(whole[:40])
    seconds = harness.now_ms // 1000
    os.utime(part, (seconds, seconds))
    (outcome,) = harness.ingest(os.path.join(harness.home, BASE, "session", "e65f53", f"{MAIN}.json"))
    assert outcome.retry and MAIN not in counts(harness)
    part.write_bytes(whole)
    harness.scan()
    assert counts(harness)[MAIN] == 3


def test_a_part_that_stays_damaged_costs_itself_only(harness: DaemonHarness) -> None:
    """A part that a crash left empty or torn is stored and counted; the session is captured without it (rule 9)."""
    part = one_part(harness)
    stat = part.stat()
    part.write_bytes(b'{"id": "prt_1",\n "te')
    os.utime(part, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    harness.scan()
    assert counts(harness)[MAIN] == 2
    state = next(s for s in harness.spool.catalog.sessions() if s.native_id == MAIN)
    assert sum(stream.fold.damaged for stream in harness.spool.catalog.streams(state.id)) == 1


def test_a_new_message_comes_with_the_session_file(harness: DaemonHarness) -> None:
    """The session's file is written last in each turn, and only its directories are scanned then."""
    harness.scan()
    before = counts(harness)
    text = one_part(harness).read_text()
    message = Path(harness.home, BASE, "message", MAIN, "msg_203b00000099cT1ZwE0Fmt8VrD.json")
    message.write_text('{"id":"msg_203b00000099cT1ZwE0Fmt8VrD","role":"user","time":{"created":1775037700000}}')
    part = Path(harness.home, BASE, "part", message.stem, "prt_999999.json")
    part.parent.mkdir()
    part.write_text(text.replace("msg_203b00000003cT1ZwE0Fmt8VrD", message.stem))
    session = Path(harness.home, BASE, "session", "e65f53", f"{MAIN}.json")
    session.write_text(session.read_text() + "\n")
    harness.scan()
    assert counts(harness) == before | {MAIN: before[MAIN] + 1}
