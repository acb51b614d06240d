"""A session as a trajectory in ATIF 1.7, the Agent Trajectory Interchange Format of Harbor.

https://www.harborframework.com/docs/agents/trajectory-format describes it; the PyPI package `harbor` has the models and
the validator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sessiond.session import Item, ItemKind, Session, Speaker
from sessiond.transcript import labels
from sessiond.transcript.conversation import Thread, distinct
from sessiond.transcript.steps import Steps
from sessiond.transcript.texts import Texts
from sessiond.transcript.trajectory import (
    Agent,
    FinalMetrics,
    Head,
    Observation,
    Reference,
    Result,
    Step,
    Tail,
    ToolCall,
)

VERSION = "ATIF-v1.7"
UNKNOWN = "unknown"
"""The version of a tool that does not record it. ATIF requires one."""
EMPTY = "(nothing was captured of the conversation)"
"""The message of a trajectory without items. ATIF requires one step."""


def lines(record: Session, threads: Sequence[Thread], encode: Callable[[object], str]) -> Iterator[str]:
    """Iterate the lines of a session as a trajectory: the main thread, each other stream as an embedded trajectory.

    Together they are one JSON object, with a step on each line. `encode` returns a value as JSON. The steps are kept
    in a file where they are many: a later item may belong to an earlier step, and sums come after all steps.

    Raises: OSError.
    """
    agent = Agent(name=record.tool, version=record.tool_version or UNKNOWN, model_name=record.model)
    filled = [thread for thread in threads if thread.items]
    main = [thread for thread in distinct(filled) if thread.main] or filled
    aside = [thread for thread in filled if not thread.main] if any(thread.main for thread in filled) else []
    names = frozenset(thread.name for thread in aside)
    texts = Texts()
    made = _Trajectory(record, str(record.id), agent, main, names, texts)
    embedded = [_Trajectory(record, thread.name, agent, [thread], names - {thread.name}, texts) for thread in aside]
    costs = [each.totals.total_cost_usd for each in [made, *embedded]]
    if any(cost is not None for cost in costs):
        made.totals.total_cost_usd = sum(cost or 0.0 for cost in costs)
    given = {"working_directory": record.working_directory, "git_branch": record.git_branch or ""}
    extra = {name: value for name, value in given.items() if value}
    yield from made.lines(encode, extra)
    for number, each in enumerate(embedded):
        yield "," if number else ',"subagent_trajectories":['
        yield from each.lines(encode, {})
        yield "}"
    yield "]}" if embedded else "}"


class _Trajectory:
    """The steps of one trajectory, and their sums."""

    def __init__(
        self,
        record: Session,
        name: str,
        agent: Agent,
        threads: Iterable[Thread],
        embedded: frozenset[str],
        texts: Texts,
    ) -> None:
        builder = _Builder(embedded, texts)
        for thread in threads:
            for placed in thread.items:
                builder.add(placed.whole)
        self._head = Head(schema_version=VERSION, session_id=str(record.id), trajectory_id=name, agent=agent)
        self._steps = builder.finish()
        self.totals = _totals(self._steps)

    def lines(self, encode: Callable[[object], str], extra: dict[str, str]) -> Iterator[str]:
        """Iterate the lines, without the brace at the end."""
        yield f'{encode(self._head)[:-1]},"steps":['
        last = len(self._steps) - 1
        for number, step in enumerate(self._steps):
            yield encode(step) + ("," if number < last else "")
        yield f"],{encode(Tail(final_metrics=self.totals, extra=extra))[1:-1]}"


class _Builder:
    """Groups items into steps."""

    def __init__(self, embedded: frozenset[str], texts: Texts) -> None:
        """`embedded` are the streams that references may name. `texts` keeps the steps where they are many."""
        self._embedded = embedded
        self._steps = Steps(texts)
        self._calls: dict[int, int] = {}
        """The numbers of the steps of calls, by the hash of the call: the names of many calls would take memory."""
        self._used: dict[int, int] = {}
        """Those of the steps with the tokens of a response, by the hash of its key: its last state counts."""
        self._keys: dict[int, int] = {}
        """Those of the last steps of responses, by the hash of the key."""
        self._key: str | None = None
        """The key of the response that the current step belongs to."""
        self._response: int | None = None
        """The number of the last step of a model."""
        self._without_key = 0

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

    def finish(self) -> Steps:
        """Return the steps with the sums of their tokens."""
        if not len(self._steps):
            self._steps.append(Step(step_id=1, source="system", message=EMPTY))
        return self._steps

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
        last = self._steps.last()
        other = item.key is not None and self._key is not None and item.key != self._key
        usable = last is not None and last.source == "agent" and last.llm_call_count is None
        if last is None or not usable or other or last.observation is not None:
            last = self._open("agent", item)
            self._response = last.step_id
        last.model_name = item.model or last.model_name
        self._key = item.key or self._key
        if item.key is not None:
            self._keys[hash(item.key)] = last.step_id
        return last

    def _add_call(self, item: Item) -> None:
        name = item.call or f"call_{len(self._calls) + 1}"
        if hash(name) in self._calls:  # a later state of the call
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
        self._calls[hash(name)] = step.step_id
        if item.stream in self._embedded:
            _results(step).append(Result(source_call_id=name, subagent_trajectory_ref=_references(item.stream)))

    def _add_result(self, item: Item) -> None:
        number = self._calls.get(hash(item.call or ""))
        made = Result(content=_text(item))
        if item.failed:
            made.extra = {"is_error": True}
        if item.stream in self._embedded:
            made.subagent_trajectory_ref = _references(item.stream)
        if number is None:
            step = self._open("system", item)
        else:
            step = self._steps.change(number)
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
        last = self._steps.last()
        number = self._keys.get(hash(item.key or "")) or self._response
        if number is None or (last is not None and last.source == "user" and hash(item.key) not in self._keys):
            step = self._open("agent", item)  # a response of which only the tokens are known
            step.model_name = item.model
            number = self._response = step.step_id
        name = item.key
        if name is None:
            self._without_key += 1
            name = f"\0{self._without_key}"
        elif (before := self._used.get(hash(name))) not in (None, number):
            del self._steps.usages(before)[name]
        self._used[hash(name)] = number
        self._steps.usages(number)[name] = item.usage


def _results(step: Step) -> list[Result]:
    if step.observation is None:
        step.observation = Observation(results=[])
    return step.observation.results


def _references(stream: str | None) -> list[Reference]:
    return [] if stream is None else [Reference(trajectory_id=stream)]


def _totals(steps: Iterable[Step]) -> FinalMetrics:
    made = FinalMetrics(total_steps=0)
    costs = 0.0
    has_costs = False
    for step in steps:
        made.total_steps += 1
        metrics = step.metrics
        if metrics is None:
            continue
        made.total_prompt_tokens = (made.total_prompt_tokens or 0) + metrics.prompt_tokens
        made.total_completion_tokens = (made.total_completion_tokens or 0) + metrics.completion_tokens
        made.total_cached_tokens = (made.total_cached_tokens or 0) + metrics.cached_tokens
        if metrics.cost_usd is not None:
            costs, has_costs = costs + metrics.cost_usd, True
    made.total_cost_usd = costs if has_costs else None
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
