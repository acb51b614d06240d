"""The expressions of triggers and barriers, each compiled once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator


@functools.cache
def seeker(heads: tuple[bytes, ...]) -> Callable[[bytes], Iterator[re.Match[bytes]]]:
    """Return a function that finds each position where a trigger may begin, overlapping ones as well."""
    arms = []
    for one in sorted({head[:1] for head in heads}):
        more = {head[1:] for head in heads if head[:1] == one}
        # Of heads with the same two first bytes, the third ones make a class: fewer arms are tried at each place.
        thirds = {two: sorted(rest[1:] for rest in more if rest[:1] == two) for two in sorted({r[:1] for r in more})}
        ways = (
            re.escape(two) + (b"[" + b"".join(map(re.escape, rest)) + b"]" if all(rest) else b"")
            for two, rest in thirds.items()
        )
        arms.append(re.escape(one) + (b"(?=" + b"|".join(ways) + b")" if b"" not in more else b""))
    return re.compile(b"|".join(arms), re.DOTALL).finditer


@functools.cache
def trigger_finder(expression: str, behind: str) -> Callable[[bytes, int, int], Iterator[re.Match[bytes]]]:
    """Return a function that finds each position where a trigger matches, overlapping ones as well."""
    before = f"(?<={behind})" if behind else ""
    return re.compile(f"{before}(?=(?:{expression}))".encode(), re.DOTALL).finditer


@functools.cache
def trigger_matcher(expression: str) -> Callable[[bytes, int], re.Match[bytes] | None]:
    """Return a function that matches a trigger at a position."""
    return re.compile(expression.encode(), re.DOTALL).match


@functools.cache
def barrier_finder(barrier: str) -> Callable[[bytes, int, int], re.Match[bytes] | None]:
    """Return a function that finds a barrier of a rule, or the end of a record."""
    return re.compile(f"{barrier}|\\n\\{{".encode()).search
