"""Answers to the lines of a push, and what names a line in them."""

from __future__ import annotations

import unicodedata
from typing import Any

import msgspec

from sessiond.endpoint.wire import PROBLEMS, Problem, Result
from sessiond.errors import SessiondError

STORED = Result(status="stored")
DUPLICATE = Result(status="duplicate")
MAX_SAID = 200
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control, format, surrogate, line separator, paragraph separator."""


class ItemError(SessiondError):
    """A line is answered with a problem; `kind` is one of PROBLEMS."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind

    def result(self, where: str) -> Result:
        """Make the answer to the line that is named."""
        return problem(self.kind, f"{where}: {self.message}")


class _Named(msgspec.Struct):
    """As much of a bad line as tells which it was."""

    op: Any = None
    session: Any = None
    stream: Any = None
    record: Any = None


def problem(kind: str, detail: str | None = None, **known: Any) -> Result:
    """Make the answer to a line that was not stored."""
    return Result(status="problem", problem=Problem(type=kind, title=PROBLEMS[kind], detail=detail, **known))


def check_name(name: str, what: str) -> str:
    """Return a machine id or a stream name as it is, if it can be a part of an address.

    Raises:
        ItemError: it has a control character, or an empty, `.` or `..` segment.
    """
    if not 1 <= len(name) <= 200:
        raise ItemError("invalid", f"{what} has {len(name)} characters, not 1 to 200")
    if any(ord(each) < 32 or 127 <= ord(each) < 160 for each in name):
        raise ItemError("invalid", f"{what} has a control character")
    if any(segment in {"", ".", ".."} for segment in name.split("/")):
        raise ItemError("invalid", f"{what} has an empty, '.' or '..' segment")
    return name


def check_machine(name: str, what: str) -> str:
    """Return a machine id as it is, if people can tell it from others where it is shown.

    Raises:
        ItemError: as `check_name`, or it has an invisible character, such as one that turns text around (U+202E).
    """
    for each in check_name(name, what):
        if unicodedata.category(each) in INVISIBLE:
            raise ItemError("invalid", f"{what} has the invisible character U+{ord(each):04X}")
    return name


def describe(number: int, line: bytes) -> str:
    """Describe a line for people: its number, and what it seems to be about."""
    try:
        named = msgspec.json.decode(line, type=_Named)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return f"line {number}"
    session = named.session or (named.record.get("id") if isinstance(named.record, dict) else None)
    about = [named.op, "of session" if session else None, session, "stream" if named.stream else None, named.stream]
    said = " ".join(str(each)[:MAX_SAID] for each in about if each)
    return f"line {number} ({said})" if said else f"line {number}"
