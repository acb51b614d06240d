"""What `show` and `export` make of every sample.

`PYTHONPATH=daemon:tests python tests/conformance/shown.py [TOOL...]` writes what `show` prints into `show.txt` beside
each sample's `expected.json`. Read what has changed before you commit it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from functools import cache
from itertools import chain

from conformance import engine
from sessiond.cli.session_view import facts
from sessiond.cli.threads import threads
from sessiond.session import Session
from sessiond.transcript import Thread, converse
from sessiond.transcript.text import Style, render
from support.sample_tree import NAMES, SAMPLES, built

FILE = "show.txt"
WIDTH = 80
STYLE = Style(width=WIDTH, color=False, full=False)
RULE = "=" * WIDTH


@cache
def sessions(name: str) -> list[tuple[Session, list[Thread], list[str]]]:
    """Return the record, the threads and the lines of the facts of each session of a sample, oldest first."""
    with engine.readers(built(name)) as readers:
        return [(each.record, list(threads(each)), list(facts(each.view()))) for each in readers]


def text(name: str) -> str:
    """Return what `show` prints of each session of a sample on a terminal of 80 columns without colours, in UTC."""
    with_rules = (chain((RULE,), _shown(name, found, lines)) for _, found, lines in sessions(name))
    return "".join(f"{line}\n" for lines in with_rules for line in lines)


def _shown(name: str, found: list[Thread], lines: list[str]) -> Iterator[str]:
    tree = built(name)
    return (line.replace(tree, "~") for line in chain(lines, render(converse(found), STYLE)))


def main() -> None:
    """Write the files of all samples, or of those of the named tools."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    for name in NAMES:
        if len(sys.argv) == 1 or name.split("/")[0] in sys.argv[1:]:
            (SAMPLES / name / FILE).write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
