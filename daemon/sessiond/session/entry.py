"""What one record says: who said what, and when."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

EARLIEST_MS = 1_577_836_800_000  # 2020-01-01: no tool that we read is older; an earlier time is a wrong unit


class Role(StrEnum):
    """Who said a message that counts."""

    USER = "user"
    ASSISTANT = "assistant"


USER, ASSISTANT = Role.USER, Role.ASSISTANT
"""The same, for what runs once a line: to look a member up in its class takes as long as to decode a short line."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one record says. Everything is optional; an entry without anything is a record of no interest.

    `role` marks a message that counts (docs/formats/README.md): a prompt by a human or a message by the model in
    the main thread; a `model` without it is one that was chosen and has not said anything yet. `key` is the
    producer's id of that message, the same wherever a copy of it stands; without one, each such record counts as
    a message of its own. `rewind` takes back the message with that key and all after it (all of them where
    the key is unknown). `ended` is a true end marker of the tool;
    any later entry without one reopens the session. `unknown` names a record type that the source
    does not know; `copied` marks a record that a fork or a resume copied from another session. `more` is what
    else the record says, in order: one that replaces the history takes all back and says each message anew.
    `time` is the time as the tool wrote it (see `parse_time`), in place of `time_ms`: most records are neither the
    first nor the last, and their text is then never parsed.
    """

    time_ms: int | None = None
    time: str | None = None
    role: Role | None = None
    key: str | None = None
    model: str | None = None
    version: str | None = None
    cwd: str | None = None
    branch: str | None = None
    title: str | None = None
    parent: str | None = None
    native_id: str | None = None
    rewind: str | None = None
    ended: bool = False
    copied: bool = False
    unknown: str | None = None
    more: tuple[Entry, ...] = ()


def parse_time(value: str | float | None, *, local: bool = False) -> int | None:
    """Read a time as unix milliseconds: ISO 8601 text (UTC unless it says), or a number of s, ms, us or ns.

    `local`: text without a zone is of this machine's.

    None for what is not a time, and for one before 2020: a tool that writes seconds where it says
    milliseconds would otherwise start its sessions in 1970.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.astimezone() if local else moment.replace(tzinfo=UTC)
        milliseconds = int(moment.timestamp() * 1000)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < 1e20:
            return None
        milliseconds = int(value * 1000) if value < 1e11 else int(value)
        while milliseconds > 1e14:
            milliseconds //= 1000
    else:
        return None
    return milliseconds if milliseconds >= EARLIEST_MS else None
