"""Selects the tests that judge a mutant: the ones that its file is likely to be tested by come first.

A line that few tests reach says more of a test than one that all of them reach. So a test is worth the sum of the
shares that it has in the lines of the file, where each line of the mutated function counts tenfold. The tests run in
the order of worth per second.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from mutants.draw import SOURCE
from mutants.reach import Test, keys_of

BUDGET = 30.0
"""Seconds of tests that one mutant is held against, as measured without a mutant."""
OTHERS = 5.0
"""Seconds of tests that reach only the file, if others reach the mutated lines."""
OVERHEAD = 0.05
"""Seconds that are added to each test, so that one without a measurable duration is not worth everything."""
SAME_FUNCTION = 10.0


class Changed(NamedTuple):
    """A change of a source file: the lines of the original that differ, and both texts."""

    file: str
    first: int
    last: int
    original: str
    mutated: str


class Selection:
    """Tests by the files of the program that they reach."""

    def __init__(self, tests: Sequence[Test]) -> None:
        self._reaching: dict[str, list[tuple[Test, frozenset[str]]]] = defaultdict(list)
        for test in tests:
            by_file = defaultdict(set)
            for line in test.lines:
                by_file[line.partition("::")[0]].add(line)
            for file, lines in by_file.items():
                self._reaching[file].append((test, frozenset(lines)))

    def select(self, change: Changed, budget: float = BUDGET) -> list[Test]:
        """Return the tests to run: those that reach the changed lines, then others that reach the file.

        The others count because what a fixture of a session or an import reaches is measured for the first test
        that needs it only, and because a line may have been measured before it was changed.
        """
        keys = keys_of(SOURCE / change.file)
        exact = {keys[line] for line in range(change.first, change.last + 1) if line in keys}
        function = "::".join(keys[change.first].split("::", 2)[:2]) + "::"
        reaching = self._reaching[change.file]
        counts = Counter(line for _, lines in reaching for line in lines)
        shares = {line: (SAME_FUNCTION if line.startswith(function) else 1) / count for line, count in counts.items()}

        def worth(entry: tuple[Test, frozenset[str]]) -> float:
            test, lines = entry
            return sum(shares[line] for line in lines) / (test.seconds + OVERHEAD)

        ranked = sorted(reaching, key=worth, reverse=True)
        chosen = _within([test for test, lines in ranked if not exact.isdisjoint(lines)], budget)
        others = [test for test, lines in ranked if exact.isdisjoint(lines)]
        return chosen + _within(others, OTHERS if chosen else budget)


def _within(tests: list[Test], budget: float) -> list[Test]:
    """Return the first tests that take `budget` seconds together; at least one."""
    ends = accumulate(test.seconds for test in tests)
    return [test for index, (test, end) in enumerate(zip(tests, ends, strict=True)) if end <= budget or index == 0]
