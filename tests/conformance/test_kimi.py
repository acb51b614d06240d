"""The models and messages of Kimi: the model is that of the requests, not the user's alias for it."""

from __future__ import annotations

import json

import pytest

from sessiond.session import Role
from sessiond.sources.kimi import Kimi
from sessiond.sources.user_dirs import UserDirs

REQUEST = {"type": "llm.request", "model": "kimi-k3", "modelAlias": "mine"}
USAGE = {"type": "usage.record", "model": "mine"}
CALL = {"type": "context.append_loop_event", "event": {"type": "tool.call"}}
STEP = {"type": "context.append_loop_event", "event": {"type": "step.begin"}}


def models(*records: dict) -> list[str | None]:
    memory: dict = {}
    entries = [Kimi().decode(json.dumps(record).encode(), memory) for record in records]
    return [entry.model if entry else None for entry in entries]


def test_a_message_has_the_model_of_its_request() -> None:
    assert models({"type": "profile.bind", "modelAlias": "mine"}, STEP, REQUEST, USAGE, CALL) == [
        "mine",
        None,
        "kimi-k3",
        None,
        "kimi-k3",
    ]


def test_another_request_changes_the_model() -> None:
    assert models(REQUEST, STEP, CALL, {**REQUEST, "model": "kimi-k4"}, STEP, CALL)[2::3] == ["kimi-k3", "kimi-k4"]


def test_without_a_request_the_alias_is_the_model() -> None:
    assert models(USAGE) == ["mine"]


def test_events_of_subagents_are_known() -> None:
    entry = Kimi().decode(b'{"type":"subagent.spawned","subagentId":"agent-0"}', {})
    assert entry is not None
    assert entry.unknown is None
    assert entry.role is not Role.ASSISTANT


def test_a_scan_reaches_the_outputs_of_background_tasks() -> None:
    output = "/h/.kimi-code/sessions/wd_loom_0/session_1/agents/main/tasks/bash-1/output.log"
    roots = Kimi().roots(UserDirs(home="/h", environ={}, platform="linux"))
    assert any(root.covers(output) for root in roots)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("/init", False),
        (" /skill:weave\nred", False),
        ("/compact now", False),
        ("/home/ada/loom.txt is broken", True),
        ("/etc", False),
        ("// what is this?", True),
    ],
)
@pytest.mark.parametrize("parts", [False, True])
def test_a_path_before_a_prompt_is_no_command(text: str, parts: bool, counts: bool) -> None:
    typed = [{"type": "text", "text": text}] if parts else text
    line = {"timestamp": 1.0, "message": {"type": "TurnBegin", "payload": {"user_input": typed}}}
    entry = Kimi().decode(json.dumps(line).encode(), {})
    assert entry is not None
    assert entry.role is (Role.USER if counts else None)
