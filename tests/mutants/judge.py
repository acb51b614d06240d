"""Judges one drawn mutant: runs the tests that reach its lines until one fails."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from mutants.collected import Outcome, total_limit
from mutants.draw import Drawn
from mutants.plugin import ENDLESS
from mutants.reach import Test
from mutants.selection import Changed, Selection
from mutants.tree import Tree

LAST_BUDGET = 120.0
"""Seconds of tests, as measured without a mutant, that a mutant has to survive. On a busy machine each takes longer."""
ENDINGS = {Outcome.FAILED: "", Outcome.ENDLESS: " (does not end)", Outcome.ENDED: " (ends the process)"}


class Verdict(NamedTuple):
    """The result of a mutant: the test that noticed it, or None; how many were to run; and the seconds it took."""

    mutant: Drawn
    caught: str | None
    tests: int
    seconds: float


class Result(NamedTuple):
    """The test that failed, or None; how it ended, if not with a failure; and whether a new process would agree."""

    failed: str | None
    ending: str = ""
    certain: bool = True

    @property
    def caught(self) -> str | None:
        """The test that failed and how."""
        return None if self.failed is None else self.failed + self.ending


def judge(mutant: Drawn, tree: Tree, selection: Selection) -> Verdict:
    """Run the tests that may notice a mutant, and further ones before it counts as a survivor."""
    began = time.monotonic()
    changed = Changed(mutant.file, mutant.change.line, mutant.change.last, mutant.source, mutant.text)
    first = selection.select(changed)
    further = [test for test in selection.select(changed, LAST_BUDGET) if test not in first]
    with tree.changed(mutant.file, mutant.text):
        for selected in (first, further):
            result = until_failure(partial(run_collected, tree, changed), selected)
            if result.failed is None and not result.certain:
                result = until_failure(partial(run, tree), selected)
            if result.failed is not None:
                break
    return Verdict(mutant, result.caught, len(first) + len(further), time.monotonic() - began)


def until_failure(run: Callable[[list[Test]], Result], tests: list[Test]) -> Result:
    """Run tests until one fails, also when it runs alone: what ran before it, or the load, may be the reason."""
    left, certain = tests, True
    while left:
        result = run(left)
        certain = result.certain
        failed = next((index for index, test in enumerate(left) if test.name == result.failed), None)
        if failed is None:
            return result
        again = run([left[failed]])
        if again.failed is not None:
            return again
        left = left[failed + 1 :]
    return Result(None, "", certain)


def run_collected(tree: Tree, changed: Changed, tests: list[Test]) -> Result:
    """Run tests in a fork of a process that has collected them, until one fails or does not end."""
    result = tree.base / "result"
    result.write_text("some test")
    task = {
        "file": str(tree.root / "daemon" / "sessiond" / changed.file),
        "original": changed.original,
        "mutated": changed.mutated,
        "tests": {test.name: test.seconds for test in tests},
        "result": str(result),
    }
    outcome = tree.run(task)
    if outcome in (Outcome.PASSED, Outcome.UNSUITABLE):
        return Result(None, certain=outcome == Outcome.PASSED)
    return Result(result.read_text(), ENDINGS[outcome])


def run(tree: Tree, tests: list[Test]) -> Result:
    """Run tests in a new process until one fails; return its name, or None if all pass. An endless one has failed."""
    files = list(dict.fromkeys(test.name.partition("::")[0] for test in tests))
    selection = tree.base / "selection"
    selection.write_text(json.dumps({test.name: test.seconds for test in tests}))
    timeout = total_limit(sum(test.seconds for test in tests))
    code, printed = tree.pytest("-x", *files, timeout=timeout, MUTANTS_SELECTION=str(selection))
    if code is None or code == ENDLESS:
        endless = tree.base / "selection-endless"
        return Result(endless.read_text() if endless.exists() else "some test", ENDINGS[Outcome.ENDLESS])
    if code == 0:
        return Result(None)
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", printed, re.MULTILINE)
    # 2: a test file could not be imported, since the mutant breaks the program while it is loaded. 3: a test ended
    # the process. 4 and 5 (no such test) would say nothing of the mutant.
    assert code in (1, 2, 3) or code < 0, f"{code}: {printed[-2000:]}"
    return Result(failed[1] if failed else f"(pytest ended with {code})")
