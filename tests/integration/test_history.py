"""A tool's history of prompts is captured if the session itself is gone, and never beside a transcript."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sessiond.ingest import Outcome, Turn, history
from sessiond.ingest import ingest as read
from sessiond.session import session_id
from sessiond.spool.health import read_unnamed
from sessiond.spool.rows import SessionState
from sessiond.spool.safety import State
from support.harness import NOW_MS, DaemonHarness, claude, daemon_harness, encode

CLAUDE, CODEX = ".claude/history.jsonl", ".codex/history.jsonl"
FIRST, SECOND = "0a000000-0000-4000-8000-000000000001", "0a000000-0000-4000-8000-000000000002"
DAY_MS = 86_400_000


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def prompt(text: str, session: str | None = FIRST, at_ms: int = NOW_MS - DAY_MS, **more: Any) -> dict[str, Any]:
    """Return a line of Claude Code's history."""
    line = {"display": text, "pastedContents": {}, "timestamp": at_ms, "project": "/home/ada/loom"} | more
    return line | ({} if session is None else {"sessionId": session})


def codex_prompt(text: str, session: str = FIRST, at_ms: int = NOW_MS - DAY_MS) -> dict[str, Any]:
    """Return a line of Codex' history."""
    return {"session_id": session, "ts": at_ms // 1000, "text": text}


def transcript(harness: DaemonHarness, session: str = FIRST, lines: int = 3, *, home: str = ".claude") -> str:
    """Write a transcript of Claude Code; return its path."""
    path = f"{home}/projects/-home-dev-project/{session}.jsonl"
    return harness.write(path, *(claude(session, number) for number in range(lines)))


def find(harness: DaemonHarness, native_id: str = FIRST, tool: str = "claude-code") -> SessionState | None:
    """Return a session of the spool."""
    return harness.spool.catalog.session(session_id(tool, native_id))


def count(harness: DaemonHarness, native_id: str = FIRST, tool: str = "claude-code") -> tuple[bool, int]:
    """Return whether only prompts of a session are known, and its messages."""
    found = find(harness, native_id, tool)
    assert found is not None and found.record is not None
    return found.prompts_only, found.record.message_count


def capture(harness: DaemonHarness, path: str, turn: Turn) -> Outcome:
    """Read a path with a limited slice."""
    (location,) = harness.places(path)
    return read(harness.ingesting, location, turn)


def test_a_session_known_from_its_prompts_alone_is_kept(harness: DaemonHarness) -> None:
    """Its record has the prompts, times and project; the endpoint has the lines as the tool wrote them."""
    lines = [prompt("weave a scarf\nof wool"), prompt("/clear"), prompt("longer", at_ms=NOW_MS - DAY_MS + 60_000)]
    path = harness.write(CLAUDE, *lines)
    harness.settle()
    found = find(harness)
    assert found is not None and found.record is not None and found.prompts_only
    record = found.record
    assert (record.message_count, record.working_directory) == (2, "/home/ada/loom")
    assert (found.title, record.model, record.ended_at is None) == ("weave a scarf", None, False)
    assert record.started_at.timestamp() * 1000 == NOW_MS - DAY_MS
    assert record.source_path == f"{path}::{FIRST}"
    assert harness.held(FIRST, "prompts") == Path(path).read_bytes()
    assert harness.held_sessions()[FIRST]["prompts_only"]
    assert harness.spool.safety.session(found.id) is State.SAFE


def test_each_session_of_a_history_has_its_own_lines(harness: DaemonHarness) -> None:
    mine, other = prompt("one"), prompt("two", SECOND)
    harness.write(CLAUDE, mine, other, prompt("three"))
    harness.write(CODEX, codex_prompt("four", "0a000000-0000-4000-8000-000000000003"))
    harness.settle()
    assert harness.held(FIRST, "prompts") == encode(mine) + encode(prompt("three"))
    assert harness.held(SECOND, "prompts") == encode(other)
    assert count(harness, "0a000000-0000-4000-8000-000000000003", "codex") == (True, 1)


def test_a_history_adds_nothing_to_a_session_with_a_transcript(harness: DaemonHarness) -> None:
    """It does not matter whether the transcript was captured or is only on the disk so far."""
    captured = transcript(harness)
    harness.ingest(captured)
    transcript(harness, SECOND)
    harness.ingest(harness.write(CLAUDE, prompt("hello"), prompt("hello", SECOND)))
    assert find(harness, SECOND) is None
    harness.settle()
    for each in (FIRST, SECOND):
        assert count(harness, each) == (False, 3)
        assert [stream["name"] for stream in harness.held_sessions()[each]["held"]] == ["main"]


def test_a_transcript_that_is_found_later_replaces_the_prompts(harness: DaemonHarness) -> None:
    """The record is then the transcript's, messages count once, and nothing flips back when it is deleted again."""
    history_file = harness.write(CLAUDE, prompt("hello"), prompt("bye"))
    harness.settle()
    assert count(harness) == (True, 2)
    path = transcript(harness, lines=5)
    harness.ingest(path)
    harness.write(CLAUDE, prompt("again"))
    harness.settle()
    assert count(harness) == (False, 5)
    assert not harness.held_sessions()[FIRST]["prompts_only"]
    assert harness.held_sessions()[FIRST]["record"]["source_path"] == path
    assert harness.held(FIRST, "prompts") == encode(prompt("hello")) + encode(prompt("bye"))
    os.unlink(path)
    harness.settle()
    harness.write(CLAUDE, prompt("once more"))
    harness.settle()
    assert count(harness) == (False, 5)
    assert harness.held_sessions()[FIRST]["gone_at"] is not None  # the history is not the session
    os.unlink(history_file)
    harness.settle()
    assert count(harness) == (False, 5)


def test_a_growing_history_is_read_from_where_it_ended(harness: DaemonHarness) -> None:
    """Only the new lines are read, and no line is captured twice, even after a restart."""
    path = harness.write(CLAUDE, *(prompt(f"old {number}", at_ms=NOW_MS - DAY_MS + number) for number in range(500)))
    harness.settle()
    line = prompt("new")
    harness.close()
    harness.open()
    harness.write(CLAUDE, line)
    (outcome,) = harness.ingest(path)
    assert outcome.read == len(encode(line))
    assert count(harness) == (True, 501)
    assert [each.read for each in harness.ingest(path)] == [0]
    harness.settle()
    assert harness.held(FIRST, "prompts") == Path(path).read_bytes()


def test_a_kill_before_the_checkpoint_repeats_no_line(harness: DaemonHarness) -> None:
    """Sessions are committed before the checkpoint of the file, so they may be read again."""
    path = harness.write(CLAUDE, prompt("one"), prompt("two"), prompt("other", SECOND))
    harness.settle()
    with harness.spool.transaction():
        harness.spool.connection.execute("UPDATE file SET checkpoint = NULL WHERE path = ?", (os.fsencode(path),))
    harness.write(CLAUDE, prompt("three"))
    harness.settle()
    assert count(harness) == (True, 3) and count(harness, SECOND) == (True, 1)
    assert harness.held(FIRST, "prompts") == b"".join(encode(prompt(text)) for text in ("one", "two", "three"))


def test_a_new_prompt_is_captured_although_earlier_ones_are_to_be_sent_again(harness: DaemonHarness) -> None:
    """All lines of the session are read for that, in the same turn."""
    path = harness.write(CLAUDE, prompt("weave a scarf"))
    harness.settle()
    with harness.spool.transaction():
        harness.spool.connection.execute("UPDATE stream SET queued = 0, acked = 0")
    harness.write(CLAUDE, prompt("longer", at_ms=NOW_MS - DAY_MS + 60_000))
    harness.ingest(path)
    assert count(harness) == (True, 2)


def test_a_line_that_is_being_written_is_left_until_its_end(harness: DaemonHarness) -> None:
    whole = encode(prompt("two"))
    path = harness.write(CLAUDE, prompt("one"), whole[:20])
    harness.settle()
    assert count(harness) == (True, 1)
    harness.write(CLAUDE, whole[20:])
    harness.settle()
    assert count(harness) == (True, 2)
    assert harness.held(FIRST, "prompts") == Path(path).read_bytes()


def test_a_damaged_line_hides_no_other(harness: DaemonHarness) -> None:
    """Bytes that were no line, a line without a time, and a session id in capital letters."""
    lines = [
        prompt("one"),
        b"\0\0\xff{]\n",
        b"[1]\n",
        {"display": "x", "sessionId": FIRST},
        prompt("two", FIRST.upper()),
    ]
    harness.write(CLAUDE, *lines)
    harness.settle()
    assert count(harness) == (True, 2)
    assert harness.held(FIRST, "prompts") == encode(prompt("one")) + encode(prompt("two", FIRST.upper()))


def test_a_trimmed_history_loses_no_prompt_and_repeats_none(harness: DaemonHarness) -> None:
    """Codex removes the oldest lines in place when its file is too long."""
    lines = [codex_prompt(f"{number}", at_ms=NOW_MS - DAY_MS + number * 1000) for number in range(9)]
    harness.write(CODEX, *lines)
    harness.settle()
    harness.write(CODEX, *lines[4:], codex_prompt("newest"), mode="wb")
    harness.settle()
    assert count(harness, tool="codex") == (True, 10)
    assert harness.held(FIRST, "prompts") == b"".join(map(encode, [*lines, codex_prompt("newest")]))
    harness.write(CODEX, codex_prompt("other", SECOND), mode="wb")
    harness.settle()
    assert count(harness, tool="codex") == (True, 10)
    assert count(harness, SECOND, "codex") == (True, 1)


@pytest.mark.parametrize("emptied", [True, False])
def test_a_history_that_is_deleted_takes_nothing_with_it(harness: DaemonHarness, emptied: bool) -> None:
    path = harness.write(CLAUDE, prompt("one"))
    harness.settle()
    if emptied:
        harness.write(CLAUDE, mode="wb")
        harness.settle()
    os.unlink(path)
    harness.settle()
    found = find(harness)
    assert found is not None and found.gone_ms is not None and count(harness) == (True, 1)
    harness.write(CLAUDE, prompt("one"), prompt("two"))
    harness.settle()
    found = find(harness)
    assert found is not None and found.gone_ms is None and count(harness) == (True, 2)
    assert harness.held(FIRST, "prompts") == encode(prompt("one")) + encode(prompt("two"))


def test_a_second_home_with_a_copy_of_the_history_repeats_nothing(harness: DaemonHarness) -> None:
    harness.write(CLAUDE, prompt("one"), prompt("two"))
    harness.settle()
    spare = Path(harness.home, "copy.jsonl")
    spare.write_bytes(encode(prompt("one")) + encode(prompt("three")))
    os.unlink(Path(harness.home, CLAUDE))
    os.symlink(spare, Path(harness.home, CLAUDE))
    os.unlink(Path(harness.home, CLAUDE))
    os.rename(spare, Path(harness.home, CLAUDE))
    harness.settle()
    assert count(harness) == (True, 3)


def test_lines_without_a_prompt_make_no_session(harness: DaemonHarness) -> None:
    """A user who starts the tool only to leave it again has a line in the history but no transcript."""
    harness.write(CLAUDE, prompt("/exit"), prompt("!ls", SECOND), prompt("of an old version", None))
    harness.settle()
    assert harness.held_sessions() == {} and find(harness) is None and find(harness, SECOND) is None


def test_prompts_without_a_session_are_counted(harness: DaemonHarness) -> None:
    """Claude Code before 2.0.49 did not write the session of a prompt."""
    path = harness.write(CLAUDE, prompt("one", None), prompt("/exit", None), prompt("two", None), prompt("three"))
    harness.settle()
    assert read_unnamed(harness.spool) == {path: 2} and count(harness) == (True, 1)
    harness.write(CLAUDE, prompt("four", None))
    harness.settle()
    harness.settle()
    assert read_unnamed(harness.spool) == {path: 3}
    harness.write(CLAUDE, prompt("three"), prompt("one", None), mode="wb")
    harness.settle()
    assert read_unnamed(harness.spool) == {path: 1}


def test_a_session_that_has_just_begun_is_left_until_its_transcript_is_there(harness: DaemonHarness) -> None:
    path = harness.write(CLAUDE, prompt("now", at_ms=harness.now_ms))
    (outcome,) = harness.ingest(path)
    assert outcome.retry and find(harness) is None
    harness.now_ms += history.PATIENCE_MS
    (outcome,) = harness.ingest(path)
    assert not outcome.retry and count(harness) == (True, 1)


def test_prompts_of_an_excluded_project_are_never_captured(harness: DaemonHarness) -> None:
    """A history that does not name the project may be that of an excluded one, so it is not captured either."""
    harness.settings["exclude"] = ["/home/ada/loom"]
    harness.close()
    harness.open()
    harness.write(CLAUDE, prompt("secret"), prompt("open", SECOND, project="/home/ada/spindle"))
    harness.write(CODEX, codex_prompt("unknown"))
    harness.settle()
    assert list(harness.held_sessions()) == [SECOND]
    assert find(harness) is None and find(harness, tool="codex") is None


def test_a_prompt_of_an_excluded_project_on_a_line_with_others_is_not_captured(harness: DaemonHarness) -> None:
    """A crash leaves prompts of several sessions on one line, and of the last one half of it."""
    harness.settings["exclude"] = ["/home/ada/loom"]
    harness.close()
    harness.open()
    secret, other = encode(prompt("secret")), encode(prompt("open", SECOND, project="/home/ada/spindle"))
    path = harness.write(CLAUDE, other.strip() + secret.strip() + secret)
    harness.write(CLAUDE, secret[:60] + other)
    harness.settle()
    assert list(harness.held_sessions()) == [SECOND]
    assert harness.held(SECOND, "prompts") == other
    assert read_unnamed(harness.spool) == {path: 1}  # the one that lost its end


def test_prompts_are_purged_when_their_project_is_excluded_and_return_afterwards(harness: DaemonHarness) -> None:
    harness.write(CLAUDE, prompt("secret"))
    harness.settle()
    harness.settings["exclude"] = ["/home/ada/loom"]
    harness.close()
    harness.open()
    harness.scan()
    assert find(harness) is None
    harness.settings["exclude"] = []
    harness.close()
    harness.open()
    harness.settle()
    assert count(harness) == (True, 1)


def test_an_excluded_transcript_keeps_its_prompts_out(harness: DaemonHarness) -> None:
    """Codex' history names no project. Its rollout on the disk shows that the session is not lost."""
    harness.write(f".codex/sessions/2026/09/01/rollout-2026-09-01T10-00-00-{FIRST}.jsonl", {"type": "session_meta"})
    harness.ingest(harness.write(CODEX, codex_prompt("unknown")))
    assert find(harness, tool="codex") is None


def test_sessions_before_the_backfill_are_left_out(harness: DaemonHarness) -> None:
    harness.ingesting = replace(harness.ingesting, oldest_ms=NOW_MS - 7 * DAY_MS)
    harness.write(CLAUDE, prompt("old", at_ms=NOW_MS - 30 * DAY_MS), prompt("recent", SECOND))
    harness.settle()
    assert find(harness) is None and count(harness, SECOND) == (True, 1)


def test_prompts_are_masked(harness: DaemonHarness) -> None:
    harness.settings["redact"] = "mask"
    harness.close()
    harness.open()
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    harness.write(CLAUDE, prompt(f"use {token}", pastedContents={"1": {"id": 1, "type": "text", "content": token}}))
    harness.settle()
    held = harness.held(FIRST, "prompts")
    assert token.encode() not in held and len(held) == len(Path(harness.home, CLAUDE).read_bytes())
    assert token not in (harness.held_sessions()[FIRST]["title"] or "")


def test_prompts_go_to_a_new_endpoint_as_well(harness: DaemonHarness, tmp_path: Path) -> None:
    """One read of the history serves many sessions that wait for it."""
    ids = [f"0a000000-0000-4000-8000-{number:012}" for number in range(1, 30)]
    path = harness.write(CLAUDE, *(prompt(f"to {each}", each) for each in ids))
    harness.settle()
    with harness.spool.transaction():
        harness.spool.connection.execute("UPDATE stream SET queued = 0, acked = 0")
    assert len(harness.spool.catalog.behind(100)) == len(ids)
    capture(harness, path, Turn(only=frozenset(ids[:1])))
    assert harness.spool.catalog.behind(100) == []
    harness.settle()
    assert harness.held(ids[-1], "prompts") == encode(prompt(f"to {ids[-1]}", ids[-1]))


def test_a_session_is_read_again_however_many_wait_before_it(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST_SESSIONS", 1)
    ids = [f"0a000000-0000-4000-8000-{number:012}" for number in range(1, 5)]
    path = harness.write(CLAUDE, *(prompt(f"to {each}", each) for each in ids))
    harness.settle()
    with harness.spool.transaction():
        harness.spool.connection.execute("UPDATE stream SET queued = 0, acked = 0")
    for left, each in reversed(list(enumerate(reversed(ids)))):
        capture(harness, path, Turn(only=frozenset([each])))
        assert len(harness.spool.catalog.behind(10)) <= left


def test_trimmed_prompts_that_the_endpoint_lacks_are_reported_as_lost(harness: DaemonHarness) -> None:
    """A session must not wait without end for lines that exist nowhere."""
    harness.write(CODEX, codex_prompt("one"), codex_prompt("two"), codex_prompt("other", SECOND))
    harness.budget = 0
    harness.close()
    harness.open()
    harness.scan()
    assert len(harness.spool.catalog.behind(10)) == 2
    harness.write(CODEX, codex_prompt("other", SECOND), mode="wb")
    harness.budget = 1 << 20
    harness.close()
    harness.open()
    harness.settle()
    first, second = find(harness, tool="codex"), find(harness, SECOND, "codex")
    assert first is not None and second is not None
    assert harness.spool.safety.session(first.id) is State.LOST
    assert harness.spool.safety.session(second.id) is State.SAFE


def test_a_long_history_is_read_in_slices(harness: DaemonHarness) -> None:
    lines = [prompt("x" * 300, at_ms=NOW_MS - DAY_MS + number) for number in range(40)]
    path, turn, read_bytes = harness.write(CLAUDE, *lines), Turn(slice=1000), 0
    for _ in range(100):
        outcome = capture(harness, path, turn)
        assert outcome.read <= 1000 + len(encode(lines[0]))
        read_bytes += outcome.read
        if not outcome.more:
            break
    assert read_bytes == os.path.getsize(path) and count(harness) == (True, 40)
    assert not capture(harness, path, turn).read


def test_an_endpoint_keeps_the_whole_record_when_only_prompts_are_left(harness: DaemonHarness, tmp_path: Path) -> None:
    """After the loss of the spool, a machine has only the history of a session that its tool deleted."""
    path = transcript(harness, lines=4)
    harness.settle()
    os.unlink(path)
    harness.close()
    for name in os.listdir(harness.state):
        if name.startswith("spool.db"):
            os.unlink(os.path.join(harness.state, name))
    harness.open()
    harness.write(CLAUDE, prompt("hello"))
    harness.settle()
    assert count(harness) == (True, 1)
    held = harness.held_sessions()[FIRST]
    assert (held["record"]["message_count"], held["prompts_only"]) == (4, False)
    assert harness.held(FIRST, "prompts") == encode(prompt("hello"))


def test_pasted_texts_in_files_are_kept_with_their_prompt(harness: DaemonHarness) -> None:
    """Claude Code keeps long ones beside its history, and removes them after a while."""
    paste = {"1": {"id": 1, "type": "text", "contentHash": "0a1b2c3d4e5f6071"}}
    escape = {"1": {"id": 1, "contentHash": "../../secret"}, "2": {"id": 2, "contentHash": "ffffffffffffffff"}}
    lines = [prompt("first", pastedContents=paste), prompt("second", pastedContents=escape)]
    file = harness.write(".claude/paste-cache/0a1b2c3d4e5f6071.txt", "red")
    harness.write(".secret.txt", "secret")
    path = harness.write(CLAUDE, lines[0])
    harness.settle()
    harness.write(CLAUDE, lines[1])
    harness.settle()
    pasted = b'{"pasted":"paste-cache/0a1b2c3d4e5f6071.txt","content":"red\\n"}\n'
    assert harness.held(FIRST, "prompts") == encode(lines[0]) + pasted + encode(lines[1])
    assert count(harness) == (True, 2) and harness.spool.stats.tools()[0].unknown == []
    os.unlink(file)
    harness.write(CLAUDE, *lines, mode="wb")
    harness.ingest(path)
    harness.settle()
    assert harness.held(FIRST, "prompts") == encode(lines[0]) + pasted + encode(lines[1])


def test_side_files_that_the_tool_left_behind_are_kept_with_the_prompts(harness: DaemonHarness) -> None:
    """Side files are not a transcript: the session is still known from its prompts alone, and prompts are added."""
    harness.write(f".claude/projects/-home-ada-loom/{FIRST}/tool-results/a.txt", b"red\n")
    path = harness.write(CLAUDE, prompt("one"))
    (outcome,) = harness.ingest(path)
    assert outcome.sessions == {FIRST}
    harness.settle()
    harness.write(CLAUDE, prompt("two"))
    harness.settle()
    assert count(harness) == (True, 2)
    assert harness.held(FIRST, "prompts") == encode(prompt("one")) + encode(prompt("two"))
    assert harness.held(FIRST, "tool-results/a.txt") == b"red\n"
