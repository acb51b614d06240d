"""Named mutants: faults that were made on purpose or met in practice, each with the tests that have to notice it."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import NamedTuple

from mutants.draw import SOURCE
from mutants.judge import run_collected, until_failure
from mutants.selection import Changed, Selection
from mutants.tree import Tree

CORE = (
    [
        "tests/integration/test_pipeline.py",
        "tests/integration/test_single_faults.py",
        "tests/integration/test_odd_files.py",
        "tests/integration/test_endpoint_answers.py",
        "tests/integration/test_outbox_delivery.py",
    ],
    ["tests/integration/test_machine.py"],
)
SOURCES = (["tests/conformance/test_sources.py"],)
HOSTILE = "tests/process/test_hostile_endpoint.py"
BUDGET = 10.0
"""Seconds of tests that are tried before the suites of a mutant."""
LOOP = 60
"""Seconds after which a run of a mutant that `hangs` is ended: it never ends, and was caught by that."""
PATIENCE = 240
"""Seconds that one run of any other suite may take; a longer one gives no verdict."""


class Named(NamedTuple):
    """A mutant: its name, its file below sessiond/, the text that is replaced there, and the suites to run."""

    name: str
    file: str
    old: str
    new: str
    suites: tuple[list[str], ...] = CORE
    hangs: bool = False


class Verdict(NamedTuple):
    """What came of a mutant: which test noticed it, or None; and the seconds it took."""

    mutant: Named
    caught: str | None
    seconds: float


def judge(mutant: Named, tree: Tree, selection: Selection | None) -> Verdict:
    """Run tests against a mutant until one fails: those of `selection` that reach its lines, then its suites."""
    began = time.monotonic()
    text = (SOURCE / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: {mutant.file} has it {text.count(mutant.old)} times"
    first = text.count("\n", 0, text.index(mutant.old)) + 1
    last = first + mutant.old.rstrip("\n").count("\n")
    changed = Changed(mutant.file, first, last, text, text.replace(mutant.old, mutant.new))
    caught = None
    with tree.changed(mutant.file, changed.mutated):
        if selection is not None:
            caught = until_failure(partial(run_collected, tree, changed), selection.select(changed, BUDGET)).caught
        for suite in mutant.suites:
            caught = caught or _fails(suite, tree, hangs=mutant.hangs)
    return Verdict(mutant, caught, time.monotonic() - began)


def _fails(suite: list[str], tree: Tree, *, hangs: bool) -> str | None:
    """Run a suite; return the first test that fails, or None."""
    code, printed = tree.pytest("-x", "-o", "addopts=", *suite, timeout=LOOP if hangs else PATIENCE)
    if code is None:
        assert hangs, f"{suite} took more than {PATIENCE} s"
        return f"{suite[0]} (hangs)"
    # 1: a test failed. Anything else (no such test, no such option) would say nothing of the mutant.
    assert code in (0, 1), printed[-2000:]
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE)
    return (failed[1] if failed else suite[0]) if code else None
