"""GitHub Copilot Chat in VS Code and its relatives: docs/formats/copilot-chat.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from msgspec.structs import replace

from sessiond.session import Entry, Item, ItemKind, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs, Watch
from sessiond.sources.content import find, name_of, raw, template, text_of, thought
from sessiond.sources.editors import user_data_dirs, workspace_folder
from sessiond.sources.objects import OBJECT, as_text, encode, get_in
from sessiond.sources.projection import SESSION, session_projection
from sessiond.sources.records import parse
from sessiond.sources.tokens import usage

ID = r"([0-9A-Za-z][\w.-]{7,80})"
CHAT = re.compile(rf"(?:([^/\n]+)/chatSessions/)?{ID}\.jsonl?", re.ASCII)
TRANSCRIPT = re.compile(rf"[^/\n]+/GitHub\.copilot-chat/transcripts/{ID}\.jsonl", re.ASCII)
HEAD = (
    "version",
    "sessionId",
    "creationDate",
    "customTitle",
    "initialLocation",
    "requesterUsername",
    "responderUsername",
    "isImported",
)
KNOWN_VERSIONS = frozenset([None, 1, 2, 3])
NO_ANSWER = frozenset(["prepareToolInvocation", "progressMessage", "mcpServersStarting", "undoStop", "thinking"])
"""Kinds of response parts that are no answer: progress, and thinking alone."""


class CopilotChat(BaseSource):
    """Chats of the editor: a document, or since 2026 a log of its changes. Both give the same records."""

    tool: ClassVar[str] = "copilot-chat"
    versions: ClassVar[tuple[str, ...]] = ("schema 3",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version is stored, and a branch since 2026 only; no parent: subagents are inside of their session",
        "chats from before chatSessions/, in the editor's database (state.vscdb), are not read",
        "a prompt that was not sent yet, and the changes in the working tree when a chat began",
        "chatEditingSessions/ has states of project files and is left out",
    )
    session_like: ClassVar[str] = r"(?:[^/]+/(?:.+/)?(?:chatSessions|transcripts)/)?[^/]+\.jsonl?(?:\.[\w.-]+)?"
    projection_version: ClassVar[int] = 3

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the storage of workspaces (scanned: there may be thousands) and of windows without a folder."""
        skip = frozenset(["chatEditingSessions", "state", "images"])
        for user in user_data_dirs(dirs):
            yield Root(path=f"{user}/workspaceStorage", watch=Watch.SCAN, depth=3, skip=skip)
            yield Root(path=f"{user}/globalStorage/emptyWindowChatSessions", watch=Watch.FLAT, depth=0)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a chat, or of the extension's transcript, which repeats a chat under other message ids."""
        if found := TRANSCRIPT.fullmatch(relative):
            return Unit(native_id=found[1], stream="transcript", thread=False)
        if found := CHAT.fullmatch(relative):
            beside = (f"{found[1]}/workspace.json",) if found[1] else ()
            return Unit(kind=Kind.DOCUMENT, native_id=found[2], beside=beside)
        return None

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return the workspace's folder as the working directory."""
        return Entry(cwd=next(filter(None, map(workspace_folder, beside.values())), None))

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a chat: its constant fields, then each request with its response.

        A chat without requests is an opened panel, not a session.
        """
        for name, content in files.items():
            chat = _replay(content) if name.endswith(".jsonl") else parse(OBJECT, content)
            requests = chat.get("requests")
            if requests and isinstance(requests, list):
                head = {key: chat[key] for key in HEAD if chat.get(key) is not None}
                native_id = unit.native_id or ""
                yield Projection(native_id=native_id, records=[encode(head), *map(encode, requests)])
                if isinstance(repository := chat.get("repoData"), dict):
                    # Without the patches of all files that differ from the last commit.
                    known = {name: value for name, value in repository.items() if name != "diffs"}
                    yield session_projection(native_id, {"repoData": known})

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a request: it counts as a prompt, and its response as an answer once it has content."""
        item = parse(OBJECT, record)
        if item.get("type") == SESSION:
            return Entry(branch=as_text(get_in(item, "repoData", "localBranch")))
        if "requestId" not in item:
            version = item.get("version")
            known = not isinstance(version, int | None) or version in KNOWN_VERSIONS
            return Entry(
                time_ms=parse_time(item.get("creationDate") or item.get("timestamp")),
                title=as_text(item.get("customTitle")),
                unknown=None if known else f"version {version}",
            )
        time_ms, key = parse_time(item.get("timestamp")), str(item["requestId"])
        response, answer = item.get("response"), Entry()
        if isinstance(response, list) and any(map(_is_answer, response)):
            model = as_text(item.get("modelId"))
            answer = Entry(time_ms=_end_time(item, time_ms), role=Role.ASSISTANT, key=key, model=model)
        return Entry(time_ms=time_ms, role=Role.USER, key=key, more=(answer,))

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a request: its prompt, then the parts of its response."""
        if "requestId" not in record:
            return
        prompt, answer = template(entry), template(entry.more[0], Speaker.ASSISTANT)
        yield replace(prompt, text=text_of(find(record, "message.text", "message")))
        for part in record.get("response") or ():
            if isinstance(part, dict):
                yield from _part_items(part, answer)
        spent = {"input": record.get("promptTokens"), "output": record.get("completionTokens")}
        yield from usage(spent, answer)


def _part_items(part: dict[str, Any], answer: Item) -> Iterator[Item]:
    """Iterate the items of a part of a response. A call is stored with the editor's text about it and its result."""
    kind, text = part.get("kind"), text_of(part.get("value"))
    if kind == "toolInvocationSerialized":
        call = name_of(part.get("toolCallId"))
        given = raw(find(part, "toolSpecificData", "invocationMessage"))
        name = name_of(part.get("toolId"))
        yield replace(answer, kind=ItemKind.CALL, call=call, name=name, arguments=given)
        if output := text_of(find(part, "resultDetails.output", "resultDetails", "pastTenseMessage")):
            yield replace(answer, kind=ItemKind.RESULT, speaker=Speaker.TOOL, text=output, call=call, counts=False)
    elif kind == "thinking" and text:
        yield thought(text, answer)
    elif text and kind in (None, "markdownContent"):
        yield replace(answer, text=text)


def _is_answer(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    kind, value = part.get("kind"), part.get("value")
    return bool(isinstance(value, str) and value.strip()) if kind is None else str(kind) not in NO_ANSWER


def _end_time(request: dict[str, Any], time_ms: int | None) -> int | None:
    match request.get("result"):
        case {"timings": {"totalElapsed": int() | float() as elapsed}} if time_ms and 0 <= elapsed < 1e9:
            return time_ms + int(elapsed)
    return time_ms


def _replay(log: bytes) -> dict[str, Any]:
    """Return the chat that a log of changes describes.

    The last line may be incomplete. Damaged lines, and changes of paths that do not exist, are skipped. If the first
    line is damaged, which has the chat as it was, the requests that were added later are left; the file's name has the
    id.
    """
    root: dict[str, Any] = {"": {"requests": []}}
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
    """Apply a change to the value at path `k`: 1 sets it, 2 appends to it (first cut to `i` items), 3 deletes it."""
    *path, last = ["", *list(change["k"])]
    parent: Any = root
    for step in path:
        parent = parent[step]
    match change.get("kind"):
        case 1 if isinstance(parent, list) and last == len(parent):
            parent.append(change.get("v"))
        case 1:
            parent[last] = change.get("v")
        case 2:
            if isinstance(parent, dict) and not isinstance(parent.get(last), list):
                parent[last] = []
            if "i" in change:
                del parent[last][change["i"] :]
            parent[last].extend(change.get("v") or [])
        case 3 if isinstance(parent, dict):
            parent.pop(last, None)
        case 3:
            del parent[last]


SOURCES = (CopilotChat(),)
