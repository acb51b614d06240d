"""Facts about the command lines of Amazon Q and Kiro."""

from __future__ import annotations

import json

import pytest

from sessiond.session import Role
from sessiond.sources.amazon_q import AmazonQ

RESULTS: list[object] = [{"tool_use_id": "t", "content": [], "status": "Error"}]


@pytest.mark.parametrize(
    ("content", "role"),
    [
        ({"Prompt": {"prompt": "Weave"}}, Role.USER),
        ({"ToolUseResults": {"tool_use_results": RESULTS}}, None),
        ({"CancelledToolUses": {"prompt": None, "tool_use_results": RESULTS}}, None),
        ({"CancelledToolUses": {"prompt": "Rather knit", "tool_use_results": RESULTS}}, Role.USER),
    ],
)
def test_a_cancelled_tool_call_may_hold_a_prompt(content: object, role: Role | None) -> None:
    """A cancelled tool call with text is a prompt, though it carries tool results. Without text it is not."""
    exchange = {"user": {"content": content}, "assistant": {"Response": {"message_id": "m", "content": "Ok"}}}
    entry = AmazonQ().decode(json.dumps(exchange).encode(), {})
    assert entry is not None
    assert (entry.role, [more.role for more in entry.more]) == (role, [Role.ASSISTANT])
