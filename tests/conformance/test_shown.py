"""What `show` prints of every sample is as it was reviewed, and every sample exports to a valid trajectory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import shown

from sessiond.cli.output import to_json
from sessiond.session import ItemKind, Usage
from sessiond.transcript import Thread, atif
from support.each_tool import each_tool
from support.sample_tree import NAMES, SAMPLES

sample = each_tool(NAMES)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@sample
@pytest.mark.usefixtures("utc")
def test_show_prints_what_was_reviewed(name: str) -> None:
    """To update the file, and then to read it: PYTHONPATH=daemon:tests python tests/conformance/shown.py TOOL"""
    text = shown.text(name)
    assert text == (SAMPLES / name / shown.FILE).read_text(encoding="utf-8")


@sample
def test_every_sample_is_a_valid_trajectory(name: str) -> None:
    """By the rules of the format, which Harbor's own validator confirms in the lab."""
    for record, threads, _ in shown.sessions(name):
        made = json.loads("\n".join(atif.lines(record, threads, to_json)))
        embedded = made.get("subagent_trajectories", [])
        names = [each["trajectory_id"] for each in embedded]
        assert len(set(names)) == len(names)
        for each in [made, *embedded]:
            check(each, set(names))


def check(made: dict[str, Any], embedded: set[str]) -> None:
    """Check one trajectory."""
    assert made["schema_version"] == "ATIF-v1.7" and made["agent"]["name"] and made["agent"]["version"]
    assert [step["step_id"] for step in made["steps"]] == list(range(1, len(made["steps"]) + 1)) != []
    calls: set[str] = set()
    for step in made["steps"]:
        assert step["source"] in ("user", "agent", "system") and isinstance(step["message"], str)
        if step["source"] != "agent":
            assert not {"model_name", "reasoning_content", "tool_calls", "metrics"} & step.keys()
        if step.get("llm_call_count") == 0:
            assert not {"metrics", "reasoning_content"} & step.keys()
        if "timestamp" in step:
            assert datetime.fromisoformat(step["timestamp"]).tzinfo
        own = {call["tool_call_id"] for call in step.get("tool_calls", [])}
        assert not own & calls and all(isinstance(call["arguments"], dict) for call in step.get("tool_calls", []))
        calls |= own
        for result in step.get("observation", {}).get("results", []):
            assert result.get("source_call_id", next(iter(own), None)) in own | {None}
            assert {each["trajectory_id"] for each in result.get("subagent_trajectory_ref", [])} <= embedded


@sample
def test_the_tokens_of_a_trajectory_are_those_of_the_tool(name: str) -> None:
    """The last state of each response counts once; where the tool keeps a running total, it is the sum."""
    for record, threads, _ in shown.sessions(name):
        main = [thread for thread in threads if thread.main] or threads
        responses, total = tokens(main)
        totals = json.loads("\n".join(atif.lines(record, threads, to_json)))["final_metrics"]
        found = (totals.get("total_prompt_tokens", 0), totals.get("total_completion_tokens", 0))
        assert found == (sum(map(prompt, responses)), sum(each.output for each in responses))
        assert total is None or found == (prompt(total), total.output)


def tokens(threads: list[Thread]) -> tuple[list[Usage], Usage | None]:
    """Return the usage of each response, and the last running total."""
    by_key: dict[object, Usage] = {}
    total: Usage | None = None
    for thread in threads:
        for item in (placed.item for placed in thread.items):
            if item.kind is not ItemKind.USAGE or item.usage is None or item.copied:
                continue
            if item.usage.total:
                total = item.usage
            else:
                by_key[item.key if item.key is not None else len(by_key)] = item.usage
    return list(by_key.values()), total


def prompt(usage: Usage) -> int:
    """Return the tokens of the input, with those of the cache."""
    return usage.input + usage.cache_read + usage.cache_write


def test_the_endpoint_has_only_the_names_of_streams_and_they_suffice() -> None:
    """Of every sample, what was said in the main thread and what by subagents is the same on another machine."""
    from sessiond.cli.conversation import main_streams

    differ = []
    for name in NAMES:
        for _, threads, _ in shown.sessions(name):
            whole = [each for each in threads if each.name != "prompts"]
            talking = [each for each in whole if any(placed.item.kind is ItemKind.MESSAGE for placed in each.items)]
            called = {placed.item.stream for each in threads if each.main for placed in each.items}
            guessed = main_streams([each.name for each in threads]) - called
            differ += [(name, each.name) for each in talking if each.main != (each.name in guessed)]
    assert differ == UNNAMED


UNNAMED = [
    ("kimi/cli-1.49", "a73cb7f35"),
    ("mistral-vibe/2.26-lines", "explore_20260401_145646_2b295d60"),
    ("oh-my-pi/18.2-fork", "0-Weaver"),
]
"""Subagents whose stream is named like a main thread, and which no call names."""
