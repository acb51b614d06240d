"""A list of sessions as a table, or as cards on a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sessiond.cli.output import duration, escape, mask_text, shorten, table, tilde
from sessiond.cli.selection import Row

UNLIMITED = 1000
"""The width of a table in a pipe: nothing is shortened."""
CARDS = 60
"""Columns below which a session is a card of three lines."""
NAME, LEAST_NAME = 24, 10
"""Widths of the name: other columns are shortened to leave it NAME, and the last ones left out to leave LEAST_NAME."""
LEAST_DIRECTORY = 9
"""Columns of the directory in a card, even if the rest of its line is cut for it."""
GONE = "*"
"""Follows the state of a session whose tool deleted its files."""
PROMPTS_ONLY = "^"
"""The mark after the state of a session that is known from its prompts only."""
HEADER = ("id", "active", "tool", "msgs", "state", "machine", "model", "directory", "name")
RIGHT = {"active", "msgs"}
STEPS: tuple[tuple[str, int, int], ...] = (
    ("model", 20, NAME),
    ("directory", 24, NAME),
    ("model", 0, NAME),
    ("directory", 14, NAME),
    ("machine", 12, NAME),
    ("msgs", 0, NAME),
    ("machine", 8, NAME),
    ("directory", 9, NAME),
    ("tool", 8, NAME),
    ("directory", 0, LEAST_NAME),
    ("machine", 0, LEAST_NAME),
)
"""The columns to shorten, in this order, until the name has room: column, new width (0: none), and that room."""


def listing(rows: Sequence[Row], short: Mapping[str, str], *, now_ms: int, width: int, home: str = "") -> str:
    """Return the sessions as a table of at most `width` columns, or as cards where it does not fit.

    The name is shortened last. `short` has the part of each id to show. Machines are named if there are several.
    """
    cells = [_cells(row, short, now_ms, home) for row in rows]
    if width < CARDS:
        return _cards(cells, width)
    several = len({row.machine for row in rows}) > 1 or any(row.number is None for row in rows)
    names = [name for name in HEADER if several or name != "machine"]
    shown = [dict(each) for each in cells]
    widths = {name: _width(shown, name) for name in names}
    for column, most, room in STEPS:
        if _total([widths[name] for name in names], room) <= width or column not in names:
            continue
        if not most:
            names.remove(column)
            continue
        for each in shown:
            each[column] = (_tail if column == "directory" else _head)(each[column], most)
        widths[column] = _width(shown, column)
    if _total([widths[name] for name in names], LEAST_NAME) > width:  # long ids that differ only at their ends
        return _cards(cells, width)
    lines = [names, *([each[name] for name in names] for each in shown)]
    return table(lines, right={names.index(name) for name in RIGHT if name in names}, width=width)


def _cells(row: Row, short: Mapping[str, str], now_ms: int, home: str) -> dict[str, str]:
    record = row.record
    marks = (PROMPTS_ONLY if row.prompts_only else "") + (GONE if row.gone else "")
    return {
        "id": short[str(record.id)],
        "active": "ongoing" if row.ongoing else duration((now_ms - row.active_ms) / 1000),
        "tool": record.tool,
        "msgs": str(record.message_count),
        "state": row.state + marks,
        "machine": row.machine or "-",
        "model": _undated(record.model or "-"),
        "directory": tilde(record.working_directory, home) or "-",
        "name": row.name or "",
    }


def _width(cells: Sequence[Mapping[str, str]], name: str) -> int:
    return max(len(name), *(len(escape(each[name])) for each in cells))


def _total(widths: Sequence[int], room: int) -> int:
    """Return the width of a table in which the last column, the name, has at most `room` columns."""
    return sum(widths[:-1]) + min(widths[-1], room) + 2 * (len(widths) - 1)


def _cards(cells: Sequence[Mapping[str, str]], width: int) -> str:
    return "\n".join(line for each in cells for line in _card(each, width))


def _card(cells: Mapping[str, str], width: int) -> Iterator[str]:
    """Iterate the lines of a session on a narrow terminal."""
    active = cells["active"] if cells["active"] == "ongoing" else f"{cells['active']} ago"
    yield _cut(cells["name"] or "(no name)", width)
    first, second = f"  {cells['id']}  {active}", f"  {cells['state']}  {cells['tool']}"
    fits = len(first) + len(second) <= width
    yield _cut(first + second if fits else first, width)
    start = f"{'' if fits else second}  {cells['machine']}:"
    yield _cut(f"{start}{_tail(cells['directory'], max(width - len(start), LEAST_DIRECTORY))}", width)


def _cut(text: str, width: int) -> str:
    return shorten(escape(text), max(width, 8))


def _undated(model: str) -> str:
    """Return a model name without its release date, the longest and least useful part."""
    name, _, date = model.rpartition("-")
    return name if name and len(date) == 8 and date.isdigit() else model


def _head(text: str, width: int) -> str:
    """Return the beginning of a text that is too long. Secrets are masked first: half of one is no match."""
    return text if len(text) <= width or not width else f"{mask_text(text)[: width - 1]}…"


def _tail(directory: str, width: int) -> str:
    """Return a directory; if it is too long, its last component."""
    if len(directory) <= width or not width:
        return directory
    last = mask_text(directory).rstrip("/").rpartition("/")[2]
    return shorten(f"…/{last}" if len(last) + 2 <= width else last, max(width, 6))
