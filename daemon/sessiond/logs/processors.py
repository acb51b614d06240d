"""What happens to an event between the call and the sinks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, MutableMapping
from typing import Any

import structlog

from sessiond.logs.events import COMMON, EVENTS
from sessiond.text import escape

Fields = MutableMapping[str, Any]

LONGEST = 1000
"""Characters of a value; what is longer is cut."""
QUIET = 60.0
"""Seconds in which a repeated failure is not logged again."""
CAUSES = 20
"""Different failures under one event that are logged in that time: ten thousand unreadable files are one fault."""


class Listed:
    """Lets through what EVENTS lists.

    Otherwise a new key could carry a transcript into the log: it is dropped, in tests it raises LookupError.
    The event itself always gets through, since a fault without a word would be worse.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def __call__(self, logger: object, method: str, fields: Fields) -> Fields:
        """Drop the keys that the event's line in EVENTS does not have."""
        event = fields["event"]
        unlisted = fields.keys() - COMMON - EVENTS.get(event, frozenset())
        if self._strict and (unlisted or event not in EVENTS):
            raise LookupError(f"not in sessiond.logs.events: {event} {sorted(unlisted)}")
        for key in unlisted:
            del fields[key]
        return fields


class _Seen:
    """When something was last logged, and how often it was dropped since."""

    __slots__ = ("at", "dropped", "logged")

    def __init__(self, at: float) -> None:
        self.at, self.dropped, self.logged = at, 0, 0


class Repeats:
    """Logs a failure that repeats once, then at most once a minute with how often it was `repeated` in between.

    Failures are the same if the event and its texts are; numbers (sizes, delays) may differ.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._causes: dict[tuple[object, ...], _Seen] = {}
        self._events: dict[str, _Seen] = {}

    def __call__(self, logger: object, method: str, fields: Fields) -> Fields:
        """Drop the event, or note what was dropped before it. Raises: structlog.DropEvent."""
        if method not in ("warning", "error"):
            return fields
        texts = tuple(sorted((key, value) for key, value in fields.items() if isinstance(value, str)))
        with self._lock:
            repeated = self._admit(texts, fields["event"])
        if repeated is None:
            raise structlog.DropEvent
        if repeated:
            fields["repeated"] = repeated
        return fields

    def _admit(self, cause: tuple[object, ...], event: str) -> int | None:
        now = self._clock()
        known = self._causes.get(cause)
        if known and now - known.at < QUIET:
            known.dropped += 1
            return None
        storm = self._events.setdefault(event, _Seen(now))
        if now - storm.at >= QUIET:
            storm.at, storm.logged = now, 0
            # Causes that did not come back are forgotten, or a long life would fill the memory with them.
            self._causes = {key: seen for key, seen in self._causes.items() if now - seen.at < QUIET or seen.dropped}
        if storm.logged >= CAUSES:
            storm.dropped += 1
            return None
        repeated = storm.dropped + (known.dropped if known else 0)
        storm.dropped, storm.logged = 0, storm.logged + 1
        self._causes[cause] = _Seen(now)
        return repeated


class Harmless:
    """Makes values plain and harmless: no secret, no control character, no endless text."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = secrets

    def __call__(self, logger: object, method: str, fields: Fields) -> Fields:
        """Replace each value that is no number by safe text."""
        return {key: self._plain(value) for key, value in fields.items()}

    def _plain(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, list | tuple | set | frozenset):
            return [self._plain(item) for item in value]
        text = str(value)
        for secret in list(self._secrets):  # before it is cut, or half a secret would remain
            text = text.replace(secret, "***")
        return escape(text if len(text) <= LONGEST else text[:LONGEST] + "…")
