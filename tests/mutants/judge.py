"""Judges one drawn mutant: runs the tests that reach its lines, the quickest first, until one fails."""

from __future__ import annotations

import json
import re
import time
from typing import NamedTuple

from mutants.draw import Drawn
from mutants.plugin import ENDLESS
from mutants.reach import Test, line_key
from mutants.tree import Tree

BUDGET = 30.0
"""Seconds of tests, as measured without a mutant, that one mutant is held against."""
SLOW = 1.0
"""Seconds from which on a test is one that waits for other processes: its failure has to happen twice."""


class Verdict(NamedTuple):
    """What came of a mutant: the test that noticed it, or None; how many were to run; and the seconds it took."""

    mutant: Drawn
    caught: str | None
    tests: int
    seconds: float


def select(mutant: Drawn, tests: list[Test], budget: float = BUDGET) -> list[Test]:
    """Return the tests to run: those that reach the mutated lines, then others that reach the file, fastest first.

    The others count because a fixture of a session, or an import, is measured for the first test that needs it alone,
    and because a line may have been measured before it was changed.
    """
    change = mutant.change
    lines = mutant.source.splitlines()[change.line - 1 : change.last]
    exact = {line_key(mutant.file, change.function, line) for line in lines}
    near = f"{mutant.file}::"
    reaching = [test for test in tests if any(line.startswith(near) for line in test.lines)]
    chosen, total = [], 0.0
    for test in sorted(reaching, key=lambda test: (not exact & test.lines, test.seconds, test.name)):
        total += test.seconds
        if total > budget and chosen:
            break
        chosen.append(test)
    return chosen


def judge(mutant: Drawn, tree: Tree, tests: list[Test], budget: float = BUDGET) -> Verdict:
    """Run the tests that may notice a mutant."""
    began = time.monotonic()
    selected = select(mutant, tests, budget)
    left, caught = list(selected), None
    with tree.changed(mutant.file, mutant.text):
        while left and caught is None:
            failed = run(tree, left)
            if failed is None:
                break
            slow = next((test for test in left if test.name == failed and test.seconds >= SLOW), None)
            if slow is None or run(tree, [slow]) is not None:
                caught = failed
            else:
                left = left[left.index(slow) + 1 :]
    return Verdict(mutant, caught, len(selected), time.monotonic() - began)


def run(tree: Tree, tests: list[Test]) -> str | None:
    """Run tests until one fails; return its name, or None if all pass. One that never ends has failed."""
    # Quickest file first: pytest imports a file only if it comes to it in vain anyway, so order costs nothing else.
    files = list(dict.fromkeys(test.name.partition("::")[0] for test in tests))
    selection = tree.base / "selection"
    selection.write_text(json.dumps({test.name: test.seconds for test in tests}))
    timeout = 60 + 4 * sum(test.seconds for test in tests)
    code, printed = tree.pytest("-x", *files, timeout=timeout, MUTANTS_SELECTION=str(selection))
    if code is None or code == ENDLESS:
        endless = tree.base / "selection-endless"
        return f"{endless.read_text() if endless.exists() else 'some test'} (does not end)"
    if code == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", printed, re.MULTILINE)
    # 2: a test file could not be imported, since the mutant breaks the program while it is loaded. 3: a test ended
    # the process. 4 and 5 (no such test) would say nothing of the mutant.
    assert code in (1, 2, 3) or code < 0, f"{code}: {printed[-2000:]}"
    return failed[1] if failed else f"(pytest ended with {code})"
