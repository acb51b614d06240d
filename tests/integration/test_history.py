"""A tool's history of prompts is captured if the session itself is gone, and never beside a transcript."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sessiond.config import Config
from sessiond.ingest import Outcome, Turn, history
from sessiond.ingest import ingest as read
from sessiond.privacy import Exclusion, Masking, read_terms
from sessiond.session import session_id
from sessiond.spool.health import read_unnamed
from sessiond.spool.rows import SessionState
from sessiond.spool.safety import State
from support.harness import NOW_MS, Household, claude, encode, household

CLAUDE, CODEX = ".claude/history.jsonl", ".codex/history.jsonl"
FIRST, SECOND = "0a000000-0000-4000-8000-000000000001", "0a000000-0000-4000-8000-000000000002"
DAY_MS = 86_400_000


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    with household(tmp_path) as made:
        yield made


def prompt(text: str, session: str | None = FIRST, at_ms: int = NOW_MS - DAY_MS, **more: Any) -> dict[str, Any]:
    """Return a line of Claude Code's history."""
    line = {"display": text, "pastedContents": {}, "timestamp": at_ms, "project": "/home/ada/loom"} | more
    return line | ({} if session is None else {"sessionId": session})


def codex_prompt(text: str, session: str = FIRST, at_ms: int = NOW_MS - DAY_MS) -> dict[str, Any]:
    """Return a line of Codex' history."""
    return {"session_id": session, "ts": at_ms // 1000, "text": text}


def transcript(house: Household, session: str = FIRST, lines: int = 3, *, home: str = ".claude") -> str:
    """Write a transcript of Claude Code; return its path."""
    path = f"{home}/projects/-home-dev-project/{session}.jsonl"
    return house.write(path, *(claude(session, number) for number in range(lines)))


def find(house: Household, native_id: str = FIRST, tool: str = "claude-code") -> SessionState | None:
    """Return a session of the spool."""
    return house.spool.catalog.session(session_id(tool, native_id))


def count(house: Household, native_id: str = FIRST, tool: str = "claude-code") -> tuple[bool, int]:
    """Return whether only prompts of a session are known, and its messages."""
    found = find(house, native_id, tool)
    assert found is not None and found.record is not None
    return found.prompts_only, found.record.message_count


def capture(house: Household, path: str, turn: Turn) -> Outcome:
    """Read a path with a limited slice."""
    (location,) = house.places(path)
    return read(house.ingesting, location, turn)


def test_a_session_known_from_its_prompts_alone_is_kept(house: Household) -> None:
    """Its record has the prompts, times and project; the endpoint has the lines as the tool wrote them."""
    lines = [prompt("weave a scarf\nof wool"), prompt("/clear"), prompt("longer", at_ms=NOW_MS - DAY_MS + 60_000)]
    path = house.write(CLAUDE, *lines)
    house.settle()
    found = find(house)
    assert found is not None and found.record is not None and found.prompts_only
    record = found.record
    assert (record.message_count, record.working_directory) == (2, "/home/ada/loom")
    assert (found.title, record.model, record.ended_at is None) == ("weave a scarf", None, False)
    assert record.started_at.timestamp() * 1000 == NOW_MS - DAY_MS
    assert record.source_path == f"{path}::{FIRST}"
    assert house.held(FIRST, "prompts") == Path(path).read_bytes()
    assert house.held_sessions()[FIRST]["prompts_only"]
    assert house.spool.safety.session(found.id) is State.SAFE


def test_each_session_of_a_history_has_its_own_lines(house: Household) -> None:
    mine, other = prompt("one"), prompt("two", SECOND)
    house.write(CLAUDE, mine, other, prompt("three"))
    house.write(CODEX, codex_prompt("four", "0a000000-0000-4000-8000-000000000003"))
    house.settle()
    assert house.held(FIRST, "prompts") == encode(mine) + encode(prompt("three"))
    assert house.held(SECOND, "prompts") == encode(other)
    assert count(house, "0a000000-0000-4000-8000-000000000003", "codex") == (True, 1)


def test_a_history_adds_nothing_to_a_session_with_a_transcript(house: Household) -> None:
    """It does not matter whether the transcript was captured or is only on the disk so far."""
    captured = transcript(house)
    house.ingest(captured)
    transcript(house, SECOND)
    house.ingest(house.write(CLAUDE, prompt("hello"), prompt("hello", SECOND)))
    assert find(house, SECOND) is None
    house.settle()
    for each in (FIRST, SECOND):
        assert count(house, each) == (False, 3)
        assert [stream["name"] for stream in house.held_sessions()[each]["held"]] == ["main"]


def test_a_transcript_that_is_found_later_replaces_the_prompts(house: Household) -> None:
    """The record is then the transcript's, messages count once, and nothing flips back when it is deleted again."""
    history_file = house.write(CLAUDE, prompt("hello"), prompt("bye"))
    house.settle()
    assert count(house) == (True, 2)
    path = transcript(house, lines=5)
    house.ingest(path)
    house.write(CLAUDE, prompt("again"))
    house.settle()
    assert count(house) == (False, 5)
    assert not house.held_sessions()[FIRST]["prompts_only"]
    assert house.held_sessions()[FIRST]["record"]["source_path"] == path
    assert house.held(FIRST, "prompts") == encode(prompt("hello")) + encode(prompt("bye"))
    os.unlink(path)
    house.settle()
    house.write(CLAUDE, prompt("once more"))
    house.settle()
    assert count(house) == (False, 5)
    assert house.held_sessions()[FIRST]["gone_at"] is not None  # the history is not the session
    os.unlink(history_file)
    house.settle()
    assert count(house) == (False, 5)


def test_a_growing_history_is_read_from_where_it_ended(house: Household) -> None:
    """Only the new lines are read, and no line is captured twice, even after a restart."""
    path = house.write(CLAUDE, *(prompt(f"old {number}", at_ms=NOW_MS - DAY_MS + number) for number in range(500)))
    house.settle()
    line = prompt("new")
    house.close()
    house.open()
    house.write(CLAUDE, line)
    (outcome,) = house.ingest(path)
    assert outcome.read == len(encode(line))
    assert count(house) == (True, 501)
    assert [each.read for each in house.ingest(path)] == [0]
    house.settle()
    assert house.held(FIRST, "prompts") == Path(path).read_bytes()


def test_a_kill_before_the_checkpoint_repeats_no_line(house: Household) -> None:
    """Sessions are committed before the checkpoint of the file, so they may be read again."""
    path = house.write(CLAUDE, prompt("one"), prompt("two"), prompt("other", SECOND))
    house.settle()
    with house.spool.transaction():
        house.spool.connection.execute("UPDATE file SET checkpoint = NULL WHERE path = ?", (os.fsencode(path),))
    house.write(CLAUDE, prompt("three"))
    house.settle()
    assert count(house) == (True, 3) and count(house, SECOND) == (True, 1)
    assert house.held(FIRST, "prompts") == b"".join(encode(prompt(text)) for text in ("one", "two", "three"))


def test_a_line_that_is_being_written_is_left_until_its_end(house: Household) -> None:
    whole = encode(prompt("two"))
    path = house.write(CLAUDE, prompt("one"), whole[:20])
    house.settle()
    assert count(house) == (True, 1)
    house.write(CLAUDE, whole[20:])
    house.settle()
    assert count(house) == (True, 2)
    assert house.held(FIRST, "prompts") == Path(path).read_bytes()


def test_a_damaged_line_hides_no_other(house: Household) -> None:
    """Bytes that were no line, a line without a time, and a session id in capital letters."""
    lines = [
        prompt("one"),
        b"\0\0\xff{]\n",
        b"[1]\n",
        {"display": "x", "sessionId": FIRST},
        prompt("two", FIRST.upper()),
    ]
    house.write(CLAUDE, *lines)
    house.settle()
    assert count(house) == (True, 2)
    assert house.held(FIRST, "prompts") == encode(prompt("one")) + encode(prompt("two", FIRST.upper()))


def test_a_trimmed_history_loses_no_prompt_and_repeats_none(house: Household) -> None:
    """Codex removes the oldest lines in place when its file is too long."""
    lines = [codex_prompt(f"{number}", at_ms=NOW_MS - DAY_MS + number * 1000) for number in range(9)]
    house.write(CODEX, *lines)
    house.settle()
    house.write(CODEX, *lines[4:], codex_prompt("newest"), mode="wb")
    house.settle()
    assert count(house, tool="codex") == (True, 10)
    assert house.held(FIRST, "prompts") == b"".join(map(encode, [*lines, codex_prompt("newest")]))
    house.write(CODEX, codex_prompt("other", SECOND), mode="wb")
    house.settle()
    assert count(house, tool="codex") == (True, 10)
    assert count(house, SECOND, "codex") == (True, 1)


@pytest.mark.parametrize("emptied", [True, False])
def test_a_history_that_is_deleted_takes_nothing_with_it(house: Household, emptied: bool) -> None:
    path = house.write(CLAUDE, prompt("one"))
    house.settle()
    if emptied:
        house.write(CLAUDE, mode="wb")
        house.settle()
    os.unlink(path)
    house.settle()
    found = find(house)
    assert found is not None and found.gone_ms is not None and count(house) == (True, 1)
    house.write(CLAUDE, prompt("one"), prompt("two"))
    house.settle()
    found = find(house)
    assert found is not None and found.gone_ms is None and count(house) == (True, 2)
    assert house.held(FIRST, "prompts") == encode(prompt("one")) + encode(prompt("two"))


def test_a_second_home_with_a_copy_of_the_history_repeats_nothing(house: Household) -> None:
    house.write(CLAUDE, prompt("one"), prompt("two"))
    house.settle()
    spare = Path(house.home, "copy.jsonl")
    spare.write_bytes(encode(prompt("one")) + encode(prompt("three")))
    os.unlink(Path(house.home, CLAUDE))
    os.symlink(spare, Path(house.home, CLAUDE))
    os.unlink(Path(house.home, CLAUDE))
    os.rename(spare, Path(house.home, CLAUDE))
    house.settle()
    assert count(house) == (True, 3)


def test_lines_without_a_prompt_make_no_session(house: Household) -> None:
    """A user who starts the tool only to leave it again has a line in the history but no transcript."""
    house.write(CLAUDE, prompt("/exit"), prompt("!ls", SECOND), prompt("of an old version", None))
    house.settle()
    assert house.held_sessions() == {} and find(house) is None and find(house, SECOND) is None


def test_prompts_without_a_session_are_counted(house: Household) -> None:
    """Claude Code before 2.0.49 did not write the session of a prompt."""
    path = house.write(CLAUDE, prompt("one", None), prompt("/exit", None), prompt("two", None), prompt("three"))
    house.settle()
    assert read_unnamed(house.spool) == {path: 2} and count(house) == (True, 1)
    house.write(CLAUDE, prompt("four", None))
    house.settle()
    house.settle()
    assert read_unnamed(house.spool) == {path: 3}
    house.write(CLAUDE, prompt("three"), prompt("one", None), mode="wb")
    house.settle()
    assert read_unnamed(house.spool) == {path: 1}


def test_a_session_that_has_just_begun_is_left_until_its_transcript_is_there(house: Household) -> None:
    path = house.write(CLAUDE, prompt("now", at_ms=house.now_ms))
    (outcome,) = house.ingest(path)
    assert outcome.retry and find(house) is None
    house.now_ms += history.PATIENCE_MS
    (outcome,) = house.ingest(path)
    assert not outcome.retry and count(house) == (True, 1)


def test_prompts_of_an_excluded_project_are_never_captured(house: Household) -> None:
    """A history that does not name the project may be that of an excluded one, so it is not captured either."""
    house.exclusion = Exclusion(["/home/ada/loom"])
    house.close()
    house.open()
    house.write(CLAUDE, prompt("secret"), prompt("open", SECOND, project="/home/ada/spindle"))
    house.write(CODEX, codex_prompt("unknown"))
    house.settle()
    assert list(house.held_sessions()) == [SECOND]
    assert find(house) is None and find(house, tool="codex") is None


def test_prompts_are_purged_when_their_project_is_excluded_and_return_afterwards(house: Household) -> None:
    house.write(CLAUDE, prompt("secret"))
    house.settle()
    house.exclusion = Exclusion(["/home/ada/loom"])
    house.close()
    house.open()
    house.scan()
    assert find(house) is None
    house.exclusion = Exclusion()
    house.close()
    house.open()
    house.settle()
    assert count(house) == (True, 1)


def test_an_excluded_transcript_keeps_its_prompts_out(house: Household) -> None:
    """Codex' history names no project. Its rollout on the disk shows that the session is not lost."""
    house.write(f".codex/sessions/2026/09/01/rollout-2026-09-01T10-00-00-{FIRST}.jsonl", {"type": "session_meta"})
    house.ingest(house.write(CODEX, codex_prompt("unknown")))
    assert find(house, tool="codex") is None


def test_sessions_before_the_backfill_are_left_out(house: Household) -> None:
    house.ingesting = replace(house.ingesting, oldest_ms=NOW_MS - 7 * DAY_MS)
    house.write(CLAUDE, prompt("old", at_ms=NOW_MS - 30 * DAY_MS), prompt("recent", SECOND))
    house.settle()
    assert find(house) is None and count(house, SECOND) == (True, 1)


def test_prompts_are_masked(house: Household) -> None:
    house.masking = Masking(read_terms(Config(), {}, b"k" * 64))
    house.close()
    house.open()
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    house.write(CLAUDE, prompt(f"use {token}", pastedContents={"1": {"id": 1, "type": "text", "content": token}}))
    house.settle()
    held = house.held(FIRST, "prompts")
    assert token.encode() not in held and len(held) == len(Path(house.home, CLAUDE).read_bytes())
    assert token not in (house.held_sessions()[FIRST]["title"] or "")


def test_prompts_go_to_a_new_endpoint_as_well(house: Household, tmp_path: Path) -> None:
    """One read of the history serves many sessions that wait for it."""
    ids = [f"0a000000-0000-4000-8000-{number:012}" for number in range(1, 30)]
    path = house.write(CLAUDE, *(prompt(f"to {each}", each) for each in ids))
    house.settle()
    with house.spool.transaction():
        house.spool.connection.execute("UPDATE stream SET queued = 0, acked = 0")
    assert len(house.spool.catalog.behind(100)) == len(ids)
    capture(house, path, Turn(only=frozenset(ids[:1])))
    assert house.spool.catalog.behind(100) == []
    house.settle()
    assert house.held(ids[-1], "prompts") == encode(prompt(f"to {ids[-1]}", ids[-1]))


def test_a_session_is_read_again_however_many_wait_before_it(house: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_SESSIONS", 1)
    ids = [f"0a000000-0000-4000-8000-{number:012}" for number in range(1, 5)]
    path = house.write(CLAUDE, *(prompt(f"to {each}", each) for each in ids))
    house.settle()
    with house.spool.transaction():
        house.spool.connection.execute("UPDATE stream SET queued = 0, acked = 0")
    for left, each in reversed(list(enumerate(reversed(ids)))):
        capture(house, path, Turn(only=frozenset([each])))
        assert len(house.spool.catalog.behind(10)) <= left


def test_trimmed_prompts_that_the_endpoint_lacks_are_reported_as_lost(house: Household) -> None:
    """A session must not wait without end for lines that exist nowhere."""
    house.write(CODEX, codex_prompt("one"), codex_prompt("two"), codex_prompt("other", SECOND))
    house.budget = 0
    house.close()
    house.open()
    house.scan()
    assert len(house.spool.catalog.behind(10)) == 2
    house.write(CODEX, codex_prompt("other", SECOND), mode="wb")
    house.budget = 1 << 20
    house.close()
    house.open()
    house.settle()
    first, second = find(house, tool="codex"), find(house, SECOND, "codex")
    assert first is not None and second is not None
    assert house.spool.safety.session(first.id) is State.LOST
    assert house.spool.safety.session(second.id) is State.SAFE


def test_a_long_history_is_read_in_slices(house: Household) -> None:
    lines = [prompt("x" * 300, at_ms=NOW_MS - DAY_MS + number) for number in range(40)]
    path, turn, read_bytes = house.write(CLAUDE, *lines), Turn(slice=1000), 0
    for _ in range(100):
        outcome = capture(house, path, turn)
        assert outcome.read <= 1000 + len(encode(lines[0]))
        read_bytes += outcome.read
        if not outcome.more:
            break
    assert read_bytes == os.path.getsize(path) and count(house) == (True, 40)
    assert not capture(house, path, turn).read


def test_an_endpoint_keeps_the_whole_record_when_only_prompts_are_left(house: Household, tmp_path: Path) -> None:
    """After the loss of the spool, a machine has only the history of a session that its tool deleted."""
    path = transcript(house, lines=4)
    house.settle()
    os.unlink(path)
    house.close()
    for name in os.listdir(house.state):
        if name.startswith("spool.db"):
            os.unlink(os.path.join(house.state, name))
    house.open()
    house.write(CLAUDE, prompt("hello"))
    house.settle()
    assert count(house) == (True, 1)
    held = house.held_sessions()[FIRST]
    assert (held["record"]["message_count"], held["prompts_only"]) == (4, False)
    assert house.held(FIRST, "prompts") == encode(prompt("hello"))


def test_pasted_texts_in_files_are_kept_with_their_prompt(house: Household) -> None:
    """Claude Code keeps long ones beside its history, and removes them after a while."""
    paste = {"1": {"id": 1, "type": "text", "contentHash": "0a1b2c3d4e5f6071"}}
    escape = {"1": {"id": 1, "contentHash": "../../secret"}, "2": {"id": 2, "contentHash": "ffffffffffffffff"}}
    lines = [prompt("first", pastedContents=paste), prompt("second", pastedContents=escape)]
    file = house.write(".claude/paste-cache/0a1b2c3d4e5f6071.txt", "red")
    house.write(".secret.txt", "secret")
    path = house.write(CLAUDE, lines[0])
    house.settle()
    house.write(CLAUDE, lines[1])
    house.settle()
    pasted = b'{"pasted":"paste-cache/0a1b2c3d4e5f6071.txt","content":"red\\n"}\n'
    assert house.held(FIRST, "prompts") == encode(lines[0]) + pasted + encode(lines[1])
    assert count(house) == (True, 2) and house.spool.stats.tools()[0].unknown == []
    os.unlink(file)
    house.write(CLAUDE, *lines, mode="wb")
    house.ingest(path)
    house.settle()
    assert house.held(FIRST, "prompts") == encode(lines[0]) + pasted + encode(lines[1])


def test_side_files_that_the_tool_left_behind_are_kept_with_the_prompts(house: Household) -> None:
    """Side files are not a transcript: the session is still known from its prompts alone, and prompts are added."""
    house.write(f".claude/projects/-home-ada-loom/{FIRST}/tool-results/a.txt", b"red\n")
    path = house.write(CLAUDE, prompt("one"))
    (outcome,) = house.ingest(path)
    assert outcome.sessions == {FIRST}
    house.settle()
    house.write(CLAUDE, prompt("two"))
    house.settle()
    assert count(house) == (True, 2)
    assert house.held(FIRST, "prompts") == encode(prompt("one")) + encode(prompt("two"))
    assert house.held(FIRST, "tool-results/a.txt") == b"red\n"
