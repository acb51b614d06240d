"""Restores documents: JSON objects with the list of a session's messages, which the tool rewrites as a whole.

A document that exists is never replaced by another one. If it has the first messages of the archived session, the rest
is appended to its list, and its other fields stay as the tool has written them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, zip_longest
from typing import Any

import msgspec

from sessiond.sources.plan import ArchivedStream, PlannedEdit, PlannedFile, Target, Unrestorable
from sessiond.sources.records import compact

MASK = 0x2A
"""The asterisk. Masking keeps the length, so a masked secret and the secret are at the same position."""
STEP = 4096
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
LIST = msgspec.json.Decoder(list[msgspec.Raw])


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document to restore: the archived messages, and where they belong."""

    path: str
    field: str
    """The field that has the list of the messages."""
    messages: ArchivedStream
    others: Mapping[str, Any]
    """The other fields of a new document."""
    mtime_ms: int

    def content(self) -> Iterator[bytes]:
        """Iterate a new document, with one message a line."""
        head = msgspec.json.encode({**self.others, self.field: []}).removesuffix(b"]}")
        yield head + b"\n"
        for number, line in enumerate(self.messages.lines()):
            yield (b",\n" if number else b"") + line
        yield b"\n]}\n"

    def plan(self, before: bytes) -> PlannedFile | PlannedEdit:
        """Return the change to this machine. `before` is its document; b"" if it has none.

        If the document has all messages, the plan is a file with the same bytes. If it has other messages, the plan is
        a new document, which the engine refuses to write over it.
        """
        rest = None if not before else self.rest(before)
        if rest:
            return PlannedEdit(path=self.path, change=self.continued, transcript=True)
        content = self.content if rest is None else lambda: iter([before])
        return PlannedFile(path=self.path, content=content, mtime_ms=self.mtime_ms)

    def rest(self, before: bytes) -> list[bytes] | None:
        """Return the messages that a document lacks; None if it is damaged or has other messages."""
        try:
            found = LIST.decode(OBJECT.decode(before)[self.field])
        except (msgspec.MsgspecError, KeyError):
            return None
        lacking = []
        for mine, archived in zip_longest(found, self.messages.lines()):
            if mine is None:
                lacking.append(archived)
            elif archived is None:
                break
            elif not agrees(compact(mine), archived):
                return None
        return lacking

    def continued(self, before: bytes) -> bytes:
        """Return a document with the messages that it lacks. Raises: Unrestorable, the tool has changed it."""
        rest = self.rest(before)
        if rest is None:
            raise Unrestorable(f"{self.path} was changed by another program in the meantime")
        fields = OBJECT.decode(before)
        every = chain(LIST.decode(fields[self.field]), map(msgspec.Raw, rest))
        return msgspec.json.encode(fields | {self.field: msgspec.Raw(joined_list(map(bytes, every)))}) + b"\n"


def planned(documents: Iterable[Document], target: Target) -> tuple[list[PlannedFile], tuple[PlannedEdit, ...]]:
    """Return the files to create, or to find as they are, and the changes of those that lack messages."""
    every = [each.plan(target.read(each.path)) for each in documents]
    edits = tuple(each for each in every if isinstance(each, PlannedEdit))
    return [each for each in every if isinstance(each, PlannedFile)], edits


def joined_list(items: Iterable[bytes]) -> bytes:
    """Return a JSON list of encoded items, one a line."""
    return b"[\n" + b",\n".join(items) + b"\n]"


def agrees(found: bytes, archived: bytes) -> bool:
    """Return whether bytes differ only where the archived ones are masked."""
    if found == archived:
        return True
    if len(found) != len(archived):
        return False
    for start in range(0, len(archived), STEP):
        ours, theirs = found[start : start + STEP], archived[start : start + STEP]
        if ours != theirs and any(b not in (a, MASK) for a, b in zip(ours, theirs, strict=True)):
            return False
    return True
