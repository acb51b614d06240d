"""Restores sessions of Droid: the transcript with the project's directory of this machine in its first line.

`droid exec --fork ID` continues in a copy; without a copy, `droid exec` wants an account. See docs/formats/droid.md.
"""

from __future__ import annotations

from typing import ClassVar

from sessiond.sources.plan import (
    ArchivedSession,
    Command,
    Plan,
    PlannedFile,
    Recipe,
    Target,
    document,
    first_record,
    last_record,
    with_field,
)


class DroidRecipe(Recipe):
    """Writes the transcript and its settings. A subagent is a session of its own."""

    children: ClassVar[bool] = True

    def is_subagent(self, session: ArchivedSession) -> bool:
        """Return whether the first line has no `parent`, which that of a fork has."""
        return not first_record(session.stream()).get("parent")

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        native_id, main = str(session.record.id), session.stream()
        home = target.dirs.from_variable("FACTORY_HOME_OVERRIDE") or target.dirs.home
        base = f"{home}/.factory/sessions"
        path = f"{base}/{target.directory.rstrip('/').replace('/', '-')}/{native_id}"
        files = list[PlannedFile]()
        for stream in session.streams:
            if stream.name != "settings" or not stream.length:
                continue
            settings = {name: value for name, value in last_record(stream).items() if name != "type"}
            files.append(
                PlannedFile(
                    path=f"{path}.settings.json",
                    content=document(settings),
                    mtime_ms=session.active_ms,
                    transcript=False,
                )
            )
        transcript = with_field(main, "cwd", target.directory)
        files.append(PlannedFile(path=f"{path}.jsonl", content=transcript, mtime_ms=session.active_ms))
        return Plan(
            base=base,
            files=tuple(files),
            resume=Command(argv=("droid", "--resume", native_id), directory=target.directory),
            fork=Command(argv=("droid", "--fork", native_id), directory=target.directory),
            notes=(f"without an account of Factory, continue in a copy: droid exec --fork {native_id} PROMPT",),
            programs=("droid",),
        )


RECIPE = DroidRecipe()
