"""Restores sessions of OpenCode by its own `import`, which sets project and directory. See docs/formats/opencode.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

import msgspec

from sessiond.sources.plan import (
    IMPORT_FILE,
    ArchivedSession,
    ArchivedStream,
    Command,
    Plan,
    PlannedImport,
    Recipe,
    Target,
    Unrestorable,
    first_record,
)

MAIN = ("main", "json")
"""Names of the transcript: of a database, and of files."""
NATIVE_ID = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)
"""It becomes an argument of a command, so it must not look like an option."""


class OpenCodeRecipe(Recipe):
    """Builds the document of `opencode export` from the rows of the session."""

    children: ClassVar[bool] = True
    program: ClassVar[str] = "opencode"

    def is_subagent(self, session: ArchivedSession) -> bool:
        """Return whether the session has `parentID`, which a fork has not."""
        return any(first_record(each).get("parentID") for each in session.streams if each.name in MAIN)

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        main = next((each for each in session.streams if each.name in MAIN and each.has_records), None)
        if main is None:
            raise Unrestorable("the archive has no transcript of this session")
        native_id = first_record(main).get("id")
        if not isinstance(native_id, str) or not NATIVE_ID.fullmatch(native_id):
            raise Unrestorable("its first record has no valid id")
        command = Command(argv=(self.program, "import", IMPORT_FILE), directory=target.directory)
        resume = (self.program, "--session", native_id)
        return Plan(
            base=f"{target.dirs.share}/{self.program}",
            imports=(PlannedImport(command=command, content=lambda: _document(main, session, target)),),
            resume=Command(argv=resume, directory=target.directory),
            fork=Command(argv=(*resume, "--fork"), directory=target.directory),
        )


def _document(stream: ArchivedStream, session: ArchivedSession, target: Target) -> Iterator[bytes]:
    """Iterate the bytes of the document: the session, then each message with its parts.

    A part belongs to the last message before it, so one message is in memory at a time.
    """
    info = first_record(stream)
    times = info.get("time")
    times = times if isinstance(times, dict) else {}
    info["title"] = session.title or "Restored session"
    info["directory"] = target.directory
    info["time"] = {"created": times.get("created"), "updated": session.active_ms, **times}
    yield b'{"info":' + msgspec.json.encode(info) + b',"messages":['
    count = 0
    message, parts = b"", list[bytes]()
    for line in _records(stream):
        record = msgspec.json.decode(line)
        if isinstance(record, dict) and "messageID" in record:
            parts.append(line)
            continue
        if message:
            yield _message(message, parts, count)
            count += 1
        message, parts = line, []
    if message:
        yield _message(message, parts, count)
    yield b"]}"


def _records(stream: ArchivedStream) -> Iterator[bytes]:
    """Iterate the messages and parts that can be parsed."""
    lines = iter(stream.lines())
    next(lines, None)
    for line in lines:
        try:
            record = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(record, dict) and record.get("type") != "session" and ("messageID" in record or "id" in record):
            yield line


def _message(message: bytes, parts: list[bytes], number: int) -> bytes:
    comma = b"," if number else b""
    return comma + b'{"info":' + message + b',"parts":[' + b",".join(parts) + b"]}"


RECIPE = OpenCodeRecipe()
