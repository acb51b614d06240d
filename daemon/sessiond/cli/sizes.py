"""How much was captured, for `status`."""

from __future__ import annotations

from sessiond.cli.output import size
from sessiond.spool.sizes import Sizes

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SHOWN = 3
"""Tools that are named: the largest ones."""


def format_sizes(sizes: Sizes) -> str:
    """Return how much was captured: in all, its growth in this month and the last, and by the largest tools."""
    largest = sorted(sizes.tools.items(), key=lambda each: -each[1])
    named = ", ".join(f"{tool} {size(number)}" for tool, number in largest[:SHOWN])
    more = ", ..." if len(largest) > SHOWN else ""
    grown = "".join(f", {_signed(by)} in {name}" for name, by in _last_months(sizes))
    return f"{size(sum(sizes.tools.values()))}{grown} ({named}{more})"


def _signed(by: int) -> str:
    return f"{'-' if by < 0 else '+'}{size(abs(by))}"


def _last_months(sizes: Sizes) -> list[tuple[str, int]]:
    return [(MONTHS[int(name[5:]) - 1], grown) for name, grown in list(sizes.months.items())[-2:]]
