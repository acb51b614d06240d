"""Entries: the facts in one record of a transcript."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

EARLIEST_MS = 1_577_836_800_000  # 2020-01-01: no supported tool is older, so an earlier time has a wrong unit


class Role(StrEnum):
    """The author of a message that counts."""

    USER = "user"
    ASSISTANT = "assistant"


USER, ASSISTANT = Role.USER, Role.ASSISTANT
"""The members, for code that runs once per line: the attribute lookup takes as long as decoding a short line."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts in one record. All are optional; an entry without any is a record of no interest.

    - `role` marks a message that counts (docs/formats/README.md): a prompt by a human, or a message by the model in
      the main thread. A `model` without `role` was selected but has not answered yet.
    - `key` is the tool's id of the message, the same in every copy of it. Without a key, each record counts as a
      message of its own.
    - `rewind` retracts the message with that key and all later ones, or all messages if the key is unknown.
    - `ended` is a true end marker of the tool. Any later entry without it reopens the session.
    - `unknown` is a record type that the source does not know.
    - `mentions` are names of side files that belong to the session, where their paths don't say so.
    - `copied` marks a record that a fork or a resume copied from another session.
    - `more` are further entries of the same record, in order. A record that replaces the history retracts all messages
      and repeats them here.
    - `time` is the time as the tool wrote it (see `parse_time`), instead of `time_ms`. Only the first and the last time
      of a session count, so most texts are never parsed.
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
    mentions: tuple[str, ...] = ()
    more: tuple[Entry, ...] = ()


def parse_time(value: str | float | None, *, local: bool = False) -> int | None:
    """Return a time in unix milliseconds, from ISO 8601 text (UTC by default) or a number of s, ms, us or ns.

    `local`: text without a zone is in this machine's zone.

    Returns None for a value that is not a time, and for times before 2020: a tool that writes seconds instead of
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
