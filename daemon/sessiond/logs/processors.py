"""Processors of an event between the call and the sinks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from sessiond.logs.events import COMMON, EVENTS
from sessiond.memory import lean_imports
from sessiond.text import escape

with lean_imports():
    import structlog

Fields = MutableMapping[str, Any]
Record = Mapping[str, Any]

LONGEST = 1000
"""Most characters of a value; longer ones are truncated."""
QUIET = 60.0
"""Seconds in which a repeated failure is not logged again."""
CAUSES = 20
"""Most failures of one event in that time: ten thousand unreadable files have one cause."""

_FIRST = ("timestamp", "level", "event")


class Listed:
    """Drops keys that EVENTS does not list; in tests it raises LookupError.

    Otherwise a new key could write a transcript to the log. The event itself is never dropped, because a silent
    fault would be worse.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def __call__(self, logger: object, method: str, fields: Fields) -> Fields:
        """Drop the keys that EVENTS does not list for the event."""
        event = fields["event"]
        unlisted = fields.keys() - COMMON - EVENTS.get(event, frozenset())
        if self._strict and (unlisted or event not in EVENTS):
            raise LookupError(f"not in sessiond.logs.events: {event} {sorted(unlisted)}")
        for key in unlisted:
            del fields[key]
        return fields


class _Seen:
    """When a failure was last logged, and how often it was dropped since."""

    __slots__ = ("at", "dropped", "logged")

    def __init__(self, at: float) -> None:
        self.at, self.dropped, self.logged = at, 0, 0


class Repeats:
    """Logs a repeated failure once, then at most once a minute with the number of repetitions (`repeated`).

    Failures are the same if their event and texts are equal; numbers (sizes, delays) may differ.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._causes: dict[tuple[object, ...], _Seen] = {}
        self._events: dict[str, _Seen] = {}

    def __call__(self, logger: object, method: str, fields: Fields) -> Fields:
        """Drop the event, or add how many were dropped before it. Raises: structlog.DropEvent."""
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
            # Forget failures that did not repeat; otherwise memory would grow without limit.
            self._causes = {key: seen for key, seen in self._causes.items() if now - seen.at < QUIET or seen.dropped}
        if storm.logged >= CAUSES:
            storm.dropped += 1
            return None
        repeated = storm.dropped + (known.dropped if known else 0)
        storm.dropped, storm.logged = 0, storm.logged + 1
        self._causes[cause] = _Seen(now)
        return repeated


class Collect:
    """Collects events in a list instead of writing them, for tests."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def __call__(self, logger: object, method: str, fields: Fields) -> Fields:
        """Append the event to the list. Raises: structlog.DropEvent."""
        self._records.append(fields)
        raise structlog.DropEvent


class Harmless:
    """Sanitizes values: masks secrets, escapes control characters, limits the length. Puts time, level, event first."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        """`mask` returns a text with its secrets masked."""
        self._mask = mask

    def __call__(self, logger: object, method: str, fields: Fields) -> Fields:
        """Replace each value that is not a number by safe text."""
        # Time, level and event are the program's own words: to search them for secrets would take as long as the rest.
        own = {key: fields[key] for key in _FIRST if key in fields}
        return own | {key: self._plain(value) for key, value in fields.items() if key not in own}

    def _plain(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, list | tuple | set | frozenset):
            return [self._plain(item) for item in value]
        text = str(value)
        text = self._mask(text)  # before truncating, which could leave half a secret
        return escape(text if len(text) <= LONGEST else text[:LONGEST] + "…")


def make_logger(
    logger: Any, mask: Callable[[str], str], last: Any, clock: Callable[[], float], *, strict: bool = False
) -> Any:
    """Return a logger of structlog that passes each event through the processors to `last` and then to `logger`.

    `mask` returns a text with its secrets masked; `clock` returns seconds; with `strict`, unlisted events and keys
    raise LookupError.
    """
    chain = [
        Listed(strict=strict),
        Repeats(clock),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        Harmless(mask),
        last,
    ]
    return structlog.wrap_logger(logger, processors=chain, wrapper_class=structlog.BoundLogger).bind()
