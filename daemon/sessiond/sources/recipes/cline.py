"""Restores sessions of Cline's command line: the manifest, and a document for the messages of each agent.

`cline -i --id ID` continues a session by its folder. Tasks of the editor extension are in the editor's own index, which
only the editor writes. See docs/formats/cline.md.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from sessiond.sources.cline import ENDED
from sessiond.sources.documents import Document, planned
from sessiond.sources.plan import (
    ArchivedSession,
    ArchivedStream,
    Command,
    Plan,
    PlannedFile,
    Recipe,
    Target,
    Unrestorable,
    below,
    document,
    verbatim,
)

NATIVE_ID = re.compile(r"\d+(?:_\w+)?", re.ASCII)
AGENT = re.compile(r"agent_\w+", re.ASCII)
MESSAGES = ".messages.json"


class ClineRecipe(Recipe):
    """Writes the folder of the session. A subagent is a stream of its session."""

    threads: ClassVar[tuple[str, ...]] = ("main", "sdk")

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        manifest = _manifest(session)
        native_id, when = str(manifest["session_id"]), session.active_ms
        base = target.dirs.from_variable("CLINE_SESSION_DATA_DIR") or f"{_data(target)}/sessions"
        folder = f"{base}/{native_id}"
        path = f"{folder}/{native_id}{MESSAGES}"
        main = session.stream("main" if "_" in native_id else "sdk")
        agents = [each for each in session.streams if each.has_records and AGENT.fullmatch(each.name)]
        documents = [_messages(each, f"{folder}/{each.name}{MESSAGES}", native_id, session) for each in agents]
        documents.append(_messages(main, path, native_id, session))
        files, edits = planned(documents, target)
        sides = [each for each in session.streams if not each.has_records]
        about = document(_moved(manifest, target.directory, path))
        return Plan(
            base=base,
            files=(
                *(verbatim(each, below(folder, each.name), when) for each in sides),
                *files,
                PlannedFile(path=f"{folder}/{native_id}.json", content=about, mtime_ms=when, transcript=False),
            ),
            edits=edits,
            resume=Command(argv=("cline", "-i", "--id", native_id), directory=target.directory),
            notes=("older paths in the session still name the directory of the other machine",),
            native_id=native_id,
            programs=("cline",),
        )


def _data(target: Target) -> str:
    """Return the directory of Cline's data."""
    dirs = target.dirs
    return (
        dirs.from_variable("CLINE_DATA_DIR") or dirs.from_variable("CLINE_DIR", "/data") or f"{dirs.home}/.cline/data"
    )


def _manifest(session: ArchivedSession) -> dict[str, Any]:
    """Return the manifest. Raises: Unrestorable for a task of the extension, which has none."""
    stream = next((each for each in session.streams if each.name == "session" and each.has_records), None)
    if stream is None or not stream.length:
        raise Unrestorable("only sessions of Cline's command line can be restored, not tasks of its editor extension")
    try:
        manifest = msgspec.json.decode(next(stream.lines()), type=dict[str, Any]).get("manifest")
    except msgspec.MsgspecError as error:
        raise Unrestorable("its manifest is damaged") from error
    if not isinstance(manifest, dict) or not NATIVE_ID.fullmatch(str(manifest.get("session_id"))):
        raise Unrestorable("its manifest has no valid id")
    return manifest


def _moved(manifest: dict[str, Any], directory: str, messages_path: str) -> dict[str, Any]:
    """Return a manifest with the directories of this machine, of a session that no process has open."""
    moved = {**manifest, "cwd": directory, "workspace_root": directory, "messages_path": messages_path}
    return moved if moved.get("status") in ENDED else moved | {"status": "completed"}


def _messages(stream: ArchivedStream, path: str, native_id: str, session: ArchivedSession) -> Document:
    """Return the document with the messages of an agent. Its system prompt is built again by Cline."""
    at = datetime.fromtimestamp(session.active_ms / 1000, UTC).isoformat(timespec="milliseconds")
    others = {
        "version": 1,
        "updated_at": at.replace("+00:00", "Z"),
        "agent": "lead" if path.endswith(f"/{native_id}{MESSAGES}") else stream.name,
        "sessionId": native_id,
    }
    return Document(path=path, field="messages", messages=stream, others=others, mtime_ms=session.active_ms)


RECIPE = ClineRecipe()
