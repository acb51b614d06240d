"""Results for the lines of a push, the checks of names, and the description of a line in an error."""

from __future__ import annotations

import re
import shlex
import unicodedata
from typing import Any

import msgspec

from sessiond.decoding import json_decoder
from sessiond.endpoint import stream_digest
from sessiond.endpoint.server import digests
from sessiond.endpoint.server.users import DEFAULT_USER
from sessiond.endpoint.wire import Problem, Result
from sessiond.errors import SessiondError

PROBLEMS = {
    "offset-mismatch": "the stream has another length",
    "no-generation": "the endpoint does not have the generation",
    "stale": "a higher revision is stored",
    "too-large": "the item is larger than the limits allow",
    "invalid": "the item is not valid",
    "quota": "the quota has no space for the item",
    "push-full": "the push has more items than are stored at once",
    "machine-taken": "the machine id belongs to another device",
    "forgotten": "the session was erased and is not stored again",
    "expired": "the session is older than the endpoint keeps sessions",
}
"""The titles of the problems of a line, by their type."""
STORED = Result(status="stored")
DUPLICATE = Result(status="duplicate")
MAX_QUOTED = 200
"""Characters of a line's field that an error repeats."""
_SEGMENTS = frozenset({"", ".", ".."})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control, format, surrogate, line separator, paragraph separator."""


class ItemError(SessiondError):
    """The line is answered with a problem. `kind` is one of PROBLEMS."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind

    def result(self, where: str) -> Result:
        """Return the result for the line that `where` describes."""
        return problem(self.kind, f"{where}: {self.message}")


class _LineFields(msgspec.Struct):
    """The fields of a bad line that identify it."""

    op: Any = None
    session: Any = None
    stream: Any = None
    record: Any = None


def problem(kind: str, detail: str | None = None, **known: Any) -> Result:
    """Return the result for a line that was not stored."""
    return Result(status="problem", problem=Problem(type=kind, title=PROBLEMS[kind], detail=detail, **known))


def check_name(name: str, label: str) -> str:
    """Return a machine id or a stream name unchanged if it can be part of a URL.

    Raises:
        ItemError: it has a wrong length, a control character, or an empty, `.` or `..` segment.
    """
    if not 1 <= len(name) <= 200:
        raise ItemError("invalid", f"{label} has {len(name)} characters, not 1 to 200")
    if _CONTROL.search(name):
        raise ItemError("invalid", f"{label} has a control character")
    if not _SEGMENTS.isdisjoint(name.split("/")):
        raise ItemError("invalid", f"{label} has an empty, '.' or '..' segment")
    return name


def check_machine(name: str, label: str) -> str:
    """Return a machine id unchanged if people can distinguish it from others on a screen.

    Raises:
        ItemError: as `check_name`, or it has an invisible character, such as U+202E, which reverses text.
    """
    check_name(name, label)
    if name.isascii():  # without control characters, it has none that is invisible
        return name
    for each in name:
        if unicodedata.category(each) in INVISIBLE:
            raise ItemError("invalid", f"{label} has the invisible character U+{ord(each):04X}")
    return name


def describe(number: int, line: bytes) -> str:
    """Return a description of a line for people: its number, operation, session and stream."""
    try:
        fields = json_decoder(_LineFields).decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return f"line {number}"
    session = fields.session or (fields.record.get("id") if isinstance(fields.record, dict) else None)
    words = [fields.op, "of session" if session else None, session, "stream" if fields.stream else None, fields.stream]
    description = " ".join(str(each)[:MAX_QUOTED] for each in words if each)
    return f"line {number} ({description})" if description else f"line {number}"


def machine_taken(user: str, machine: str) -> Result:
    """Return the result for a line of a machine that belongs to another device of the user."""
    option = "" if user == DEFAULT_USER else f" --user {user}"
    return problem(
        "machine-taken",
        f"another device pushes as {machine}: choose another name for this one with `sessiond config set machine_id"
        f" NAME`, or let it take this one over, on the endpoint: sessiond serve adopt {shlex.quote(machine)}{option}",
    )


def other_state(kind: str, label: str, at: tuple[int, int] | None, reason: str, *, sha256: bool) -> Result:
    """Return the result for a line that assumes another state of a stream than `at`: its generation and length.

    None: nothing is stored. The digest is added later, except for that of no bytes: its SHA-256, or the stream digest.
    """
    if at is None:
        empty = {"sha256": digests.EMPTY} if sha256 else {"after": stream_digest.EMPTY}
        return problem(kind, f"{label}: no bytes of it are stored{reason}", generation=0, offset=0, **empty)
    generation, length = at
    detail = f"{label}: generation {generation} is stored up to byte {length}{reason}"
    return problem(kind, detail, generation=generation, offset=length)
