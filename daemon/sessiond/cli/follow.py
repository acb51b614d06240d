"""Print a session's conversation as it grows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from sessiond.cli.conversation import Reader
from sessiond.cli.threads import Threads
from sessiond.errors import EndpointError, NotFound
from sessiond.transcript import Placed, Step, converse
from sessiond.transcript.text import Style, render

INTERVAL = 1.0
"""Seconds between two looks at a session."""


class Growth:
    """Finds what was added to a conversation since the last time."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int, int], Placed | None] = {}
        """What was shown, by stream, position and number; None once it is gone, so that its texts are freed."""

    def added(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Iterate the items that are new, and of an item that became longer only its new text."""
        counts: dict[tuple[str, int], int] = {}
        present: set[tuple[str, int, int]] = set()
        for step in steps:
            name, offset = step.thread.name, step.placed.place.offset
            number = counts[name, offset] = counts.get((name, offset), -1) + 1
            key = name, offset, number
            present.add(key)
            shown, before = key in self._seen, self._seen.get(key)
            self._seen[key] = step.placed
            if not shown:
                yield step
            elif before is not None and step.placed != before:
                old, new = before.whole.text, step.placed.whole
                if new.text != old and new.text.startswith(old):
                    longer = replace(new, text=new.text[len(old) :])
                    yield step._replace(placed=Placed(step.placed.place, longer))
        self._seen |= dict.fromkeys(self._seen.keys() - present)


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
