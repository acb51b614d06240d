"""GitHub Copilot Chat in VS Code and its relatives: formats.md 2.5, field-notes B.3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import (
    BaseSource,
    Kind,
    Memory,
    Places,
    Portrait,
    Root,
    Unit,
    Watch,
    parse,
)
from sessiond.sources.editors import folder_of, user_data

ID = r"([0-9A-Za-z][\w.-]{7,80})"
CHAT = re.compile(rf"(?:([^/\n]+)/chatSessions/)?{ID}\.jsonl?", re.ASCII)
TRANSCRIPT = re.compile(rf"[^/\n]+/GitHub\.copilot-chat/transcripts/{ID}\.jsonl", re.ASCII)
HEAD = ("version", "sessionId", "creationDate", "customTitle", "initialLocation")
VERSIONS = frozenset([None, 1, 2, 3])
EMPTY = frozenset(["prepareToolInvocation", "progressMessage", "mcpServersStarting", "undoStop"])
"""Parts of a response that are shown while there is none yet."""
OBJECT = msgspec.json.Decoder(dict[str, Any])
encode = msgspec.json.Encoder().encode


class CopilotChat(BaseSource):
    """Chats of the editor: a document, or since 2026 the log of what changed in it; both give the same records."""

    tool: ClassVar[str] = "copilot-chat"
    versions: ClassVar[tuple[str, ...]] = ("schema 3",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch are stored; a parent neither: subagents are inside of their session",
        "chats of before chatSessions/, in the editor's database",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the chats of workspaces, of which there may be thousands, and those of windows without a folder."""
        skip = frozenset(["chatEditingSessions", "state", "images"])
        for user in user_data(places):
            yield Root(path=f"{user}/workspaceStorage", watch=Watch.SCAN, depth=3, skip=skip)
            yield Root(path=f"{user}/globalStorage/emptyWindowChatSessions", watch=Watch.FLAT, depth=0)

    def unit(self, relative: str) -> Unit | None:
        """Tell chats; the extension's own transcript of one has the same messages once more, under other ids."""
        if found := TRANSCRIPT.fullmatch(relative):
            return Unit(native_id=found[1], stream="transcript", thread=False)
        if found := CHAT.fullmatch(relative):
            beside = (f"{found[1]}/workspace.json",) if found[1] else ()
            return Unit(kind=Kind.DOCUMENT, native_id=found[2], beside=beside)
        return None

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Take the workspace's folder (formats.md 2.5 working_directory)."""
        return Entry(cwd=next(filter(None, map(folder_of, beside.values())), None))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out a chat as its head, without what changes at each message, and a request with its response a record.

        One without requests is an opened panel, not a session.
        """
        for name, content in files.items():
            chat = _replay(content) if name.endswith(".jsonl") else parse(OBJECT, content)
            requests = chat.get("requests")
            if requests and isinstance(requests, list):
                head = {key: chat[key] for key in HEAD if chat.get(key) is not None}
                yield Portrait(native_id=unit.native_id or "", records=[encode(head), *map(encode, requests)])

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a request and its response say (formats.md 1.4: the final response, not its tool rounds)."""
        said = parse(OBJECT, record)
        if "requestId" not in said:
            version, title = said.get("version"), said.get("customTitle")
            known = not isinstance(version, int | None) or version in VERSIONS
            return Entry(
                time_ms=parse_time(said.get("creationDate") or said.get("timestamp")),
                title=title if isinstance(title, str) else None,
                unknown=None if known else f"version {version}",
            )
        time_ms, key, model = parse_time(said.get("timestamp")), str(said["requestId"]), said.get("modelId")
        response, answer = said.get("response"), Entry()
        if isinstance(response, list) and any(map(_says, response)):
            named = model if isinstance(model, str) else None
            answer = Entry(time_ms=_end(said, time_ms), role=Role.ASSISTANT, key=key, model=named)
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


def _replay(log: bytes) -> dict[str, Any]:
    """Replay a mutation log: 0 the whole, 1 set, 2 push (first cut to `i`), 3 delete (formats.md 2.5).

    The last line may be half there. A damaged one is left out, as is one that fits nowhere.
    """
    root: dict[str, Any] = {}
    for line in log.split(b"\n")[:-1]:
        try:
            change = parse(OBJECT, line)
            if change.get("kind") == 0:
                root = {"": change["v"]}
            else:
                _apply(root, change)
        except (ValueError, LookupError, TypeError):
            continue
    chat = root.get("")
    return chat if isinstance(chat, dict) else {}


def _apply(root: dict[str, Any], change: dict[str, Any]) -> None:
    steps: list[Any] = ["", *list(change["k"])]
    *way, last = steps
    place: Any = root
    for step in way:
        place = place[step]
    match change.get("kind"):
        case 1 if isinstance(place, list) and last == len(place):
            place.append(change.get("v"))
        case 1:
            place[last] = change.get("v")
        case 2:
            if isinstance(place, dict) and not isinstance(place.get(last), list):
                place[last] = []
            if "i" in change:
                del place[last][change["i"] :]
            place[last].extend(change.get("v") or [])
        case 3 if isinstance(place, dict):
            place.pop(last, None)
        case 3:
            del place[last]


SOURCES = (CopilotChat(),)
