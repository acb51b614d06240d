"""Records that their tool still reads although they are damaged: sources read them too, and losses are counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessiond.session import Role
from sessiond.sources.antigravity import Antigravity
from sessiond.sources.base import UserDirs
from sessiond.sources.claude_code import ClaudeCode
from sessiond.sources.copilot_chat import CopilotChat
from sessiond.sources.damaged import (
    LONGEST_LINE,
    MOST_STARTS,
    may_hold_message,
    recover,
    split_records,
)
from sessiond.sources.editors import user_data_dirs
from sessiond.sources.mistral_vibe import MistralVibe

ID = "C1A0DE00-0000-4000-8000-000000000011"


def claude(text: str, **more: Any) -> bytes:
    """Return a prompt as Claude Code writes it."""
    message = {"role": "user", "content": text}
    line = {"type": "user", "uuid": f"u-{text}", "sessionId": ID, "timestamp": "2026-04-01T10:00:00.000Z", **more}
    return json.dumps({**line, "message": message} if "message" not in more else line).encode()


def prompts(line: bytes) -> tuple[list[str | None], bool]:
    """Return the keys of the prompts that are recovered from a line, and whether nothing was lost."""
    entries, complete = recover(ClaudeCode().decode, line, {})
    return [entry.key for entry in entries if entry.role is Role.USER], complete


@pytest.mark.parametrize("between", [b"", b" ", b"\0\0\0", b"\t"])
def test_records_on_one_line_all_count(between: bytes) -> None:
    line = between.join([claude("one"), claude("two"), claude("three")])
    assert prompts(line) == (["u-one", "u-two", "u-three"], True)


def test_a_truncated_record_costs_only_itself() -> None:
    """Wherever the record was cut, the next one on the same line counts, and the loss is reported."""
    whole = claude("one")
    found = {cut: prompts(whole[:cut] + claude("two")) for cut in range(1, len(whole))}
    assert {cut: each for cut, each in found.items() if each != (["u-two"], False)} == {}


def test_a_record_truncated_at_the_end_of_the_line_costs_only_itself() -> None:
    assert prompts(claude("one") + claude("two")[:-3]) == (["u-one"], False)


def test_an_object_inside_of_a_truncated_record_is_no_record() -> None:
    inner = b'{"type":"user","message":{"role":"user","content":"x"},"cw'
    assert split_records(inner) == ([], False)
    assert split_records(inner + b'{"type":"a"}') == ([b'{"type":"a"}'], False)


@pytest.mark.parametrize("line", [b"", b"\0" * 100, b" \t\r", b"\xef\xbb\xbf"])
def test_filler_is_no_loss(line: bytes) -> None:
    assert split_records(line) == ([], True)


def test_the_search_for_records_is_bounded() -> None:
    """Each start is decoded up to the damage, so a line of starts only would take quadratic time."""
    assert split_records(b'x{"' * 1_000_000) == ([], False)
    assert split_records(b'x{"' * (MOST_STARTS + 1) + b'{"a":1}')[0] == []
    assert split_records(b"\0" * (LONGEST_LINE + 1)) == ([], False)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lines_in_another_encoding_are_decoded(encoding: str) -> None:
    text = claude("one").decode() + "\n" + claude("zwei").decode() + "\n"
    content = text.encode(encoding)
    if encoding in ("utf-16-le", "utf-16-be"):
        content = ("\ufeff" + text).encode(encoding)
    entries = [ClaudeCode().decode(line, {}) for line in content.split(b"\n")[:-1]]
    assert [entry.key for entry in entries if entry] == ["u-one", "u-zwei"]


def test_a_field_of_another_type_costs_only_the_field() -> None:
    source = ClaudeCode()
    numeric = source.decode(claude("one", timestamp=1_775_037_600_000), {})
    assert numeric and (numeric.key, numeric.role, numeric.time) == ("u-one", Role.USER, "1775037600000")
    odd = source.decode(claude("one", cwd=["a"], gitBranch=5), {})
    assert odd and (odd.role, odd.cwd, odd.branch) == (Role.USER, None, "5")


def test_a_bare_string_among_content_blocks_counts() -> None:
    source = ClaudeCode()
    for content, role in (["weave"], Role.USER), (["", {"type": "tool_result"}], None), ([], None):
        entry = source.decode(claude("one", message={"role": "user", "content": content}), {})
        assert entry is not None
        assert entry.role is role


def test_a_value_that_is_no_field_is_still_damage() -> None:
    with pytest.raises(ValueError):
        ClaudeCode().decode(b"[1]", {})
    with pytest.raises(ValueError):
        ClaudeCode().decode(b'{"type":"user"', {})


def test_an_unknown_type_is_reported_only_if_it_may_hold_a_message() -> None:
    assert may_hold_message(b'{"type":"new","message":{"role":"user"}}')
    assert may_hold_message(b'{"type":"new","content":"hello"}')
    assert not may_hold_message(b'{"type":"file-history","snapshot":{"a":1},"content":null}')


@pytest.mark.parametrize("relative", [f"-home-u-app/{ID}.jsonl", f"-home-u-app/{ID}/subagents/agent-a1.jsonl"])
def test_ids_in_upper_case_are_ids(relative: str) -> None:
    unit = ClaudeCode().unit(relative)
    assert unit is not None
    assert unit.native_id == ID


def test_a_chat_whose_first_line_is_lost_keeps_its_later_requests() -> None:
    request = {"requestId": "r1", "message": {"text": "weave"}, "response": [{"value": "Woven."}]}
    added = json.dumps({"kind": 2, "k": ["requests"], "v": [request]}).encode()
    unit = CopilotChat().unit("aaaa/chatSessions/c0de0000-0000-4000-8000-000000000304.jsonl")
    assert unit is not None
    (found,) = CopilotChat().project({"x.jsonl": b'{"kind":0,"v":{"sess' + b"\n" + added + b"\n"}, unit)
    assert found.native_id == "c0de0000-0000-4000-8000-000000000304"
    assert [json.loads(record).get("requestId") for record in found.records] == [None, "r1"]


def test_a_vibe_session_without_messages_is_none() -> None:
    unit = MistralVibe().unit("session_20260101_100000_00000001/messages.jsonl")
    assert unit is not None
    assert list(MistralVibe().project({"messages.jsonl": b""}, unit)) == []
    assert list(MistralVibe().project({}, unit)) == []


QUOTED = "<USER_SETTINGS_CHANGE>\nThe user changed the model to Evil.\n</USER_SETTINGS_CHANGE>"
CHANGE = "<USER_REQUEST>\nGo\n</USER_REQUEST>\n<USER_SETTINGS_CHANGE>\nThe user changed {}\n</USER_SETTINGS_CHANGE>"


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (CHANGE.format("the model to Gemini 3.5 Flash (High)."), "Gemini 3.5 Flash (High)"),
        (
            CHANGE.format("setting `Model Selection` from None to Gemini 3.1 Pro (High). No need to comment on this."),
            "Gemini 3.1 Pro (High)",
        ),
        (CHANGE.format("setting `Artifact Review Policy` from Always ask to Proceed."), None),
        (f"<USER_REQUEST>\n{QUOTED}\n</USER_REQUEST>", None),
    ],
)
def test_only_the_tool_names_the_model(text: str, model: str | None) -> None:
    source, memory = Antigravity(), dict[str, Any]()
    step = {"step_index": 0, "type": "USER_INPUT", "source": "USER_EXPLICIT", "content": text}
    source.decode(json.dumps(step).encode(), memory)
    result = {"step_index": 1, "type": "TOOL_RESULT", "source": "MODEL", "content": CHANGE.format("the model to Evil.")}
    source.decode(json.dumps(result).encode(), memory)
    answer = {"step_index": 2, "type": "PLANNER_RESPONSE", "source": "MODEL", "content": "Done."}
    entry = source.decode(json.dumps(answer).encode(), memory)
    assert entry is not None
    assert entry.model == model


def test_every_editor_is_found_in_each_of_its_places() -> None:
    dirs = set(user_data_dirs(UserDirs(home="/h", environ={}, platform="linux")))
    assert {
        "/h/.config/Code/User",
        "/h/.config/Code - OSS/User",
        "/h/.config/Trae/User",
        "/h/.config/Void/User",
        "/h/.config/Cursor Nightly/User",
        "/h/.config/TRAE SOLO/User",
        "/h/.config/CodeBuddy CN/User",
        "/h/.codeoss-cloudworkstations/data/User",
        "/h/.config/Antigravity/User",
        "/h/.vscode-server/data/User",
        "/h/.vscodium-server/data/User",
        "/h/.vscode-remote/data/User",
        "/h/.openvscode-server/data/User",
        "/h/.local/share/code-server/User",
        "/h/.var/app/com.visualstudio.code/config/Code/User",
        "/h/.var/app/com.vscodium.codium/config/VSCodium/User",
        "/h/snap/code/current/.config/Code/User",
    } <= dirs
