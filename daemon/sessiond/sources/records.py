"""What records of many tools have in common: JSON with damage in it, and messages made of blocks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import TypeVar

import msgspec

from sessiond.session import Role

T = TypeVar("T")

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NONE = msgspec.Raw(b"")
"""What a raw field is that a record does not have."""
ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
SILENT = ("tool_result", "thinking", "redacted_thinking")
"""Blocks of a message's content, as the API of Anthropic names them, that make no message of it."""

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def parse(decoder: msgspec.json.Decoder[T], record: bytes | memoryview) -> T:
    """Decode a record; one damaged field that nobody asked for does not cost the record.

    JavaScript cuts strings in the middle of an emoji and writes the half as a lone surrogate, which is
    valid JSON and which msgspec refuses even in a field it skips; it is read as U+FFFD. JSON nested deeper than
    the interpreter's stack is damaged like any other.
    Raises: msgspec.DecodeError or another ValueError.
    """
    try:
        return decoder.decode(record)
    except msgspec.ValidationError:
        raise
    except RecursionError as error:
        raise msgspec.DecodeError("JSON is nested too deep") from error
    except ValueError:
        repaired = SURROGATE.sub(rb"\\ufffd", bytes(record))
        if repaired == record:
            raise
        try:
            return decoder.decode(repaired)
        except RecursionError as error:
            raise msgspec.DecodeError("JSON is nested too deep") from error


class _Block(msgspec.Struct, gc=False):
    """A block of a message's content, in the way that the APIs of models write it."""

    type: str = "text"
    text: msgspec.Raw = NONE


BLOCKS = msgspec.json.Decoder(list[_Block | str])
BLANK = re.compile(rb'"(?:\s|\\[nrt])*"|null|\[\s*\]|')


def speaks(content: msgspec.Raw, *, silent: Collection[str] = (), injected: re.Pattern[bytes] | None = None) -> bool:
    """Tell whether a message's content has something that counts: a string, or a list of typed blocks (formats.md 1.4).

    Blocks of a `silent` type (tool results, thinking) do not count, nor does text that is blank or whose JSON
    source `injected` matches: what the tool says in the user's name.
    Raises: msgspec.DecodeError for content that is neither.
    """

    def counts(text: bytes) -> bool:
        return not BLANK.fullmatch(text[:64]) and not (injected and injected.match(text[:256]))

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


def speaker(
    role: str | None,
    content: msgspec.Raw,
    *,
    silent: Collection[str] = (),
    injected: re.Pattern[bytes] | None = None,
    roles: Mapping[str, Role] = ROLES,
) -> Role | None:
    """Tell who said a message; None for one that does not count, by its role or by its content (see `speaks`)."""
    who = roles.get(role or "")
    return who if who and speaks(content, silent=silent, injected=injected) else None


def unheard(kind: str | None, known: Collection[str]) -> str | None:
    """Name a type of record that a source does not know, for `Entry.unknown`; "?" where it has none."""
    return None if kind in known else kind or "?"


def compact(source: bytes | msgspec.Raw) -> bytes:
    """Put a tool's JSON on one line, as a record. Raises: msgspec.DecodeError where it is half there."""
    return bytes(msgspec.json.format(source, indent=-1))


def digest_of(text: str | bytes) -> str:
    """Tell one text from another: the name of a message that the tool gives no name."""
    source = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return blake2b(source, digest_size=8).hexdigest()
