"""The fold: the accumulated facts of all entries of one stream."""

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
"""Characters of a working directory, and of any other name: an endpoint rejects records of megabytes."""
MOST_NAMES = 100
"""How many models and unknown record types a fold distinguishes."""

_PREFIXES = {role: f"{role.value}\0".encode() for role in Role}
# The key of a message without one is its position.
_POSITION = "#{}"


def _hash(role: Role, key: str) -> int:
    return xxhash.xxh3_64_intdigest(_PREFIXES[role] + key.encode("utf-8", "surrogatepass"))


def _sorts(times: Sequence[str]) -> bool:
    """Return whether all times have the form `2026-04-01T12:00:00.000Z`, whose order is that of text."""
    joined, count = "".join(times), len(times)
    marks = ((4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"), (19, "."), (23, "Z"))
    return len(joined) == 24 * count and all(joined[position::24] == mark * count for position, mark in marks)


class Fold(msgspec.Struct, omit_defaults=True):
    """The accumulated facts of one stream, stored in the spool with the stream's checkpoint.

    Folding a stream record by record, over any number of restarts, gives the same result as folding it at once. The
    names under which some attributes are stored are older than the attributes' names.
    """

    started_ms: int | None = None
    last_ms: int | None = None
    version: str | None = None
    cwd: str | None = None
    branch: str | None = None
    title: str | None = None
    prompt: str | None = None
    """The first prompt: the name of a session without a title. It is masked and shortened before it is stored."""
    parent: str | None = None
    ended: bool = False
    copied: bool = False
    named: str | None = None
    """The native id in the first record that has one."""
    messages: Messages = msgspec.field(default_factory=Messages)
    """The hashed keys of the messages, and the index of each one's model in `models`."""
    models: list[str] = []
    retracted_models: dict[int, int] = msgspec.field(default_factory=dict, name="taken")
    """Models of retracted messages, by key: a history that is repeated often lacks its models."""
    first_answer_key: int | None = msgspec.field(default=None, name="opening")
    """Key of the first assistant message. Copies of a session share it, even if prompts get new ids."""
    unknown: dict[str, int] = {}
    damaged: int = 0
    """Records that could not be decoded."""
    oversized: int = 0
    """Records that were too large to decode. They are captured and pushed all the same."""
    memory: dict[str, Any] = {}
    """State that the source needs from one record to the next."""

    def add(self, entries: Iterable[Entry | None], now_ms: int) -> None:
        """Add entries in the order of their records. Times more than a day after `now_ms` are ignored."""
        latest = now_ms + DAY_MS
        times: list[str] = []
        for entry in entries:
            if entry is None:
                continue
            if entry.time is not None:
                times.append(entry.time)
                self.ended = entry.ended
            elif self._extend_span(entry.time_ms, latest):
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
        self._extend_span_all(times, latest)

    def mark_as_copy_of(self, native_id: str) -> None:
        """Mark the stream as a copy if its records name another session than `native_id`.

        A file that a user copied has a name of its own, but every line of the original. Nothing else shows which of
        the two is the original.
        """
        if self.named not in (None, native_id):
            self.copied, self.parent = True, self.parent or self.named

    def apply_metadata(self, metadata: Entry, now_ms: int) -> None:
        """Apply session-level metadata. It replaces a model that was selected but never used."""
        if metadata.model and self.messages.model_indexes.count(NO_MODEL) == len(self.messages):
            self.models = []
        self.add([metadata], now_ms)

    def _extend_span(self, time_ms: int | None, latest: int) -> bool:
        """Extend the time span; return False if the time is missing or implausible."""
        if time_ms is None or not EARLIEST_MS <= time_ms <= latest:
            return False
        if self.started_ms is None or time_ms < self.started_ms:
            self.started_ms = time_ms
        if self.last_ms is None or time_ms > self.last_ms:
            self.last_ms = time_ms
        return True

    def _extend_span_all(self, times: Sequence[str], latest: int) -> None:
        """Extend the time span by many times. If possible, only the first and the last are parsed: it is slow."""
        if not times:
            return
        if _sorts(times):
            ends = [self._extend_span(parse_time(time), latest) for time in (min(times), max(times))]
            if all(ends):
                return
        for time in times:
            self._extend_span(parse_time(time), latest)

    def _message(self, entry: Entry, role: Role) -> None:
        key = _hash(role, _POSITION.format(len(self.messages)) if entry.key is None else entry.key)
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
        """Return the index of a model, which is added if it is new; NO_MODEL if there are too many."""
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
    """Return whether the keys of messages are their positions, which all sessions share and which show no copy."""
    return messages.first in {_hash(role, _POSITION.format(0)) for role in Role}


def distinct(threads: Sequence[Messages]) -> list[int]:
    """Return the key of each message of a session's threads once.

    A message without a key counts as the message at the same position in another thread. So an import that kept neither
    ids nor times adds only messages that were written after it, or that no other thread has.
    """
    named = [messages for messages in threads if not is_positional(messages)]
    order = dict.fromkeys(chain(*named, *(messages for messages in threads if is_positional(messages))))
    if len(named) < len(threads):
        for position in range(max(map(len, named), default=0)):
            for role in Role:
                order.pop(_hash(role, _POSITION.format(position)), None)
    return list(order)


def copied_prefix_length(messages: Iterable[int], ancestor: Iterable[int]) -> int:
    """Return how many messages at the start of a session are copies of its ancestor's.

    A fork or an old resume copies the history. Some give prompts new ids and keep those of answers, so everything up to
    the last common message is a copy. Without a common message, nothing is.
    """
    shared, order = set(ancestor), list(messages)
    for index in range(len(order) - 1, -1, -1):
        if order[index] in shared:
            return index + 1
    return 0
