"""Facts about both Copilots: the log of changes, and live sessions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sessiond.session import Role
from sessiond.sources.base import Kind, Unit, UserDirs
from sessiond.sources.copilot_chat import CopilotChat
from sessiond.sources.copilot_cli import CopilotCli

ID = "00000c01-0000-4000-8000-000000000c01"


def replayed(*changes: dict[str, Any] | bytes) -> list[dict[str, Any]]:
    """Return the requests after some changes."""
    lines = [change if isinstance(change, bytes) else json.dumps(change).encode() for change in changes]
    log = {f"{ID}.jsonl": b"".join(line + b"\n" for line in lines)}
    projections = list(CopilotChat().project(log, Unit(native_id=ID)))
    return [json.loads(record) for projection in projections for record in list(projection.records)[1:]]


WHOLE = {"kind": 0, "v": {"requests": [{"requestId": "a", "response": []}, {"requestId": "b", "response": [1, 2]}]}}


def test_every_kind_of_change_is_replayed() -> None:
    """A change sets a value, appends to a list that may be cut first, or deletes a value."""
    assert replayed(WHOLE) == WHOLE["v"]["requests"]  # type: ignore[index]
    assert replayed(WHOLE, {"kind": 1, "k": ["requests", 0, "x"], "v": 7})[0]["x"] == 7
    assert replayed(WHOLE, {"kind": 2, "k": ["requests"], "v": [{"requestId": "c"}]})[2] == {"requestId": "c"}
    assert replayed(WHOLE, {"kind": 2, "k": ["requests", 1, "response"], "v": [3], "i": 1})[1]["response"] == [1, 3]
    assert replayed(WHOLE, {"kind": 2, "k": ["requests"], "i": 1}) == [{"requestId": "a", "response": []}]
    assert replayed(WHOLE, {"kind": 3, "k": ["requests", 1, "response"]})[1] == {"requestId": "b"}
    assert replayed(WHOLE, {"kind": 0, "v": {"requests": [{"requestId": "z"}]}}) == [{"requestId": "z"}]


def test_a_change_that_fits_nowhere_is_left_out() -> None:
    """A damaged line harms no other line."""
    for bad in (
        b"{",
        b"null",
        {"kind": 1, "k": ["requests", 9, "x"], "v": 1},
        {"kind": 2, "k": 7},
        {"kind": 9},
        {"k": []},
    ):
        assert len(replayed(WHOLE, bad, {"kind": 2, "k": ["requests"], "v": [{"requestId": "c"}]})) == 3


def test_a_log_without_its_first_line_is_nothing_yet() -> None:
    """A compaction that is being written gives no records, so nothing is taken for emptied."""
    source = CopilotChat()
    assert list(source.project({f"{ID}.jsonl": json.dumps(WHOLE).encode()[:40]}, Unit(native_id=ID))) == []


def test_both_forms_give_the_same_records() -> None:
    """A chat that moves from a document to a log continues in the same stream."""
    source = CopilotChat()
    (document,) = source.project({f"{ID}.json": json.dumps(WHOLE["v"], indent=2).encode()}, Unit(native_id=ID))
    (log,) = source.project({f"{ID}.jsonl": json.dumps(WHOLE).encode() + b"\n"}, Unit(native_id=ID))
    assert list(document.records) == list(log.records)


def test_a_thought_is_no_answer() -> None:
    """If a request was stopped while the model thought, only its prompt counts."""
    request: dict[str, Any] = {"requestId": "a", "timestamp": 1775037600000, "modelId": "m"}
    for response, answers in (
        ([{"kind": "thinking", "value": "hm"}, {"kind": "progressMessage"}], None),
        ([{"kind": "thinking", "value": "hm"}, {"value": "Spun."}], Role.ASSISTANT),
    ):
        entry = CopilotChat().decode(json.dumps(request | {"response": response}).encode(), {})
        assert entry is not None and entry.role is Role.USER
        assert [more.role for more in entry.more] == [answers]


def test_paths() -> None:
    chat = CopilotChat()
    beside = ("ab/workspace.json",)
    for ending in ("json", "jsonl"):
        unit = chat.unit(f"ab/chatSessions/{ID}.{ending}")
        assert unit == Unit(kind=Kind.DOCUMENT, native_id=ID, beside=beside)
    transcript = chat.unit(f"ab/GitHub.copilot-chat/transcripts/{ID}.jsonl")
    assert transcript == Unit(native_id=ID, stream="transcript", thread=False)
    assert chat.unit("ab/workspace.json") is None
    cli = CopilotCli()
    assert cli.unit(f"{ID}/events.jsonl") == cli.unit(f"{ID}.jsonl") == Unit(native_id=ID)
    assert cli.unit(f"{ID}/session.db") is None


def test_a_lock_of_a_process_that_runs_is_a_live_session(tmp_path: Path) -> None:
    """A killed process leaves its lock behind."""
    places = UserDirs(home=str(tmp_path), environ={}, platform="linux")
    for name, pid in ((ID, os.getpid()), ("dead-session", 2**22 + 1), ("no-number", "x"), ("no-process", 0)):
        folder = tmp_path / ".copilot/session-state" / name
        folder.mkdir(parents=True)
        (folder / f"inuse.{pid}.lock").touch()
    assert list(CopilotCli().live(places)) == [ID]
