"""What a request and its response say: formats.md 2.5 message_count."""

from __future__ import annotations

from typing import Any

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.objects import OBJECT, text
from sessiond.sources.records import parse

VERSIONS = frozenset([None, 1, 2, 3])
EMPTY = frozenset(["prepareToolInvocation", "progressMessage", "mcpServersStarting", "undoStop", "thinking"])
"""Parts of a response that are shown while there is none yet; a thought alone is none (formats.md 1.4)."""


def entry_of(record: bytes) -> Entry:
    """Tell what a request and its response say (formats.md 1.4: the final response, not its tool rounds)."""
    said = parse(OBJECT, record)
    if "requestId" not in said:
        version = said.get("version")
        known = not isinstance(version, int | None) or version in VERSIONS
        return Entry(
            time_ms=parse_time(said.get("creationDate") or said.get("timestamp")),
            title=text(said.get("customTitle")),
            unknown=None if known else f"version {version}",
        )
    time_ms, key = parse_time(said.get("timestamp")), str(said["requestId"])
    response, answer = said.get("response"), Entry()
    if isinstance(response, list) and any(map(_says, response)):
        answer = Entry(time_ms=_end(said, time_ms), role=Role.ASSISTANT, key=key, model=text(said.get("modelId")))
    return Entry(time_ms=time_ms, role=Role.USER, key=key, more=(answer,))


def _says(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    kind, value = part.get("kind"), part.get("value")
    return bool(isinstance(value, str) and value.strip()) if kind is None else str(kind) not in EMPTY


def _end(said: dict[str, Any], time_ms: int | None) -> int | None:
    match said.get("result"):
        case {"timings": {"totalElapsed": int() | float() as elapsed}} if time_ms and 0 <= elapsed < 1e9:
            return time_ms + int(elapsed)
    return time_ms
