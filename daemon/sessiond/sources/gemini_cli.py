"""Gemini CLI: docs/formats/gemini-cli.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Retention, Root, SideFiles, Unit, UserDirs
from sessiond.sources.content import blocks, call, find, name_of, note, result, template, text_of, thought
from sessiond.sources.objects import encode, get_in
from sessiond.sources.prompts import prompt_entry, prompt_item
from sessiond.sources.records import ABSENT, UUID, compact, parse, unknown_type
from sessiond.sources.tokens import usage
from sessiond.sources.user_dirs import read_settings

LOGS = re.compile(r"([^/]+)/logs\.json")
DIGITS = re.compile(r"-[0-9a-f]{8}")
FILE = re.compile(rf"([^/]+)/chats/(?:(session-[\w-]+)\.(jsonl|json)|({UUID})/([\w-]+)\.jsonl)", re.ASCII)
RETENTION_DAYS = 30
"""The default of `general.sessionRetention.maxAge`."""
MAX_AGE = re.compile(r"([0-9]{1,6})([hdwm])")
HOURS = {"h": 1, "d": 24, "w": 7 * 24, "m": 30 * 24}
# The constant fields of a document. `lastUpdated` repeats the last message's time and would change all the time.
HEADER = ("sessionId", "projectHash", "startTime", "kind", "directories")
VOLATILE = ("messages", "lastUpdated")
KNOWN = frozenset(["", "user", "gemini", "qwen", "info", "error", "warning"])  # "" is the header
ANSWERS = ("gemini", "qwen")
# Text that Gemini CLI writes in the user's name, and commands to the CLI itself.
INJECTED = ("/", "?", "<session_context>", "<hook_context>")


class Part(msgspec.Struct, gc=False, rename="camel"):
    """A part of a message's content. A thought is marked; a tool's response does not count."""

    text: str | None = None
    thought: bool | None = None
    function_response: msgspec.Raw = ABSENT


class _Message(msgspec.Struct, gc=False, rename="camel"):
    id: str | None = None
    timestamp: str | None = None
    type: str = ""
    content: msgspec.Raw = ABSENT
    model: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Set(msgspec.Struct, gc=False, rename="camel"):
    """The fields of a `$set` operation."""

    last_updated: str | None = None
    summary: str | None = None
    messages: list[_Message] | None = None


class _Prompt(msgspec.Struct, rename="camel"):
    """An element of `logs.json`."""

    session_id: str | None = None
    timestamp: str | None = None
    message: str = ""


class _Line(_Message, rename={"session_id": "sessionId", "start_time": "startTime", "set": "$set", "to": "$rewindTo"}):
    """A line: the header, a message, or an operation on the messages before it."""

    session_id: str | None = None
    start_time: str | None = None
    directories: list[str] = []
    tool_calls: list[msgspec.Raw] | None = msgspec.field(default=None, name="toolCalls")
    set: _Set | None = None
    to: str | None = None
    log: _Prompt | None = None


LINE = msgspec.json.Decoder(_Line)
CONTENT = msgspec.json.Decoder(str | Part | list[str | Part] | None)
DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
LIST = msgspec.json.Decoder(list[msgspec.Raw])
TEXT = msgspec.json.Decoder(str)


class GeminiCli(BaseSource):
    """Chats of Gemini CLI: a log of operations since 0.39, before that a document rewritten at each change."""

    tool: ClassVar[str] = "gemini-cli"
    variables: ClassVar[tuple[str, ...]] = ("GEMINI_CLI_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("0.25.0", "0.61.0")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored",
        "copies of a chat are not read: checkpoint-*.json (/chat save), checkpoints/ (before a file was changed), and"
        " *.jsonl.unreadable-*, which the tool could not read itself; logs/ has the log of the program",
        "logs.json is captured of chats without a transcript only; checkpoints from before 0.0.77 are not read",
        "pasted images name no session",
        ".project_root has the path of the project and nothing else",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"[^/]+/checkpoints/.+",)
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(rf"[^/]+/tool-outputs/session-(?P<id>{UUID})/(?P<name>.+)", "full outputs", "tool-outputs/"),
        SideFiles(rf"[^/]+/(?P<id>{UUID})/(?P<name>.+)", "plans"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return `.gemini/tmp` of the home, and of GEMINI_CLI_HOME, which replaces the home."""
        for home in dirs.with_override("GEMINI_CLI_HOME", dirs.home):
            yield Root(path=f"{home}/.gemini/tmp", depth=3, skip=frozenset(["memory", "logs", "bin"]))

    def retention(self, dirs: UserDirs) -> Retention | None:
        """Return `general.sessionRetention.maxAge` of the settings; None if retention is switched off."""
        home = dirs.from_variable("GEMINI_CLI_HOME") or dirs.home
        general = read_settings(f"{home}/.gemini/settings.json").get("general")
        retention = general.get("sessionRetention") if isinstance(general, dict) else None
        if not isinstance(retention, dict):
            retention = {}
        if retention.get("enabled") is False:
            return None
        age = MAX_AGE.fullmatch(str(retention.get("maxAge")))
        days = max(1, int(age[1]) * HOURS[age[2]] // 24) if age else RETENTION_DAYS
        hint = 'to have it keep them itself: "general": {"sessionRetention": {"enabled": false}} in '
        return Retention(days=days, hint=f"{hint}~/.gemini/settings.json")

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a chat or a subagent's chat; activity logs and checkpoints have other names.

        A session may have four files: below a hash and below a name, a document and a log, and a decoy. Each file name
        is a stream; only the content has the session's id.
        """
        if logs := LOGS.fullmatch(relative):
            return Unit(kind=Kind.HISTORY, projected=True, beside=(f"{logs[1]}/.project_root",))
        found = FILE.fullmatch(relative)
        if not found:
            return None
        project, stem, suffix, parent, child = found.groups()
        beside = (f"{project}/.project_root",)
        if parent:
            own = child if re.fullmatch(UUID, child) else f"{parent}/{child}"
            return Unit(native_id=own, parent=parent, beside=beside)
        prefix = stem[-8:] if DIGITS.fullmatch(stem[-9:]) else None
        if suffix == "json":
            return Unit(kind=Kind.DOCUMENT, stream=f"{stem}.json", beside=beside, id_prefix=prefix)
        return Unit(stream=stem, beside=beside, id_prefix=prefix)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return the working directory, which a chat does not contain."""
        return next((Entry(cwd=text.decode().strip()) for text in beside.values()), None)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project a document to a log: the header, the messages, and a `$set` of the other fields.

        Of `logs.json`, each prompt is a record.
        """
        for content in files.values():
            if unit.kind is Kind.HISTORY:
                records = [b'{"log":%b}' % each for each in parse(LIST, content)]
                yield Projection(native_id="", records=map(compact, records))
                continue
            document = parse(DOCUMENT, content)
            messages = LIST.decode(document.get("messages", b"[]"))
            rest = {key: value for key, value in document.items() if key not in (*HEADER, *VOLATILE)}
            records = [
                encode({key: document[key] for key in HEADER if key in document}),
                *map(bytes, messages),
                *([encode({"$set": rest})] if rest else []),
            ]
            if "sessionId" in document:
                native_id = TEXT.decode(document["sessionId"])
            elif messages:
                native_id = unit.stream.removesuffix(".json")  # the file's name, which is unique in its project
            else:
                continue
            yield Projection(native_id=native_id, stream=unit.stream, records=map(compact, records))

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an operation. `$set.messages` replaces all messages; `$rewindTo` removes one and all after it."""
        line = parse(LINE, record)
        if line.set:
            replaced = line.set.messages
            return Entry(
                time_ms=parse_time(line.set.last_updated),
                title=line.set.summary,
                rewind=None if replaced is None else "",
                more=tuple(map(_decode_message, replaced or ())),
            )
        if line.session_id or (line.start_time and not line.type):
            cwd = line.directories[0] if line.directories else None
            return Entry(time_ms=parse_time(line.start_time), native_id=line.session_id, cwd=cwd)
        if line.to is not None:
            return Entry(rewind=line.to)
        if line.log is not None:
            prompt = line.log
            return prompt_entry(prompt.message, prompt.session_id, prompt.timestamp, memory)
        return _decode_message(line) if line.type else Entry(unknown="?")

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of an operation. A message is written again, as a whole, when its state changes."""
        messages = get_in(record, "$set", "messages")
        if "log" in record:
            yield prompt_item(text_of(get_in(record, "log", "message")), entry)
        elif isinstance(messages, list):
            for message, each in zip(messages, entry.more, strict=True):
                yield from message_items(message, each)
        elif record.get("type"):
            yield from message_items(record, entry)


def message_items(message: Any, entry: Entry) -> Iterator[Item]:
    """Iterate the items of a message; the first one replaces the message's earlier state."""
    speaker = Speaker.USER if message.get("type") == "user" else Speaker.ASSISTANT
    base = template(entry, speaker)
    if message.get("type") in ("info", "error", "warning"):
        yield note(text_of(message.get("content")), base)
        return
    for number, item in enumerate(_message_items(message, base)):
        yield item if number else replace(item, replaces=True)


def _message_items(message: dict[str, Any], base: Item) -> Iterator[Item]:
    for each in message.get("thoughts") or ():
        yield thought(text_of(find(each, "description", "subject")), base)
    injected = base.speaker is Speaker.USER and not base.counts
    yield from blocks(message.get("content"), replace(base, injected=injected))
    for each in message.get("toolCalls") or ():
        made = replace(call(each, base), name=name_of(each.get("name")), stream=name_of(each.get("agentId")))
        yield made
        if output := text_of(find(each, "resultDisplay", "result")):
            failure = each.get("status") == "error"
            yield replace(result({"content": output}, base), call=made.call, failed=failure)
    yield from usage(message.get("tokens"), base, cached_in_input=True)


def _decode_message(message: _Message) -> Entry:
    """Decode a message. It is written again under the same id when a tool's result arrives, so the id is its key."""
    role = None
    if message.type == "user" and _is_prompt(message.content):
        role = Role.USER
    elif message.type in ANSWERS and (message.tool_calls or _parts(message.content)):
        role = Role.ASSISTANT
    return Entry(
        time_ms=parse_time(message.timestamp),
        role=role,
        key=message.id,
        model=message.model if message.type in ANSWERS else None,
        unknown=unknown_type(message.type, KNOWN),
    )


def _parts(content: msgspec.Raw) -> list[Part]:
    """Return the parts of content: a string, a part, or (since 0.25) a list of both."""
    found = parse(CONTENT, bytes(content)) if content else None
    parts = found if isinstance(found, list) else [found]
    return [Part(text=part) if isinstance(part, str) else part for part in parts if part]


def _is_prompt(content: msgspec.Raw) -> bool:
    """Return whether a human said this to the model."""
    parts = _parts(content)
    if not parts or any(part.function_response for part in parts):
        return False
    text = "".join(part.text or "" for part in parts).lstrip()
    return not text.startswith(INJECTED) and bool(text or any(part.text is None for part in parts))


SOURCES = (GeminiCli(),)
