"""Gemini CLI: formats.md 2.7, field-notes A.4."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Places, Portrait, Root, Unit
from sessiond.sources.gemini.messages import LINE, entry_of
from sessiond.sources.objects import encode
from sessiond.sources.records import UUID, compact, parse

FILE = re.compile(rf"([^/]+)/chats/(?:(session-[\w-]+)\.(jsonl|json)|({UUID})/([\w-]+)\.jsonl)", re.ASCII)
# Of an old document, what stays; `lastUpdated` repeats the last message's time and would be news at each change.
HEADER = ("sessionId", "projectHash", "startTime", "kind", "directories")
VOLATILE = ("messages", "lastUpdated")
DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
LIST = msgspec.json.Decoder(list[msgspec.Raw])
TEXT = msgspec.json.Decoder(str)


class GeminiCli(BaseSource):
    """Chats of Gemini CLI: operations since 0.39, before that a document that is written anew at each change."""

    tool: ClassVar[str] = "gemini-cli"
    versions: ClassVar[tuple[str, ...]] = ("0.25.0", "0.61.0")
    gaps: ClassVar[tuple[str, ...]] = (
        "no version and no branch is stored",
        "logs.json and checkpoints of before 0.0.77: they have prompts only",
    )

    def roots(self, places: Places) -> Iterable[Root]:
        """Name `tmp` of ~/.gemini, and of GEMINI_CLI_HOME, which replaces the home (`utils/paths.ts`)."""
        for home in places.homes("GEMINI_CLI_HOME", places.home):
            yield Root(path=f"{home}/.gemini/tmp", depth=3, skip=frozenset(["tool-outputs", "memory", "logs", "bin"]))

    def unit(self, relative: str) -> Unit | None:
        """Tell chats and subagents' chats from activity logs, checkpoints and what was set aside as unreadable.

        A session may have four files: a hash directory and its slug, a document and its operations, a decoy
        (field-notes A.1.5, A.1.6). Each name is a stream; which session's, only the content says.
        """
        found = FILE.fullmatch(relative)
        if not found:
            return None
        project, stem, suffix, parent, child = found.groups()
        beside = (f"{project}/.project_root",)
        if parent:
            own = child if re.fullmatch(UUID, child) else f"{parent}/{child}"
            return Unit(native_id=own, parent=parent, beside=beside)
        if suffix == "json":
            return Unit(kind=Kind.DOCUMENT, stream=f"{stem}.json", beside=beside)
        return Unit(stream=stem, beside=beside)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Read the working directory, which the chats themselves do not say (formats.md 2.7 working_directory)."""
        return next((Entry(cwd=text.decode().strip()) for text in beside.values()), None)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay a document out as operations: header, messages, and what else it says."""
        for content in files.values():
            document = parse(DOCUMENT, content)
            messages = LIST.decode(document.get("messages", b"[]"))
            rest = {key: value for key, value in document.items() if key not in (*HEADER, *VOLATILE)}
            records = [
                encode({key: document[key] for key in HEADER if key in document}),
                *map(bytes, messages),
                *([encode({"$set": rest})] if rest else []),
            ]
            if "sessionId" in document:  # one without must not stop its siblings (formats.md 1.5)
                native_id = TEXT.decode(document["sessionId"])
                yield Portrait(native_id=native_id, stream=unit.stream, records=map(compact, records))

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Tell what an operation does; `$set.messages` and `$rewindTo` take messages back (field-notes A.4 Format)."""
        line = parse(LINE, record)
        if line.set:
            said = line.set.messages
            return Entry(
                time_ms=parse_time(line.set.last_updated),
                title=line.set.summary,
                rewind=None if said is None else "",
                more=tuple(map(entry_of, said or ())),
            )
        if line.session_id:
            cwd = line.directories[0] if line.directories else None
            return Entry(time_ms=parse_time(line.start_time), native_id=line.session_id, cwd=cwd)
        if line.to is not None:
            return Entry(rewind=line.to)
        return entry_of(line) if line.type else Entry(unknown="?")
