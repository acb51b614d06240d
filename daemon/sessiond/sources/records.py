"""Helpers for the records of many tools: JSON with damage in it, and messages made of content blocks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import TypeVar

import msgspec

from sessiond.session import Role
from sessiond.sources.damaged import decode_with_other_types, repair, to_utf8

T = TypeVar("T")

UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
"""A tool keeps the case of an id that its user gives it (`claude --session-id`). The session's id has no case."""
ABSENT = msgspec.Raw(b"")
"""The value of a raw field that a record does not have."""
ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
SILENT_BLOCKS = ("tool_result", "thinking", "redacted_thinking")
"""Types of content blocks in Anthropic's API that do not make a message count."""


def parse(decoder: msgspec.json.Decoder[T], record: bytes | memoryview) -> T:
    """Decode a record, also if it is damaged in a way that costs only a field (see damaged.py).

    JavaScript cuts strings in the middle of an emoji and writes the half as a lone surrogate. That is valid JSON, but
    msgspec rejects it even in fields that it skips, so surrogates are replaced by U+FFFD and the record is decoded
    again. So is one with a byte order mark, in UTF-16, or with a field of another type. JSON that is nested too deep
    for the interpreter's stack counts as damaged.
    Raises: msgspec.DecodeError or another ValueError.
    """
    try:
        try:
            return decoder.decode(record)
        except msgspec.ValidationError as error:
            return decode_with_other_types(decoder, bytes(record), error)
        except RecursionError:
            raise
        except ValueError:
            repaired = repair(bytes(record))
            if repaired == record:
                raise
        try:
            return decoder.decode(repaired)
        except msgspec.ValidationError as error:
            return decode_with_other_types(decoder, repaired, error)
    except RecursionError as error:
        raise msgspec.DecodeError("JSON is nested too deep") from error


class _Block(msgspec.Struct, gc=False):
    """A content block of a message, in the shape of the model APIs."""

    type: str = "text"
    text: msgspec.Raw = ABSENT


BLOCKS = msgspec.json.Decoder(list[_Block | str])
_BLANK = re.compile(rb'"(?:\s|\\[nrt])*"|null|\[\s*\]|')


def has_content(
    content: msgspec.Raw, *, silent: Collection[str] = (), injected: re.Pattern[bytes] | None = None
) -> bool:
    """Return whether content (a string or a list of typed blocks) makes a message count (docs/formats/README.md).

    Blocks of a `silent` type (tool results, thinking) do not, nor does blank text, nor text whose JSON source matches
    `injected`: text that the tool wrote in the user's name.
    Raises: msgspec.DecodeError for content that is neither.
    """

    def counts(text: bytes) -> bool:
        return not _BLANK.fullmatch(text[:64]) and not (injected and injected.match(text[:256]))

    source = bytes(content)
    if not source.startswith(b"["):
        return counts(source)
    for block in BLOCKS.decode(source):
        if isinstance(block, str):
            if counts(msgspec.json.encode(block)):
                return True
        elif block.type not in silent and (block.type != "text" or counts(bytes(block.text))):
            return True
    return False


def message_role(
    role: str | None,
    content: msgspec.Raw,
    *,
    silent: Collection[str] = (),
    injected: re.Pattern[bytes] | None = None,
    roles: Mapping[str, Role] = ROLES,
) -> Role | None:
    """Return the role of a message; None if the message does not count, by its role or content (see `has_content`)."""
    found = roles.get(role or "")
    return found if found and has_content(content, silent=silent, injected=injected) else None


def unknown_type(kind: str | None, known: Collection[str]) -> str | None:
    """Return a record type that the source does not know ("?" if the record has none), for `Entry.unknown`."""
    return None if kind in known else kind or "?"


def find_names(pattern: re.Pattern[bytes], part: bytes, record: bytes | memoryview) -> tuple[str, ...]:
    """Return what group 1 of a pattern matches in a record, for `Entry.mentions`: names of side files.

    `part` is contained in every match. To search for it is much faster than the pattern.
    """
    data = to_utf8(bytes(record))
    return tuple({name.decode("utf-8", "replace") for name in pattern.findall(data)}) if part in data else ()


def compact(source: bytes | msgspec.Raw) -> bytes:
    """Reformat JSON on one line, as a record. Raises: msgspec.DecodeError if it is incomplete."""
    return bytes(msgspec.json.format(source, indent=-1))


def digest(text: str | bytes) -> str:
    """Return a short digest of a text, as the key of a message without an id."""
    source = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return blake2b(source, digest_size=8).hexdigest()
