"""Restores sessions of the GitHub Copilot CLI: the events as they were, and `workspace.yaml`, which has the name.

Without `workspace.yaml`, Copilot makes it and takes the next prompt for the session's name. See
docs/formats/copilot-cli.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from sessiond.sources.plan import (
    ArchivedSession,
    Command,
    Plan,
    PlannedFile,
    Recipe,
    Target,
    Unrestorable,
    below,
    verbatim,
)

NATIVE_ID = re.compile(r"[0-9A-Za-z][\w.-]{7,80}", re.ASCII)
COPIED = ("branch", "client_name", "user_named", "summary")
"""Fields of workspace.yaml that the archive has and that stay as they are."""


class CopilotCliRecipe(Recipe):
    """Writes the events, workspace.yaml and the side files into the folder of the session."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        dirs, main = target.dirs, session.stream()
        home = dirs.from_variable("COPILOT_HOME") or dirs.from_variable("XDG_STATE_HOME", "/.copilot")
        home = home or f"{dirs.home}/.copilot"
        workspace = _workspace(session)
        native_id = workspace.get("id") or str(session.record.id)
        if not NATIVE_ID.fullmatch(native_id):
            raise Unrestorable("its workspace.yaml has no valid id")
        folder = f"{home}/session-state/{native_id}"
        side_files = [stream for stream in session.streams if not stream.has_records]
        about = PlannedFile(
            path=f"{folder}/workspace.yaml",
            content=lambda: _yaml(workspace, native_id, session, target),
            mtime_ms=session.active_ms,
            transcript=False,
        )
        return Plan(
            base=home,
            files=(
                *(verbatim(stream, below(folder, stream.name), session.active_ms) for stream in side_files),
                about,
                verbatim(main, f"{folder}/events.jsonl", session.active_ms),
            ),
            resume=Command(argv=("copilot", f"--resume={native_id}"), directory=target.directory),
            programs=("copilot",),
        )


def _workspace(session: ArchivedSession) -> dict[str, str]:
    """Return the fields of workspace.yaml that the archive has."""
    for stream in session.streams:
        if stream.name == "workspace" and stream.has_records:
            try:
                return msgspec.json.decode(next(iter(stream.lines()), b"{}"), type=dict[str, str])
            except msgspec.MsgspecError:
                return {}
    return {}


def _yaml(workspace: dict[str, str], native_id: str, session: ArchivedSession, target: Target) -> Iterator[bytes]:
    """Iterate the lines of workspace.yaml. A string in JSON is one in YAML, too."""
    created = session.record.started_at.astimezone(UTC)
    updated = datetime.fromtimestamp(session.active_ms / 1000, UTC)
    name = workspace.get("name") or session.title or "Restored session"
    fields = {"id": native_id, "cwd": target.directory, "name": name}
    fields |= {key: workspace[key] for key in COPIED if workspace.get(key)}
    fields |= {"created_at": f"{created:%Y-%m-%dT%H:%M:%S}.000Z", "updated_at": f"{updated:%Y-%m-%dT%H:%M:%S}.000Z"}
    for key, value in fields.items():
        plain = value in ("true", "false") or key in ("id", "created_at", "updated_at")
        yield f"{key}: ".encode() + (value.encode() if plain else msgspec.json.encode(value)) + b"\n"


RECIPE = CopilotCliRecipe()
