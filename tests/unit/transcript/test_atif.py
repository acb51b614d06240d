"""A session as a trajectory: steps, calls with their results, subagents, and tokens that count once."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from sessiond.cli.output import to_json
from sessiond.session import Item, ItemKind, Session, Speaker, Usage
from sessiond.transcript import Place, Placed, Thread, atif

USER, MODEL, TOOL, SYSTEM = Speaker.USER, Speaker.ASSISTANT, Speaker.TOOL, Speaker.SYSTEM
RECORD = Session(
    id=uuid.UUID(int=7),
    tool="codex",
    tool_version=None,
    started_at=datetime(2026, 9, 1, tzinfo=UTC),
    ended_at=None,
    model="model-1",
    working_directory="/home/ada/loom",
    git_branch=None,
    source_path=None,
    message_count=2,
    machine_id="desktop",
)


def item(kind: ItemKind, speaker: Speaker, text: str = "", **facts: Any) -> Item:
    return Item(kind=kind, speaker=speaker, text=text, **facts)


def call(number: str | None, speaker: Speaker = MODEL, arguments: object = None, **facts: Any) -> Item:
    given = msgspec.Raw(msgspec.json.encode(arguments))
    return item(ItemKind.CALL, speaker, call=number, name="Bash", arguments=given, **facts)


def usage(key: str | None, given: int, output: int, **facts: Any) -> Item:
    tokens = {name: facts.pop(name) for name in ("cache_read", "cache_write", "cost", "total") if name in facts}
    return item(ItemKind.USAGE, SYSTEM, key=key, usage=Usage(input=given, output=output, **tokens), **facts)


def made(*items: Item, agent: tuple[Item, ...] = ()) -> dict[str, Any]:
    threads = [Thread("main", True, [Placed(Place(at, 1), each) for at, each in enumerate(items)])]
    threads.append(Thread("agent-1", False, [Placed(Place(at, 1), each) for at, each in enumerate(agent)]))
    found: dict[str, Any] = json.loads("\n".join(atif.lines(RECORD, threads, to_json)))
    return found


def test_a_response_is_one_step_with_its_calls_and_results() -> None:
    steps = made(
        item(ItemKind.MESSAGE, USER, "Weave", time_ms=1_780_000_000_000),
        item(ItemKind.THOUGHT, MODEL, "hm"),
        item(ItemKind.MESSAGE, MODEL, "I look.", model="model-2"),
        call("c1", arguments={"command": "ls"}),
        call("c2", arguments=["ls"]),
        item(ItemKind.RESULT, TOOL, "red", call="c2"),
        item(ItemKind.RESULT, TOOL, "no", call="c1", failed=True),
        item(ItemKind.MESSAGE, MODEL, "Woven."),
    )["steps"]
    assert [(step["step_id"], step["source"], step["message"]) for step in steps] == [
        (1, "user", "Weave"),
        (2, "agent", "I look."),
        (3, "agent", "Woven."),
    ]
    assert steps[0]["timestamp"] == "2026-05-28T20:26:40Z"
    assert steps[1]["reasoning_content"] == "hm" and steps[1]["model_name"] == "model-2"
    assert [each["arguments"] for each in steps[1]["tool_calls"]] == [{"command": "ls"}, {"input": ["ls"]}]
    assert steps[1]["observation"]["results"] == [
        {"content": "red", "source_call_id": "c2"},
        {"content": "no", "source_call_id": "c1", "extra": {"is_error": True}},
    ]


def test_what_the_tool_added_is_of_the_system_and_a_users_command_needs_no_model() -> None:
    found = made(
        item(ItemKind.MESSAGE, USER, "a reminder", injected=True),
        item(ItemKind.NOTE, SYSTEM, "an error"),
        call("c1", USER, {"command": "make"}),
        item(ItemKind.RESULT, TOOL, "made", call="c1"),
        item(ItemKind.RESULT, TOOL, "of a call that is not known", call="c9"),
        item(ItemKind.MESSAGE, MODEL, "Copied", copied=True),
    )
    assert [step["source"] for step in found["steps"]] == ["system", "system", "agent", "system", "agent"]
    assert found["steps"][2]["llm_call_count"] == 0
    assert found["steps"][3]["observation"]["results"] == [{"content": "of a call that is not known"}]
    assert found["steps"][4]["is_copied_context"]
    assert made()["steps"] == [{"step_id": 1, "source": "system", "message": atif.EMPTY}]


def test_a_subagent_is_embedded_and_named_at_its_call() -> None:
    found = made(
        call("c1", stream="agent-1"),
        item(ItemKind.RESULT, TOOL, "seven", call="c1"),
        call("c2", stream="a stream that was not captured"),
        agent=(item(ItemKind.MESSAGE, USER, "Count"), usage("a", 5, 1, cost=0.5)),
    )
    assert [each["trajectory_id"] for each in found["subagent_trajectories"]] == ["agent-1"]
    assert found["steps"][0]["observation"]["results"] == [
        {"content": "seven", "source_call_id": "c1", "subagent_trajectory_ref": [{"trajectory_id": "agent-1"}]}
    ]
    assert "observation" not in found["steps"][1]
    assert found["final_metrics"] == {"total_steps": 2, "total_cost_usd": 0.5}


def test_the_last_state_of_a_response_counts_once() -> None:
    """Neither running totals nor tokens of copied messages are added; the cache is part of the input."""
    found = made(
        item(ItemKind.MESSAGE, MODEL, "One", key="k1"),
        usage("k1", 10, 1),
        usage("k1", 10, 3, cache_read=100, cache_write=1000),
        usage(None, 1, 1),
        item(ItemKind.MESSAGE, USER, "more"),
        usage("k2", 7, 2),
        usage("k2", 9, 9, copied=True),
        usage(None, 999, 999, total=True),
    )
    assert found["final_metrics"] == {
        "total_steps": 3,
        "total_prompt_tokens": 1118,
        "total_completion_tokens": 6,
        "total_cached_tokens": 100,
    }
    assert found["steps"][0]["metrics"] == {
        "prompt_tokens": 1111,
        "completion_tokens": 4,
        "cached_tokens": 100,
        "extra": {"cache_creation_tokens": 1000},
    }
    assert (found["steps"][2]["source"], found["steps"][2]["message"]) == ("agent", "")


def test_text_that_is_no_text_is_replaced() -> None:
    """A lone surrogate in arguments, and a time that no calendar has."""
    surrogate = msgspec.Raw(b'{"text": "\\ud800", "list": ["\\ud800"]}')
    found = made(item(ItemKind.CALL, MODEL, call="c1", arguments=surrogate, time_ms=10**18))
    assert "timestamp" not in found["steps"][0]
    json.dumps(found, ensure_ascii=False).encode()
