"""What OpenHands keeps of a conversation as a whole; beside that, its settings and an API key (formats.md 1.8)."""

from __future__ import annotations

import msgspec

from sessiond.sources.objects import encode
from sessiond.sources.records import parse


class _Model(msgspec.Struct):
    model: str | None = None


class _Agent(msgspec.Struct):
    llm: _Model | None = None


class _Workspace(msgspec.Struct):
    working_dir: str | None = None


class _State(msgspec.Struct):
    """base_state.json, or V0's metadata.json."""

    agent: _Agent | None = None
    workspace: _Workspace | None = None
    llm_model: str | None = None
    selected_branch: str | None = None
    title: str | None = None


STATE = msgspec.json.Decoder(_State)


def note_of(content: bytes) -> bytes:
    """Take out of a state the few fields that a record needs, as an event of kind `state`."""
    state = parse(STATE, content)
    model = state.agent.llm.model if state.agent and state.agent.llm else None
    cwd = state.workspace.working_dir if state.workspace else None
    note = {"kind": "state", "model": model or state.llm_model, "cwd": cwd}
    return encode({**note, "branch": state.selected_branch, "title": state.title})
