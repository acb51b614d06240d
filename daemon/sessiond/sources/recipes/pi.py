"""Restores sessions of Pi: the entries as they were, with the directory of this machine in the header.

`pi --session ID` refuses a session whose directory does not exist. See docs/formats/pi.md.
"""

from __future__ import annotations

import re

from sessiond.sources.plan import ArchivedSession, Command, Plan, PlannedFile, Recipe, Target, with_field

NAME = re.compile(r"[\w.-]+_[0-9a-fA-F-]{36}\.jsonl", re.ASCII)


class PiRecipe(Recipe):
    """Writes the session file below the folder of the project."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        dirs, native_id, main = target.dirs, str(session.record.id), session.stream()
        own = dirs.from_variable("PI_CODING_AGENT_SESSION_DIR")
        base = own or dirs.from_variable("PI_CODING_AGENT_DIR", "/sessions") or f"{dirs.home}/.pi/agent/sessions"
        folder = base if own else f"{base}/--{target.directory.strip('/').replace('/', '-')}--"
        name = session.file_name
        if not (NAME.fullmatch(name) and native_id in name.lower()):
            name = f"{session.record.started_at:%Y-%m-%dT%H-%M-%S}-000Z_{native_id}.jsonl"
        file = PlannedFile(
            path=f"{folder}/{name}", content=with_field(main, "cwd", target.directory), mtime_ms=session.active_ms
        )
        return Plan(
            base=base,
            files=(file,),
            resume=Command(argv=("pi", "--session", native_id), directory=target.directory),
            fork=Command(argv=("pi", "--fork", f"{folder}/{name}"), directory=target.directory),
            programs=("pi",),
        )


RECIPE = PiRecipe()
