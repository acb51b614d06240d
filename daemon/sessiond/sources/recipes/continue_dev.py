"""Restores sessions of Continue: the document as before, with the directory here, and its entry in the index.

`cn --fork ID` continues in a copy. `cn ls` continues the session itself, but takes no id; `cn --resume` opens the
newest file. See docs/formats/continue.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sessiond.sources.documents import Document, planned
from sessiond.sources.plan import (
    ArchivedSession,
    Command,
    Plan,
    PlannedEdit,
    Recipe,
    Target,
    Unrestorable,
    last_record,
)


class ContinueRecipe(Recipe):
    """Writes the document, one item of the history a line, and adds the session to `sessions.json`."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        dirs, native_id = target.dirs, str(session.record.id)
        home = dirs.from_variable("CONTINUE_GLOBAL_DIR") or f"{dirs.home}/.continue"
        folder = f"{home}/sessions"
        index = f"{folder}/sessions.json"
        fields = {"sessionId": native_id, "title": session.title or "Untitled Session", **_fields(session)}
        fields |= {"sessionId": native_id, "workspaceDirectory": target.directory}
        entry = {
            "sessionId": native_id,
            "title": fields["title"],
            "dateCreated": str(int(session.record.started_at.timestamp() * 1000)),
            "workspaceDirectory": target.directory,
            "messageCount": session.record.message_count,
        }
        history = Document(
            path=f"{folder}/{native_id}.json",
            field="history",
            messages=session.stream(),
            others=fields,
            mtime_ms=session.active_ms,
        )
        files, continued = planned([history], target)
        before = target.read(index)
        known = any(each.get("sessionId") == native_id for each in _index(before))
        edit = PlannedEdit(path=index, change=lambda content: _with_entry(content, entry))
        command = Command(argv=("cn", "--fork", native_id), directory=target.directory)
        return Plan(
            base=home,
            files=tuple(files),
            edits=continued if known else (*continued, edit),
            resume=command,
            fork=command,
            notes=("this continues it in a copy with a new id; `cn ls` lists it to continue it without a copy",),
            programs=("cn",),
        )


def _fields(session: ArchivedSession) -> dict[str, Any]:
    """Return the other fields of the document: its mode, its model and its use of tokens. Raises: Unrestorable."""
    stream = next((each for each in session.streams if each.name == "session" and each.has_records), None)
    if stream is None or not stream.length:
        return {}
    return {name: value for name, value in last_record(stream).items() if name != "history"}


def _index(content: bytes) -> list[dict[str, Any]]:
    """Return the entries of the index. Raises: Unrestorable."""
    try:
        return msgspec.json.decode(content or b"[]", type=list[dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise Unrestorable("Continue's sessions.json is damaged, so the session can't be added to it") from error


def _with_entry(content: bytes, entry: dict[str, Any]) -> bytes:
    entries = [*_index(content), entry]
    return msgspec.json.format(msgspec.json.encode(entries), indent=2)


RECIPE = ContinueRecipe()
