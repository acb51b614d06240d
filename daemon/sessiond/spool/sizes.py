"""How many bytes of transcripts were captured, by tool, and how they grow from month to month.

Counting reads every stream, so the daemon does it once a day, in parts, and stores the result for `status`.
"""

from __future__ import annotations

import time

from sessiond.frozen_record import FrozenRecord, parse_object, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sessiond.spool import Spool

SIZES = "sizes"
"""Meta key: the last result, as JSON."""
MONTH_MS = 30 * 86_400_000
MONTHS = 24
"""Months whose growth is kept."""
PART = 500
"""Sessions that are counted at once: the other thread needs the spool in between."""


class Sizes(FrozenRecord):
    """Bytes of transcripts and side files before compression, without earlier generations."""

    at_ms: int = 0
    tools: dict[str, int] = {}  # noqa: RUF012 - each has its own
    month: int = 0
    """Bytes of sessions that were active in the 30 days before."""
    months: dict[str, int] = {}  # noqa: RUF012
    """By how many bytes the sum grew in each month (such as "2026-11", UTC), the latest last. What was found before
    the backlog was captured for the first time is in none: it may be years old. Negative if more was erased than
    captured."""
    partial: bool = False
    """Whether the first backlog was not captured when this was counted, so that it has to be counted again."""


def count_sizes(spool: Spool, now_ms: int, *, waits: bool = False) -> Iterator[None]:
    """Count in parts, and store the result after the last one. `waits`: a part of the backlog is not captured yet."""
    tools: dict[str, int] = {}
    month = begin = 0
    while True:
        with spool.reading():
            rows = spool.connection.execute(
                "SELECT session.id, tool, active_ms, (SELECT coalesce(sum(folded), 0) FROM stream"
                " WHERE stream.session = session.id) FROM session WHERE id > ? ORDER BY id LIMIT ?",
                (begin, PART),
            ).fetchall()
        for number, tool, active_ms, size in rows:
            begin = number
            tools[tool] = tools.get(tool, 0) + size
            month += size if active_ms >= now_ms - MONTH_MS else 0
        if len(rows) < PART:
            break
        yield
    last = read_sizes(spool.meta(SIZES))
    months = _grown(last, sum(tools.values()), now_ms)
    partial = waits and (last is None or last.partial)
    spool.set_meta(SIZES, to_json(Sizes(at_ms=now_ms, tools=tools, month=month, months=months, partial=partial)))


def _grown(last: Sizes | None, total: int, now_ms: int) -> dict[str, int]:
    """Return the growth by month, with what was added since the last count."""
    if last is None or last.partial:
        return {}
    name = time.strftime("%Y-%m", time.gmtime(now_ms / 1000))
    months = {**last.months, name: last.months.get(name, 0) + total - sum(last.tools.values())}
    return dict(sorted(months.items())[-MONTHS:])


def read_sizes(value: str | None) -> Sizes | None:
    """Return the last result from its stored form; None if there is none."""
    if value is None:
        return None
    try:
        return Sizes.from_json(parse_object(value))
    except ValueError:
        return None
