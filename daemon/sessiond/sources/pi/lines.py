"""The lines of Pi's session files (field-notes B.2, from session-manager.ts of version 3)."""

from __future__ import annotations

import msgspec

from sessiond.sources.records import NONE

TYPES = (
    "session message model_change thinking_level_change session_info compaction branch_summary custom custom_message"
    " label"
)
KNOWN = frozenset(TYPES.split())
MORE_TYPES = (
    "title title_change mode_change service_tier_change session_init ttsr_injection credential_pin model_usage"
    " reset_boundary"
)
MORE = KNOWN.union(MORE_TYPES.split())
"""Those of oh-my-pi, from session-entries.ts of 18.2."""
OTHER_ROLES = frozenset(["toolResult", "bashExecution", "custom", "hookMessage", "branchSummary", "compactionSummary"])
"""Of messages that neither the user nor the model said."""


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = NONE
    model: str | None = None


class Line(msgspec.Struct, gc=False, rename="camel"):
    """An entry of the tree, or the header before it."""

    type: str = "?"
    id: str | None = None
    parent_id: str | None = None
    timestamp: str | None = None
    cwd: str | None = None
    parent_session: str | None = None
    model_id: str | None = None
    name: str | None = None
    title: str | None = None
    message: _Message | None = None


LINE = msgspec.json.Decoder(Line)
