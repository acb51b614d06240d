"""The parts of a trajectory in ATIF 1.7 that `atif.py` writes."""

from __future__ import annotations

from typing import Any

import msgspec


class _Part(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A part of a trajectory. Fields with their default are left out."""


class Agent(_Part):
    """The AI coding tool."""

    name: str
    version: str
    model_name: str | None = None


class Metrics(_Part):
    """Tokens of a step. `prompt_tokens` has those that were read from or written to the cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float | None = None
    extra: dict[str, int] = {}


class ToolCall(_Part):
    """A call of a tool."""

    tool_call_id: str
    function_name: str
    arguments: dict[str, Any]


class Reference(_Part):
    """A reference to an embedded trajectory of a subagent."""

    trajectory_id: str


class Result(_Part):
    """The result of a call, or of an action without a call."""

    content: str | None = None
    source_call_id: str | None = None
    subagent_trajectory_ref: list[Reference] = []
    extra: dict[str, bool] = {}


class Observation(_Part):
    """The results of a step."""

    results: list[Result]


class Step(_Part):
    """A step: a message of the user or of the system, or what the agent said and called in one response."""

    step_id: int
    source: str
    message: str
    timestamp: str | None = None
    model_name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] = []
    observation: Observation | None = None
    metrics: Metrics | None = None
    is_copied_context: bool = False
    llm_call_count: int | None = None
    extra: dict[str, str] = {}


class FinalMetrics(_Part):
    """Sums over the steps. The cost includes subagents."""

    total_steps: int
    total_prompt_tokens: int | None = None
    total_completion_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_cost_usd: float | None = None


class Head(_Part):
    """The beginning of a trajectory, before its steps: of a whole session, or of the work of one subagent."""

    schema_version: str
    session_id: str
    trajectory_id: str
    agent: Agent


class Tail(_Part):
    """What follows the steps."""

    final_metrics: FinalMetrics
    extra: dict[str, str] = {}
