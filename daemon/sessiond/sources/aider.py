"""Aider: docs/formats/aider.md."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Role, Speaker, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs, Watch
from sessiond.sources.content import note, template
from sessiond.sources.objects import encode
from sessiond.sources.records import digest, parse
from sessiond.sources.tokens import usage
from sessiond.sources.user_dirs import unique_paths

HISTORY = ".aider.chat.history.md"
HEADER = re.compile(rb"^# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", re.MULTILINE)
# Aider ends its own lines, and every line of a prompt, with two spaces; a model's headings and quotes have none.
_PROMPT = r"#### (?:[^/!\n]|/(?:ask|code|architect|context|help)[ \t]+[^ \t\n]).*  "
PROMPT = re.compile(_PROMPT)
"""A prompt, also behind a command that sends it. Other commands begin with a slash or an exclamation mark."""
PROMPTS = re.compile(f"^{_PROMPT}$".encode(), re.MULTILINE)
MODEL = re.compile(r"> (?:Main m|M)odels?: (\S+) (?:with|using) ")
VERSION = re.compile(r"> Aider v(\S+)  ")
TOKENS = re.compile(r"> Tokens: ([\d.]+k?) sent.*?([\d.]+k?) received(?:.*Cost: \$([\d.]+) message)?")
USER, ASSISTANT, COMMAND, AIDER, OUTPUT = "user", "assistant", "command", "aider", "output"
"""Whose a line is. OUTPUT: the text of a command goes on in the next line."""


class _Start(msgspec.Struct):
    """The first record of a session; the others are lines of Markdown, as JSON strings."""

    started: str


class SessionText(msgspec.Struct, frozen=True, kw_only=True):
    """A session in a history: its bytes from `start` to `end`. `body` is what follows the header.

    `started` is empty if it has no header.
    """

    native_id: str
    start: int
    end: int
    started: str
    body: bytes


RECORD = msgspec.json.Decoder(_Start | str)


class Aider(BaseSource):
    """Chat histories: one Markdown file per project, to which each start of Aider appends a header."""

    tool: ClassVar[str] = "aider"
    variables: ClassVar[tuple[str, ...]] = ("AIDER_CHAT_HISTORY_FILE",)
    versions: ClassVar[tuple[str, ...]] = ("0.86.2",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no branch, title or parent is stored, and no time except the start of a session",
        "the prompts in .aider.input.history name no session and are not read",
        "a history file with another name is not found; one in a project is found once another tool was used there",
    )
    local_ids: ClassVar[bool] = True
    landmark: ClassVar[str | None] = HISTORY
    files: ClassVar[re.Pattern[str]] = re.compile(re.escape(HISTORY))
    kind: ClassVar[Kind] = Kind.DOCUMENT

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the home and the directory of AIDER_CHAT_HISTORY_FILE; the landmark finds the projects."""
        named = os.path.dirname(dirs.from_variable("AIDER_CHAT_HISTORY_FILE"))
        for path in unique_paths(named, dirs.home):
            yield Root(path=path, watch=Watch.SCAN, depth=0, cwd=path)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Split the history at its headers. A start without a prompt is no session.

        A session has no id, so it gets one from its start, its number among those of the same second, and its first
        prompt. The path is not part of it: the id stays the same when the project is moved or copied.
        """
        for content in files.values():
            whole = content[: content.rfind(b"\n") + 1]
            for found in find_sessions(whole):
                lines = found.body.decode(errors="replace").split("\n")[:-1]
                start = [_Start(found.started)] if found.started else []
                records = [encode(record) for record in (*start, *lines)]
                yield Projection(native_id=found.native_id, timeless=found.end == len(whole), records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a line. Adjacent prompt lines are one prompt; lines not written by Aider are the model's answer."""
        line = parse(RECORD, record)
        if isinstance(line, _Start):
            return Entry(time_ms=parse_time(line.started, local=True))
        before = memory.get("said")
        said = memory["said"] = _author(line, before, ran=memory.get("ran", False))
        if said in (USER, COMMAND):
            memory["ran"] = said == COMMAND
        if said == AIDER:
            model, version = MODEL.match(line), VERSION.fullmatch(line)
            if model:
                memory["model"] = model[1]
            return Entry(model=model[1] if model else None, version=version[1] if version else None)
        if said == before or said not in (USER, ASSISTANT):
            return None
        return Entry(role=Role.USER) if said == USER else Entry(role=Role.ASSISTANT, model=memory.get("model"))

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a line. Lines of one speaker that follow each other are one message."""
        if not isinstance(record, str):
            return
        said, line = memory.get("said"), record.rstrip()
        base = template(entry, Speaker(said) if said in (USER, ASSISTANT) else Speaker.SYSTEM)
        going_on = replace(base, continues=entry.role is None)
        if said == USER:
            yield replace(going_on, text=f"{line[5:]}\n")
        elif said == ASSISTANT:
            yield replace(going_on, text=f"{record}\n")
        elif said == AIDER and (tokens := TOKENS.match(line)):
            counts = {"input": _tokens(tokens[1]), "output": _tokens(tokens[2])}
            yield from usage(counts, base, cost=float(tokens[3]) if tokens[3] else None)
        elif line:
            yield note(line.removeprefix("> ").removeprefix("#### "), base)


def _author(line: str, before: str | None, *, ran: bool) -> str | None:
    """Return the author of a line, given the author of the line before; None for an empty line.

    `ran`: the last input was a command. Only then does Aider print text of several lines, such as that of `/git log`.
    Its first line begins with "> ", as every line of Aider's; its last line ends with two spaces, as they do.
    """
    ended = line.endswith("  ")
    if before == OUTPUT:
        return AIDER if ended else OUTPUT
    if ended and line.startswith("#### "):
        if before in (USER, COMMAND):
            return before  # its next line
        return USER if PROMPT.fullmatch(line) else COMMAND
    if line.startswith("> ") and (ended or before != ASSISTANT):
        return AIDER if ended or not ran else OUTPUT
    if not line.strip() and before != ASSISTANT:
        return None
    return ASSISTANT


def find_sessions(history: bytes) -> Iterator[SessionText]:
    """Iterate the sessions of a history. A start without a prompt is no session.

    What is before the first header has no start: its header was lost, or cut off by the user.
    """
    headers = list(HEADER.finditer(history))
    chats = [("", 0, 0), *((header[1].decode(), header.start(), header.end() + 1) for header in headers)]
    ends = [*(header.start() for header in headers), len(history)]
    numbers = Counter[str]()
    for (started, start, at), end in zip(chats, ends, strict=True):
        numbers[started] += 1
        body = history[at:end]
        if first := PROMPTS.search(body):
            native_id = f"{started}.{numbers[started]}.{digest(first[0])}"
            yield SessionText(native_id=native_id, start=start, end=end, started=started, body=body)


def _tokens(text: str) -> int:
    """Return a number of tokens as Aider writes it: 582, or 1.2k."""
    return int(float(text.rstrip("k")) * (1000 if text.endswith("k") else 1))


SOURCES = (Aider(),)
