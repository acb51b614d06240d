"""A session as a trajectory in ATIF 1.7, the Agent Trajectory Interchange Format of Harbor.

https://www.harborframework.com/docs/agents/trajectory-format describes it; the PyPI package `harbor` has the models and
the validator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sessiond.session import Item, ItemKind, Session, Speaker, Usage
from sessiond.transcript import labels
from sessiond.transcript.conversation import Thread, distinct
from sessiond.transcript.trajectory import (
    Agent,
    FinalMetrics,
    Metrics,
    Observation,
    Reference,
    Result,
    Step,
    ToolCall,
    Trajectory,
)

VERSION = "ATIF-v1.7"
UNKNOWN = "unknown"
"""The version of a tool that does not record it. ATIF requires one."""
EMPTY = "(nothing was captured of the conversation)"
"""The message of a trajectory without items. ATIF requires one step."""


def trajectory(record: Session, threads: Sequence[Thread]) -> Trajectory:
    """Return a session as a trajectory: the main thread, with each other stream as an embedded trajectory."""
    agent = Agent(name=record.tool, version=record.tool_version or UNKNOWN, model_name=record.model)
    filled = [thread for thread in threads if thread.items]
    main = [thread for thread in distinct(filled) if thread.main] or filled
    aside = [thread for thread in filled if not thread.main] if any(thread.main for thread in filled) else []
    names = frozenset(thread.name for thread in aside)
    embedded = [_trajectory(record, thread.name, agent, [thread], names - {thread.name}) for thread in aside]
    made = _trajectory(record, str(record.id), agent, main, names)
    costs = [each.final_metrics.total_cost_usd for each in [made, *embedded]]
    if any(cost is not None for cost in costs):
        made.final_metrics.total_cost_usd = sum(cost or 0.0 for cost in costs)
    made.subagent_trajectories = embedded
    given = {"working_directory": record.working_directory, "git_branch": record.git_branch or ""}
    made.extra = {name: value for name, value in given.items() if value}
    return made


def _trajectory(
    record: Session, name: str, agent: Agent, threads: Iterable[Thread], embedded: frozenset[str]
) -> Trajectory:
    builder = _Builder(embedded)
    for thread in threads:
        for placed in thread.items:
            builder.add(placed.whole)
    steps = builder.finish()
    return Trajectory(
        schema_version=VERSION,
        session_id=str(record.id),
        trajectory_id=name,
        agent=agent,
        steps=steps,
        final_metrics=_totals(steps),
    )


class _Builder:
    """Groups items into steps."""

    def __init__(self, embedded: frozenset[str]) -> None:
        """`embedded` are the streams that references may name."""
        self._embedded = embedded
        self._steps: list[Step] = []
        self._calls: dict[str, Step] = {}
        self._usage: dict[object, tuple[Step, Usage]] = {}
        """By the key of the response: its last state replaces the earlier ones."""
        self._keys: dict[str, Step] = {}
        self._key: str | None = None
        """The key of the response that the current step belongs to."""

    def add(self, item: Item) -> None:
        """Add an item to the current step, or begin a new one."""
        if item.kind is ItemKind.USAGE:
            self._add_usage(item)
        elif item.kind is ItemKind.RESULT:
            self._add_result(item)
        elif item.kind is ItemKind.CALL:
            self._add_call(item)
        elif item.speaker is Speaker.ASSISTANT and item.kind in (ItemKind.MESSAGE, ItemKind.THOUGHT):
            step = self._agent(item)
            if item.kind is ItemKind.THOUGHT:
                step.reasoning_content = "\n".join(filter(None, (step.reasoning_content, item.text))) or None
            else:
                step.message = "\n".join(filter(None, (step.message, _text(item))))
        elif _text(item):
            user = item.speaker is Speaker.USER and item.kind is ItemKind.MESSAGE and not item.injected
            step = self._open("user" if user else "system", item)
            step.message = _text(item)
            if item.kind is not ItemKind.MESSAGE:
                step.extra = {"kind": item.kind.value}

    def finish(self) -> list[Step]:
        """Return the steps with the sums of their tokens."""
        by_step: dict[int, list[Usage]] = {}
        for step, usage in self._usage.values():
            by_step.setdefault(step.step_id, []).append(usage)
        for step in self._steps:
            if step.step_id in by_step:
                step.metrics = _metrics(by_step[step.step_id])
        return self._steps or [Step(step_id=1, source="system", message=EMPTY)]

    def _open(self, source: str, item: Item) -> Step:
        step = Step(
            step_id=len(self._steps) + 1,
            source=source,
            message="",
            timestamp=_time(item),
            is_copied_context=item.copied,
        )
        self._steps.append(step)
        self._key = None
        return step

    def _agent(self, item: Item) -> Step:
        """Return the step of the response that an item belongs to: one without a result yet, and with the same key."""
        last = self._steps[-1] if self._steps else None
        other = item.key is not None and self._key is not None and item.key != self._key
        usable = last is not None and last.source == "agent" and last.llm_call_count is None
        if last is None or not usable or other or last.observation is not None:
            last = self._open("agent", item)
        last.model_name = item.model or last.model_name
        self._key = item.key or self._key
        if item.key is not None:
            self._keys[item.key] = last
        return last

    def _add_call(self, item: Item) -> None:
        name = item.call or f"call_{len(self._calls) + 1}"
        if name in self._calls:  # a later state of the call
            return
        if item.speaker is Speaker.USER:  # a command that the user ran: no model was asked
            step = self._open("agent", item)
            step.llm_call_count = 0
        else:
            step = self._agent(item)
        given = _clean(labels.arguments(item))
        arguments = given if isinstance(given, dict) else {"input": given}
        called = ToolCall(tool_call_id=name, function_name=item.name or "tool", arguments=arguments)
        step.tool_calls = [*step.tool_calls, called]
        self._calls[name] = step
        if item.stream in self._embedded:
            _results(step).append(Result(source_call_id=name, subagent_trajectory_ref=_references(item.stream)))

    def _add_result(self, item: Item) -> None:
        step = self._calls.get(item.call or "")
        made = Result(content=_text(item))
        if item.failed:
            made.extra = {"is_error": True}
        if item.stream in self._embedded:
            made.subagent_trajectory_ref = _references(item.stream)
        if step is None:
            step = self._open("system", item)
        else:
            made.source_call_id = item.call
            earlier = next((each for each in _results(step) if each.source_call_id == item.call), None)
            if earlier is not None and earlier.content is None:  # only the reference to the subagent so far
                earlier.content, earlier.extra = made.content, made.extra
                return
        _results(step).append(made)

    def _add_usage(self, item: Item) -> None:
        # Tokens of copied messages belong to the session that they were copied from.
        if item.usage is None or item.usage.total or item.copied:
            return
        last = self._steps[-1] if self._steps else None
        agents = (step for step in reversed(self._steps) if step.source == "agent" and step.llm_call_count is None)
        step = self._keys.get(item.key or "") or next(agents, None)
        if step is None or (last is not None and last.source == "user" and item.key not in self._keys):
            step = self._open("agent", item)  # a response of which only the tokens are known
            step.model_name = item.model
        self._usage[item.key if item.key is not None else len(self._usage)] = step, item.usage


def _results(step: Step) -> list[Result]:
    if step.observation is None:
        step.observation = Observation(results=[])
    return step.observation.results


def _references(stream: str | None) -> list[Reference]:
    return [] if stream is None else [Reference(trajectory_id=stream)]


def _metrics(usages: Sequence[Usage]) -> Metrics:
    written, reasoning = sum(each.cache_write for each in usages), sum(each.reasoning for each in usages)
    given = {"cache_creation_tokens": written, "reasoning_tokens": reasoning}
    costs = [each.cost for each in usages if each.cost is not None]
    return Metrics(
        prompt_tokens=sum(each.input + each.cache_read + each.cache_write for each in usages),
        completion_tokens=sum(each.output for each in usages),
        cached_tokens=sum(each.cache_read for each in usages),
        cost_usd=sum(costs) if costs else None,
        extra={name: count for name, count in given.items() if count},
    )


def _totals(steps: Sequence[Step]) -> FinalMetrics:
    found = [step.metrics for step in steps if step.metrics is not None]
    made = FinalMetrics(total_steps=len(steps))
    if found:
        made.total_prompt_tokens = sum(each.prompt_tokens for each in found)
        made.total_completion_tokens = sum(each.completion_tokens for each in found)
        made.total_cached_tokens = sum(each.cached_tokens for each in found)
        costs = [each.cost_usd for each in found if each.cost_usd is not None]
        made.total_cost_usd = sum(costs) if costs else None
    return made


def _text(item: Item) -> str:
    return "\n".join(filter(None, (item.text, labels.media(item))))


def _time(item: Item) -> str | None:
    try:
        moment = None if item.time_ms is None else datetime.fromtimestamp(item.time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a time that a damaged record made up
        return None
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _clean(value: Any) -> Any:
    """Return a value of JSON without lone surrogates, which are not text."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(name): _clean(each) for name, each in value.items()}
    return [_clean(each) for each in value] if isinstance(value, list) else value
