"""Decodes what is left of damaged records: another encoding, a field of another type, several records on one line.

The tools read such files themselves, so their sessions go on after the damage. The transcript keeps the bytes as they
are; only what is decoded from them is repaired.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from sessiond.errors import ReadError
from sessiond.session import Entry
from sessiond.sources.memory import Memory

T = TypeVar("T")


DAMAGED = (
    msgspec.MsgspecError,
    ValueError,
    RecursionError,
    # A database cell may have any type, whatever its column says. Catching these too keeps rule 9 for all sources.
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
)
"""The errors that a source may raise for a damaged record."""


def unread_reason(error: Exception) -> str:
    """Return why something was not read, given a ReadError or one of DAMAGED."""
    return str(error) if isinstance(error, ReadError) else f"it can't be parsed: {error}"


MOST_REPAIRS = 8
"""Fields of a record that are replaced. Each needs the record to be decoded again."""
MOST_STARTS = 64
"""Places in a line where a record may begin. Each is decoded up to the damage."""
LONGEST_LINE = 16 << 20
"""Bytes of a line that is searched for records. A longer one counts as damaged."""

_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_FIELD = re.compile(r"Expected `([^`]+)`, got `\w+` - at `\$((?:\.[\w$-]+|\[\d+\])+)`")
_STEP = re.compile(r"\.([\w$-]+)|\[(\d+)\]")
_MESSAGE = re.compile(rb'"(?:message|messages|content|text|prompt|parts?|role)"\s*:\s*["{\[]')
_STRUCTURE = re.compile(rb'[ "\\,:{}\[\].!?]')
_FILLER = re.compile("[ \t\r\n\0\ufeff]*")
_FIRST_KEY = re.compile(r'\{\s*"[^"\\]*"\s*:')
_START = r'(?<![:,\[])(?<![:,\[] )\{"'
"""The beginning of an object that is no value of another one."""
_JSON = json.JSONDecoder()


def to_utf8(text: bytes) -> bytes:
    """Return a record or a document without its byte order mark, decoded from UTF-16 if it is in that encoding.

    Editors on Windows and redirected output of PowerShell write both. A line of UTF-16 was cut at the byte 0x0A, and
    the other byte of that newline is at an end of a line.
    """
    for mark, encoding in _MARKS.items():
        if text.startswith(mark):
            return _recode(text[len(mark) :], encoding)
    return _line_of_utf_16(text) if text.startswith(b"\0{\0") else text


def _line_of_utf_16(text: bytes) -> bytes:
    """Return a line of UTF-16 without a byte order mark, decoded in the byte order that fits its content.

    In little-endian order, its first byte belongs to the newline before it. In big-endian order, its last byte belongs
    to its own newline. Both orders decode ASCII. In the wrong order, a letter that needs both bytes replaces the
    character beside it, mostly a space, a quote, or the end of a sentence.
    """
    readings = [_recode(text[1:], "utf-16-le"), _recode(text, "utf-16-be")]
    return max(readings, key=lambda each: (_is_json(each), len(_STRUCTURE.findall(each))))


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except DAMAGED:
        return False
    return True


def _recode(text: bytes, encoding: str) -> bytes:
    if encoding == "utf-8":
        return text
    return text[: len(text) & ~1].decode(encoding, "replace").encode("utf-8", "replace")


def repair(record: bytes) -> bytes:
    """Return a record in UTF-8, with U+FFFD for each escaped surrogate."""
    return _SURROGATE.sub(rb"\\ufffd", to_utf8(record))


def decode_with_other_types(decoder: msgspec.json.Decoder[T], record: bytes, error: msgspec.ValidationError) -> T:
    """Decode a record in which fields have another type than expected: their values are converted or left out.

    A time may be a number in one version and a text in another. `error` is what `decoder` raised for the record.
    Raises: `error` if no single field is the cause; msgspec.DecodeError.
    """
    record = repair(record)
    document = msgspec.json.decode(record)
    for _ in range(MOST_REPAIRS):
        if not _replace_field(document, str(error)):
            break
        try:
            return decoder.decode(msgspec.json.encode(document))
        except msgspec.ValidationError as following:
            error = following
    raise error


def _replace_field(document: Any, message: str) -> bool:
    """Replace the value that msgspec's message names; return whether it was found.

    In a list, the same field of all elements is replaced: a version that writes another type does so in each of them.
    """
    found = _FIELD.search(message)
    if not found:
        return False
    steps = [name or int(index) for name, index in _STEP.findall(found[2])]
    expected, value = found[1].split(" | "), document
    try:
        for step in steps:
            value = value[step]
        _replace_all(document, steps, type(value), expected)
    except (LookupError, TypeError):
        return False
    return True


def _replace_all(document: Any, steps: list[str | int], kind: type, expected: list[str]) -> None:
    """Convert the values of a type at a path, where an index stands for all elements of its list."""
    first, *rest = steps
    for key in range(len(document)) if isinstance(first, int) else [first]:
        if rest:
            with suppress(LookupError, TypeError):  # another element may lack the field
                _replace_all(document[key], rest, kind, expected)
        elif type(document[key]) is kind:
            document[key] = _convert(document[key], expected)


def _convert(value: Any, expected: list[str]) -> Any:
    """Return a value as one of the expected types, where that is possible without a guess; None otherwise."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if "str" in expected and number:
        return str(value)
    if isinstance(value, str) and {"int", "float"} & set(expected):
        try:
            return float(value) if "float" in expected else int(value)
        except ValueError:
            return None
    return None


def recover(decode: Callable[[bytes, Memory], Entry | None], line: bytes, memory: Memory) -> tuple[list[Entry], bool]:
    """Decode what is left of a damaged line by a source: its entries, and whether nothing of it was lost."""
    records, complete = split_records(line)
    entries: list[Entry] = []
    for record in records:
        try:
            entry = decode(record, memory)
        except DAMAGED:
            complete = False
        else:
            entries += [entry] if entry is not None else []
    return entries, complete


def decode_all(decode: Callable[[bytes, Memory], Entry | None], line: bytes, memory: Memory) -> list[Entry]:
    """Return the entries of a line: mostly one, none of an empty line, what is left of a damaged one."""
    if not line:
        return []
    try:
        entry = decode(line, memory)
    except DAMAGED:
        return recover(decode, line, memory)[0]
    return [entry] if entry is not None else []


def may_hold_message(record: bytes) -> bool:
    """Return whether a record of an unknown type may hold a message. Only then may messages have been missed."""
    return _MESSAGE.search(to_utf8(bytes(record))) is not None


def split_records(line: bytes) -> tuple[list[bytes], bool]:
    """Return the JSON objects on a line, and whether they are all of it.

    A crash leaves a record without its newline, or its beginning, and the next record follows on the same line. A full
    disk or a power cut leaves NUL bytes. An object inside of a truncated record is none of its own: only one that is
    followed by another object or the end of the line counts.
    """
    if len(line) > LONGEST_LINE:
        return [], False
    text = to_utf8(line).decode("utf-8", "surrogateescape")
    records: list[bytes] = []
    lost, starts = False, MOST_STARTS
    first = position = _skip_filler(text, 0)
    # A record may also have been cut right before a value. Then the next one begins like the line does.
    key = _FIRST_KEY.match(text, first)
    start = re.compile(f"{_START}|{re.escape(key[0])}" if key else _START)
    while position < len(text) and starts:
        end = _object_end(text, position)
        if end is not None and (position == first or _is_last(text, end)):
            records.append(text[position:end].encode("utf-8", "surrogateescape"))
            position = _skip_filler(text, end)
        else:
            lost = True
            starts -= 1
            following = start.search(text, position + 1)
            position = following.start() if following else len(text)
    return records, not lost and position == len(text)


def _skip_filler(text: str, position: int) -> int:
    found = _FILLER.match(text, position)
    return found.end() if found else position


def _object_end(text: str, start: int) -> int | None:
    """Return the offset after the JSON object at `start`; None if there is none."""
    if not text.startswith("{", start):
        return None
    try:
        return _JSON.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None


def _is_last(text: str, end: int) -> bool:
    """Return whether another object or the end of the line follows: then the one before `end` is no inner one."""
    following = _skip_filler(text, end)
    return following == len(text) or text[following] == "{"
