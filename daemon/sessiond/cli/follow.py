"""Print a session's conversation as it grows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec.structs import replace

from sessiond.cli.conversation import Reader
from sessiond.cli.threads import Threads
from sessiond.errors import EndpointError, NotFound
from sessiond.transcript import Placed, Step, converse
from sessiond.transcript.text import Style, render

INTERVAL = 1.0
"""Seconds between two looks at a session."""
RECENT = 100
"""Items of a stream whose text may still grow: the last one of a transcript, or a recent one of a document."""


class _Shown(msgspec.Struct):
    """What was printed of one stream. A place is an offset, and the number of the item among those of that offset."""

    recent: dict[tuple[int, int], tuple[int, int]] = msgspec.field(default_factory=dict)
    """The last items: the length and the hash of the text of each, by place."""
    before: tuple[int, int] = (-1, 0)
    """All items up to this place were printed too."""
    at: tuple[int, int] = (-1, 0)
    """The place of the item that came last from the stream."""

    def next_place(self, offset: int) -> tuple[int, int]:
        """Return the place of the next item of the stream, which has this offset."""
        self.at = offset, self.at[1] + 1 if offset == self.at[0] else 0
        return self.at

    def note(self, place: tuple[int, int], text: str) -> None:
        """Remember an item, and forget the text of the oldest one if they are many."""
        self.recent[place] = len(text), hash(text)
        if len(self.recent) > RECENT:
            oldest = next(iter(self.recent))
            del self.recent[oldest]
            self.before = max(self.before, oldest)

    def end(self) -> None:
        """End a look at the stream. If the tool has made it shorter, what follows is new again.

        Without any item, it is only not there at the moment: its file is being replaced.
        """
        if (-1, 0) < self.at < self.before:
            self.before = self.at
            self.recent = {place: text for place, text in self.recent.items() if place <= self.at}
        self.at = -1, 0


class Growth:
    """Finds what was added to a conversation since the last time.

    It keeps the places of the last RECENT items of each stream, and none of what was printed before them: a session
    may have half a million items. Of those it is only known that they were printed.
    """

    def __init__(self) -> None:
        self._streams: dict[str, _Shown] = {}

    def added(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Iterate the items that are new, and of an item that became longer only its new text."""
        for step in steps:
            shown = self._streams.setdefault(step.thread.name, _Shown())
            place = shown.next_place(step.placed.place.offset)
            if place not in shown.recent and place <= shown.before:
                continue
            item, known = step.placed.whole, shown.recent.get(place)
            shown.note(place, item.text)
            if known is None:
                yield step
                continue
            length, digest = known
            if len(item.text) > length and hash(item.text[:length]) == digest:
                longer = replace(item, text=item.text[length:])
                yield step._replace(placed=Placed(step.placed.place, longer))
        for shown in self._streams.values():
            shown.end()


def follow(reader: Reader, style: Style, sleep: Callable[[float], None] = time.sleep) -> None:
    """Print the conversation, then what is added to it, until Ctrl+C or until the reader of a pipe is gone.

    An endpoint that can't be reached is asked again. Raises: NotFound if the session was erased.
    """
    growth, threads, state, problem = Growth(), Threads(reader), None, ""
    while True:
        try:
            found = reader.state()
            if found != state:
                for line in render(growth.added(converse(list(threads.read(found)))), style):
                    print(line)
                sys.stdout.flush()
                state = found
            problem = ""
        except NotFound:
            raise
        except EndpointError as error:
            if str(error) != problem:
                print(f"sessiond: {error}; trying again", file=sys.stderr)
            problem = str(error)
        sleep(INTERVAL)
