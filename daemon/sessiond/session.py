"""What a session is: the record, the entries it is made of, and the fold from one to the other.

Pure: no file, no clock, no network. Times are unix milliseconds until they reach the record.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from typing import Any

import msgspec
import xxhash

NAMESPACE = uuid.UUID("5f1d7c1e-8a57-5c0e-9d52-6f0d3d0b6a11")
"""Of every id that sessiond derives (UUIDv5). It never changes: a new one would make each session a new one."""

EARLIEST_MS = 1_577_836_800_000  # 2020-01-01: no tool that we read is older; an earlier time is a wrong unit
DAY_MS = 86_400_000
INT32_MAX = 2**31 - 1
LONGEST_PATH = 4096
LONGEST_NAME = 500
"""Characters of a working directory and of any other name: a record of megabytes is no record to an endpoint."""
MOST_NAMES = 100
"""Models and unknown record types that a fold tells apart."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one human-AI collaboration, exactly as its consumers deserialize it."""

    id: uuid.UUID
    tool: str
    tool_version: str | None
    started_at: datetime
    ended_at: datetime | None
    model: str | None
    working_directory: str
    git_branch: str | None
    source_path: str | None
    message_count: int
    machine_id: str | None


class Role(StrEnum):
    """Who said a message that counts."""

    USER = "user"
    ASSISTANT = "assistant"


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one record says. Everything is optional; an entry without anything is a record of no interest.

    `role` marks a message that counts (formats.md 1.4): a prompt by a human or a message by the model in
    the main thread; a `model` without it is one that was chosen and has not said anything yet. `key` is the
    producer's id of that message, the same wherever a copy of it stands; without one, each such record counts as
    a message of its own. `rewind` takes back the message with that key and all after it (all of them where
    the key is unknown). `ended` is a true end marker of the tool;
    any later entry without one reopens the session. `unknown` names a record type that the source
    does not know; `copied` marks a record that a fork or a resume copied from another session. `more` is what
    else the record says, in order: one that replaces the history takes all back and says each message anew.
    does not know; `copied` marks a record that a fork or a resume copied from another session.
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


def session_id(tool: str, native_id: str, scope: str = "") -> uuid.UUID:
    """Name a session: the tool's own UUID where it has one, else a UUIDv5 that is the same for ever.

    `scope` is the machine id for native ids that are unique on one machine only (formats.md 1.1), else "".
    A prefix such as `T-` or `ses_` is not part of a UUID; version bits are not looked at.
    """
    bare = native_id.rsplit("_", 1)[-1].removeprefix("T-")
    if len(bare) == 36:
        try:
            return uuid.UUID(bare)
        except ValueError:
            pass
    return uuid.uuid5(NAMESPACE, f"{tool}\0{scope}\0{native_id}")


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


_PREFIXES = {role: f"{role.value}\0" for role in Role}


def _hash(role: Role, key: str) -> int:
    return xxhash.xxh3_64_intdigest((_PREFIXES[role] + key).encode("utf-8", "surrogatepass"))


class _Known:
    """Which keys a fold has: a set once it is asked often, since making one of a long session costs milliseconds."""

    __slots__ = ("_asked", "_keys", "_set")

    def __init__(self, keys: Sequence[int]) -> None:
        self._keys, self._asked, self._set = keys, 0, set[int]()

    def __contains__(self, key: int) -> bool:
        if self._asked < 4:
            self._asked += 1
            return key in self._keys
        if self._asked == 4:
            self._asked, self._set = 5, set(self._keys)
        return key in self._set

    def add(self, key: int) -> None:
        """Add a key that was appended to the list, too."""
        self._set.add(key)


def _sorts(times: Sequence[str]) -> bool:
    """Tell whether they are all of the shape `2026-04-01T12:00:00.000Z`, which sorts as text does."""
    joined, count = "".join(times), len(times)
    marks = ((4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"), (19, "."), (23, "Z"))
    return len(joined) == 24 * count and all(joined[place::24] == mark * count for place, mark in marks)


class Fold(msgspec.Struct, omit_defaults=True):
    """What the entries of one stream have said so far; kept in the spool with the stream's checkpoint.

    Folding a stream record by record, over any number of restarts, gives the same as folding it whole.
    """

    started_ms: int | None = None
    last_ms: int | None = None
    version: str | None = None
    cwd: str | None = None
    branch: str | None = None
    title: str | None = None
    parent: str | None = None
    ended: bool = False
    copied: bool = False
    messages: list[int] = []
    """Keys of the messages, hashed to 64 bits, in the order of first sight."""
    spoken: list[int] = []
    """For each message the index of its model in `models`; -1 for a prompt or an unknown model."""
    models: list[str] = []
    taken: dict[int, int] = {}
    """The same for messages that were taken back: a history that is said anew often leaves its models out."""
    opening: int | None = None
    """Key of the first assistant message: copies of a session share it even where prompts get new ids."""
    unknown: dict[str, int] = {}
    damaged: int = 0
    """Records that could not be decoded."""
    oversized: int = 0
    """Records too large to be decoded; they are carried all the same."""
    memory: dict[str, Any] = {}
    """What the source needs to remember from one record to the next."""

    def add(self, entries: Iterable[Entry | None], now_ms: int) -> None:
        """Fold entries in, in the order of their records. `now_ms` bounds what is believed to be a time."""
        latest = now_ms + DAY_MS
        known = _Known(self.messages)
        times: list[str] = []
        for entry in entries:
            if entry is None:
                continue
            if entry.time is not None:
                times.append(entry.time)
                self.ended = entry.ended
            elif self._spans(entry.time_ms, latest):
                self.ended = entry.ended
            elif entry.ended:
                self.ended = True
            if entry.version:
                self.version = entry.version[:LONGEST_NAME]
            if self.cwd is None and entry.cwd:
                self.cwd = entry.cwd[:LONGEST_PATH]
            if self.branch is None and entry.branch:
                self.branch = entry.branch[:LONGEST_NAME]
            if entry.title:
                self.title = entry.title[:LONGEST_NAME]
            if self.parent is None and entry.parent:
                self.parent = entry.parent
            if entry.copied:
                self.copied = True
            if entry.unknown:
                name = entry.unknown[:LONGEST_NAME]
                if name in self.unknown or len(self.unknown) < MOST_NAMES:
                    self.unknown[name] = self.unknown.get(name, 0) + 1
            if entry.rewind is not None:
                self._rewind(entry.rewind)
                known = _Known(self.messages)
            if entry.role is not None:
                self._message(entry, entry.role, known)
            elif entry.model:
                self._model(entry.model)
            if entry.more:
                self.add(entry.more, now_ms)
                known = _Known(self.messages)
        self._spans_all(times, latest)

    def _spans(self, time_ms: int | None, latest: int) -> bool:
        """Take in a time, unless it is none or can't be one."""
        if time_ms is None or not EARLIEST_MS <= time_ms <= latest:
            return False
        if self.started_ms is None or time_ms < self.started_ms:
            self.started_ms = time_ms
        if self.last_ms is None or time_ms > self.last_ms:
            self.last_ms = time_ms
        return True

    def _spans_all(self, times: Sequence[str], latest: int) -> None:
        """Take in times of which only the first and the last count: parsing them all costs more than all else here."""
        if not times:
            return
        if _sorts(times):
            ends = [self._spans(parse_time(time), latest) for time in (min(times), max(times))]
            if all(ends):
                return
        for time in times:
            self._spans(parse_time(time), latest)

    def _message(self, entry: Entry, role: Role, known: _Known) -> None:
        key = _hash(role, f"#{len(self.messages)}" if entry.key is None else entry.key)
        model = self.taken.pop(key, -1) if self.taken else -1
        if role is Role.ASSISTANT:
            if self.opening is None and entry.key is not None:
                self.opening = key  # a place in the order is no evidence of a copy: all sessions have a first answer
            if entry.model:
                model = self._model(entry.model)
        if key in known:
            return
        known.add(key)
        self.messages.append(key)
        self.spoken.append(model)

    def _model(self, name: str) -> int:
        """Find a model's index, or give it one; -1 for one too many."""
        name = name[:LONGEST_NAME]
        if name not in self.models:
            if len(self.models) >= MOST_NAMES:
                return -1
            self.models.append(name)
        return self.models.index(name)

    def _rewind(self, to: str) -> None:
        kept = 0
        wanted = {_hash(role, to) for role in Role}
        for index, key in enumerate(self.messages):
            if key in wanted:
                kept = index
                break
        back = zip(self.messages[kept:], self.spoken[kept:], strict=True)
        self.taken.update((key, model) for key, model in back if model >= 0)
        del self.messages[kept:], self.spoken[kept:]


def replayed(mine: Sequence[int], elder: Iterable[int]) -> int:
    """Count the messages at the head of a session that are a copy of its elder's.

    A fork or an old resume copies the history; some give prompts new ids and keep the assistant's. So all
    up to the last message that both have is a copy (formats.md 1.2; fail open: no common one, no copy).
    """
    shared = set(elder)
    for index in range(len(mine) - 1, -1, -1):
        if mine[index] in shared:
            return index + 1
    return 0


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What a record needs beside its folds: where and when it is made."""

    machine_id: str
    now_ms: int
    idle_after_ms: int


def summarize(
    identity: uuid.UUID,
    tool: str,
    threads: Sequence[Fold],
    others: Sequence[Fold],
    *,
    rules: Rules,
    source_path: str | None,
    live: bool = False,
    elders: Sequence[Sequence[int]] = (),
) -> Session | None:
    """Make the record of a session out of its folds; None while nothing in them makes it one.

    `threads` are the folds of the main thread (several where the tool spreads it over files), whose
    messages count once each; `others` (subagents) add to its time only. `elders` are the message
    keys of sessions whose history it may have copied.
    """
    started = min((fold.started_ms for fold in threads if fold.started_ms is not None), default=None)
    if started is None:
        return None
    last = max(fold.last_ms for fold in (*threads, *others) if fold.last_ms is not None)
    # The keys of one fold are distinct already, and with tens of thousands of them that is worth knowing.
    order = threads[0].messages if len(threads) == 1 else list(dict.fromkeys(chain(*(f.messages for f in threads))))
    copied = max((replayed(order, elder) for elder in elders), default=0)
    ended = not live and (any(fold.ended for fold in threads) or rules.now_ms - last >= rules.idle_after_ms)
    return Session(
        id=identity,
        tool=tool,
        tool_version=_first(reversed([fold.version for fold in threads])),
        started_at=_moment(started),
        ended_at=_moment(last) if ended else None,
        model=_primary_model(threads),
        working_directory=_first(fold.cwd for fold in threads) or "",
        git_branch=_first(fold.branch for fold in threads),
        source_path=source_path,
        message_count=min(len(order) - copied, INT32_MAX),
        machine_id=rules.machine_id,
    )


def _primary_model(threads: Sequence[Fold]) -> str | None:
    if len(threads) == 1:
        spoken_by = threads[0].spoken
        counts = {index: spoken_by.count(index) for index in range(len(threads[0].models))}
        most = max(counts.values(), default=0)
        if most:
            # Of several, the one that spoke first, as below.
            return threads[0].models[min((i for i in counts if counts[i] == most), key=spoken_by.index)]
        return _first(threads[0].models)
    spoken = {
        key: fold.models[model]
        for fold in threads
        for key, model in zip(fold.messages, fold.spoken, strict=True)
        if model >= 0
    }
    common = Counter(spoken.values()).most_common(1)
    if common:
        return common[0][0]
    return _first(model for fold in threads for model in fold.models)


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
