"""Restores sessions of Codex: the rollout as it was. `codex resume ID` adds it to Codex's own index.

The bytes must stay: a fork names a position in its parent's file (`history_base.end_byte_offset`). The picker lists a
restored rollout only after it was resumed by its id once. A subagent is a session of its own. See
docs/formats/codex.md.
"""

from __future__ import annotations

import re
from typing import ClassVar

from sessiond.sources.plan import (
    ArchivedSession,
    Command,
    Plan,
    Recipe,
    Target,
    Unrestorable,
    first_record,
    verbatim,
)

NAME = re.compile(r"rollout-(\d{4})-(\d\d)-(\d\d)T\d\d-\d\d-\d\d-[0-9a-fA-F-]{36}\.jsonl", re.ASCII)


class CodexRecipe(Recipe):
    """Writes the rollout below the day in its name."""

    parents: ClassVar[bool] = True
    children: ClassVar[bool] = True

    def is_subagent(self, session: ArchivedSession) -> bool:
        """Return whether `session_meta` has a subagent as its source."""
        meta = first_record(session.stream()).get("payload")
        source = meta.get("source") if isinstance(meta, dict) else None
        return isinstance(source, dict) and "subagent" in source

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        home = target.dirs.from_variable("CODEX_HOME") or f"{target.dirs.home}/.codex"
        native_id, main = str(session.record.id), session.stream()
        if session.file_name.endswith(".json"):
            raise Unrestorable("the TypeScript version of Codex wrote it, which current versions can't resume")
        name = session.file_name.removesuffix(".zst")
        found = NAME.fullmatch(name)
        if found is None or native_id not in name.lower():
            name = f"rollout-{session.record.started_at:%Y-%m-%dT%H-%M-%S}-{native_id}.jsonl"
            found = NAME.fullmatch(name)
        assert found is not None
        path = f"{home}/sessions/{found[1]}/{found[2]}/{found[3]}/{name}"
        return Plan(
            base=home,
            files=(verbatim(main, path, session.active_ms),),
            resume=Command(argv=("codex", "resume", native_id), directory=target.directory),
            fork=Command(argv=("codex", "fork", native_id), directory=target.directory),
            notes=("Codex's list of sessions shows it after it was resumed by its id once",),
            programs=("codex",),
        )


RECIPE = CodexRecipe()
