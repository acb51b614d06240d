"""The fold: what the entries of one stream have said so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec
import xxhash

from sessiond.session.entry import ASSISTANT, EARLIEST_MS, Entry, Role, parse_time
from sessiond.session.messages import NO_MODEL, Messages

DAY_MS = 86_400_000
LONGEST_PATH = 4096
LONGEST_NAME = 500
"""Characters of a working directory and of any other name: a record of megabytes is no record to an endpoint."""
MOST_NAMES = 100
"""Models and unknown record types that a fold tells apart."""

_PREFIXES = {role: f"{role.value}\0".encode() for role in Role}
# A message without a key has its place for a name.
_PLACE = "#{}"


def _hash(role: Role, key: str) -> int:
    return xxhash.xxh3_64_intdigest(_PREFIXES[role] + key.encode("utf-8", "surrogatepass"))


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
    named: str | None = None
    """The native id that the first record which has one names."""
    messages: Messages = msgspec.field(default_factory=Messages)
    """Their keys, hashed, and the indexes of their models in `models`."""
    models: list[str] = []
    retracted_models: dict[int, int] = msgspec.field(default_factory=dict, name="taken")
    """Models of messages that were taken back: a history that is said anew often leaves its models out."""
    first_answer_key: int | None = msgspec.field(default=None, name="opening")
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
            if self.named is None and entry.native_id:
                self.named = entry.native_id[:LONGEST_NAME]
            if entry.unknown:
                name = entry.unknown[:LONGEST_NAME]
                if name in self.unknown or len(self.unknown) < MOST_NAMES:
                    self.unknown[name] = self.unknown.get(name, 0) + 1
            if entry.rewind is not None:
                self._rewind(entry.rewind)
            if entry.role is not None:
                self._message(entry, entry.role)
            elif entry.model:
                self._model(entry.model)
            if entry.more:
                self.add(entry.more, now_ms)
        self._spans_all(times, latest)

    def mark_as_copy_of(self, native_id: str) -> None:
        """Take the stream for a copy of the session that its records name from the start on, if that is another one.

        A file that its user copied has a name of its own, and every line of the original: which of the two is the
        original, nothing else tells.
        """
        if self.named not in (None, native_id):
            self.copied, self.parent = True, self.parent or self.named

    def apply_metadata(self, told: Entry, now_ms: int) -> None:
        """Take in what the tool says of the session as a whole by now; a model that has not spoken gives way to it."""
        if told.model and self.messages.model_indexes.count(NO_MODEL) == len(self.messages):
            self.models = []
        self.add([told], now_ms)

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

    def _message(self, entry: Entry, role: Role) -> None:
        key = _hash(role, _PLACE.format(len(self.messages)) if entry.key is None else entry.key)
        model = self.retracted_models.pop(key, NO_MODEL) if self.retracted_models else NO_MODEL
        if role is ASSISTANT:
            if self.first_answer_key is None and entry.key is not None:
                # A position is no evidence of a copy: every session has a first answer.
                self.first_answer_key = key
            if entry.model:
                model = self._model(entry.model)
        if key not in self.messages:
            self.messages.add(key, model)

    def _model(self, name: str) -> int:
        """Find a model's index, or give it one; NO_MODEL for one too many."""
        name = name[:LONGEST_NAME]
        if name not in self.models:
            if len(self.models) >= MOST_NAMES:
                return NO_MODEL
            self.models.append(name)
        return self.models.index(name)

    def _rewind(self, to: str) -> None:
        found = [at for role in Role if (at := self.messages.find(_hash(role, to))) >= 0]
        back = self.messages.cut(min(found, default=0))
        self.retracted_models.update((key, model) for key, model in back if model != NO_MODEL)


def is_positional(messages: Messages) -> bool:
    """Tell whether messages have no names but their places, which are no evidence of a copy: all sessions have them."""
    return messages.first in {_hash(role, _PLACE.format(0)) for role in Role}


def distinct(threads: Sequence[Messages]) -> list[int]:
    """Name each message of a session's threads once; without a name, it is whichever has its place in another thread.

    So an import that kept no ids and no times counts what came after it, and what it imported only if nothing else has.
    """
    named = [messages for messages in threads if not is_positional(messages)]
    order = dict.fromkeys(chain(*named, *(messages for messages in threads if is_positional(messages))))
    if len(named) < len(threads):
        for place in range(max(map(len, named), default=0)):
            for role in Role:
                order.pop(_hash(role, _PLACE.format(place)), None)
    return list(order)


def copied_prefix_length(mine: Iterable[int], elder: Iterable[int]) -> int:
    """Count the messages at the head of a session that are a copy of its elder's.

    A fork or an old resume copies the history; some give prompts new ids and keep the assistant's. So all
    up to the last message that both have is a copy (fail open: no common one, no copy).
    """
    shared, order = set(elder), list(mine)
    for index in range(len(order) - 1, -1, -1):
        if order[index] in shared:
            return index + 1
    return 0
