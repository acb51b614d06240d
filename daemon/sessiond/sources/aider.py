"""Aider: formats.md 2.13, field-notes B.2 "Aider 0.86.2"."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit, Watch
from sessiond.sources.objects import encode
from sessiond.sources.places import distinct
from sessiond.sources.records import digest_of, parse

HISTORY = ".aider.chat.history.md"
HEADER = re.compile(rb"^# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$", re.MULTILINE)
# What Aider writes ends with two spaces, in a prompt's every line; a model's headings and quotes do not (io.py).
PROMPT = re.compile(r"#### (?!/).*  ")
PROMPTS = re.compile(rb"^#### [^/\n].*  $", re.MULTILINE)
MODEL = re.compile(r"> (?:Main m|M)odel: (\S+)")
VERSION = re.compile(r"> Aider v(\S+)")


class _Start(msgspec.Struct):
    """The first record of a session; all others are lines of Markdown, as JSON strings."""

    started: str


RECORD = msgspec.json.Decoder(_Start | str)


class Aider(BaseSource):
    """Chat histories: one Markdown file a project, appended to, with a header at every start of Aider."""

    tool: ClassVar[str] = "aider"
    versions: ClassVar[tuple[str, ...]] = ("0.86.2",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no branch, title or parent is kept, and no time but the start of a session",
        "a history file of another name is not found; one in a project is, once another tool has worked there",
    )
    local_ids: ClassVar[bool] = True
    landmark: ClassVar[str | None] = HISTORY
    files: ClassVar[re.Pattern[str]] = re.compile(re.escape(HISTORY))
    kind: ClassVar[Kind] = Kind.DOCUMENT

    def roots(self, places: Places) -> Iterable[Root]:
        """Name the home and where AIDER_CHAT_HISTORY_FILE says; the projects are learned, by the landmark."""
        for path in distinct(os.path.dirname(places.given("AIDER_CHAT_HISTORY_FILE")), places.home):
            yield Root(path=path, watch=Watch.SCAN, depth=0, cwd=path)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Split at the headers; a start without a prompt is no session (formats.md 2.13 Traps).

        A session has no id. Its start, its number among those of the same second, and its first prompt name it:
        so it stays the same when the project is moved or copied.
        """
        for content in files.values():
            whole = content[: content.rfind(b"\n") + 1]
            headers = list(HEADER.finditer(whole))
            ends = [header.start() for header in headers[1:]] + [len(whole)]
            same: dict[bytes, int] = {}
            for header, end in zip(headers, ends, strict=True):
                number = same[header[1]] = same.get(header[1], 0) + 1
                body = whole[header.end() + 1 : end]
                if first := PROMPTS.search(body):
                    name = f"{header[1].decode()}.{number}.{digest_of(first[0])}"
                    start = _Start(header[1].decode())
                    lines = body.decode(errors="replace").split("\n")[:-1]
                    records = [encode(record) for record in (start, *lines)]
                    yield Portrait(native_id=name, timeless=end == len(whole), records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what a line says: runs of prompt lines are a prompt, and what is no one else's is the model's answer."""
        line = parse(RECORD, record)
        if isinstance(line, _Start):
            return Entry(time_ms=parse_time(line.started, local=True))
        said = memory.get("said")
        if PROMPT.fullmatch(line):
            memory["said"] = "user"
            return None if said == "user" else Entry(role=Role.USER)
        if line.startswith(("> ", "#### /")) and (line.endswith("  ") or said != "assistant"):
            memory["said"] = None
            model, version = MODEL.match(line), VERSION.match(line)
            if model:
                memory["model"] = model[1]
            return Entry(model=model[1] if model else None, version=version[1] if version else None)
        if not line.strip():
            memory["said"] = said if said == "assistant" else None
            return None
        if said == "assistant":
            return None
        memory["said"] = "assistant"
        return Entry(role=Role.ASSISTANT, model=memory.get("model"))


SOURCES = (Aider(),)
