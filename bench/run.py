"""Print the cost of sessiond, beside the least possible cost and its rivals, on the same bytes in the same run.

    make bench          all rows: 1 GB, 10,000 sessions, files of 2 GB, a database of 5 GB (an hour with the rivals)
    make bench-quick    the same rows on 200 sessions, in about two minutes

Figures are CPU seconds where that is possible: wall seconds depend on who else uses the machine, so each figure
has the load average beside it. `--document FILE` writes the table into a document, between its two marks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys

import corpus
import databases
import jobs
import measure
import rows
import side_files
import writer
from rows import Figure, Plan

ROWS = {
    **rows.ROWS,
    "database": databases.database,
    "writer": writer.writer,
    "side": side_files.side_files,
    "jobs": jobs.jobs,
}
OWN = {"side", "jobs"}
"""Rows that make their own data and need no corpus."""
MARKS = ("<!-- table -->", "<!-- end of table -->")


def main() -> None:
    """Measure the requested rows and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="200 sessions and short waits")
    parser.add_argument("--dir", default=default_directory(), help="where corpora, states and rivals are kept")
    parser.add_argument("--only", default="", help=f"rows, with commas: {', '.join(ROWS)}")
    parser.add_argument("--no-rivals", action="store_true", help="measure sessiond alone")
    parser.add_argument("--document", metavar="FILE", help="write the table into this document, too")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(ROWS)
    sizes = ("small", "small") if options.quick else ("medium", "large")
    medium, large = (corpus.ensure(options.dir, size) if set(names) - OWN else "" for size in sizes)
    plan = Plan(directory=options.dir, quick=options.quick, rivals=not options.no_rivals, corpus=medium, large=large)
    kept = os.path.join(options.dir, "quick.json" if options.quick else "full.json")
    figures: list[Figure] = []
    try:
        for name in names:
            print(f"-- {name}", file=sys.stderr, flush=True)
            for figure in ROWS[name](plan):
                print(figure.line(), flush=True)
                figures.append(figure)
    finally:
        shutil.rmtree(plan.resources, ignore_errors=True)
        figures = merge(kept, figures)
    if options.document:
        write(options.document, options.quick, figures)


def default_directory() -> str:
    """Return the directory for generated files, which is outside of the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "sessiond-bench")


def merge(kept: str, figures: list[Figure]) -> list[Figure]:
    """Keep the figures; values that were not measured now stay as they were."""
    old: list[Figure] = []
    if os.path.exists(kept):
        with open(kept) as file:
            old = [Figure(**one) for one in json.load(file)]
    fresh = {(figure.row, figure.who) for figure in figures}
    order = list(ROWS)
    every = [figure for figure in old if (figure.row, figure.who) not in fresh] + figures
    every.sort(key=lambda figure: order.index(figure.row))
    with open(kept, "w") as file:
        json.dump([vars(figure) for figure in every], file, indent=1)
    return every


def machine() -> str:
    """Describe the machine in a line."""
    model = "an unknown processor"
    with open("/proc/cpuinfo") as file:
        found = re.search(r"model name\s*:\s*(.+)", file.read())
    if found:
        model = re.sub(r"\((?:R|TM)\)", "", found[1]).strip()
    python = platform.python_version()
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release().split('-')[0]}, Python {python}"


def write(path: str, quick: bool, figures: list[Figure]) -> None:
    """Replace the table of a document."""
    lines = [
        MARKS[0],
        f"`make bench{'-quick' if quick else ''}` on {machine()}:",
        "",
        "| row | who | figure | value | budget | load |",
        "|---|---|---|--:|---|--:|",
        *(figure.table_row() for figure in figures),
        MARKS[1],
    ]
    with open(path) as file:
        text = file.read()
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    with open(path, "w") as file:
        file.write(before + "\n".join(lines) + after)
    print(f"wrote {path}, at a load of {measure.load():.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
